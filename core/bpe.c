// bpe: the encoder and decoder of byte-pair encoding, see bpe.h. The pre-tokeniser is in bpe_split.c, training in bpe_train.c.
#include "bpe_parts.h"

enum { SHORT = 64, CACHE = 1 << 14, CACHE_BYTES = 22, CACHE_IDS = 10, POLL = 4096 };

// One piece that was encoded before: a cache line.
typedef struct {
  uint8_t length, count, bytes[CACHE_BYTES];
  int32_t id[CACHE_IDS];
} cached;

struct mt_bpe {
  mt_bpe_strings tokens;  // token id is string id - 1
  mt_bpe_pairs merges;    // pair -> rank, from 1
  int32_t *joined;        // joined[rank - 1]: what the merge makes
  int32_t byte[256];      // the token of a byte
  int32_t specials;
  int32_t *special;       // their ids
  uint8_t *is_special;    // by id - 1
  cached *cache;
};

struct mt_bpe_list {
  int32_t *id;
  int64_t count, capacity;
};

// ---- making one -------------------------------------------------------------------------------------------------------

static const uint8_t *token_bytes(const mt_bpe *b, int32_t id, int64_t *length) {
  const int64_t *o = b->tokens.offset + id - 1;
  *length = o[1] - o[0];
  return b->tokens.bytes + o[0];
}

static int add_tokens(mt_bpe *b, int32_t tokens, const uint8_t *bytes, const int64_t *offset) {
  for (int32_t k = 0; k < tokens; k++) {
    int32_t number;
    bool is_new;
    if (offset[k] < 0 || offset[k + 1] <= offset[k]) {
      return mt_fail(MT_ERROR_ARGUMENT, "bpe: token %d: expected at least one byte", k + 1);
    }
    MT_TRY(mt_bpe_strings_add(&b->tokens, bytes + offset[k], offset[k + 1] - offset[k], &number, &is_new));
    if (!is_new) {
      return mt_fail(MT_ERROR_ARGUMENT, "bpe: tokens %d and %d have the same bytes", number + 1, k + 1);
    }
  }
  for (int byte = 0; byte < 256; byte++) {
    const uint8_t one = (uint8_t)byte;
    b->byte[byte] = mt_bpe_strings_find(&b->tokens, &one, 1) + 1;
    if (b->byte[byte] == 0) {
      return mt_fail(MT_ERROR_ARGUMENT, "bpe: byte 0x%02x has no token: expected a vocabulary with all 256 bytes", byte);
    }
  }
  return MT_OK;
}

static int add_specials(mt_bpe *b, int32_t tokens, int32_t specials, const int32_t *special) {
  for (int32_t k = 0; k < specials; k++) {
    int64_t length;
    if (special[k] < 1 || special[k] > tokens || b->is_special[special[k] - 1]) {
      return mt_fail(MT_ERROR_ARGUMENT, "bpe: special token %d: expected distinct ids from 1 to %d, got %d", k + 1, tokens,
                     special[k]);
    }
    const uint8_t *bytes = token_bytes(b, special[k], &length);
    if (length == 1) {
      return mt_fail(MT_ERROR_ARGUMENT, "bpe: special token %d is the token of byte 0x%02x", k + 1, bytes[0]);
    }
    b->is_special[special[k] - 1] = 1;
    b->special[k] = special[k];
  }
  b->specials = specials;
  return MT_OK;
}

