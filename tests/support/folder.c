#define _XOPEN_SOURCE 700
#include "folder.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void test_folder_make(char path[TEST_FOLDER_MAX])
{
    const char *place = getenv("TMPDIR");
    if (!place || strlen(place) > 40)
        place = "/tmp";
    snprintf(path, TEST_FOLDER_MAX, "%s/hearth-XXXXXX", place);
    if (!mkdtemp(path))
        abort();
}

void test_folder_make_in_memory(char path[TEST_FOLDER_MAX])
{
    snprintf(path, TEST_FOLDER_MAX, "/dev/shm/hearth-XXXXXX");
    if (!mkdtemp(path))
        test_folder_make(path);
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *place)
{
    (void)info;
    (void)type;
    (void)place;
    return remove(path);
}

void test_folder_remove(const char *path)
{
    if (nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS))
        abort();
}
