# Makes a C file out of a file of src/backends/cuda/ptx, or out of none:
# cmake [-DIN=x.ptx.lzma] -DNAME=x -DOUT=x_ptx.c -P embed_ptx.cmake
cmake_minimum_required(VERSION 3.20)
set(BYTES "")
if(IN AND EXISTS ${IN})
  file(READ ${IN} BYTES HEX)
endif()
string(LENGTH "${BYTES}" SIZE)
math(EXPR SIZE "${SIZE} / 2")
string(REGEX REPLACE "(................................)" "\\1\n" BYTES "${BYTES}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," BYTES "${BYTES}")
file(WRITE ${OUT} "/* ${NAME}: made by cmake/embed_ptx.cmake. */
#include <stddef.h>
extern const unsigned char mlxn_kernel_ptx_${NAME}[];
extern const size_t mlxn_kernel_ptx_bytes_${NAME};
const unsigned char mlxn_kernel_ptx_${NAME}[] = {
${BYTES}
0};
const size_t mlxn_kernel_ptx_bytes_${NAME} = ${SIZE};
")
