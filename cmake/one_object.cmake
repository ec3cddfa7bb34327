# hearth_one_object(OUTPUT file SCOPE objcopy-option LIBRARIES targets... [OBJECTS files...]): all rooms in one
# object, in which only what the option keeps stays visible. Names as common as buffer_init or
# utf8_encode must meet neither those of a program nor those of other libraries' archives.
function(hearth_one_object)
    cmake_parse_arguments(ONE "" "OUTPUT;SCOPE" "LIBRARIES;OBJECTS" ${ARGN})
    set(archives)
    foreach(library ${ONE_LIBRARIES})
        list(APPEND archives $<TARGET_FILE:${library}>)
    endforeach()
    add_custom_command(OUTPUT ${ONE_OUTPUT}
        COMMAND ${CMAKE_LINKER} -r ${ONE_OBJECTS} --whole-archive ${archives} -o ${ONE_OUTPUT}
        COMMAND ${CMAKE_OBJCOPY} ${ONE_SCOPE} ${ONE_OUTPUT}
        DEPENDS ${ONE_LIBRARIES} ${ONE_OBJECTS} COMMAND_EXPAND_LISTS VERBATIM)
endfunction()
