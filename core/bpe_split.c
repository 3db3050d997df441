// bpe_split: GPT-2's pre-tokeniser (the pattern in bpe.h), and the tables that the encoder and the trainer share.
#include "bpe_parts.h"

enum { OTHER, L, N, S };
#include "bpe_tables.h"

// ---- characters -----------------------------------------------------------------------------------------------------

static int class_of(uint32_t code) {
  int low = 0, high = (int)(sizeof ranges / sizeof ranges[0]);
  while (low < high) {
    const int middle = (low + high) / 2;
    if (code > ranges[middle].last) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < (int)(sizeof ranges / sizeof ranges[0]) && code >= ranges[low].first ? (int)ranges[low].kind : OTHER;
}

static inline bool tail(uint8_t byte) { return (byte & 0xC0) == 0x80; }

// The class of the character at p, which *length bytes encode (RFC 3629: no overlong forms, no surrogates).
static int character(const uint8_t *p, int64_t left, int64_t *length) {
  const uint8_t a = p[0];
  *length = 1;
  if (a < 0x80) {
    return ascii_class[a];
  }
  if (a >= 0xC2 && a <= 0xDF && left >= 2 && tail(p[1])) {
    *length = 2;
    return class_of((uint32_t)(a & 0x1F) << 6 | (p[1] & 0x3F));
  }
  if (a >= 0xE0 && a <= 0xEF && left >= 3 && tail(p[1]) && tail(p[2]) && !(a == 0xE0 && p[1] < 0xA0) &&
      !(a == 0xED && p[1] > 0x9F)) {
    *length = 3;
    return class_of((uint32_t)(a & 0x0F) << 12 | (uint32_t)(p[1] & 0x3F) << 6 | (p[2] & 0x3F));
  }
  if (a >= 0xF0 && a <= 0xF4 && left >= 4 && tail(p[1]) && tail(p[2]) && tail(p[3]) && !(a == 0xF0 && p[1] < 0x90) &&
      !(a == 0xF4 && p[1] > 0x8F)) {
    *length = 4;
    return class_of((uint32_t)(a & 0x07) << 18 | (uint32_t)(p[1] & 0x3F) << 12 | (uint32_t)(p[2] & 0x3F) << 6 | (p[3] & 0x3F));
  }
  return OTHER;
}

// ---- pieces -----------------------------------------------------------------------------------------------------------

static int64_t run_end(const uint8_t *text, int64_t end, int64_t at, int kind) {
  int64_t length;
  while (at < end && character(text + at, end - at, &length) == kind) {
    at += length;
  }
  return at;
}

// The length of 's, 't, 're, 've, 'm, 'll or 'd behind the apostrophe, or 0.
static int contraction(const uint8_t *p, int64_t left) {
  if (left < 1) {
    return 0;
  }
  if (p[0] == 's' || p[0] == 't' || p[0] == 'm' || p[0] == 'd') {
    return 1;
  }
  return left >= 2 && ((p[1] == 'e' && (p[0] == 'r' || p[0] == 'v')) || (p[0] == 'l' && p[1] == 'l')) ? 2 : 0;
}

int64_t mt_bpe_next(const uint8_t *text, int64_t end, int64_t at) {
  int64_t length;
  if (text[at] == '\'') {
    const int letters = contraction(text + at + 1, end - at - 1);
    if (letters > 0) {
      return at + 1 + letters;
    }
  }
  const int64_t start = at + (text[at] == ' ' && at + 1 < end);
  const int kind = character(text + start, end - start, &length);
  if (kind != S) {
    return run_end(text, end, start + length, kind);
  }
  // White space: all of it at the end of the text; otherwise all but the last character, which the next piece may take.
  int64_t last = at, p = at;
  while (p < end && character(text + p, end - p, &length) == S) {
    last = p;
    p += length;
  }
  return p == end || last == at ? p : last;
}

int mt_bpe_piece(int64_t *end, const char *text, int64_t length, int64_t begin) {
  if (end == NULL || text == NULL || begin < 0 || begin >= length) {
    return mt_fail(MT_ERROR_ARGUMENT, "bpe_piece: begin: expected a position inside the text");
  }
  *end = mt_bpe_next((const uint8_t *)text, length, begin);
  return MT_OK;
}

void mt_bpe_alphabet(uint8_t order[256]) {
  int n = 0;
  for (int rest = 0; rest < 2; rest++) {
    for (int byte = 0; byte < 256; byte++) {
      const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
      if (printable != (bool)rest) {
        order[n++] = (uint8_t)byte;
      }
    }
  }
}

// ---- tables -----------------------------------------------------------------------------------------------------------

int mt_bpe_reserve(void **block, int64_t *capacity, int64_t wanted, int64_t size) {
  if (wanted <= *capacity) {
    return MT_OK;
  }
  const int64_t room = MT_MAX(wanted, MT_MAX(*capacity * 2, 64));
  void *larger = mt_alloc_array(room, size);
  if (larger == NULL) {
    return MT_ERROR_MEMORY;
  }
  if (*block != NULL) {
    memcpy(larger, *block, (size_t)(*capacity * size));
    mt_free(*block);
  }
  *block = larger;
  *capacity = room;
  return MT_OK;
}

static void pairs_insert(uint64_t *key, int32_t *value, uint64_t last, uint64_t k, int32_t v) {
  uint64_t i = mt_bpe_mix(k) & last;
  while (key[i] != 0 && key[i] != k) {
    i = (i + 1) & last;
  }
  key[i] = k;
  value[i] = v;
}

int mt_bpe_pairs_put(mt_bpe_pairs *table, uint64_t key, int32_t value) {
  if (2 * (table->count + 1) > table->capacity) {
    const int64_t room = MT_MAX(64, table->capacity * 2);
    uint64_t *keys = mt_alloc_array(room, sizeof *keys);
    int32_t *values = mt_alloc_array(room, sizeof *values);
    if (keys == NULL || values == NULL) {
      mt_free(keys);
      mt_free(values);
      return MT_ERROR_MEMORY;
    }
    memset(keys, 0, (size_t)room * sizeof *keys);
    for (int64_t i = 0; i < table->capacity; i++) {
      if (table->key[i] != 0) {
        pairs_insert(keys, values, (uint64_t)room - 1, table->key[i], table->value[i]);
      }
    }
    mt_bpe_pairs_free(table);
    *table = (mt_bpe_pairs){keys, values, room, table->count};
  }
  table->count += mt_bpe_pairs_get(table, key) == 0;
  pairs_insert(table->key, table->value, (uint64_t)table->capacity - 1, key, value);
  return MT_OK;
}

void mt_bpe_pairs_free(mt_bpe_pairs *table) {
  mt_free(table->key);
  mt_free(table->value);
  table->key = NULL;
  table->value = NULL;
  table->capacity = 0;
}

// The slot that holds the string, or the empty one where it belongs.
static int64_t strings_slot(const mt_bpe_strings *set, const uint8_t *bytes, int64_t length) {
  const uint64_t last = (uint64_t)set->slots - 1;
  uint64_t i = mt_bpe_hash(bytes, length) & last;
  for (; set->slot[i] != 0; i = (i + 1) & last) {
    const int64_t *o = set->offset + set->slot[i] - 1;
    if (o[1] - o[0] == length && memcmp(set->bytes + o[0], bytes, (size_t)length) == 0) {
      break;
    }
  }
  return (int64_t)i;
}

int32_t mt_bpe_strings_find(const mt_bpe_strings *set, const uint8_t *bytes, int64_t length) {
  return set->slots == 0 ? -1 : set->slot[strings_slot(set, bytes, length)] - 1;
}

int mt_bpe_strings_add(mt_bpe_strings *set, const uint8_t *bytes, int64_t length, int32_t *number, bool *is_new) {
  if (2 * (set->count + 1) > set->slots) {
    const int64_t room = MT_MAX(1024, set->slots * 2);
    int32_t *slots = mt_alloc_array(room, sizeof *slots);
    if (slots == NULL) {
      return MT_ERROR_MEMORY;
    }
    memset(slots, 0, (size_t)room * sizeof *slots);
    mt_free(set->slot);
    set->slot = slots;
    set->slots = room;
    for (int64_t k = 0; k < set->count; k++) {
      const int64_t *o = set->offset + k;
      set->slot[strings_slot(set, set->bytes + o[0], o[1] - o[0])] = (int32_t)k + 1;
    }
  }
  const int64_t slot = strings_slot(set, bytes, length);
  *is_new = set->slot[slot] == 0;
  if (*is_new) {
    if (set->count >= INT32_MAX / 2) {
      return mt_fail(MT_ERROR_ARGUMENT, "bpe: more than %d distinct strings", INT32_MAX / 2);
    }
    const int64_t used = set->count > 0 ? set->offset[set->count] : 0;
    MT_TRY(mt_bpe_reserve((void **)&set->bytes, &set->bytes_capacity, used + length, 1));
    MT_TRY(mt_bpe_reserve((void **)&set->offset, &set->offset_capacity, set->count + 2, (int64_t)sizeof *set->offset));
    memcpy(set->bytes + used, bytes, (size_t)length);
    set->offset[set->count] = used;
    set->offset[set->count + 1] = used + length;
    set->slot[slot] = (int32_t)++set->count;
  }
  *number = set->slot[slot] - 1;
  return MT_OK;
}

void mt_bpe_strings_free(mt_bpe_strings *set) {
  mt_free(set->bytes);
  mt_free(set->offset);
  mt_free(set->slot);
  *set = (mt_bpe_strings){0};
}
