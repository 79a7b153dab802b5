/* tiny_tokenizer.c - see tiny_tokenizer.h. */
#include "tiny_tokenizer.h"
#include "test.h"

mlxn_status tiny_tokenizer_open(gguf_writer *w, unsigned char **memory, mlxn_tokenizer **t)
{
    size_t bytes;
    mlxn_gguf *g = NULL;
    *memory = gguf_finish(w, &bytes);
    *t = NULL;
    mlxn_status status = mlxn_gguf_open_memory(*memory, bytes, "t.gguf", &g);
    if (status == MLXN_OK)
        status = mlxn_tokenizer_create(g, t);
    mlxn_gguf_release(g); /* the tokenizer keeps it */
    return status;
}

mlxn_status tiny_tokenizer_of(const tiny_vocab *v, unsigned char **memory, mlxn_tokenizer **t)
{
    gguf_writer w;
    gguf_begin(&w);
    tiny_vocab_write(v, &w);
    return tiny_tokenizer_open(&w, memory, t);
}

void tiny_tokenizer_expect(const tiny_vocab *v, mlxn_tokenizer *t, const char *text, uint32_t flags,
                           const char *want, const char *file, int line)
{
    enum { IDS = 1024 };
    int32_t ids[IDS];
    size_t count = 0;
    char got[2048] = "";
    mlxn_status status = mlxn_tokenizer_encode(t, text, strlen(text), flags, ids, IDS, &count);
    if (!test_status(status, MLXN_OK, file, line, text))
        return;
    for (size_t i = 0; i < count; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s", i ? " " : "",
                 v->texts[ids[i]].data);
    if (strcmp(got, want))
        test_failed(file, line, "\"%s\" gives \"%s\", want \"%s\"", text, got, want);
}