static int add_merges(mt_bpe *b, int32_t tokens, int32_t merges, const int32_t *pair) {
  uint8_t *both = NULL;
  int64_t capacity = 0;
  int status = MT_OK;
  for (int32_t k = 0; k < merges && status == MT_OK; k++) {
    const int32_t left = pair[2 * (int64_t)k], right = pair[2 * (int64_t)k + 1];
    int64_t m, n;
    if (left < 1 || left > tokens || right < 1 || right > tokens) {
      status = mt_fail(MT_ERROR_ARGUMENT, "bpe: merge %d: expected ids from 1 to %d, got %d and %d", k + 1, tokens, left, right);
      break;
    }
    const uint8_t *l = token_bytes(b, left, &m), *r = token_bytes(b, right, &n);
    status = mt_bpe_reserve((void **)&both, &capacity, m + n, 1);
    if (status != MT_OK) {
      break;
    }
    memcpy(both, l, (size_t)m);
    memcpy(both + m, r, (size_t)n);
    const int32_t joined = mt_bpe_strings_find(&b->tokens, both, m + n) + 1;
    if (joined == 0) {
      status = mt_fail(MT_ERROR_ARGUMENT, "bpe: merge %d: tokens %d and %d make no token of the vocabulary", k + 1, left, right);
    } else if (b->is_special[left - 1] || b->is_special[right - 1] || b->is_special[joined - 1]) {
      status = mt_fail(MT_ERROR_ARGUMENT, "bpe: merge %d: a special token takes part in it", k + 1);
    } else if (mt_bpe_pairs_get(&b->merges, mt_bpe_pair(left, right)) != 0) {
      status = mt_fail(MT_ERROR_ARGUMENT, "bpe: merge %d: the same two tokens as in merge %d", k + 1,
                       mt_bpe_pairs_get(&b->merges, mt_bpe_pair(left, right)));
    } else {
      b->joined[k] = joined;
      status = mt_bpe_pairs_put(&b->merges, mt_bpe_pair(left, right), k + 1);
    }
  }
  mt_free(both);
  return status;
}

static int fill(mt_bpe *b, int32_t tokens, const char *bytes, const int64_t *offset, int32_t merges, const int32_t *pair,
                int32_t specials, const int32_t *special) {
  b->joined = mt_alloc_array(merges, sizeof *b->joined);
  b->special = mt_alloc_array(specials, sizeof *b->special);
  b->is_special = mt_alloc_array(tokens, 1);
  b->cache = mt_alloc_array(CACHE, sizeof *b->cache);
  if (b->joined == NULL || b->special == NULL || b->is_special == NULL || b->cache == NULL) {
    return MT_ERROR_MEMORY;
  }
  memset(b->is_special, 0, (size_t)tokens);
  memset(b->cache, 0, CACHE * sizeof *b->cache);
  MT_TRY(add_tokens(b, tokens, (const uint8_t *)bytes, offset));
  MT_TRY(add_specials(b, tokens, specials, special));
  return add_merges(b, tokens, merges, pair);
}

int mt_bpe_new(mt_bpe **out, int32_t tokens, const char *bytes, const int64_t *offset, int32_t merges, const int32_t *pair,
               int32_t specials, const int32_t *special) {
  if (out == NULL || bytes == NULL || offset == NULL || tokens < 256 || merges < 0 || specials < 0 || offset[0] != 0 ||
      (merges > 0 && pair == NULL) || (specials > 0 && special == NULL)) {
    return mt_fail(MT_ERROR_ARGUMENT, "bpe: expected at least 256 tokens, got %d, %d merges and %d special tokens", tokens,
                   merges, specials);
  }
  mt_bpe *b = mt_alloc(sizeof *b);
  if (b == NULL) {
    return MT_ERROR_MEMORY;
  }
  memset(b, 0, sizeof *b);
  const int status = fill(b, tokens, bytes, offset, merges, pair, specials, special);
  if (status != MT_OK) {
    mt_bpe_release(b);
    return status;
  }
  *out = b;
  return MT_OK;
}

void mt_bpe_release(mt_bpe *b) {
  if (b != NULL) {
    mt_bpe_strings_free(&b->tokens);
    mt_bpe_pairs_free(&b->merges);
    mt_free(b->joined);
    mt_free(b->special);
    mt_free(b->is_special);
    mt_free(b->cache);
    mt_free(b);
  }
}

int mt_bpe_find(int32_t *id, const mt_bpe *b, const char *bytes, int64_t length) {
  if (id == NULL || b == NULL || bytes == NULL || length < 0) {
    return mt_fail(MT_ERROR_ARGUMENT, "bpe_find: bytes: expected a string");
  }
  *id = mt_bpe_strings_find(&b->tokens, (const uint8_t *)bytes, length) + 1;
  return MT_OK;
}

// ---- lists ------------------------------------------------------------------------------------------------------------

