# mlxn_embed_kernel(OUT path/x.kernel): adds to list OUT the C file that holds the kernel text x,
# made at build time.  The files that texts include are found by their folders.
file(GLOB MLXN_KERNEL_HEADERS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/kernels/*.h
     ${PROJECT_SOURCE_DIR}/src/ops/*/*.h ${PROJECT_SOURCE_DIR}/src/backends/cuda/*.h)
function(mlxn_embed_kernel out kernel)
  get_filename_component(name ${kernel} NAME_WE)
  set(result ${PROJECT_BINARY_DIR}/kernels/${name}.c)
  add_custom_command(OUTPUT ${result}
    COMMAND ${CMAKE_COMMAND} -DIN=${kernel} -DROOT=${PROJECT_SOURCE_DIR}/src -DNAME=${name}
            -DOUT=${result} -P ${PROJECT_SOURCE_DIR}/src/kernels/embed.cmake
    DEPENDS ${kernel} ${MLXN_KERNEL_HEADERS} ${PROJECT_SOURCE_DIR}/src/kernels/embed.cmake
    COMMENT "Embedding kernel text ${name}" VERBATIM)
  set(${out} ${${out}} ${result} PARENT_SCOPE)
endfunction()

# mlxn_embed_ptx(OUT NAME): the same for the PTX of the library's kernel text NAME, which is
# committed (cmake/ptx.py); an empty one where it is not there or MLXN_EMBED_PTX is off.
function(mlxn_embed_ptx out name)
  set(result ${PROJECT_BINARY_DIR}/ptx/${name}.c)
  set(file ${PROJECT_SOURCE_DIR}/src/backends/cuda/ptx/${name}.ptx.lzma)
  if(NOT MLXN_EMBED_PTX OR NOT EXISTS ${file})
    set(file "")
  endif()
  add_custom_command(OUTPUT ${result}
    COMMAND ${CMAKE_COMMAND} -DIN=${file} -DNAME=${name} -DOUT=${result}
            -P ${PROJECT_SOURCE_DIR}/cmake/embed_ptx.cmake
    DEPENDS ${file} ${PROJECT_SOURCE_DIR}/cmake/embed_ptx.cmake
    COMMENT "Embedding PTX of ${name}" VERBATIM)
  set(${out} ${${out}} ${result} PARENT_SCOPE)
endfunction()
