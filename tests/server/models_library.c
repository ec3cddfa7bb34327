/* What of folders is a model, whatever lies in them, and what settings may say. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/os.h"
#include "models_world.h"
#include "server/library.h"
#include "support/process.h"

static struct world world;

static int begin(void **state)
{
    (void)state;
    world_init(&world);
    return 0;
}

static int end(void **state)
{
    (void)state;
    world_finish(&world);
    return 0;
}

/* The names of all models, each in brackets. */
static bool add_name(void *context, struct model *model)
{
    char *names = context;
    struct model_info info;
    model_info(model, &info);
    snprintf(names + strlen(names), 4096 - strlen(names), "[%s]", info.name);
    return true;
}

static const char *all_names(void)
{
    static char names[4096];
    names[0] = '\0';
    models_visit(world.models, add_name, names);
    return names;
}

/* Clocks of file systems tick: what was written long ago is seen without waiting for the next tick.
 */
static void settle_folder(const char *name)
{
    char path[512];
    struct timeval old[2] = {{time(NULL) - 1000, 0}, {time(NULL) - 1000, 0}};
    world_path(&world, name, path);
    assert_int_equal(utimes(path, old), 0);
}

/* ---- what is there ---- */

static void models_are_found_three_levels_deep(void **state)
{
    (void)state;
    world_folder(&world, "publisher");
    world_folder(&world, "publisher/model");
    world_folder(&world, "publisher/model/deep");
    world_folder(&world, "publisher/model/deep/deeper");
    world_folder(&world, ".cache");
    world_folder(&world, "folder.gguf");
    world_gguf(&world, "top.gguf");
    world_gguf(&world, "publisher/SmolLM2-135M.Q4_1.GGUF");
    world_gguf(&world, "publisher/model/gemma.gguf");
    world_gguf(&world, "publisher/model/deep/third.gguf");
    world_gguf(&world, "publisher/model/deep/deeper/fourth.gguf");
    world_gguf(&world, ".cache/hidden.gguf");
    world_gguf(&world, ".hidden.gguf");
    world_gguf(&world, "publisher/model/mmproj-gemma-f16.gguf");
    world_gguf(&world, "publisher/model/gemma-mmproj.gguf");
    world_gguf(&world, ".gguf");
    world_gguf(&world, "readme.txt");
    world_file(&world, "notes.gguf", "GGU");
    world_file(&world, "empty.gguf", "");
    world_file(&world, "text.gguf", "This is no model.");
    world_open(&world);
    assert_string_equal(all_names(), "[SmolLM2-135M.Q4_1][gemma][third][top]");
}

static void names_are_looked_up_as_people_write_them(void **state)
{
    (void)state;
    struct hearth_error err;
    world_gguf(&world, "SmolLM2-135M.Q4_1.gguf");
    world_gguf(&world, "odd:latest.gguf");
    world_open(&world);
    struct model *model = world_model(&world, "SmolLM2-135M.Q4_1");
    static const char *const ways[] = {"smollm2-135m.q4_1", "SMOLLM2-135M.Q4_1.GGUF",
                                       "SmolLM2-135M.Q4_1:latest", "smollm2-135m.q4_1.gguf:LATEST"};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        assert_ptr_equal(world_model(&world, ways[i]), model);
    assert_ptr_not_equal(world_model(&world, "ODD:latest"), model); /* its own name comes first */
    static const char *const wrong[] = {"SmolLM2",
                                        "SmolLM2-135M.Q4_1/",
                                        "../SmolLM2-135M.Q4_1",
                                        "/SmolLM2-135M.Q4_1",
                                        ":latest",
                                        ".gguf",
                                        "smollm2-135m.q4_1.gguf.gguf",
                                        "\x01\xff"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_null(models_find(world.models, text_of(wrong[i]), &err));
        assert_int_equal(err.code, HEARTH_E_MISSING);
    }
    assert_null(models_find(world.models, (struct text){"odd\0more", 8}, NULL));
    assert_null(models_find(world.models, TEXT("gpt-4o"), &err));
    assert_string_equal(err.text, "there is no model \"gpt-4o\"; there are SmolLM2-135M.Q4_1, "
                                  "odd:latest");
    static char endless[100000];
    memset(endless, 'x', sizeof endless);
    assert_null(models_find(world.models, (struct text){endless, sizeof endless}, &err));
    /* no name: no choice */
    assert_null(models_find(world.models, TEXT(""), &err));
    assert_string_equal(err.text, "no model is named, and there are several");
    world_use(&world, "odd:latest");
    assert_ptr_equal(models_find(world.models, TEXT(""), NULL), world_model(&world, "odd:latest"));
}