int mt_bpe_list_new(mt_bpe_list **out) {
  *out = mt_alloc(sizeof **out);
  if (*out == NULL) {
    return MT_ERROR_MEMORY;
  }
  **out = (mt_bpe_list){0};
  return MT_OK;
}

void mt_bpe_list_release(mt_bpe_list *list) {
  if (list != NULL) {
    mt_free(list->id);
    mt_free(list);
  }
}

int64_t mt_bpe_list_count(const mt_bpe_list *list) { return list->count; }

static int check_ids(const char *op, const mt_tensor *ids) {
  MT_TRY(mt_check_integer(op, "ids", ids));
  return mt_check_ndim(op, "ids", ids, 1);
}

int mt_bpe_list_read(mt_tensor *ids, const mt_bpe_list *list) {
  if (list == NULL) {
    return mt_fail(MT_ERROR_ARGUMENT, "encode: list: expected a list, got NULL");
  }
  MT_TRY(check_ids("encode", ids));
  MT_TRY(mt_check_shape("encode", "ids", ids, 1, &list->count));
  MT_TRY(mt_check_output("encode", "ids", ids));
  for (int64_t i = 0; i < list->count; i++) {
    if (ids->dtype == MT_INT32) {
      ((int32_t *)ids->data)[i * ids->stride[0]] = list->id[i];
    } else {
      ((int64_t *)ids->data)[i * ids->stride[0]] = list->id[i];
    }
  }
  return MT_OK;
}

// ---- encoding -----------------------------------------------------------------------------------------------------------

static inline int32_t rank_of(const mt_bpe *b, int32_t left, int32_t right) {
  const int32_t rank = mt_bpe_pairs_get(&b->merges, mt_bpe_pair(left, right));
  return rank == 0 ? INT32_MAX : rank;
}

// id holds one token per byte of a piece of up to SHORT bytes; returns how many are left.
static int32_t merge_short(const mt_bpe *b, int32_t *id, int32_t n) {
  int32_t rank[SHORT];
  for (int32_t i = 0; i + 1 < n; i++) {
    rank[i] = rank_of(b, id[i], id[i + 1]);
  }
  while (n > 1) {
    int32_t best = 0;
    for (int32_t i = 1; i + 1 < n; i++) {
      best = rank[i] < rank[best] ? i : best;
    }
    if (rank[best] == INT32_MAX) {
      break;
    }
    id[best] = b->joined[rank[best] - 1];
    n--;
    memmove(id + best + 1, id + best + 2, sizeof *id * (size_t)(n - best - 1));
    memmove(rank + best, rank + best + 1, sizeof *rank * (size_t)MT_MAX(0, n - best - 1));
    if (best > 0) {
      rank[best - 1] = rank_of(b, id[best - 1], id[best]);
    }
    if (best + 1 < n) {
      rank[best] = rank_of(b, id[best], id[best + 1]);
    }
  }
  return n;
}

// A possible merge at position `at`; it is stale when the tokens there have changed.
typedef struct {
  int32_t rank, at, left, right;
} candidate;

static inline bool sooner(const candidate *a, const candidate *b) {
  return a->rank < b->rank || (a->rank == b->rank && a->at < b->at);
}

typedef struct {
  candidate *heap;
  int64_t count;
} candidates;

static void push(const mt_bpe *b, candidates *c, const int32_t *id, int32_t at, int32_t next) {
  const candidate x = {rank_of(b, id[at], id[next]), at, id[at], id[next]};
  if (x.rank == INT32_MAX) {
    return;
  }
  int64_t i = c->count++;
  for (; i > 0 && sooner(&x, &c->heap[(i - 1) / 2]); i = (i - 1) / 2) {
    c->heap[i] = c->heap[(i - 1) / 2];
  }
  c->heap[i] = x;
}

static candidate pop(candidates *c) {
  const candidate top = c->heap[0], x = c->heap[--c->count];
  int64_t i = 0;
  for (int64_t child; (child = 2 * i + 1) < c->count; i = child) {
    child += child + 1 < c->count && sooner(&c->heap[child + 1], &c->heap[child]);
    if (!sooner(&c->heap[child], &x)) {
      break;
    }
    c->heap[i] = c->heap[child];
  }
  c->heap[i] = x;
  return top;
}

