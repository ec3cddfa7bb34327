/* Files with a secret, and listeners that are inherited. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/os.h"
#include "support/folder.h"

static void a_file_that_others_may_use_is_no_secret(void **state)
{
    (void)state;
    char folder[TEST_FOLDER_MAX], path[TEST_FOLDER_MAX + 16], link[TEST_FOLDER_MAX + 16];
    struct buffer text;
    struct hearth_error err;
    test_folder_make(folder);
    snprintf(path, sizeof path, "%s/key", folder);
    snprintf(link, sizeof link, "%s/link", folder);
    buffer_init(&text, 64);
    assert_int_equal(os_read_private_file(path, &text, &err), HEARTH_E_MISSING);
    umask(0);
    assert_int_equal(os_write_private_file(path, "secret\n", 7, &err), 0);
    umask(022);
    assert_int_equal(os_read_private_file(path, &text, &err), 0);
    assert_string_equal(text.data, "secret\n");
    static const mode_t open_modes[] = {0640, 0604, 0620, 0602, 0610, 0601};
    for (size_t i = 0; i < sizeof open_modes / sizeof *open_modes; i++) {
        assert_int_equal(chmod(path, open_modes[i]), 0);
        assert_int_equal(os_read_private_file(path, &text, &err), HEARTH_E_ARGUMENT);
        assert_non_null(strstr(err.text, "it must be 600"));
        assert_null(strstr(err.text, "secret"));
    }
    assert_int_equal(chmod(path, 0400), 0);
    assert_int_equal(symlink("key", link), 0);
    assert_int_equal(os_read_private_file(link, &text, &err), 0); /* what counts is the file */
    assert_int_equal(text.size, 14);
    assert_int_equal(os_read_private_file(folder, &text, &err), HEARTH_E_ARGUMENT);
    if (geteuid() == 0) {
        assert_int_equal(chown(path, 65534, 65534), 0);
        assert_int_equal(os_read_private_file(path, &text, &err), HEARTH_E_ARGUMENT);
        assert_non_null(strstr(err.text, "another user"));
    }
    buffer_finish(&text);
    test_folder_remove(folder);
}

static void secrets_are_bounded_and_written_whole(void **state)
{
    (void)state;
    char folder[TEST_FOLDER_MAX], path[TEST_FOLDER_MAX + 16], large[100];
    struct buffer text;
    struct hearth_error err;
    struct stat status;
    test_folder_make(folder);
    snprintf(path, sizeof path, "%s/key", folder);
    memset(large, 'k', sizeof large);
    assert_int_equal(os_write_private_file(path, "old", 3, &err), 0);
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(os_write_private_file(path, large, sizeof large, &err), 0);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    buffer_init(&text, 99);
    assert_int_equal(os_read_private_file(path, &text, &err), HEARTH_E_LIMIT);
    assert_int_equal(text.size, 0);
    buffer_finish(&text);
    snprintf(path, sizeof path, "%s/no/key", folder);
    assert_int_equal(os_write_private_file(path, "x", 1, &err), HEARTH_E_MISSING);
    test_folder_remove(folder);
}

static void listeners_for_this_process_are_taken(void **state)
{
    (void)state;
    char self[24], other[24];
    int fds[4] = {-1, -1, -1, -1}, saved[2];
    struct hearth_error err;
    snprintf(self, sizeof self, "%d", (int)getpid());
    snprintf(other, sizeof other, "%d", (int)getppid());
    for (int i = 0; i < 2; i++) {
        saved[i] = fcntl(3 + i, F_DUPFD_CLOEXEC, 40);
        int listener = os_listen_tcp("127.0.0.1", 0, &err);
        assert_true(listener >= 0);
        if (listener != 3 + i) {
            assert_int_equal(dup2(listener, 3 + i), 3 + i);
            close(listener);
        }
    }
    assert_int_equal(os_inherited_listeners(NULL, NULL, fds, 4, &err), 0);
    assert_int_equal(os_inherited_listeners(self, NULL, fds, 4, &err), 0);
    assert_int_equal(os_inherited_listeners(other, "2", fds, 4, &err), 0);
    assert_int_equal(os_inherited_listeners("-1", "2", fds, 4, &err), 0);
    assert_int_equal(os_inherited_listeners(self, "0", fds, 4, &err), 0);
    assert_int_equal(fds[0], -1);
    assert_int_equal(os_inherited_listeners(self, "5", fds, 4, &err), HEARTH_E_ARGUMENT);
    assert_int_equal(os_inherited_listeners(self, "2x", fds, 4, &err), HEARTH_E_ARGUMENT);
    assert_int_equal(os_inherited_listeners(self, "2", fds, 4, &err), 2);
    assert_int_equal(fds[0], 3);
    assert_int_equal(fds[1], 4);
    assert_true(fcntl(3, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(4, F_GETFL) & O_NONBLOCK);
    close(4);
    assert_int_equal(os_inherited_listeners(self, "2", fds, 4, &err), HEARTH_E_ARGUMENT);
    close(3);
    for (int i = 0; i < 2; i++) {
        if (saved[i] >= 0) {
            dup2(saved[i], 3 + i);
            close(saved[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_that_others_may_use_is_no_secret),
        cmocka_unit_test(secrets_are_bounded_and_written_whole),
        cmocka_unit_test(listeners_for_this_process_are_taken),
    };
    return cmocka_run_group_tests_name("secrets and listeners", tests, NULL, NULL);
}
