# libmlxn: core, backends, operators, model layer.  Files named *_cpu.c hold CPU kernels: each is
# compiled once for every SIMD path of the target, with MLXN_ISA naming the path.
find_package(Threads REQUIRED)

file(GLOB_RECURSE MLXN_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/*.c)
set(MLXN_KERNEL_SOURCES ${MLXN_SOURCES})
list(FILTER MLXN_KERNEL_SOURCES INCLUDE REGEX "_cpu\\.c$")
list(FILTER MLXN_SOURCES EXCLUDE REGEX "_cpu\\.c$")

if(MLXN_ISAS)
  # given: a subset, to build faster
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(MLXN_ISAS portable avx2 avx512)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(MLXN_ISAS portable neon dotprod)
else()
  set(MLXN_ISAS portable)
endif()
# kernels are worth -O3; with sanitizers it would cost minutes of compiling and find nothing more
if(MLXN_SANITIZE)
  set(MLXN_KERNEL_OPTIMISE -O1)
else()
  set(MLXN_KERNEL_OPTIMISE $<$<CONFIG:Release>:-O3>)
endif()
# plain arrays in place of registers: optimising harder costs minutes of compile time for little
set(MLXN_ISA_FLAGS_portable -O1)
set(MLXN_ISA_FLAGS_avx2 -mavx2 -mfma -mf16c)
if(NOT APPLE)
  list(APPEND MLXN_ISA_FLAGS_avx2 -mtune=generic)
endif()
set(MLXN_ISA_FLAGS_avx512 -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl
                          -mavx512vnni -mprefer-vector-width=512)
set(MLXN_ISA_FLAGS_neon "")
if(APPLE) # what compilers for Apple's arm64 assume anyway
  set(MLXN_ISA_FLAGS_dotprod "")
else()
  set(MLXN_ISA_FLAGS_dotprod -march=armv8.2-a+dotprod)
endif()

include(cmake/kernels.cmake)
file(GLOB_RECURSE MLXN_KERNEL_TEXTS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/*.kernel)
file(GLOB MLXN_PTX_FILES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/backends/cuda/ptx/*.lzma)
foreach(kernel IN LISTS MLXN_KERNEL_TEXTS)
  get_filename_component(name ${kernel} NAME_WE)
  mlxn_embed_kernel(MLXN_SOURCES ${kernel})
  mlxn_embed_ptx(MLXN_SOURCES ${name})
  list(APPEND MLXN_EMBEDDED_TEXTS ${PROJECT_BINARY_DIR}/kernels/${name}.c)
endforeach()
# after a change of kernel texts: the PTX that is committed, made anew
add_custom_target(ptx COMMAND ${PROJECT_SOURCE_DIR}/cmake/ptx.sh ${MLXN_EMBEDDED_TEXTS}
                  DEPENDS ${MLXN_EMBEDDED_TEXTS} VERBATIM)
add_library(mlxn_objects OBJECT ${MLXN_SOURCES})
target_link_libraries(mlxn_objects PRIVATE mlxn_flags)
target_include_directories(mlxn_objects PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
set(MLXN_OBJECTS $<TARGET_OBJECTS:mlxn_objects>)
foreach(isa IN LISTS MLXN_ISAS)
  string(TOUPPER ${isa} ISA)
  target_compile_definitions(mlxn_objects PRIVATE MLXN_HAVE_${ISA}=1)
  if(MLXN_KERNEL_SOURCES)
    add_library(mlxn_cpu_${isa} OBJECT ${MLXN_KERNEL_SOURCES})
    target_link_libraries(mlxn_cpu_${isa} PRIVATE mlxn_flags)
    target_include_directories(mlxn_cpu_${isa} PRIVATE ${PROJECT_SOURCE_DIR}/include
                                                       ${PROJECT_SOURCE_DIR}/src)
    target_compile_options(mlxn_cpu_${isa} PRIVATE ${MLXN_KERNEL_OPTIMISE} ${MLXN_ISA_FLAGS_${isa}})
    target_compile_definitions(mlxn_cpu_${isa} PRIVATE MLXN_ISA=${isa} MLXN_ISA_${ISA}=1)
    list(APPEND MLXN_OBJECTS $<TARGET_OBJECTS:mlxn_cpu_${isa}>)
  endif()
endforeach()

add_library(mlxn SHARED ${MLXN_OBJECTS})
add_library(mlxn_static STATIC ${MLXN_OBJECTS})
set_target_properties(mlxn_static PROPERTIES OUTPUT_NAME mlxn EXPORT_NAME mlxn_static)
set_target_properties(mlxn PROPERTIES VERSION ${PROJECT_VERSION}
                                      SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
if(NOT APPLE)
  target_link_options(mlxn PRIVATE
    -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/mlxn.map)
  if(NOT MLXN_SANITIZE) # a sanitizer's symbols come with the program
    target_link_options(mlxn PRIVATE -Wl,--no-undefined)
  endif()
  set_target_properties(mlxn PROPERTIES LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/mlxn.map)
endif()
foreach(library mlxn mlxn_static)
  target_include_directories(${library} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(${library} PRIVATE Threads::Threads m ${CMAKE_DL_LIBS})
  add_library(mlxn::${library} ALIAS ${library})
endforeach()