// The same for a piece of any length: a heap of candidates over a linked list, n log n.
static int merge_long(const mt_bpe *b, int32_t *id, int64_t *n) {
  const int32_t length = (int32_t)*n;
  int32_t *next = mt_alloc_array(*n, sizeof *next), *previous = mt_alloc_array(*n, sizeof *previous);
  candidates c = {mt_alloc_array(2 * *n, sizeof(candidate)), 0};
  int status = MT_ERROR_MEMORY;
  if (next != NULL && previous != NULL && c.heap != NULL) {
    status = MT_OK;
    for (int32_t i = 0; i < length; i++) {
      next[i] = i + 1;
      previous[i] = i - 1;
      if (i + 1 < length) {
        push(b, &c, id, i, i + 1);
      }
    }
    for (int64_t step = 0; c.count > 0; step++) {
      if (step % POLL == 0 && mt_cancel_pending()) {
        status = mt_fail(MT_ERROR_INTERRUPTED, "encode: interrupted");
        break;
      }
      const candidate x = pop(&c);
      const int32_t right = next[x.at];
      if (id[x.at] != x.left || right >= length || id[right] != x.right) {
        continue;
      }
      id[x.at] = b->joined[x.rank - 1];
      id[right] = 0;  // no token: what still points here is stale
      next[x.at] = next[right];
      if (next[x.at] < length) {
        previous[next[x.at]] = x.at;
        push(b, &c, id, x.at, next[x.at]);
      }
      if (x.at > 0) {
        push(b, &c, id, previous[x.at], x.at);
      }
    }
    if (status == MT_OK) {
      int64_t count = 0;
      for (int32_t i = 0; i < length; i = next[i]) {
        id[count++] = id[i];
      }
      *n = count;
    }
  }
  mt_free(next);
  mt_free(previous);
  mt_free(c.heap);
  return status;
}

static int encode_piece(mt_bpe_list *list, const mt_bpe *b, const uint8_t *piece, int64_t n) {
  if (n > INT32_MAX / 4) {
    return mt_fail(MT_ERROR_ARGUMENT, "encode: text: a stretch of %lld bytes without a boundary; at most %d", (long long)n,
                   INT32_MAX / 4);
  }
  MT_TRY(mt_bpe_reserve((void **)&list->id, &list->capacity, list->count + n, (int64_t)sizeof *list->id));
  int32_t *id = list->id + list->count;
  cached *c = n <= CACHE_BYTES ? &b->cache[mt_bpe_hash(piece, n) % CACHE] : NULL;
  if (c != NULL && c->length == n && memcmp(c->bytes, piece, (size_t)n) == 0) {
    memcpy(id, c->id, sizeof *id * c->count);
    list->count += c->count;
    return MT_OK;
  }
  for (int64_t i = 0; i < n; i++) {
    id[i] = b->byte[piece[i]];
  }
  int64_t count = n;
  if (n <= SHORT) {
    count = merge_short(b, id, (int32_t)n);
  } else {
    MT_TRY(merge_long(b, id, &count));
  }
  if (c != NULL && count <= CACHE_IDS) {
    c->length = (uint8_t)n;
    c->count = (uint8_t)count;
    memcpy(c->bytes, piece, (size_t)n);
    memcpy(c->id, id, sizeof *id * (size_t)count);
  }
  list->count += count;
  return MT_OK;
}

static int encode_ordinary(mt_bpe_list *list, const mt_bpe *b, const uint8_t *text, int64_t begin, int64_t end) {
  for (int64_t pieces = 0; begin < end; pieces++) {
    if (pieces % POLL == 0 && mt_cancel_pending()) {
      return mt_fail(MT_ERROR_INTERRUPTED, "encode: interrupted");
    }
    const int64_t stop = mt_bpe_next(text, end, begin);
    MT_TRY(encode_piece(list, b, text + begin, stop - begin));
    begin = stop;
  }
  return MT_OK;
}

