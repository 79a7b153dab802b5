/* text.h - the kernel texts that the build embeds: complete, NUL-terminated source. */
#ifndef MLXN_KERNELS_TEXT_H
#define MLXN_KERNELS_TEXT_H

extern const char mlxn_kernel_text_qkv_prepare[];

#endif
