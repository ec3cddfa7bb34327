# libhearth as others link it: the rooms up to infer in one static archive, with a pkg-config file.

set(LIBHEARTH_ROOMS store session infer kv kernel model gguf base)
set(LIBHEARTH ${CMAKE_CURRENT_BINARY_DIR}/libhearth.a)

# Only what hearth.h declares stays visible.
foreach(room ${LIBHEARTH_ROOMS})
    list(APPEND room_targets hearth_${room})
endforeach()
set(object ${CMAKE_CURRENT_BINARY_DIR}/libhearth.o)
hearth_one_object(OUTPUT ${object} SCOPE --localize-hidden LIBRARIES ${room_targets})
add_custom_command(OUTPUT ${LIBHEARTH}
    COMMAND ${CMAKE_COMMAND} -E rm -f ${LIBHEARTH}
    COMMAND ${CMAKE_AR} rcs ${LIBHEARTH} ${object}
    DEPENDS ${object} VERBATIM)
add_custom_target(libhearth ALL DEPENDS ${LIBHEARTH})

file(RELATIVE_PATH LIBHEARTH_PREFIX /p/${CMAKE_INSTALL_LIBDIR}/pkgconfig /p)
configure_file(${CMAKE_CURRENT_LIST_DIR}/libhearth.pc.in libhearth.pc @ONLY)
install(FILES ${LIBHEARTH} DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/libhearth.pc
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(DIRECTORY include/hearth DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