// The longest flagged special token at `at`, 0 when there is none.
static int32_t special_at(const mt_bpe *b, const uint8_t *text, int64_t end, int64_t at, const uint8_t *allowed,
                          int64_t *length) {
  int32_t found = 0;
  *length = 0;
  for (int32_t k = 0; k < b->specials; k++) {
    int64_t n;
    const uint8_t *bytes = token_bytes(b, b->special[k], &n);
    if (allowed[k] && n > *length && n <= end - at && memcmp(text + at, bytes, (size_t)n) == 0) {
      found = b->special[k];
      *length = n;
    }
  }
  return found;
}

static int encode_special(mt_bpe_list *list, const mt_bpe *b, const uint8_t *text, int64_t end, const uint8_t *allowed) {
  bool first[256] = {false};
  int64_t begin = 0, length;
  for (int32_t k = 0; k < b->specials; k++) {
    first[token_bytes(b, b->special[k], &length)[0]] |= allowed[k] != 0;
  }
  for (int64_t at = 0; at < end;) {
    const int32_t id = first[text[at]] ? special_at(b, text, end, at, allowed, &length) : 0;
    if (id == 0) {
      at++;
      continue;
    }
    MT_TRY(encode_ordinary(list, b, text, begin, at));
    MT_TRY(mt_bpe_reserve((void **)&list->id, &list->capacity, list->count + 1, (int64_t)sizeof *list->id));
    list->id[list->count++] = id;
    at += length;
    begin = at;
  }
  return encode_ordinary(list, b, text, begin, end);
}

int mt_bpe_encode(mt_bpe_list *list, mt_bpe *b, const char *text, int64_t length, const uint8_t *allowed) {
  if (list == NULL || b == NULL || text == NULL || length < 0) {
    return mt_fail(MT_ERROR_ARGUMENT, "encode: text: expected a string");
  }
  const int64_t before = list->count;
  const uint8_t *bytes = (const uint8_t *)text;
  const int status = allowed == NULL || b->specials == 0 ? encode_ordinary(list, b, bytes, 0, length)
                                                          : encode_special(list, b, bytes, length, allowed);
  if (status != MT_OK) {
    list->count = before;
  }
  return status;
}

// ---- decoding -----------------------------------------------------------------------------------------------------------

// Writes the bytes of ids where text is not NULL; *length = how many there are (at most `limit` are written).
static int decode(char *text, int64_t limit, int64_t *length, const mt_bpe *b, const mt_tensor *ids, int32_t skip_special) {
  if (b == NULL) {
    return mt_fail(MT_ERROR_ARGUMENT, "decode: expected an encoder, got NULL");
  }
  MT_TRY(check_ids("decode", ids));
  *length = 0;
  for (int64_t i = 0; i < ids->numel; i++) {
    const int64_t id = ids->dtype == MT_INT32 ? ((const int32_t *)ids->data)[i * ids->stride[0]]
                                              : ((const int64_t *)ids->data)[i * ids->stride[0]];
    int64_t n;
    if (id < 1 || id > b->tokens.count) {
      return mt_fail(MT_ERROR_ARGUMENT, "decode: ids: expected ids from 1 to %lld, got %lld at position %lld",
                     (long long)b->tokens.count, (long long)id, (long long)i + 1);
    }
    if (skip_special && b->is_special[id - 1]) {
      continue;
    }
    const uint8_t *bytes = token_bytes(b, (int32_t)id, &n);
    if (!mt_add(length, *length, n) || (text != NULL && *length > limit)) {
      return mt_fail(MT_ERROR_ARGUMENT, "decode: length: the text is longer than %lld bytes", (long long)limit);
    }
    if (text != NULL) {
      memcpy(text + *length - n, bytes, (size_t)n);
    }
  }
  return MT_OK;
}

int mt_bpe_decode_length(int64_t *length, const mt_bpe *b, const mt_tensor *ids, int32_t skip_special) {
  return decode(NULL, 0, length, b, ids, skip_special);
}

int mt_bpe_decode(char *text, int64_t length, const mt_bpe *b, const mt_tensor *ids, int32_t skip_special) {
  int64_t written;
  if (text == NULL) {
    return mt_fail(MT_ERROR_ARGUMENT, "decode: text: expected memory for it");
  }
  return decode(text, length, &written, b, ids, skip_special);
}
