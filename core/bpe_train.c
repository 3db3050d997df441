// bpe_train: makes the merges of a byte-pair encoding from counted pieces, see bpe.h. Every pair knows its frequency and the
// pieces it stands in, so a merge visits only those; a heap gives the most frequent pair, its stale entries are corrected
// when they come up.
#include "bpe_parts.h"

typedef struct {
  int32_t left, right;
  int64_t count;
  int32_t *piece;  // where it stands (pieces may repeat, and may have lost it again)
  int64_t pieces, capacity;
  int64_t touched;  // the step that last raised the count
  bool merged;      // stands in the list of merges
} pair;

typedef struct {
  int64_t count;
  int32_t left, right, index;
} ranked;

struct mt_bpe_trainer {
  mt_bpe_strings words;  // the distinct pieces
  int64_t *count;        // how often each appeared
  int64_t count_capacity;
  int32_t *symbol;       // their tokens: piece k begins at words.offset[k] and has length[k] of them
  int32_t *length;
  mt_bpe_strings tokens;
  mt_bpe_pairs index;    // pair -> its place in pairs + 1
  pair *pairs;
  int64_t pair_count, pair_capacity;
  ranked *heap;
  int64_t heap_count, heap_capacity;
  int32_t *raised;       // pairs whose count the current merge raised
  int64_t raised_count, raised_capacity;
  int32_t *merge;        // left and right of each
  int64_t merges, merge_capacity, steps;
  uint8_t *joined;
  int64_t joined_capacity;
  int32_t id_of[256];
  bool started;
};

// ---- counting ---------------------------------------------------------------------------------------------------------

int mt_bpe_trainer_new(mt_bpe_trainer **out) {
  mt_bpe_trainer *t = mt_alloc(sizeof *t);
  if (t == NULL) {
    return MT_ERROR_MEMORY;
  }
  memset(t, 0, sizeof *t);
  uint8_t order[256];
  mt_bpe_alphabet(order);
  for (int k = 0; k < 256; k++) {
    int32_t number;
    bool is_new;
    const int status = mt_bpe_strings_add(&t->tokens, &order[k], 1, &number, &is_new);
    if (status != MT_OK) {
      mt_bpe_trainer_release(t);
      return status;
    }
    t->id_of[order[k]] = number + 1;
  }
  *out = t;
  return MT_OK;
}

void mt_bpe_trainer_release(mt_bpe_trainer *t) {
  if (t == NULL) {
    return;
  }
  for (int64_t p = 0; p < t->pair_count; p++) {
    mt_free(t->pairs[p].piece);
  }
  mt_bpe_strings_free(&t->words);
  mt_bpe_strings_free(&t->tokens);
  mt_bpe_pairs_free(&t->index);
  mt_free(t->count);
  mt_free(t->symbol);
  mt_free(t->length);
  mt_free(t->pairs);
  mt_free(t->heap);
  mt_free(t->raised);
  mt_free(t->merge);
  mt_free(t->joined);
  mt_free(t);
}

int mt_bpe_trainer_count(mt_bpe_trainer *t, const char *text, int64_t length, int64_t *position, int64_t budget) {
  if (t == NULL || text == NULL || position == NULL || *position < 0 || *position > length || t->started) {
    return mt_fail(MT_ERROR_ARGUMENT, "train_bpe: text: expected a position from 0 to %lld, before the first merge",
                   (long long)length);
  }
  const uint8_t *bytes = (const uint8_t *)text;
  for (const int64_t from = *position; *position < length && *position - from < budget;) {
    const int64_t end = mt_bpe_next(bytes, length, *position);
    int32_t number;
    bool is_new;
    if (end - *position > INT32_MAX) {
      return mt_fail(MT_ERROR_ARGUMENT, "train_bpe: text: a piece of %lld bytes", (long long)(end - *position));
    }
    MT_TRY(mt_bpe_reserve((void **)&t->count, &t->count_capacity, t->words.count + 1, (int64_t)sizeof *t->count));
    MT_TRY(mt_bpe_strings_add(&t->words, bytes + *position, end - *position, &number, &is_new));
    t->count[number] = is_new ? 1 : t->count[number] + 1;
    *position = end;
  }
  return MT_OK;
}

int64_t mt_bpe_trainer_pieces(const mt_bpe_trainer *t) { return t->words.count; }

// ---- pairs ------------------------------------------------------------------------------------------------------------

