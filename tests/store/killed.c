/* A process that puts records and keeps spills is killed at random moments: afterwards each
 * conversation is in its old or its new state, and each spill is whole.
 *   test_store_killed [KILLS [SEED]] */

#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
#include "store/disk_store.h"
#include "store/store_material.h"

#define LIMIT ((uint64_t)400000) /* so that some give way */
#define KEYS 12

/* What the child says in memory that outlives it: the number it is about to put, and has put. */
struct log {
    _Atomic int begun[KEYS], done[KEYS], spill_begun[KEYS];
    _Atomic int removing[KEYS];
    _Atomic int work; /* pieces that were done */
};

struct settings {
    unsigned kills;
    uint64_t seed;
};

static void child(const char *path, struct log *log, uint64_t seed)
{
    struct random random = random_from_seed(seed);
    struct hearth_store *store = store_open(path, LIMIT);
    for (;;) {
        unsigned k = (unsigned)(random_u64(&random) % KEYS), what = random_u64(&random) % 16;
        char key[16];
        snprintf(key, sizeof key, "key %u", k);
        if (what == 0) {
            log->removing[k] = 1;
            int status = hearth_store_remove(store, key, NULL);
            if (status != 0 && status != HEARTH_E_MISSING)
                _exit(1);
            log->done[k] = 0;
            log->removing[k] = 0;
        } else {
            int number = log->begun[k] + 1;
            log->begun[k] = number;
            if (put_record(store, key, (unsigned)number, 100 + random_u64(&random) % 30000))
                _exit(2);
            log->done[k] = number;
        }
        if (what > 8) {
            log->spill_begun[k] = log->begun[k];
            int status =
                put_spill(store, key, (unsigned)log->begun[k], 1000 + random_u64(&random) % 100000);
            if (status != 0 && status != HEARTH_E_MISSING)
                _exit(3);
        }
        log->work++;
    }
}

static void check(const char *path, struct log *log)
{
    char spills[100];
    unsigned count = 0;
    struct hearth_store *store = store_open(path, LIMIT);
    for (unsigned k = 0; k < KEYS; k++) {
        char key[16];
        snprintf(key, sizeof key, "key %u", k);
        int got = get_record(store, key);
        bool known = got == HEARTH_E_MISSING ? log->done[k] == 0 || log->removing[k]
                                             : got == log->done[k] || got == log->begun[k];
        if (!known)
            fail_msg("key %u has record %d, put were %d and perhaps %d", k, got, log->done[k],
                     log->begun[k]);
        int spill = open_spill(store, key);
        if (spill != HEARTH_E_MISSING && (spill < 0 || spill > log->spill_begun[k]))
            fail_msg("key %u has spill %d, kept were some up to %d", k, spill, log->spill_begun[k]);
        if (got == HEARTH_E_MISSING)
            assert_int_equal(spill, HEARTH_E_MISSING);
        count += spill != HEARTH_E_MISSING;
        /* this is what there is: the next child begins from it */
        log->done[k] = got > 0 ? got : 0;
        log->removing[k] = 0;
    }
    snprintf(spills, sizeof spills, "%s/spills", path);
    assert_int_equal(folder_count(spills), count);
    hearth_store_close(store);
}

static void pause_ns(long ns)
{
    struct timespec pause = {0, ns};
    nanosleep(&pause, NULL);
}

/* However slow the machine is; a child that has ended is found out later. */
static void wait_for_work(const struct log *log, int pieces)
{
    for (int i = 0; i < 20000 && log->work < pieces; i++)
        pause_ns(200000);
}

static void every_moment_leaves_the_old_or_the_new_state(void **state)
{
    const struct settings *settings = *state;
    char path[64];
    struct log *log =
        mmap(NULL, sizeof *log, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(log != MAP_FAILED);
    struct random random = random_from_seed(settings->seed);
    test_folder_make(path);
    for (unsigned i = 0; i < settings->kills; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            child(path, log, settings->seed * 1000 + i);
            _exit(4);
        }
        /* every fourth is met at any moment from its beginning on, the others at work */
        if (i % 4)
            wait_for_work(log, log->work + 1 + (int)(random_u64(&random) % 16));
        pause_ns((long)(random_u64(&random) % 4000000));
        int status;
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (!WIFSIGNALED(status))
            fail_msg("the child ended by itself: %d", WEXITSTATUS(status));
        check(path, log);
    }
    print_message("seed %llu: %u kills, %d pieces of work\n", (unsigned long long)settings->seed,
                  settings->kills, log->work);
    assert_true(log->work > (int)settings->kills);
    test_folder_remove(path);
    munmap(log, sizeof *log);
}

int main(int argc, char **argv)
{
    struct settings settings = {.kills = argc > 1 ? (unsigned)atoi(argv[1]) : 100,
                                .seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(every_moment_leaves_the_old_or_the_new_state, &settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
