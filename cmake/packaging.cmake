# Units for systemd's user manager: systemctl --user enable --now hearth.socket
set(HEARTH_SYSTEMD_USER_DIR lib/systemd/user CACHE PATH "where systemd's user units go")
set(service packaging/hearth.service)
# Only the installation knows the prefix for sure: cmake --install --prefix may give another one.
install(CODE "
    set(BINDIR \"${CMAKE_INSTALL_BINDIR}\")
    cmake_path(ABSOLUTE_PATH BINDIR BASE_DIRECTORY \"\${CMAKE_INSTALL_PREFIX}\" NORMALIZE)
    configure_file(\"${CMAKE_CURRENT_SOURCE_DIR}/${service}.in\"
        \"${CMAKE_CURRENT_BINARY_DIR}/${service}\" @ONLY)")
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/${service} packaging/hearth.socket
    DESTINATION ${HEARTH_SYSTEMD_USER_DIR})