static void the_only_model_needs_no_name(void **state)
{
    (void)state;
    struct hearth_error err;
    world_open(&world);
    assert_null(models_find(world.models, TEXT(""), &err));
    assert_string_equal(err.text, "there is no model at all");
    assert_null(models_find(world.models, TEXT("x"), &err));
    assert_string_equal(err.text, "there is no model at all");
    world_gguf(&world, "one.gguf");
    assert_ptr_equal(models_find(world.models, TEXT(""), NULL), world_model(&world, "one"));
}

static void a_split_model_is_one(void **state)
{
    (void)state;
    struct hearth_error err;
    world_gguf(&world, "large-00001-of-00003.gguf");
    world_gguf(&world, "large-00002-of-00003.gguf");
    world_gguf(&world, "broken-00001-of-00002.gguf");
    world_gguf(&world, "alone-00001-of-00001.gguf");
    world_gguf(&world, "orphan-00002-of-00002.gguf");
    world_gguf(&world, "odd-00003-of-00002.gguf");
    world_gguf(&world, "many-00001-of-00099.gguf");
    world_file(&world, "large-00003-of-00003.gguf", "GGUF 3");
    world_open(&world);
    assert_string_equal(all_names(), "[alone][large][odd-00003-of-00002]");
    struct model_info info = world_info(&world, "large");
    assert_int_equal(info.bytes, 2 * (42 + 25) + 6);
    assert_null(models_find(world.models, TEXT("broken"), &err));
    assert_int_equal(err.code, HEARTH_E_MISSING);
    assert_string_equal(err.text, "of broken, part 2 of 2 is missing");
    world_gguf(&world, "broken-00002-of-00002.gguf");
    world_use(&world, "broken");
    world_use(&world, "large");
    char path[512];
    world_path(&world, "large-00002-of-00003.gguf", path);
    assert_int_equal(unlink(path), 0);
    assert_string_equal(all_names(), "[alone][broken][large][odd-00003-of-00002]"); /* it runs */
    assert_int_equal(model_unload(world_model(&world, "large"), false, NULL), 0);
    WORLD_UNTIL(&world, world_alive(&world) == 1);
    assert_null(models_find(world.models, TEXT("large"), &err));
    assert_string_equal(err.text, "of large, part 2 of 3 is missing");
}

static void of_equal_names_the_first_keeps_it(void **state)
{
    (void)state;
    char one[512], other[512], file[512], link_path[512];
    world_folder(&world, "one");
    world_folder(&world, "one/bob");
    world_folder(&world, "one/bob/x");
    world_folder(&world, "one/amy");
    world_folder(&world, "one/amy/x");
    world_folder(&world, "two");
    world_folder(&world, "files");
    world_gguf(&world, "one/m.gguf");
    world_gguf(&world, "one/bob/x/M.gguf");
    world_gguf(&world, "one/amy/x/m.gguf");
    world_gguf(&world, "two/m.gguf");
    world_gguf(&world, "files/given.gguf");
    world_path(&world, "one", one);
    world_path(&world, "two", other);
    world_path(&world, "files/given.gguf", file);
    world_path(&world, "two/given.gguf", link_path);
    assert_int_equal(symlink(file, link_path), 0); /* the same file: not listed twice */
    const char *folders[] = {one, other}, *files[] = {file};
    world.options.folders = folders;
    world.options.folder_count = 2;
    world.options.files = files;
    world.options.file_count = 1;
    world_open(&world);
    /* those of a folder come before those below it, and amy before bob */
    assert_string_equal(all_names(), "[bob/x/M][given][m][two/m][x/m]");
    uint64_t bytes = world_info(&world, "m").bytes;
    assert_int_equal(bytes, 42 + strlen("one/m.gguf"));
    assert_int_equal(world_info(&world, "x/m").bytes, 42 + strlen("one/amy/x/m.gguf"));
    assert_int_equal(world_info(&world, "two/m").bytes, 42 + strlen("two/m.gguf"));
}

/* ---- changes ---- */

