/* tokenizer.h - text to token ids and back, from the vocabulary in a GGUF file.
 *
 * Handles `tokenizer.ggml.model` = "llama": SentencePiece-style BPE by scores with byte fallback.
 * Control tokens are cut out first where asked for, user-defined tokens always, longest first; then
 * neighbours merge by best score, leftmost first; what is left falls back to byte tokens.  Spaces
 * are U+2581 in the vocabulary; a space is put in front as the file's add_space_prefix says (where
 * it does not say, one is, as in llama.cpp), and decoding takes it off again.  Invalid UTF-8 goes
 * byte by byte; a space inside a broken character comes back as the bytes of U+2581.  A tokenizer
 * is immutable and may be used by many threads; it keeps its GGUF open. */
#ifndef MLXN_TOKENIZER_H
#define MLXN_TOKENIZER_H

#include <mlxn/gguf.h>

MLXN_EXTERN_C_BEGIN

typedef struct mlxn_tokenizer mlxn_tokenizer;

typedef enum mlxn_token_flags {
    MLXN_TOKENS_BOS = 1,     /* put the BOS token first */
    MLXN_TOKENS_SPECIAL = 2, /* control tokens written in the text are parsed as such */
} mlxn_token_flags;

MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_tokenizer_create(mlxn_gguf *gguf, mlxn_tokenizer **out);
MLXN_API mlxn_tokenizer *mlxn_tokenizer_retain(mlxn_tokenizer *tokenizer);
MLXN_API void mlxn_tokenizer_release(mlxn_tokenizer *tokenizer);

MLXN_API int32_t mlxn_tokenizer_vocab_size(const mlxn_tokenizer *tokenizer);
MLXN_API int32_t mlxn_tokenizer_bos(const mlxn_tokenizer *tokenizer); /* -1: none */
MLXN_API int32_t mlxn_tokenizer_eos(const mlxn_tokenizer *tokenizer); /* -1: none */
/* Whether a token ends a generation: eos, eot and what the vocabulary names <end_of_turn>, </s>. */
MLXN_API int mlxn_tokenizer_is_end(const mlxn_tokenizer *tokenizer, int32_t id);

/* The ids of `bytes` bytes of text, at most `capacity` of them into `ids`; *count is always the
 * full number, so call with capacity 0 to learn it (MLXN_OK).  Not enough room is MLXN_ERR_BOUNDS;
 * BOS where the vocabulary has none MLXN_ERR_NOT_FOUND.  At most 2^30 bytes. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_tokenizer_encode(const mlxn_tokenizer *tokenizer,
                                                           const char *text, size_t bytes,
                                                           uint32_t flags, int32_t *ids,
                                                           size_t capacity, size_t *count);
/* The text of ids, not NUL-terminated; *bytes is always the full length, as above.  flags: SPECIAL
 * gives control tokens as their text, else as nothing.  An id outside the vocabulary is ERR_BOUNDS.
 */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_tokenizer_decode(const mlxn_tokenizer *tokenizer,
                                                           const int32_t *ids, size_t count,
                                                           uint32_t flags, char *text,
                                                           size_t capacity, size_t *bytes);

/* Streaming: a detokenizer is fed one id at a time and gives back whole UTF-8 characters only;
 * the bytes of an unfinished character wait for the next id.  Bytes that can no longer become one
 * come out as U+FFFD.  A leading space stays: what is streamed goes on from a prompt. */
typedef struct mlxn_detokenizer mlxn_detokenizer;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_detokenizer_create(mlxn_tokenizer *tokenizer,
                                                             uint32_t flags,
                                                             mlxn_detokenizer **out);
MLXN_API void mlxn_detokenizer_release(mlxn_detokenizer *detokenizer);
/* *text (NUL-terminated, *bytes long, maybe empty) is valid until the next call. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_detokenizer_next(mlxn_detokenizer *detokenizer,
                                                           int32_t id, const char **text,
                                                           size_t *bytes);
/* What is still waiting, as U+FFFD; the detokenizer is as new afterwards. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_detokenizer_finish(mlxn_detokenizer *detokenizer,
                                                             const char **text, size_t *bytes);

MLXN_EXTERN_C_END
#endif