// Adds `change` occurrences of a pair in a piece.
static int change_pair(mt_bpe_trainer *t, int32_t left, int32_t right, int64_t change, int32_t piece) {
  const uint64_t key = mt_bpe_pair(left, right);
  int32_t place = mt_bpe_pairs_get(&t->index, key);
  if (place == 0) {
    if (t->pair_count >= INT32_MAX / 2) {
      return mt_fail(MT_ERROR_MEMORY, "train_bpe: more than %d distinct pairs", INT32_MAX / 2);
    }
    MT_TRY(mt_bpe_reserve((void **)&t->pairs, &t->pair_capacity, t->pair_count + 1, (int64_t)sizeof *t->pairs));
    place = (int32_t)t->pair_count + 1;
    MT_TRY(mt_bpe_pairs_put(&t->index, key, place));
    t->pairs[t->pair_count++] = (pair){.left = left, .right = right, .touched = -1};
  }
  pair *p = &t->pairs[place - 1];
  p->count += change;
  if (change > 0) {
    if (p->pieces == 0 || p->piece[p->pieces - 1] != piece) {
      if (p->pieces == p->capacity) {
        MT_TRY(mt_bpe_reserve((void **)&p->piece, &p->capacity, p->pieces == 0 ? 4 : p->pieces + 1, (int64_t)sizeof *p->piece));
      }
      p->piece[p->pieces++] = piece;
    }
    if (p->touched != t->steps) {
      p->touched = t->steps;
      MT_TRY(mt_bpe_reserve((void **)&t->raised, &t->raised_capacity, t->raised_count + 1, (int64_t)sizeof *t->raised));
      t->raised[t->raised_count++] = place - 1;
    }
  }
  return MT_OK;
}

static inline bool before(const ranked *a, const ranked *b) {
  if (a->count != b->count) {
    return a->count > b->count;
  }
  return a->left != b->left ? a->left < b->left : a->right < b->right;
}

static void sift_down(mt_bpe_trainer *t, ranked x) {
  int64_t i = 0;
  for (int64_t child; (child = 2 * i + 1) < t->heap_count; i = child) {
    child += child + 1 < t->heap_count && before(&t->heap[child + 1], &t->heap[child]);
    if (!before(&t->heap[child], &x)) {
      break;
    }
    t->heap[i] = t->heap[child];
  }
  if (t->heap_count > 0) {
    t->heap[i] = x;
  }
}

// Puts the pairs that were raised since the last call into the heap.
static int push_raised(mt_bpe_trainer *t) {
  MT_TRY(mt_bpe_reserve((void **)&t->heap, &t->heap_capacity, t->heap_count + t->raised_count, (int64_t)sizeof *t->heap));
  for (int64_t k = 0; k < t->raised_count; k++) {
    const pair *p = &t->pairs[t->raised[k]];
    const ranked x = {p->count, p->left, p->right, t->raised[k]};
    if (x.count <= 0) {
      continue;
    }
    int64_t i = t->heap_count++;
    for (; i > 0 && before(&x, &t->heap[(i - 1) / 2]); i = (i - 1) / 2) {
      t->heap[i] = t->heap[(i - 1) / 2];
    }
    t->heap[i] = x;
  }
  t->raised_count = 0;
  return MT_OK;
}

// The place of the most frequent pair, -1 when no pair is left.
static int32_t most_frequent(mt_bpe_trainer *t) {
  while (t->heap_count > 0) {
    ranked top = t->heap[0];
    const int64_t count = t->pairs[top.index].count;
    if (count == top.count) {
      return top.index;
    }
    if (count > 0 && count < top.count) {
      top.count = count;  // stale: back to its place
      sift_down(t, top);
    } else {
      t->heap_count--;    // gone, or raised since and in the heap a second time
      sift_down(t, t->heap[t->heap_count]);
    }
  }
  return -1;
}

// ---- merging ----------------------------------------------------------------------------------------------------------

static int start(mt_bpe_trainer *t) {
  const int64_t words = t->words.count, bytes = words > 0 ? t->words.offset[words] : 0;
  t->symbol = mt_alloc_array(bytes, sizeof *t->symbol);
  t->length = mt_alloc_array(words, sizeof *t->length);
  if (t->symbol == NULL || t->length == NULL) {
    mt_free(t->symbol);
    mt_free(t->length);
    t->symbol = NULL;
    t->length = NULL;
    return MT_ERROR_MEMORY;
  }
  t->started = true;
  for (int64_t w = 0; w < words; w++) {
    const int64_t from = t->words.offset[w], to = t->words.offset[w + 1];
    t->length[w] = (int32_t)(to - from);
    for (int64_t i = from; i < to; i++) {
      t->symbol[i] = t->id_of[t->words.bytes[i]];
      if (i > from) {
        MT_TRY(change_pair(t, t->symbol[i - 1], t->symbol[i], t->count[w], (int32_t)w));
      }
    }
  }
  return push_raised(t);
}