static void files_come_and_go(void **state)
{
    (void)state;
    char path[512], moved[512];
    world_folder(&world, "sub");
    world_gguf(&world, "a.gguf");
    world_gguf(&world, "sub/b.gguf");
    world_file(&world, "loading.gguf", "");
    settle_folder("");
    settle_folder("sub");
    world_open(&world);
    assert_string_equal(all_names(), "[a][b]");
    struct model *a = world_model(&world, "a");
    /* a download gets its beginning: the folder did not change, the file did */
    world_file(&world, "loading.gguf", "GGUF and more to come");
    assert_string_equal(all_names(), "[a][b][loading]");
    world_gguf(&world, "sub/new.gguf");
    assert_non_null(models_find(world.models, TEXT("new"), NULL));
    world_path(&world, "a.gguf", path);
    world_path(&world, "sub/c.gguf", moved);
    char digest[65], other[65];
    snprintf(digest, sizeof digest, "%s", world_info(&world, "a").digest);
    assert_int_equal(strlen(digest), 64);
    assert_int_equal(rename(path, moved), 0);
    assert_null(models_find(world.models, TEXT("a"), NULL));
    snprintf(other, sizeof other, "%s", world_info(&world, "c").digest);
    assert_string_equal(digest, other); /* it stands for the file */
    /* whoever held on to it is told */
    struct asker asker = {0};
    asker_ask(&asker, a);
    WORLD_UNTIL(&world, asker.answered);
    assert_null(asker.lease);
    assert_int_equal(asker.error.code, HEARTH_E_MISSING);
    world_gguf(&world, "a.gguf");
    assert_ptr_equal(world_model(&world, "a"), a);
    test_folder_remove(world.folder); /* a drive is taken out */
    assert_string_equal(all_names(), "");
    assert_int_equal(mkdir(world.folder, 0700), 0);
    world_gguf(&world, "back.gguf");
    assert_string_equal(all_names(), "[back]");
}

static void what_comes_within_a_tick_of_the_clock_is_seen(void **state)
{
    (void)state;
    char name[32];
    world_open(&world);
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "m%d.gguf", i);
        world_gguf(&world, name);
        if (i % 5 == 0)
            all_names();
    }
    WORLD_UNTIL(&world, strstr(all_names(), "[m19]"));
}

/* ---- what may lie in a folder ---- */

static void make_link(const char *target, const char *name)
{
    char path[512];
    world_path(&world, name, path);
    assert_int_equal(symlink(target, path), 0);
}

static void nothing_in_a_folder_does_harm(void **state)
{
    (void)state;
    char path[512], folder[512], outside[TEST_FOLDER_MAX];
    test_folder_make_in_memory(outside);
    world_gguf(&world, "good.gguf");
    world_path(&world, "pipe.gguf", path);
    assert_int_equal(mkfifo(path, 0600), 0);
    make_link("nowhere.gguf", "dangling.gguf");
    make_link("loop.gguf", "loop.gguf");
    make_link("/dev/zero", "device.gguf");
    make_link("pipe.gguf", "to-pipe.gguf");
    make_link("good.gguf", "alias.gguf");
    make_link(outside, "outside");
    make_link("..", "up");
    snprintf(folder, sizeof folder, "%s/secret.gguf", outside);
    FILE *file = fopen(folder, "w");
    assert_non_null(file);
    fputs("GGUF", file);
    fclose(file);
    world_gguf(&world, "two\nlines.gguf");
    world_gguf(&world, "escape\x1b[2J.gguf");
    world_gguf(&world, "not-\xff-utf8.gguf");
    world_gguf(&world, "caf\xc3\xa9 \xf0\x9f\x94\xa5.gguf");
    world_gguf(&world, "quote\"s and \\.gguf");
    char long_name[256];
    memset(long_name, 'n', sizeof long_name);
    memcpy(long_name + 250, ".gguf", 6);
    world_gguf(&world, long_name);
    unsigned before = open_descriptors();
    world_open(&world);
    const char *names = all_names();
    assert_non_null(strstr(names, "[alias]"));
    assert_non_null(strstr(names, "[good]"));
    assert_non_null(strstr(names, "[caf\xc3\xa9 \xf0\x9f\x94\xa5]"));
    assert_non_null(strstr(names, "[quote\"s and \\]"));
    assert_non_null(strstr(names, "[nnnnnnn"));
    unsigned count = 0;
    for (; *names; names++)
        count += *names == '[';
    assert_int_equal(count, 5);
    world_use(&world, "alias");
    world_use(&world, long_name);
    assert_int_equal(open_descriptors(), before); /* nothing stays open */
    test_folder_remove(outside);
}

