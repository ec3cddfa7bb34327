# libhearth as others link it: the rooms up to infer in one static archive, with a pkg-config file.

set(LIBHEARTH_ROOMS infer kv kernel model gguf base)
set(LIBHEARTH ${CMAKE_CURRENT_BINARY_DIR}/libhearth.a)

set(script "create ${LIBHEARTH}\n")
foreach(room ${LIBHEARTH_ROOMS})
    string(APPEND script "addlib $<TARGET_FILE:hearth_${room}>\n")
    list(APPEND room_targets hearth_${room})
endforeach()
file(GENERATE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/libhearth.mri CONTENT "${script}save\nend\n")
add_custom_command(OUTPUT ${LIBHEARTH}
    COMMAND ${CMAKE_AR} -M < ${CMAKE_CURRENT_BINARY_DIR}/libhearth.mri
    DEPENDS ${room_targets} VERBATIM)
add_custom_target(libhearth ALL DEPENDS ${LIBHEARTH})

file(RELATIVE_PATH LIBHEARTH_PREFIX /p/${CMAKE_INSTALL_LIBDIR}/pkgconfig /p)
configure_file(${CMAKE_CURRENT_LIST_DIR}/libhearth.pc.in libhearth.pc @ONLY)
install(FILES ${LIBHEARTH} DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/libhearth.pc
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(DIRECTORY include/hearth DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
