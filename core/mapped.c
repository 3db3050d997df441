// mapped: see mapped.h.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"

static const char *reason(char buffer[MT_TEXT]) {
  // The GNU form of strerror_r: it may return a text of its own.
  return strerror_r(errno, buffer, MT_TEXT);
}

static int check_extent(const char *path, const struct stat *info, int32_t dtype, int64_t offset, int64_t *count) {
  const int64_t size = mt_dtype_size(dtype), bytes = (int64_t)info->st_size;
  int64_t end;
  if (!S_ISREG(info->st_mode)) {
    return mt_fail(MT_ERROR_ARGUMENT, "map: %s: expected a regular file", path);
  }
  if (bytes == 0) {
    return mt_fail(MT_ERROR_ARGUMENT, "map: %s: the file is empty", path);
  }
  if (offset < 0 || offset >= bytes || offset % size != 0) {
    return mt_fail(MT_ERROR_ARGUMENT, "map: %s: offset: expected a multiple of %d from 0 to %lld, got %lld", path, (int)size,
                   (long long)bytes - 1, (long long)offset);
  }
  if (*count < 0) {
    if ((bytes - offset) % size != 0) {
      return mt_fail(MT_ERROR_ARGUMENT, "map: %s: %lld bytes are not a whole number of %s elements of %d bytes", path,
                     (long long)(bytes - offset), mt_dtype_name(dtype), (int)size);
    }
    *count = (bytes - offset) / size;
  }
  if (*count == 0 || !mt_mul(&end, *count, size) || !mt_add(&end, end, offset) || end > bytes) {
    return mt_fail(MT_ERROR_ARGUMENT, "map: %s: %lld elements of %s from byte %lld: the file has %lld bytes", path,
                   (long long)*count, mt_dtype_name(dtype), (long long)offset, (long long)bytes);
  }
  return MT_OK;
}

int mt_mapped_open(mt_tensor **out, const char *path, int32_t dtype, int64_t offset, int64_t count) {
  char text[MT_TEXT];
  struct stat info;
  *out = NULL;
  if (path == NULL || dtype < 0 || dtype >= MT_DTYPES || dtype == MT_BOOL) {
    return mt_fail(MT_ERROR_ARGUMENT, "map: expected a path and a numeric dtype");
  }
  const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    return mt_fail(MT_ERROR_ARGUMENT, "map: %s: %s", path, reason(text));
  }
  int status = fstat(descriptor, &info) == 0 ? check_extent(path, &info, dtype, offset, &count)
                                             : mt_fail(MT_ERROR_ARGUMENT, "map: %s: %s", path, reason(text));
  void *data = MAP_FAILED;
  if (status == MT_OK) {
    data = mmap(NULL, (size_t)info.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, descriptor, 0);
    if (data == MAP_FAILED) {
      status = mt_fail(MT_ERROR_MEMORY, "map: %s: %s", path, reason(text));
    }
  }
  close(descriptor);
  if (status != MT_OK) {
    return status;
  }
  mt_tensor *t = mt_alloc((int64_t)sizeof *t);
  mt_storage *s = t ? mt_alloc((int64_t)sizeof *s) : NULL;
  if (s == NULL) {
    mt_free(t);
    munmap(data, (size_t)info.st_size);
    return MT_ERROR_MEMORY;
  }
  *s = (mt_storage){.data = data, .bytes = (int64_t)info.st_size, .mapped = (int64_t)info.st_size, .references = 1,
                    .device = -1, .free = mt_storage_free};
  *t = (mt_tensor){.data = (char *)data + offset, .storage = s, .numel = count, .dtype = dtype, .ndim = 1, .shape = {count},
                   .stride = {1}};
  *out = t;
  return MT_OK;
}