static void a_file_that_becomes_something_else_is_not_opened(void **state)
{
    (void)state;
    char path[512];
    struct asker asker = {0};
    world_gguf(&world, "a.gguf");
    world_folder(&world, "sub");
    world_gguf(&world, "sub/b.gguf");
    world.hold_probes = true;
    world_open(&world);
    struct model *a = world_model(&world, "a"), *b = world_model(&world, "b");
    world_path(&world, "a.gguf", path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    asker_ask(&asker, a);
    WORLD_UNTIL(&world, asker.answered);
    assert_null(asker.lease);
    /* nor is a folder followed that has become a link */
    char sub[512], moved[512];
    world_path(&world, "sub", sub);
    world_path(&world, ".sub", moved);
    assert_int_equal(rename(sub, moved), 0);
    make_link(".sub", "sub");
    asker_ask(&asker, b);
    WORLD_UNTIL(&world, asker.answered);
    assert_null(asker.lease);
    assert_int_equal(world.probe_count, 0);
}

static void an_unreadable_file_is_left_out(void **state)
{
    (void)state;
    char path[512];
    if (geteuid() == 0)
        skip(); /* root reads everything */
    world_gguf(&world, "a.gguf");
    world_path(&world, "a.gguf", path);
    assert_int_equal(chmod(path, 0), 0);
    world_open(&world);
    assert_string_equal(all_names(), "");
}

static void ten_thousand_files_are_no_trouble(void **state)
{
    (void)state;
    char name[64];
    for (int i = 0; i < 10000; i++) {
        snprintf(name, sizeof name, "m%05d.gguf", i);
        world_file(&world, name, "GGUF");
    }
    settle_folder("");
    uint64_t begin_ns = os_monotonic_ns();
    world_open(&world);
    uint64_t opened_ns = os_monotonic_ns();
    world.hold_probes = true;
    size_t listed = strlen(all_names());
    uint64_t listed_ns = os_monotonic_ns();
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "M%05d", i * 7);
        world_model(&world, name);
    }
    uint64_t found_ns = os_monotonic_ns();
    print_message("opened in %.1f ms, listed in %.1f ms, found in %.4f ms\n",
                  (double)(opened_ns - begin_ns) / 1e6, (double)(listed_ns - opened_ns) / 1e6,
                  (double)(found_ns - listed_ns) / 1e9);
    assert_int_equal(listed, 4095);
    assert_true(found_ns - begin_ns < 10 * GB);
}

/* ---- files that are added ---- */

static void expect_not_added(const char *path, int code, const char *sentence)
{
    struct hearth_error err;
    struct model *model = NULL;
    unsigned before = open_descriptors();
    assert_int_equal(models_add_file(world.models, path, &model, &err), code);
    assert_null(model);
    assert_int_equal(open_descriptors(), before);
    if (!strstr(err.text, sentence))
        fail_msg("\"%s\" is not in \"%s\"", sentence, err.text);
}

static const char *added_name(const char *path)
{
    struct hearth_error err;
    struct model *model;
    struct model_info info;
    if (models_add_file(world.models, path, &model, &err) != 0)
        fail_msg("%s: %s", path, err.text);
    model_info(model, &info);
    return info.name;
}

