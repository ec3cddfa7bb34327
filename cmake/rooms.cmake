# A room is one static library; its sources see src/ and include/ and nothing else of the tree.
# The linker holds the order: a room links only the rooms before it.

add_library(hearth_flags INTERFACE)
target_compile_options(hearth_flags INTERFACE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes
    -ffp-contract=off -fno-math-errno -fvisibility=hidden -fno-strict-aliasing)
if(HEARTH_WERROR)
    target_compile_options(hearth_flags INTERFACE -Werror)
endif()
if(HEARTH_SANITIZE)
    target_compile_options(hearth_flags INTERFACE
        -fsanitize=${HEARTH_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(hearth_flags INTERFACE -fsanitize=${HEARTH_SANITIZE})
endif()
target_include_directories(hearth_flags INTERFACE
    ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)

# hearth_room(NAME SOURCES files... LINKS targets...)
function(hearth_room name)
    cmake_parse_arguments(ROOM "" "" "SOURCES;LINKS" ${ARGN})
    add_library(hearth_${name} STATIC ${ROOM_SOURCES})
    target_link_libraries(hearth_${name} PUBLIC hearth_flags ${ROOM_LINKS})
endfunction()

# hearth_test(ROOM NAME [LINKS targets...]): tests/ROOM/NAME.c is one CTest of cmocka cases.
function(hearth_test room name)
    cmake_parse_arguments(TEST "" "" "SOURCES;LINKS" ${ARGN})
    add_executable(test_${room}_${name} ${name}.c ${TEST_SOURCES})
    target_link_libraries(test_${room}_${name} PRIVATE hearth_${room} hearth_test_support
        PkgConfig::CMOCKA ${TEST_LINKS})
    add_test(NAME ${room}/${name} COMMAND test_${room}_${name})
    set_tests_properties(${room}/${name} PROPERTIES LABELS ${room} SKIP_RETURN_CODE 77)
endfunction()
