/* Folders of a test's own. */
#ifndef TESTS_FOLDER_H
#define TESTS_FOLDER_H

#define TEST_FOLDER_MAX 64

/* A new one where the system keeps temporary files, and its removal with all that is in it. Abort
 * where the system refuses. */
void test_folder_make(char path[TEST_FOLDER_MAX]);
/* In memory, where there is such a place: nothing waits for a disk. */
void test_folder_make_in_memory(char path[TEST_FOLDER_MAX]);
void test_folder_remove(const char *path);

#endif
