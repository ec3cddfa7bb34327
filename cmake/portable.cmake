# build/portable/hearth: the program with everything but the C library (and libcurl, which it opens when
# it is needed) linked statically, so that it starts on any system with such a C library or a newer
# one. `cmake --build --preset package` makes it, of the same objects as build/hearth.

# in the order in which they need each other; libbsd also spares libevent the arc4random that only
# glibc 2.36 has
set(names event_core sqlite3 seccomp edit tinfo bsd md pcre2-8 utf8proc jansson xxhash)
set(archives)
set(missing)
foreach(name ${names})
    find_library(HEARTH_ARCHIVE_${name} lib${name}.a)
    list(APPEND archives ${HEARTH_ARCHIVE_${name}})
    if(NOT HEARTH_ARCHIVE_${name})
        list(APPEND missing lib${name}.a)
    endif()
endforeach()
if(HEARTH_SANITIZE OR missing OR NOT TARGET hearth_server)
    message(STATUS "No portable executable can be built here ${missing}")
    return()
endif()

set(rooms)
foreach(room cli server worker protocol confine llhttp)
    list(APPEND rooms hearth_${room})
endforeach()
foreach(room ${LIBHEARTH_ROOMS})
    list(APPEND rooms hearth_${room})
endforeach()
set(object ${CMAKE_CURRENT_BINARY_DIR}/portable/hearth.o)
hearth_one_object(OUTPUT ${object} SCOPE --keep-global-symbol=main
    LIBRARIES ${rooms} OBJECTS $<TARGET_OBJECTS:hearth_main>)
add_executable(hearth_portable ${object})
set_target_properties(hearth_portable PROPERTIES LINKER_LANGUAGE C
    OUTPUT_NAME hearth RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/portable)
target_link_libraries(hearth_portable PRIVATE ${archives} Threads::Threads m ${CMAKE_DL_LIBS})
target_link_options(hearth_portable PRIVATE
    -pie -s LINKER:--as-needed,--gc-sections,-z,relro,-z,now,--exclude-libs,ALL)

# What is in it, for scripts/npm-packages.sh, which puts the licences beside it.
string(REPLACE ";" "\n" linked "${archives};${LLHTTP_SOURCES}/llhttp.c")
file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/portable/linked "${linked}\n")
