# Units for systemd's user manager: systemctl --user enable --now hearth.socket
set(HEARTH_SYSTEMD_USER_DIR lib/systemd/user CACHE PATH "where systemd's user units go")
configure_file(packaging/hearth.service.in packaging/hearth.service @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/packaging/hearth.service packaging/hearth.socket
    DESTINATION ${HEARTH_SYSTEMD_USER_DIR})
