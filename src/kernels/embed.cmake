# Makes a C file out of kernel text: cmake -DIN=x.kernel -DROOT=src -DNAME=x -DOUT=x.c -P embed.cmake
# Each #include "..." is replaced by that file of ROOT, once; #include <...> stays.  The bytes are
# emitted as numbers, since a C compiler need not take long strings.
cmake_minimum_required(VERSION 3.20)

function(expand file) # appends the file, included ones in place, to TEXT (hexadecimal)
  file(STRINGS ${file} numbered REGEX "^#include \"") # which lines those are
  file(READ ${file} rest)
  foreach(line IN LISTS numbered)
    string(FIND "${rest}" "${line}" at)
    string(SUBSTRING "${rest}" 0 ${at} head)
    string(LENGTH "${line}" length)
    math(EXPR at "${at} + ${length}")
    string(SUBSTRING "${rest}" ${at} -1 rest)
    string(HEX "${head}" head)
    string(APPEND TEXT "${head}")
    string(REGEX REPLACE "^#include \"(.*)\".*" "\\1" path "${line}")
    if(NOT path IN_LIST SEEN)
      list(APPEND SEEN ${path})
      set(TEXT "${TEXT}" PARENT_SCOPE)
      set(SEEN "${SEEN}" PARENT_SCOPE)
      expand(${ROOT}/${path})
    endif()
  endforeach()
  string(HEX "${rest}" rest)
  set(TEXT "${TEXT}${rest}" PARENT_SCOPE)
  set(SEEN "${SEEN}" PARENT_SCOPE)
endfunction()

set(TEXT "")
set(SEEN "")
expand(${IN})
string(REGEX REPLACE "(................................)" "\\1\n" TEXT "${TEXT}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," TEXT "${TEXT}")
file(WRITE ${OUT} "/* ${NAME}: made by src/kernels/embed.cmake. */
extern const char mlxn_kernel_text_${NAME}[];
const char mlxn_kernel_text_${NAME}[] = {
${TEXT}
0};
")