static void files_are_added_by_their_path(void **state)
{
    (void)state;
    char one[512], path[512], other[512], text[512];
    world_folder(&world, "one");
    world_folder(&world, "far");
    world_gguf(&world, "one/m.gguf");
    world_gguf(&world, "far/n.gguf");
    world_gguf(&world, "far/m.gguf");
    world_gguf(&world, "far/split-00001-of-00002.gguf");
    world_gguf(&world, "far/split-00002-of-00002.gguf");
    world_file(&world, "far/text.gguf", "a file");
    world_path(&world, "one", one);
    const char *folders[] = {one};
    world.options.folders = folders;
    world.options.folder_count = 1;
    world_open(&world);
    assert_string_equal(all_names(), "[m]");
    world_path(&world, "far/n.gguf", path);
    assert_string_equal(added_name(path), "n");
    assert_string_equal(added_name(path), "n"); /* it is there already */
    assert_string_equal(all_names(), "[m][n]");
    world_path(&world, "one/m.gguf", other); /* as it is in a folder */
    assert_string_equal(added_name(other), "m");
    world_path(&world, "far/m.gguf", other); /* another one of that name */
    assert_string_equal(added_name(other), "far/m");
    world_path(&world, "far/split-00001-of-00002.gguf", other);
    assert_string_equal(added_name(other), "split");
    assert_string_equal(all_names(), "[far/m][m][n][split]");
    world_path(&world, "far/none.gguf", other);
    expect_not_added(other, HEARTH_E_MISSING, "none.gguf");
    world_path(&world, "far/text.gguf", text);
    expect_not_added(text, HEARTH_E_FORMAT, "is no GGUF file");
    expect_not_added("far/n.gguf", HEARTH_E_ARGUMENT, "absolute");
    expect_not_added("", HEARTH_E_ARGUMENT, "absolute");
    expect_not_added(one, HEARTH_E_IO, "");
    assert_string_equal(all_names(), "[far/m][m][n][split]");
    assert_int_equal(unlink(path), 0);
    settle_folder("far");
    assert_string_equal(all_names(), "[far/m][m][split]");
    expect_not_added(path, HEARTH_E_MISSING, "n.gguf");
}

/* ---- at the start ---- */

static void expect_refused(const char *sentence)
{
    struct hearth_error err;
    struct models *models = NULL;
    unsigned before = open_descriptors();
    assert_true(models_create(world.base, &world.options, &models, &err) < 0);
    assert_null(models);
    assert_int_equal(open_descriptors(), before);
    if (!strstr(err.text, sentence))
        fail_msg("\"%s\" is not in \"%s\"", sentence, err.text);
}

static void what_is_not_there_is_an_error_at_the_start(void **state)
{
    (void)state;
    char path[512];
    const char *paths[] = {path};
    world.options.folders = paths;
    world.options.folder_count = 1;
    world_path(&world, "nothing", path);
    expect_refused("nothing: No such file or directory");
    world_file(&world, "nothing", "a file");
    expect_refused("nothing: ");
    world.options.folder_count = 0;
    world.options.files = paths;
    world.options.file_count = 1;
    expect_refused("nothing: is no GGUF file");
    world_path(&world, "none.gguf", path);
    expect_refused("none.gguf: No such file or directory");
    world_path(&world, "", path);
    expect_refused("");
    world_gguf(&world, "sha256-abcdef"); /* a file that is given may have any name */
    world_path(&world, "sha256-abcdef", path);
    world_open(&world);
    assert_string_equal(all_names(), "[sha256-abcdef]");
}

/* ---- settings ---- */

static char settings_path[512];

static void write_settings(const char *text)
{
    world_file(&world, "settings.json", text);
    world_path(&world, "settings.json", settings_path);
    world.options.settings_path = settings_path;
}

static void settings_are_what_the_file_says(void **state)
{
    (void)state;
    world_gguf(&world, "Small.gguf");
    world_gguf(&world, "other.gguf");
    world_file(&world, "chat.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}");
    write_settings("{\"defaults\": {\"context\": 4096, \"ttl\": \"10m\", \"temperature\": 0.5},"
                   " \"models\": {\"small\": {\"context\": 8192, \"kv\": \"q8_0:q4_0\","
                   " \"fit\": \"shrink\", \"threads\": 1, \"mmap\": false, \"mlock\": true,"
                   " \"idle\": 0, \"ttl\": \"never\", \"answers_max\": 2, \"max_tokens\": 100,"
                   " \"chat_template\": \"@chat.jinja\", \"system\": \"Be kind.\","
                   " \"top_k\": 7, \"repeat_last_n\": -1, \"mirostat\": 2}}}");
    world_open(&world);
    const struct model_settings *other = world_info(&world, "other").settings;
    assert_true(other->context == 4096 && other->ttl_ns == 600 * GB && !other->system);
    assert_true(other->sampling.temperature == 0.5f && other->idle_ns == 300 * GB);
    const struct model_settings *small = world_info(&world, "Small").settings;
    assert_true(small->context == 8192 && small->kv_type == HEARTH_KV_Q8_0_Q4_0);
    assert_true(small->fit == HEARTH_FIT_SHRINK && small->threads == 1);
    assert_true(small->no_mmap && small->mlock && small->idle_ns == 0);
    assert_true(small->ttl_ns == MODELS_TTL_NEVER && small->answers_max == 2);
    assert_true(small->max_tokens == 100 && small->sampling.temperature == 0.5f);
    assert_true(small->sampling.top_k == 7 && small->sampling.penalty_last_n == -1);
    assert_int_equal(small->sampling.mirostat, 2);
    assert_string_equal(small->chat_template, "{% for m in messages %}{{ m.content }}{% endfor %}");
    assert_string_equal(small->system, "Be kind.");
    /* and they do what they say */
    world_use(&world, "small");
    const struct work_start *start = &world_worker(&world, "Small")->start;
    assert_true(start->engine.context == 8192 && start->engine.kv_type == HEARTH_KV_Q8_0_Q4_0);
    assert_true(start->engine.fit == HEARTH_FIT_SHRINK && start->engine.threads == 1);
    assert_true(start->no_mmap && start->mlock && start->idle_ns == HEARTH_IDLE_AT_ONCE);
    assert_int_equal(start->answers_max, 2);
    assert_true(world_info(&world, "small").expires_ns == MODELS_TTL_NEVER);
}

