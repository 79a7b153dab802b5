# Install rules: library, headers, CMake package (mlxn::mlxn), pkg-config file.
include(CMakePackageConfigHelpers)
install(TARGETS mlxn mlxn_static EXPORT mlxnTargets)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/mlxn DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT mlxnTargets NAMESPACE mlxn:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/mlxn)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/mlxnConfig.cmake.in
  ${PROJECT_BINARY_DIR}/mlxnConfig.cmake INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/mlxn)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/mlxnConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/mlxnConfig.cmake ${PROJECT_BINARY_DIR}/mlxnConfigVersion.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/mlxn)
# Relative to the .pc file itself, so that `cmake --install --prefix` and a moved tree work.
file(RELATIVE_PATH MLXN_PC_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(${PROJECT_SOURCE_DIR}/cmake/mlxn.pc.in ${PROJECT_BINARY_DIR}/mlxn.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/mlxn.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
