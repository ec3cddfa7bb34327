# The example app's own scripts with the real model: examples/electron.
if(NOT TARGET hearth_server OR CMAKE_CROSSCOMPILING OR HEARTH_SANITIZE)
    return()
endif()
foreach(test script app shim)
    add_test(NAME package/electron_${test} COMMAND sh ${CMAKE_CURRENT_LIST_DIR}/electron.sh
        $<TARGET_FILE:hearth> ${test})
    set_tests_properties(package/electron_${test} PROPERTIES LABELS package SKIP_RETURN_CODE 77 TIMEOUT 300)
endforeach()
