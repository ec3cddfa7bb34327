/* Whether memory is short, on machines made of files. */

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/os.h"
#include "support/machine.h"

static struct os_pressure read_all(const struct machine *machine)
{
    struct os_pressure pressure;
    assert_true(os_pressure_at(machine->root, &pressure));
    return pressure;
}

static bool is_about(double value, double wanted)
{
    return fabs(value - wanted) < 1e-6;
}

static void nothing_is_known_where_no_file_says_it(void **state)
{
    struct machine *machine = *state;
    struct os_pressure pressure = {.some = 7};
    assert_false(os_pressure_at(machine->root, &pressure));
    assert_true(pressure.some == 7);
}

static void the_machine_says_what_is_left_and_who_waits(void **state)
{
    struct machine *machine = *state;
    machine_put(machine, "/proc/meminfo",
                "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 250 kB\n");
    struct os_pressure pressure = read_all(machine);
    assert_true(pressure.some < 0 && pressure.full < 0);
    assert_true(is_about(pressure.available, 0.25));
    machine_put(machine, "/proc/pressure/memory",
                "some avg10=12.34 avg60=99.00 avg300=0.00 total=123456789\n"
                "full avg10=5.60 avg60=0.00 avg300=0.00 total=1\n");
    pressure = read_all(machine);
    assert_true(is_about(pressure.some, 12.34));
    assert_true(is_about(pressure.full, 5.6));
}

static void the_worst_group_counts(void **state)
{
    struct machine *machine = *state;
    machine_put(machine, "/proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 500 kB\n");
    machine_put(machine, "/proc/pressure/memory", "some avg10=1.00 x\nfull avg10=3.00 x\n");
    machine_put_version2(machine, "/user.slice/app");
    assert_true(is_about(read_all(machine).available, 0.5));
    machine_put(machine, "/sys/fs/cgroup/user.slice/memory.pressure",
                "some avg10=20.00 avg60=0.00\nfull avg10=2.00 avg60=0.00\n");
    machine_put(machine, "/sys/fs/cgroup/user.slice/app/memory.pressure",
                "some avg10=4.00 avg60=0.00\nfull avg10=4.00 avg60=0.00\n");
    machine_put(machine, "/sys/fs/cgroup/user.slice/memory.max", "1000\n");
    machine_put(machine, "/sys/fs/cgroup/user.slice/memory.current", "900\n");
    machine_put(machine, "/sys/fs/cgroup/user.slice/memory.stat",
                "anon 700\nactive_file 100\ninactive_file 100\n");
    struct os_pressure pressure = read_all(machine);
    assert_true(is_about(pressure.some, 20));
    assert_true(is_about(pressure.full, 4));
    assert_true(is_about(pressure.available, 0.3)); /* pages of files can go */
    machine_put(machine, "/sys/fs/cgroup/user.slice/memory.high", "max\n");
    assert_true(is_about(read_all(machine).available, 0.3));
    machine_put(machine, "/sys/fs/cgroup/user.slice/memory.high", "800\n");
    assert_true(is_about(read_all(machine).available, 0.125));
    machine_put(machine, "/sys/fs/cgroup/user.slice/memory.high", "100\n");
    assert_true(is_about(read_all(machine).available, 0));
    machine_put(machine, "/sys/fs/cgroup/user.slice/memory.high", "1400\n");
    machine_put(machine, "/sys/fs/cgroup/user.slice/memory.max", "max\n");
    assert_true(is_about(read_all(machine).available, 0.5));
}

static void version_1_has_limits_but_no_stalls(void **state)
{
    struct machine *machine = *state;
    machine_put_version1(machine);
    machine_put(machine, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "2000\n");
    machine_put(machine, "/sys/fs/cgroup/memory/memory.usage_in_bytes", "1900\n");
    machine_put(machine, "/sys/fs/cgroup/memory/memory.stat", "total_inactive_file 100\n");
    struct os_pressure pressure = read_all(machine);
    assert_true(is_about(pressure.available, 0.1));
    assert_true(pressure.some < 0);
}

static void odd_files_are_survived(void **state)
{
    struct machine *machine = *state;
    static const char *const texts[] = {"",
                                        "some",
                                        "some avg10=",
                                        "some avg10=nan\nfull avg10=inf\n",
                                        "some avg10=-1 x\nfull avg10=101 x\n",
                                        "full avg60=3\n",
                                        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa avg10=3.0\n",
                                        "\n\n\n"};
    machine_put(machine, "/proc/meminfo", "MemTotal: 0 kB\nMemAvailable: 250 kB\n");
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct os_pressure pressure = {0};
        machine_put(machine, "/proc/pressure/memory", texts[i]);
        assert_false(os_pressure_at(machine->root, &pressure));
    }
    machine_put(machine, "/proc/meminfo", "MemTotal: 100 kB\nMemAvailable: 250 kB\n");
    assert_true(read_all(machine).available <= 1);
}

static void this_machine_is_not_out_of_memory(void **state)
{
    (void)state;
    struct os_pressure pressure;
    if (!os_pressure_at("", &pressure))
        skip();
    assert_true(pressure.available > 0 && pressure.available <= 1);
    assert_true(pressure.some <= 100 && pressure.full <= 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_MACHINE(nothing_is_known_where_no_file_says_it),
        ON_MACHINE(the_machine_says_what_is_left_and_who_waits),
        ON_MACHINE(the_worst_group_counts),
        ON_MACHINE(version_1_has_limits_but_no_stalls),
        ON_MACHINE(odd_files_are_survived),
        cmocka_unit_test(this_machine_is_not_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
