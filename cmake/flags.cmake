# Warnings and floating-point rules for everything that is built here.  Sizes are enumeration
# constants, which new compilers would not have in float arithmetic.
set(MLXN_WARNINGS -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
                  -Wdouble-promotion -Wundef -Wno-enum-float-conversion)
add_library(mlxn_flags INTERFACE)
target_compile_options(mlxn_flags INTERFACE ${MLXN_WARNINGS} -ffp-contract=off -fno-math-errno
                                            -fno-trapping-math)
target_compile_definitions(mlxn_flags INTERFACE _POSIX_C_SOURCE=200809L _DEFAULT_SOURCE)
if(APPLE)
  target_compile_definitions(mlxn_flags INTERFACE _DARWIN_C_SOURCE)
endif()
if(MLXN_WERROR)
  target_compile_options(mlxn_flags INTERFACE -Werror)
endif()
if(MLXN_SANITIZE)
  target_compile_options(mlxn_flags INTERFACE -fsanitize=${MLXN_SANITIZE} -fno-omit-frame-pointer
                                              -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${MLXN_SANITIZE})
endif()
