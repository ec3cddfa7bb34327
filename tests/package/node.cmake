# The npm package with the real model: bindings/node/test.
if(NOT TARGET hearth_server OR CMAKE_CROSSCOMPILING OR HEARTH_SANITIZE)
    return()
endif()
foreach(test parts api lives streams packages types electron soak)
    add_test(NAME package/node_${test} COMMAND sh ${PROJECT_SOURCE_DIR}/bindings/node/test/run.sh
        $<TARGET_FILE:hearth> ${test}.test.mjs)
    set_tests_properties(package/node_${test} PROPERTIES LABELS package SKIP_RETURN_CODE 77 TIMEOUT 300)
endforeach()
set_tests_properties(package/node_soak PROPERTIES LABELS "package;long" TIMEOUT 900)
