# llhttp comes as C sources in Debian's node-llhttp, for all architectures alike, and is compiled
# here with its strict mode.
find_path(LLHTTP_INCLUDE llhttp.h PATHS /usr/share/include/llhttp /usr/include/llhttp
    NO_CMAKE_FIND_ROOT_PATH)
find_path(LLHTTP_SOURCES llhttp.c PATHS /usr/share/llhttp NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH)
if(NOT LLHTTP_INCLUDE OR NOT LLHTTP_SOURCES)
    message(FATAL_ERROR "llhttp's C sources are not found (Debian: node-llhttp)")
endif()

add_library(hearth_llhttp STATIC
    ${LLHTTP_SOURCES}/api.c ${LLHTTP_SOURCES}/http.c ${LLHTTP_SOURCES}/llhttp.c)
target_include_directories(hearth_llhttp SYSTEM PUBLIC ${LLHTTP_INCLUDE})
target_compile_definitions(hearth_llhttp PUBLIC LLHTTP_STRICT_MODE=1)
target_compile_options(hearth_llhttp PRIVATE -w -fvisibility=hidden)
if(HEARTH_SANITIZE)
    target_compile_options(hearth_llhttp PRIVATE
        -fsanitize=${HEARTH_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
endif()
