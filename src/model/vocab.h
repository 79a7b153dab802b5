/* vocab.h - the inside of a tokenizer: the vocabulary (vocab.c), the tokens that are cut out of a
 * text as they are (cutter.c) and the merging of what lies between (merger.c).  tokenizer.c puts
 * them together. */
#ifndef MLXN_VOCAB_H
#define MLXN_VOCAB_H

#include <stdatomic.h>
#include <mlxn/tokenizer.h>
#include "heap.h"
#include "string_index.h"

/* Token types as GGUF numbers them. */
enum {
    TOKEN_UNDEFINED = 0,
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN = 2,
    TOKEN_CONTROL = 3,
    TOKEN_USER_DEFINED = 4,
    TOKEN_UNUSED = 5,
    TOKEN_BYTE = 6,
    TOKEN_TYPE_MASK = 7,
    TOKEN_ENDS = 8, /* a flag beside the type: ends a generation */
};

/* One token to cut out.  They are sorted by text. */
typedef struct mlxn_cut_token {
    mlxn_gguf_string text;
    int32_t id;
    uint32_t rank;  /* the order of cutting: longest first, then lowest id */
    int64_t prefix; /* the longest other one that this one starts with; -1: none */
} mlxn_cut_token;

typedef struct mlxn_cutter {
    mlxn_cut_token *tokens; /* owned */
    size_t count;
    size_t first[257]; /* where the tokens of each first byte start */
} mlxn_cutter;

enum { PAIR_BITS = 20 };

struct mlxn_tokenizer {
    atomic_int references;
    mlxn_gguf *gguf;
    int32_t count, bos, eos, unknown; /* ids: -1 for none */
    int add_space_prefix;
    mlxn_gguf_string *texts;
    const unsigned char *scores; /* f32 in the file, any alignment; NULL: all 0 */
    uint8_t *types;              /* TOKEN_* */
    int32_t byte_ids[256];       /* -1: none */
    mlxn_string_index index;     /* of the tokens that merging may make */
    uint64_t *pairs;             /* a bit for each pair of characters inside such a token, hashed */
    mlxn_cutter user, special;   /* user-defined; these, control and unknown tokens */
};

/* Fills in everything but `references` and `gguf`. */
mlxn_status mlxn_vocab_load(mlxn_tokenizer *t);
void mlxn_vocab_unload(mlxn_tokenizer *t);

mlxn_status mlxn_cutter_create(mlxn_cutter *cutter, const mlxn_tokenizer *t, int with_control);
void mlxn_cutter_destroy(mlxn_cutter *cutter);

typedef struct mlxn_cut {
    size_t start, bytes;
    int32_t id;
} mlxn_cut;

typedef struct mlxn_cut_candidate {
    size_t start;
    int64_t token;
} mlxn_cut_candidate;

/* Working memory of one encoding. */
typedef struct mlxn_cut_work {
    mlxn_cut *cuts; /* of the group found last, in the order of the text */
    mlxn_cut_candidate *candidates;
    unsigned char *covered;
    size_t count, cut_capacity, candidate_count, candidate_capacity, covered_capacity;
    mlxn_heap heap;
} mlxn_cut_work;

/* Finds the next group of cuts in text from `at` on.  work->count 0: there are none. */
mlxn_status mlxn_cutter_next(const mlxn_cutter *cutter, const char *text, size_t bytes, size_t *at,
                             mlxn_cut_work *work);
void mlxn_cut_work_free(mlxn_cut_work *work);

/* Where ids go: counts all, keeps what there is room for. */
typedef struct mlxn_id_sink {
    int32_t *ids;
    size_t capacity, count;
} mlxn_id_sink;

static inline void mlxn_id_sink_put(mlxn_id_sink *sink, int32_t id)
{
    if (sink->count < sink->capacity)
        sink->ids[sink->count] = id;
    sink->count++;
}

typedef struct mlxn_symbol {
    uint32_t start, bytes; /* bytes 0: merged into another */
    uint32_t previous, next;
    int32_t id; /* -1: not looked up */
} mlxn_symbol;

typedef struct mlxn_merge_work {
    mlxn_symbol *symbols;
    size_t count, capacity;
    char *escaped;
    size_t escaped_capacity;
    mlxn_heap heap;
} mlxn_merge_work;

/* The ids of a text without tokens to cut out; `space`: as if it began with one more space. */
mlxn_status mlxn_merger_encode(const mlxn_tokenizer *t, const char *text, size_t bytes, int space,
                               mlxn_merge_work *work, mlxn_id_sink *sink);
void mlxn_merge_work_free(mlxn_merge_work *work);

/* A token's text as decoding gives it, into `out`; at most as long as the token's own text, but
 * never less than a byte of room is needed. */
size_t mlxn_vocab_piece(const mlxn_tokenizer *t, int32_t id, uint32_t flags, char *out);

/* Bytes of the character that begins with `first`, by its high bits alone: a stray continuation
 * byte is one byte.  Text and tokens are split into characters by this. */
static inline size_t mlxn_character_bytes(unsigned char first)
{
    return first < 0xc0 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/* Reads the character at *at and steps over it; one cut off by the end is what is left of it. */
static inline uint32_t mlxn_character_next(const char *text, size_t bytes, size_t *at)
{
    const unsigned char *p = (const unsigned char *)text + *at;
    size_t length = mlxn_character_bytes(*p), left = bytes - *at;
    uint32_t character = 0;
    length = length < left ? length : left;
    for (size_t i = 0; i < length; i++)
        character = character << 8 | p[i];
    *at += length;
    return character;
}

static inline uint32_t mlxn_pair_bit(uint32_t left, uint32_t right)
{
    uint64_t hash = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
    return (uint32_t)((hash ^ hash >> 32) * 0x94d049bb133111ebu >> (64 - PAIR_BITS));
}

#endif
