// bpe: byte-level byte-pair encoding, GPT-2's: a text is cut into pieces (below), a piece starts as one token per byte, and the
// adjacent pair that stands first in the list of merges is joined, the leftmost first, until no pair stands in the list.
//
// Tokens are numbered from 1 here and everywhere above; files number them from 0 (lua/masked_torch/data/tokenizer/file_ids.lua
// is the only place that converts). Texts are bytes: every byte has a token, so any bytes encode, and decode to themselves.
//
// Pieces are the matches of
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// with the classes of Unicode 16.0.0. A byte that is not part of valid UTF-8 counts as one character of [^\s\p{L}\p{N}].
//
// Not thread-safe: one thread at a time may use one mt_bpe, mt_bpe_list or mt_bpe_trainer.
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

typedef struct mt_bpe mt_bpe;
typedef struct mt_bpe_list mt_bpe_list;
typedef struct mt_bpe_trainer mt_bpe_trainer;

// *out = an encoder. Token i + 1 is bytes[offset[i]] to bytes[offset[i + 1] - 1], at least one byte; offset has tokens + 1
// entries and starts at 0. pair holds left and right of every merge, first the merge that is applied first; the joined bytes
// must be a token. special holds the tokens that only mt_bpe_encode's flags make out of text. Everything is copied.
// Refused: two tokens with the same bytes, a byte without a token, ids out of range, a merge that appears twice, that makes
// no token or that a special token takes part in.
int mt_bpe_new(mt_bpe **out, int32_t tokens, const char *bytes, const int64_t *offset, int32_t merges, const int32_t *pair,
               int32_t specials, const int32_t *special);
void mt_bpe_release(mt_bpe *b);

// *id = the token with these bytes, 0 when there is none.
int mt_bpe_find(int32_t *id, const mt_bpe *b, const char *bytes, int64_t length);

// A growing list of ids.
int mt_bpe_list_new(mt_bpe_list **out);
void mt_bpe_list_release(mt_bpe_list *list);
int64_t mt_bpe_list_count(const mt_bpe_list *list);
// ids = the list, in a vector of that length, int64 or int32.
int mt_bpe_list_read(mt_tensor *ids, const mt_bpe_list *list);

// Appends the ids of a text to the list. allowed == NULL: special tokens are ordinary text; otherwise one flag per special
// token in the order of mt_bpe_new: where the text of a flagged one stands, the longest at a place, it becomes that token, and
// the text before and after it is encoded by itself. Polls the cancel flag. On an error the list is as before.
int mt_bpe_encode(mt_bpe_list *list, mt_bpe *b, const char *text, int64_t length, const uint8_t *allowed);

// *length = the bytes that ids (a vector, int64 or int32) stand for; skip_special = 1: special tokens stand for nothing.
int mt_bpe_decode_length(int64_t *length, const mt_bpe *b, const mt_tensor *ids, int32_t skip_special);
// The bytes themselves, `length` of them.
int mt_bpe_decode(char *text, int64_t length, const mt_bpe *b, const mt_tensor *ids, int32_t skip_special);

// *end = the end of the piece that begins at position `begin` of the text (0-based bytes, begin < length).
int mt_bpe_piece(int64_t *end, const char *text, int64_t length, int64_t begin);

// Training. First every text is counted, then merges are made, most frequent pair first; among equals the one whose left, then
// right token has the smaller id. Ids 1 to 256 are the bytes in GPT-2's order (33-126, 161-172, 174-255, then the rest), merge
// k makes token 256 + k unless its bytes are a token already.
int mt_bpe_trainer_new(mt_bpe_trainer **out);
void mt_bpe_trainer_release(mt_bpe_trainer *t);
// Counts the pieces of text from *position on, until it ends or `budget` more bytes are done, and moves *position.
int mt_bpe_trainer_count(mt_bpe_trainer *t, const char *text, int64_t length, int64_t *position, int64_t budget);
// Makes up to `steps` more merges. *tokens = ids given so far; *finished = 1 when there are `limit` ids or no pair appears
// at least min_frequency times. Polls the cancel flag. After the first call nothing more can be counted.
int mt_bpe_trainer_merge(mt_bpe_trainer *t, int32_t limit, int64_t min_frequency, int32_t steps, int32_t *tokens,
                         int32_t *finished);
// The merges so far (their number; then left and right of each) and the distinct pieces counted.
int32_t mt_bpe_trainer_merges(const mt_bpe_trainer *t);
int mt_bpe_trainer_read(int32_t *pair, const mt_bpe_trainer *t);
int64_t mt_bpe_trainer_pieces(const mt_bpe_trainer *t);

#pragma GCC visibility pop