// The token with the bytes of two.
static int join(mt_bpe_trainer *t, int32_t left, int32_t right, int32_t *id) {
  const int64_t *l = t->tokens.offset + left - 1, *r = t->tokens.offset + right - 1;
  const int64_t m = l[1] - l[0], n = r[1] - r[0];
  bool is_new;
  MT_TRY(mt_bpe_reserve((void **)&t->joined, &t->joined_capacity, m + n, 1));
  memcpy(t->joined, t->tokens.bytes + l[0], (size_t)m);
  memcpy(t->joined + m, t->tokens.bytes + r[0], (size_t)n);
  MT_TRY(mt_bpe_strings_add(&t->tokens, t->joined, m + n, id, &is_new));
  ++*id;
  return MT_OK;
}

// Joins left and right wherever they stand side by side in a piece, from its beginning on.
static int merge_piece(mt_bpe_trainer *t, int32_t w, int32_t left, int32_t right, int32_t id) {
  int32_t *s = t->symbol + t->words.offset[w];
  const int32_t n = t->length[w];
  const int64_t count = t->count[w];
  int32_t to = 0;
  for (int32_t i = 0; i < n; i++) {
    if (i + 1 == n || s[i] != left || s[i + 1] != right) {
      s[to++] = s[i];
      continue;
    }
    if (to > 0) {
      MT_TRY(change_pair(t, s[to - 1], left, -count, w));
      MT_TRY(change_pair(t, s[to - 1], id, count, w));
    }
    if (i + 2 < n) {
      MT_TRY(change_pair(t, right, s[i + 2], -count, w));
      MT_TRY(change_pair(t, id, s[i + 2], count, w));
    }
    s[to++] = id;
    i++;
  }
  t->length[w] = to;
  return MT_OK;
}

static int merge_next(mt_bpe_trainer *t, int32_t place) {
  const int32_t left = t->pairs[place].left, right = t->pairs[place].right;
  int32_t id;
  MT_TRY(mt_bpe_reserve((void **)&t->merge, &t->merge_capacity, 2 * t->merges + 2, (int64_t)sizeof *t->merge));
  MT_TRY(join(t, left, right, &id));
  // A pair comes back when another merge makes a token that exists already; it is listed once.
  if (!t->pairs[place].merged) {
    t->pairs[place].merged = true;
    t->merge[2 * t->merges] = left;
    t->merge[2 * t->merges + 1] = right;
    t->merges++;
  }
  t->steps++;
  // The list is taken out of the pair: pairs move when their table grows.
  int32_t *piece = t->pairs[place].piece;
  const int64_t pieces = t->pairs[place].pieces;
  t->pairs[place].piece = NULL;
  t->pairs[place].pieces = t->pairs[place].capacity = 0;
  int status = MT_OK;
  for (int64_t k = 0; k < pieces && status == MT_OK; k++) {
    status = merge_piece(t, piece[k], left, right, id);
  }
  mt_free(piece);
  t->pairs[place].count = 0;
  return status == MT_OK ? push_raised(t) : status;
}

int mt_bpe_trainer_merge(mt_bpe_trainer *t, int32_t limit, int64_t min_frequency, int32_t steps, int32_t *tokens,
                         int32_t *finished) {
  if (t == NULL || tokens == NULL || finished == NULL || limit < 256 || steps < 1 || min_frequency < 1) {
    return mt_fail(MT_ERROR_ARGUMENT, "train_bpe: expected a limit of at least 256 tokens, got %d", limit);
  }
  *finished = 0;
  if (!t->started) {
    MT_TRY(start(t));
  }
  for (int32_t k = 0; k < steps && !*finished; k++) {
    if (mt_cancel_pending()) {
      return mt_fail(MT_ERROR_INTERRUPTED, "train_bpe: interrupted");
    }
    const int32_t place = t->tokens.count < limit ? most_frequent(t) : -1;
    *finished = place < 0 || t->pairs[place].count < min_frequency;
    if (!*finished) {
      MT_TRY(merge_next(t, place));
    }
  }
  *tokens = (int32_t)t->tokens.count;
  return MT_OK;
}

int32_t mt_bpe_trainer_merges(const mt_bpe_trainer *t) { return (int32_t)t->merges; }

int mt_bpe_trainer_read(int32_t *pairs, const mt_bpe_trainer *t) {
  if (pairs == NULL || t == NULL) {
    return mt_fail(MT_ERROR_ARGUMENT, "train_bpe: expected memory for the merges");
  }
  memcpy(pairs, t->merge, sizeof *pairs * 2 * (size_t)t->merges);
  return MT_OK;
}
