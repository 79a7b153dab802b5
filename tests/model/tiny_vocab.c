/* tiny_vocab.c - the vocabulary of tiny_vocab.h. */
#include "tiny_vocab.h"

#include <stdio.h>
#include <string.h>

int tiny_vocab_add(tiny_vocab *v, const char *text, float score, int type)
{
    v->texts[v->count] = (mlxn_gguf_string){text, strlen(text)};
    v->scores[v->count] = score;
    v->types[v->count] = type;
    return v->count++;
}

void tiny_vocab_begin(tiny_vocab *v)
{
    static const char *const special[] = {"<pad>", "<eos>", "<bos>", "<unk>"};
    static const char *const pieces[] = {"\xe2\x96\x81",
                                         "a",
                                         "b",
                                         "c",
                                         "d",
                                         "e",
                                         "h",
                                         "t",
                                         "aa",
                                         "ab",
                                         "bc",
                                         "aaaa",
                                         "abc",
                                         "he",
                                         "th",
                                         "the",
                                         "\xe2\x96\x81t",
                                         "\xe2\x96\x81the",
                                         "\342\226\201a",
                                         "e\xe2\x96\x81",
                                         "ca",
                                         "cab",
                                         "dd",
                                         "ddd",
                                         "\xc3\xa9",
                                         "\xe4\xb8\xad",
                                         "\xc3\xa9t",
                                         "<",
                                         ">",
                                         "/",
                                         "x",
                                         "0"};
    static const float scores[] = {-1, -2, -3, -4, -5, -6, -7, -8, -3, -3, -3, -2, -9, -5, -4, -6,
                                   -4, -7, -5, -4, -3, -8, -2, -2, -1, -1, -2, -9, -9, -9, -9, -9};
    static const char *const user[] = {"\n",   "\n\n", "\n\n\n", "  ",  "   ", "    ", "<b>",
                                       "<bb>", "b><",  "</s>",   "ddc", "cdd", "cddc"};
    v->count = 0;
    for (int i = 0; i < 4; i++)
        tiny_vocab_add(v, special[i], -1000, i == 3 ? 2 : 3);
    for (int i = 0; i < 256; i++) {
        snprintf(v->bytes[i], sizeof v->bytes[i], "<0x%02X>", (unsigned)i);
        tiny_vocab_add(v, v->bytes[i], 0, 6);
    }
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        tiny_vocab_add(v, pieces[i], scores[i], 1);
    for (size_t i = 0; i < sizeof user / sizeof *user; i++)
        tiny_vocab_add(v, user[i], -1000, 4);
    tiny_vocab_add(v, "<end_of_turn>", -1000, 3);
    tiny_vocab_add(v, "<x>", -1000, 3);
    tiny_vocab_add(v, "x><", -1000, 3);
}

void tiny_vocab_write(const tiny_vocab *v, gguf_writer *w)
{
    gguf_key_text(w, "tokenizer.ggml.model", "llama");
    gguf_key_strings(w, "tokenizer.ggml.tokens", v->texts, (uint64_t)v->count);
    gguf_key_array(w, "tokenizer.ggml.scores", MLXN_GGUF_F32, v->scores, (uint64_t)v->count, 4);
    gguf_key_array(w, "tokenizer.ggml.token_type", MLXN_GGUF_I32, v->types, (uint64_t)v->count, 4);
    gguf_key_u32(w, "tokenizer.ggml.bos_token_id", 2);
    gguf_key_u32(w, "tokenizer.ggml.eos_token_id", 1);
    gguf_key_bool(w, "tokenizer.ggml.add_space_prefix", 0);
}

void tiny_vocab_keys(gguf_writer *w)
{
    tiny_vocab v;
    tiny_vocab_begin(&v);
    tiny_vocab_write(&v, w);
}