static void settings_that_are_wrong_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *sentence;
    } wrong[] = {
        {"", "settings.json: is not valid JSON"},
        {"[]", "settings.json: is no JSON object"},
        {"{\"default\": {}}", "settings.json: \"default\" is not known"},
        {"{\"defaults\": 7}", "settings.json: defaults: is no object"},
        {"{\"defaults\": {\"contxt\": 7}}", "defaults: \"contxt\" is no setting"},
        {"{\"defaults\": {\"context\": -1}}", "defaults: context is -1; it must be a whole number"},
        {"{\"defaults\": {\"context\": 1.5}}", "context is 1.5"},
        {"{\"defaults\": {\"context\": null}}", "\"context\" is null"},
        {"{\"defaults\": {\"context\": 1e30}}", "context is 1e+30"},
        {"{\"models\": []}", "\"models\" is no object"},
        {"{\"models\": {\"x\": {\"kv\": \"q2\"}}}", "models: \"x\": kv is \"q2\""},
        {"{\"models\": {\"x\": {\"ttl\": \"soon\"}}}", "models: \"x\": ttl must be a duration"},
        {"{\"models\": {\"x\": {\"temperature\": \"hot\"}}}",
         "models: \"x\": temperature is a text"},
        {"{\"models\": {\"x\": {\"logit_bias\": {}}}}", "\"logit_bias\" is no setting"},
        {"{\"models\": {\"x\": {\"grammar\": \"\"}}}", "\"grammar\" is no setting"},
        {"{\"models\": {\"x\": {\"seed\": 1}}}", "\"seed\" is no setting"},
        {"{\"models\": {\"x\": {\"mmap\": 1}}}", "mmap is 1; it must be true or false"},
        {"{\"models\": {\"x\": {\"chat_template\": \"@none\"}}}",
         "models: \"x\": chat_template: \"@none\""},
        {"{\"models\": {\"x\": {\"chat_template\": \"@../secret\"}}}", "beside the settings"},
        {"{\"models\": {\"x\": {}, \"x\": {}}}", "is not valid JSON"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        write_settings(wrong[i].text);
        expect_refused(wrong[i].sentence);
    }
    world_path(&world, "none.json", settings_path);
    expect_refused("none.json: No such file");
    world.options.settings_path = NULL;
    world_open(&world);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(models_are_found_three_levels_deep),
        TEST(names_are_looked_up_as_people_write_them),
        TEST(the_only_model_needs_no_name),
        TEST(a_split_model_is_one),
        TEST(of_equal_names_the_first_keeps_it),
        TEST(files_come_and_go),
        TEST(what_comes_within_a_tick_of_the_clock_is_seen),
        TEST(nothing_in_a_folder_does_harm),
        TEST(a_file_that_becomes_something_else_is_not_opened),
        TEST(an_unreadable_file_is_left_out),
        TEST(ten_thousand_files_are_no_trouble),
        TEST(files_are_added_by_their_path),
        TEST(what_is_not_there_is_an_error_at_the_start),
        TEST(settings_are_what_the_file_says),
        TEST(settings_that_are_wrong_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
