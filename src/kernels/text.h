/* text.h - the kernel texts that the build embeds: complete, NUL-terminated source. */
#ifndef MLXN_KERNELS_TEXT_H
#define MLXN_KERNELS_TEXT_H

/* All of them, for what must hold for each: X(name). */
#define MLXN_KERNEL_TEXTS(X) \
    X(attention)             \
    X(attention_cuda)        \
    X(attention_decode)      \
    X(elementwise)           \
    X(embedding)             \
    X(matmul)                \
    X(matmul_cuda)           \
    X(matmul_metal)          \
    X(matvec)                \
    X(norm)                  \
    X(publish_cuda)          \
    X(qkv_prepare)           \
    X(sample_all)            \
    X(sampling)              \
    X(softmax)               \
    X(weight_pack)

#define MLXN_KERNEL_TEXT(name) extern const char mlxn_kernel_text_##name[];
MLXN_KERNEL_TEXTS(MLXN_KERNEL_TEXT)
#undef MLXN_KERNEL_TEXT

#endif
