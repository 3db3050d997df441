// storage: the memory of tensors on the CPU. See common.h.
#include <sys/mman.h>

#include "common.h"

int32_t mt_storage_device(void) { return -1; }

int mt_storage_new(mt_storage **out, int64_t bytes, int32_t device) {
  mt_storage *s = mt_alloc((int64_t)sizeof *s);
  void *data = s ? mt_alloc(bytes) : NULL;
  if (data == NULL) {
    mt_free(s);
    return MT_ERROR_MEMORY;
  }
  *s = (mt_storage){.data = data, .bytes = bytes, .references = 1, .device = device, .free = mt_storage_free};
  *out = s;
  return MT_OK;
}

void mt_storage_free(mt_storage *s) {
  if (s->mapped) {
    munmap(s->data, (size_t)s->mapped);
  } else {
    mt_free(s->data);
  }
  mt_free(s);
}
