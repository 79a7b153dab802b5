/* mirror.c - what the host sees of small buffers without asking the driver.
 *
 * A graph that writes buffers of few bytes (the token of a decode step) ends with a launch of
 * publish_cuda.kernel, which copies them to a board in pinned memory and counts itself there.  The
 * host waits for such a replay by watching the count and reads the buffers from the board: neither
 * an event nor a copy of the driver is on that way.
 *
 * A storage gets its line of the board when a graph that writes it is built.  The line is what the
 * storage holds as long as the last thing queued that writes it was such a graph; `fresh` says so.
 * Everything here is under the stream's lock, but for watching the count. */
#include <string.h>
#include "backends/cuda/cuda.h"
#include "backends/cuda/publish.h"
#include "kernels/text.h"

enum { LINE_WORDS = MLXN_CUDA_MIRROR_BYTES / 4 };

mlxn_status mlxn_cuda_mirror_open(mlxn_cuda_device *cuda)
{
    const size_t bytes = MLXN_CUDA_MIRRORS * MLXN_CUDA_MIRROR_BYTES;
    void *board;
    MLXN_TRY(CU(&cuda->cu, cuMemHostAlloc, &board, bytes,
                MLXN_CU_HOST_PORTABLE | MLXN_CU_HOST_DEVICEMAP));
    memset(board, 0, bytes);
    cuda->board = board;
    MLXN_TRY(CU(&cuda->cu, cuMemHostGetDevicePointer_v2, &cuda->board_address, board, 0));
    MLXN_TRY(mlxn_cuda_take(cuda, sizeof(uint32_t), &cuda->counter));
    return CU(&cuda->cu, cuMemsetD8Async, cuda->counter, 0, sizeof(uint32_t), cuda->stream);
}

void mlxn_cuda_mirror_close(mlxn_cuda_device *cuda)
{
    mlxn_cuda_give(cuda, cuda->counter);
    if (cuda->board)
        cuda->cu.cuMemFreeHost((void *)(uintptr_t)cuda->board);
}

/* ---- lines ---- */

static volatile uint32_t *line_of(const mlxn_cuda_device *cuda, const mlxn_cuda_mirror *mirror)
{
    return cuda->board + (size_t)(mirror - cuda->mirrors) * LINE_WORDS;
}

/* The storage's line, one that is free (the first is the count's), or NULL. */
static mlxn_cuda_mirror *mirror_of(mlxn_cuda_device *cuda, mlxn_storage *storage)
{
    for (int i = 1; i < MLXN_CUDA_MIRRORS && !storage->backend; i++)
        if (!cuda->mirrors[i].used) {
            cuda->mirrors[i] = (mlxn_cuda_mirror){.used = 1};
            storage->backend = &cuda->mirrors[i];
        }
    return storage->backend;
}

void mlxn_cuda_mirror_drop(mlxn_storage *storage)
{
    mlxn_cuda_mirror *mirror = storage->backend;
    if (mirror)
        mirror->used = 0;
    storage->backend = NULL;
}

void mlxn_cuda_mirror_stale(const mlxn_storage *storage)
{
    mlxn_cuda_mirror *mirror = storage->backend;
    if (mirror)
        mirror->fresh = 0;
}

void mlxn_cuda_written(const mlxn_node *node)
{
    for (int i = 0; i < node->n_operands; i++)
        if (node->operands[i].storage && node->operands[i].access & MLXN_WRITE)
            mlxn_cuda_mirror_stale(node->operands[i].storage);
}

int mlxn_cuda_mirror_read(const mlxn_cuda_device *cuda, const mlxn_storage *storage, size_t offset,
                          void *dst, size_t bytes)
{
    const mlxn_cuda_mirror *mirror = storage->backend;
    if (!mirror || !mirror->fresh)
        return 0;
    memcpy(dst, (const char *)(uintptr_t)line_of(cuda, mirror) + offset, bytes);
    return 1;
}

/* ---- graphs ---- */

static int is_small(const mlxn_bound *bound)
{
    const mlxn_storage *s = bound->storage;
    return s && bound->access & MLXN_WRITE && s->bytes && s->bytes <= MLXN_CUDA_MIRROR_BYTES &&
           s->bytes % sizeof(uint32_t) == 0;
}

static int is_listed(const mlxn_cuda_published *p, const mlxn_storage *storage)
{
    for (int i = 0; i < p->count; i++)
        if (p->storage[i] == storage)
            return 1;
    return 0;
}

/* A graph writes it without publishing it: from now on the driver copies it again. */
static void give_up(const mlxn_storage *storage)
{
    mlxn_cuda_mirror *mirror = storage->backend;
    if (mirror)
        *mirror = (mlxn_cuda_mirror){.used = 1, .given_up = 1};
}

void mlxn_cuda_published_of(mlxn_cuda_device *cuda, const mlxn_work *work, mlxn_cuda_published *out)
{
    *out = (mlxn_cuda_published){0};
    for (const mlxn_node *node = work->first; node; node = node->next)
        for (int i = 0; i < node->n_operands; i++) {
            mlxn_storage *storage = node->operands[i].storage;
            if (!is_small(&node->operands[i]) || is_listed(out, storage))
                continue;
            if (out->count < MLXN_CUDA_PUBLISHED && mirror_of(cuda, storage))
                out->storage[out->count++] = storage;
            else
                give_up(storage);
        }
}

void mlxn_cuda_published_launch(mlxn_cuda_device *cuda, const mlxn_cuda_published *p)
{
    if (!p->count)
        return;
    cuda->published++;
    for (int i = 0; i < p->count; i++) {
        mlxn_cuda_mirror *mirror = p->storage[i]->backend;
        mirror->fresh = !mirror->given_up;
    }
}

mlxn_status mlxn_cuda_publish_bind(mlxn_cuda_device *cuda, const mlxn_cuda_published *p,
                                   mlxn_cuda_publish *out)
{
    *out = (mlxn_cuda_publish){.launch = {.text = mlxn_kernel_text_publish_cuda,
                                          .entry = "publish",
                                          .groups = {1, 1, 1},
                                          .threads = 4 * LINE_WORDS,
                                          .early = 1}};
    for (int i = 0; i < p->count; i++) {
        const mlxn_cuda_mirror *mirror = p->storage[i]->backend;
        out->parameters.address[i] = p->storage[i]->address;
        out->args.line[i] = (uint32_t)(mirror - cuda->mirrors);
        out->args.words[i] = (uint32_t)(p->storage[i]->bytes / sizeof(uint32_t));
    }
    out->parameters.address[MLXN_CUDA_PUBLISHED] = cuda->board_address;
    out->parameters.address[MLXN_CUDA_PUBLISHED + 1] = cuda->counter;
    for (int i = 0; i < MLXN_CUDA_PUBLISHED + 2; i++)
        out->parameters.pointer[i] = &out->parameters.address[i];
    out->parameters.pointer[MLXN_CUDA_PUBLISHED + 2] = &out->args;
    return mlxn_cuda_compile(cuda, &out->launch);
}

/* ---- waiting ---- */

int mlxn_cuda_has_published(const mlxn_cuda_device *cuda, uint32_t count)
{
    const int reached = (int32_t)(cuda->board[0] - count) >= 0;
    atomic_thread_fence(memory_order_acquire);
    return reached;
}
