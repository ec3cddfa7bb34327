/* Chat templates: the language against what Python's jinja2 made of the same templates
 * (tests/golden/templates, written by scripts/template_golden.py), limits, hostile templates.
 * CTest runs this program on a stack of 256 KB too. */
#include "model/template.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/os.h"

/* Small enough to end within milliseconds, also in a build with sanitizers. */
static const struct chat_template_limits small_limits = {
    .steps = 3000000, .memory = 8 << 20, .output = 1 << 20, .depth = 200};

static int render_text(struct text source, json_t *variables, int64_t now,
                       const struct chat_template_limits *limits, struct buffer *out,
                       struct hearth_error *err)
{
    struct chat_template *tpl = NULL;
    int status = chat_template_parse(source, &tpl, err);
    if (status == 0)
        status = chat_template_render(tpl, variables, now, limits, out, err);
    chat_template_free(tpl);
    return status;
}

static int render(const char *source, const char *variables, struct buffer *out,
                  struct hearth_error *err)
{
    json_t *json = json_loads(variables, JSON_ALLOW_NUL, NULL);
    assert_non_null(json);
    int status = render_text(text_of(source), json, 0, &small_limits, out, err);
    json_decref(json);
    return status;
}

static void assert_renders(const char *source, const char *variables, const char *wanted)
{
    struct buffer out;
    struct hearth_error err = {0};
    buffer_init(&out, 1 << 20);
    if (render(source, variables, &out, &err) != 0)
        fail_msg("%s: %s", source, err.text);
    assert_string_equal(out.data ? out.data : "", wanted);
    buffer_finish(&out);
}

/* The template ends with `code`, and the buffer is as it was. */
static void assert_fails(const char *source, int code)
{
    struct buffer out;
    struct hearth_error err = {0};
    buffer_init(&out, 1 << 24);
    buffer_append_text(&out, TEXT("before"));
    int status = render(source, "{\"n\": 1}", &out, &err);
    if (status != code)
        fail_msg("%.200s: status %d, not %d: %s", source, status, code, err.text);
    assert_int_equal(err.code, code);
    assert_true(text_equal(buffer_text(&out), TEXT("before")));
    assert_false(out.failed);
    buffer_finish(&out);
}

/* ---- the golden file ---- */

struct golden {
    FILE *file;
    char *line;
    size_t capacity;
    json_t *variables;
    int64_t now;
};

static json_t *next_line(struct golden *golden)
{
    size_t size = 0;
    int byte;
    while ((byte = getc(golden->file)) != EOF && byte != '\n') {
        if (size + 1 >= golden->capacity) {
            golden->capacity = golden->capacity * 2 + 4096;
            golden->line = mem_realloc_array(golden->line, golden->capacity, 1);
            assert_non_null(golden->line);
        }
        golden->line[size++] = (char)byte;
    }
    if (size == 0)
        return NULL;
    json_t *json = json_loadb(golden->line, size, JSON_ALLOW_NUL, NULL);
    assert_non_null(json);
    return json;
}

static void open_golden(struct golden *golden)
{
    *golden = (struct golden){.file = fopen(HEARTH_GOLDEN_DIR "/templates/language.jsonl", "rb")};
    assert_non_null(golden->file);
    json_t *head = next_line(golden);
    golden->variables = json_incref(json_object_get(head, "variables"));
    golden->now = json_integer_value(json_object_get(head, "now"));
    assert_non_null(golden->variables);
    json_decref(head);
}

static void close_golden(struct golden *golden)
{
    fclose(golden->file);
    mem_free(golden->line);
    json_decref(golden->variables);
}

static struct text string_of(const json_t *json)
{
    return (struct text){json_string_value(json), json_string_length(json)};
}

static void language_is_that_of_jinja2(void **state)
{
    struct golden golden;
    unsigned count = 0;
    (void)state;
    open_golden(&golden);
    for (json_t *line; (line = next_line(&golden)); count++) {
        struct buffer out;
        struct hearth_error err = {0};
        struct text source = string_of(json_object_get(line, "template"));
        const json_t *wanted = json_object_get(line, "ok");
        buffer_init(&out, 1 << 24);
        int status = render_text(source, golden.variables, golden.now, NULL, &out, &err);
        if (wanted && status != 0)
            fail_msg("%.*s: %s", TEXT_ARGS(source), err.text);
        if (!wanted && status != HEARTH_E_TEMPLATE)
            fail_msg("%.*s: raises in jinja2, gave %d", TEXT_ARGS(source), status);
        if (wanted && !text_equal(buffer_text(&out), string_of(wanted)))
            fail_msg("%.*s:\n%.*s\ninstead of\n%.*s", TEXT_ARGS(source),
                     TEXT_ARGS(buffer_text(&out)), TEXT_ARGS(string_of(wanted)));
        buffer_finish(&out);
        json_decref(line);
    }
    assert_in_range(count, 500, 5000);
    close_golden(&golden);
}

static int render_part(struct text source, const struct golden *golden)
{
    struct buffer out;
    struct hearth_error err = {0};
    buffer_init(&out, 1 << 22);
    /* memory of the exact size, so that a read behind the end is seen */
    char *copy = mem_alloc(source.size);
    memcpy(copy, source.data, source.size);
    int status = render_text((struct text){copy, source.size}, golden->variables, golden->now,
                             &small_limits, &out, &err);
    assert_true(status == 0 || status == HEARTH_E_TEMPLATE || status == HEARTH_E_LIMIT);
    assert_true(status == 0 || (err.code == status && err.text[0] != '\0' && out.size == 0));
    mem_free(copy);
    buffer_finish(&out);
    return status;
}

static void template_cut_at_any_byte_renders_or_fails_in_words(void **state)
{
    struct golden golden;
    (void)state;
    open_golden(&golden);
    for (json_t *line; (line = next_line(&golden));) {
        struct text source = string_of(json_object_get(line, "template"));
        for (size_t size = 1; size < source.size && source.size < 1500; size++)
            render_part((struct text){source.data, size}, &golden);
        json_decref(line);
    }
    close_golden(&golden);
}

static void template_with_a_changed_byte_renders_or_fails_in_words(void **state)
{
    static const char bytes[] = "{}%#()[]|.,:'\"\\-+*/~ \nxi0=\x80";
    struct golden golden;
    uint32_t random = 12345;
    (void)state;
    open_golden(&golden);
    for (json_t *line; (line = next_line(&golden));) {
        struct text source = string_of(json_object_get(line, "template"));
        char *copy = mem_alloc(source.size);
        for (int round = 0; round < 12 && source.size; round++) {
            memcpy(copy, source.data, source.size);
            random = random * 1664525 + 1013904223;
            copy[(random >> 8) % source.size] = bytes[(random >> 4) % (sizeof bytes - 1)];
            render_part((struct text){copy, source.size}, &golden);
        }
        mem_free(copy);
        json_decref(line);
    }
    close_golden(&golden);
}

/* ---- limits ---- */

static void endless_work_ends_at_the_limit_of_steps(void **state)
{
    static const char *const bombs[] = {
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{% for b in range(100000) if false %}{% endfor %}{% endfor %}",
        "{% set a = range(100000)|list %}{% for x in a %}{% if -1 in a %}{% endif %}{% endfor %}",
        "{% set a = 'ab' * 100000 %}{% for x in range(100000) %}{% if 'ba' * 20 in a %}{% endif "
        "%}{% endfor %}",
        "{% set a = 'é' * 100000 %}{% for x in range(100000) %}{% set b = a[-1] %}{% endfor %}",
        "{% set a = 'a' * 100000 %}{% for x in range(100000) %}{% set b = a.strip(a) %}{% endfor "
        "%}",
        "{% set a = range(100000)|list %}{% for x in a %}{% set b = a|sort %}{% endfor %}",
        "{% set a = 'a' * 100000 %}{% for x in range(100000) %}{% set b = a == a + '' %}{% set c = "
        "a|upper == a %}{% endfor %}",
        "{% for x in range(100000) %}{{ '%1000s' % x }}{{ '{:>1000}'.format(x) }}{% endfor %}",
        "{{ 'x' * 99999999999 }}",
        "{{ [1] * 99999999999 }}",
        "{{ 'x'.center(99999999999) }}",
        "{{ 'x'|indent(99999999999, true) }}",
        "{{ '%*d' % (999999999, 1) }}",
        "{{ '{:999999999}'.format(1) }}",
        "{{ '{:0999999999,}'.format(1) }}",
        "{{ [1]|tojson(indent=999999999999) }}",
        "{{ 'x'.zfill(999999999999) }}",
        "{{ '\t'.expandtabs(999999999999) }}",
        "{{ [1]|batch(999999999999, 'x')|list }}",
        "{{ [1]|slice(999999999999, 'x')|list }}",
        "{% set ns = namespace(x='x') %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}{% "
        "endfor %}",
        "{% set ns = namespace(x='xy') %}{% for i in range(100) %}{% set ns.x = "
        "ns.x.replace('x', ns.x) %}{% endfor %}",
        "{% set ns = namespace(x='xy') %}{% for i in range(100) %}{% set ns.x = ns.x.join('abc') "
        "%}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(100) %}{% set ns.x = [ns.x, ns.x] %}{% "
        "endfor %}{{ ns.x|length }}{{ ns.x }}",
        "{% set ns = namespace(x=(1,)) %}{% for i in range(100) %}{% set ns.x = (ns.x, ns.x) %}{% "
        "endfor %}{{ {ns.x: 1} }}",
        "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(100) %}{% set ns.x = [ns.x, ns.x] "
        "%}{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
        "{% set x %}{% for i in range(100000) %}{% for j in range(100000) %}abc{% endfor %}{% "
        "endfor %}{% endset %}",
        "{% for i in range(100000) %}{{ 'abc' * 1000 }}{% endfor %}",
        "{% for i in range(100000) %}{% for j in range(1000) %}{{ {'a': {'b': [i, j]}} }}{% endfor "
        "%}{% endfor %}",
        "{% set a = range(100000)|map('string')|list %}{% for i in a %}{% set d = "
        "dict.fromkeys(a) %}{% endfor %}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof bombs / sizeof *bombs; i++)
        assert_fails(bombs[i], HEARTH_E_LIMIT);
}

static void building_a_text_piece_by_piece_takes_linear_memory(void **state)
{
    (void)state;
    assert_renders("{% set ns = namespace(t='') %}{% for i in range(20000) %}{% set ns.t = ns.t + "
                   "'0123456789' %}{% endfor %}{{ ns.t|length }}",
                   "{}", "200000");
}

static char *repeat(const char *first, const char *middle, const char *last, size_t times)
{
    struct buffer text;
    buffer_init(&text, 1 << 24);
    for (size_t i = 0; i < times; i++)
        buffer_append_text(&text, text_of(first));
    buffer_append_text(&text, text_of(middle));
    for (size_t i = 0; i < times; i++)
        buffer_append_text(&text, text_of(last));
    return buffer_take(&text, NULL);
}

/* Everything that nests, at depths that fit, nearly fit and do not: never more C stack than there
 * is, whatever the depth. */
static void nesting_ends_at_the_limit_of_depth(void **state)
{
    static const char *const shapes[][3] = {
        {"{{ (((", "1", "))) }}"},
        {"(", "1", ")"},
        {"[", "1", "]"},
        {"{1: ", "1", "}"},
        {"-", "n", ""},
        {"not ", "n", ""},
        {"1 + (", "1", ")"},
        {"1 or not 1 == 1 + 1 ~ 1 * 1 ** (", "1", ")"},
        {"f(", "1", ")"},
        {"n|default(", "1", ")"},
        {"n[", "1", "]"},
        {"n[1:", "1", "]"},
        {"n is eq(", "1", ")"},
        {"1 if n else ", "1", ""},
        {"1 if (", "1", ") else 1"},
        {"dict(a=", "1", ")"},
        {"[[1, {'a': (n, ", "1", ")}]]"},
    };
    static const char *const tags[][3] = {
        {"{% if n %}", "x", "{% endif %}"},
        {"{% if n %}{% else %}", "x", "{% endif %}"},
        {"{% for i in [1] %}", "x", "{% endfor %}"},
        {"{% for i in [1] if i %}{% if i %}{% set z %}", "x",
         "{% endset %}{% endif %}{% endfor %}"},
        {"{% filter upper %}", "x", "{% endfilter %}"},
        {"{% with a = 1 %}", "x", "{% endwith %}"},
        {"{% set x %}", "x", "{% endset %}{{ x }}"},
        {"{% generation %}", "x", "{% endgeneration %}"},
        {"{% macro m() %}", "x", "{% endmacro %}{{ m() }}"},
        {"{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}", "x", "{% endcall %}"},
    };
    static const size_t depths[] = {5, 20, 30, 45, 60, 80, 100, 200, 1000, 20000};
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes + sizeof tags / sizeof *tags; i++) {
        bool tag = i >= sizeof shapes / sizeof *shapes;
        const char *const *parts = tag ? tags[i - sizeof shapes / sizeof *shapes] : shapes[i];
        for (size_t k = 0; k < sizeof depths / sizeof *depths; k++) {
            char *inner = repeat(parts[0], parts[1], parts[2], depths[k]);
            char *source = tag ? inner : repeat("{{ ", inner, " }}", 1);
            struct golden nothing = {.variables = json_pack("{s:i}", "n", 1)};
            int status = render_part(text_of(source), &nothing);
            if (depths[k] >= 1000)
                assert_true(status < 0);
            json_decref(nothing.variables);
            mem_free(inner);
            if (!tag)
                mem_free(source);
        }
    }
}

static void recursion_ends_at_the_limit_of_depth(void **state)
{
    static const char *const endless[] = {
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f(x) %}{% if x %}{% for i in [1] %}{{ (f(x)|upper) ~ 'x' }}{% endfor %}{% endif "
        "%}{% endmacro %}{{ f(1) }}",
        "{% macro f() %}{% if caller %}{% endif %}{% call f() %}x{% endcall %}{% endmacro %}{{ f() "
        "}}",
        "{% macro f() %}{% set x %}{% filter upper %}{{ [{'a': (1, f())}]|tojson }}{% endfilter "
        "%}{% endset %}{% endmacro %}{{ f() }}",
        "{% macro f(x=f()) %}{% endmacro %}{{ f() }}",
        "{% for x in [[1]] recursive %}{{ loop([x]) }}{% endfor %}",
        "{% macro f() %}{% for i in [1] if f() %}{% endfor %}{% endmacro %}{{ f() }}",
    };
    static const char *const deep_values[] = {
        "{{ ns.x }}",
        "{{ ns.x|tojson }}",
        "{{ ns.x == ns.y }}",
        "{{ ns.x < ns.y }}",
        "{{ {ns.t: 1} }}",
        "{{ ns.x|string|length }}",
        "{{ '%s' % ns.x }}",
        "{{ ns.x in [ns.y] }}",
        "{{ ns.g|list }}",
        "{{ [ns.x, ns.y]|sort }}",
        "{{ [ns.t]|unique|list }}",
        "{{ ns.g|first }}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof endless / sizeof *endless; i++)
        assert_fails(endless[i], HEARTH_E_LIMIT);
    for (size_t i = 0; i < sizeof deep_values / sizeof *deep_values; i++) {
        struct buffer source;
        buffer_init(&source, 4096);
        buffer_format(
            &source,
            "{%% set ns = namespace(x=[], y=[], t=(), g=['a']) %%}{%% for i in range(5000) "
            "%%}{%% set ns.x = [ns.x] %%}{%% set ns.y = [ns.y] %%}{%% set ns.t = (ns.t,) "
            "%%}{%% set ns.g = ns.g|map('upper') %%}{%% endfor %%}%s",
            deep_values[i]);
        assert_fails(source.data, HEARTH_E_LIMIT);
        buffer_finish(&source);
    }
}

static void deep_json_variables_end_at_the_limit_of_depth(void **state)
{
    char *json = repeat("[", "1", "]", 1500), *object = repeat("{\"x\": ", json, "}", 1);
    struct buffer out;
    struct hearth_error err;
    (void)state;
    buffer_init(&out, 1 << 20);
    assert_int_equal(render("{{ x }}", object, &out, &err), HEARTH_E_LIMIT);
    assert_int_equal(render("{{ y }}ok", object, &out, &err), 0);
    mem_free(json);
    mem_free(object);
    buffer_finish(&out);
}

static void output_is_limited_and_the_buffer_untouched(void **state)
{
    const struct chat_template_limits limits = {
        .steps = 1000000, .memory = 1 << 20, .output = 100, .depth = 50};
    json_t *none = json_object();
    struct buffer out;
    struct hearth_error err;
    (void)state;
    buffer_init(&out, 150);
    assert_int_equal(render_text(TEXT("{{ 'x' * 100 }}"), none, 0, &limits, &out, &err), 0);
    assert_int_equal(out.size, 100);
    assert_int_equal(render_text(TEXT("{{ 'x' * 101 }}"), none, 0, &limits, &out, &err),
                     HEARTH_E_LIMIT);
    assert_int_equal(render_text(TEXT("{{ 'x' * 60 }}"), none, 0, &limits, &out, &err),
                     HEARTH_E_LIMIT);
    assert_int_equal(out.size, 100);
    assert_int_equal(render_text(TEXT("{{ 'x' * 50 }}"), none, 0, &limits, &out, &err), 0);
    /* what a macro prints is not yet output */
    assert_int_equal(render_text(TEXT("{% set x %}{{ 'x' * 500 }}{% endset %}{{ x|length }}"), none,
                                 0, &limits, &out, &err),
                     HEARTH_E_LIMIT); /* the buffer is full, the template was fine */
    assert_int_equal(out.size, 150);
    buffer_finish(&out);
    json_decref(none);
}

static void source_is_limited(void **state)
{
    struct chat_template *tpl;
    struct hearth_error err;
    (void)state;
    char *large = repeat("{{ 1 }}", "", "", 200000);
    assert_int_equal(chat_template_parse(text_of(large), &tpl, &err), HEARTH_E_LIMIT);
    mem_free(large);
    assert_int_equal(chat_template_parse(TEXT("\xff"), &tpl, &err), HEARTH_E_TEMPLATE);
}

/* ---- the sandbox ---- */

static void no_way_leads_out_of_the_sandbox(void **state)
{
    static const char *const escapes[] = {
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ [].__class__.__base__ }}",
        "{{ ''|attr('__class__')|attr('__mro__')|first }}",
        "{{ '{0.__class__.__init__}'.format('')|int }}{{ '{0.__class__.x.y}'.format('') }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ namespace.__init__.__globals__['os'] }}",
        "{{ self.__init__.__globals__ }}",
        "{{ (''|string).__class__() }}",
        "{{ lipsum.__globals__['os'].popen('id') }}",
        "{{ range.__class__.__call__('x') }}",
        "{{ dict.fromkeys.__self__.x }}",
        "{{ [].append(1) }}",
        "{{ {}.update({'a': 1}) }}",
        "{{ {}.__setitem__('a', 1) }}",
        "{% set x = [] %}{% set y = x.append(1) %}",
        "{% macro m() %}{% endmacro %}{{ m.__call__() }}",
        "{% macro m() %}{% endmacro %}{{ m._func() }}",
        "{% for x in [1] %}{{ loop.__class__.__init__.x }}{% endfor %}",
        "{% include '/etc/passwd' %}",
        "{% extends '/etc/passwd' %}",
        "{% from '/etc/passwd' import x %}",
        "{{ joiner.__class__.__bases__ }}",
        "{{ 'x'.encode('utf-8').hex() }}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++)
        assert_fails(escapes[i], HEARTH_E_TEMPLATE);
    assert_renders("{{ ''.__class__ }}{{ {}.pop }}{{ [].__len__ }}", "{}", "");
}

/* ---- the interface ---- */

static void errors_name_the_line_and_the_cause(void **state)
{
    struct buffer out;
    struct hearth_error err;
    (void)state;
    buffer_init(&out, 1000);
    assert_int_equal(render("\n\n{{ raise_exception('no \" roles') }}", "{}", &out, &err),
                     HEARTH_E_TEMPLATE);
    assert_string_equal(err.text, "template line 3: no \" roles");
    assert_int_equal(render("a\n{{ x.y }}", "{}", &out, &err), HEARTH_E_TEMPLATE);
    assert_string_equal(err.text, "template line 2: 'x' is undefined");
    assert_int_equal(render("a\n{% if x %}\n{% endfor %}", "{}", &out, &err), HEARTH_E_TEMPLATE);
    assert_string_equal(err.text, "template line 3: unknown tag 'endfor'");
    assert_int_equal(render("a\n{% if x %}\n", "{}", &out, &err), HEARTH_E_TEMPLATE);
    assert_int_equal(render("\n{{ x|frobnicate }}", "{}", &out, &err), HEARTH_E_TEMPLATE);
    assert_string_equal(err.text, "template line 2: no filter named 'frobnicate'");
    buffer_finish(&out);
}

static void variables_must_be_an_object(void **state)
{
    struct chat_template *tpl;
    struct buffer out;
    json_t *array = json_array();
    (void)state;
    buffer_init(&out, 100);
    assert_int_equal(chat_template_parse(TEXT("x"), &tpl, NULL), 0);
    assert_int_equal(chat_template_render(tpl, array, 0, NULL, &out, NULL), HEARTH_E_ARGUMENT);
    json_decref(array);
    chat_template_free(tpl);
    chat_template_free(NULL);
    buffer_finish(&out);
}

static void variables_keep_their_order_and_nul_bytes(void **state)
{
    (void)state;
    assert_renders("{{ d }}{{ d|tojson }}{{ s|length }}{{ s|tojson }}",
                   "{\"d\": {\"z\": 1, \"a\": 2, \"m\": 3}, \"s\": \"a\\u0000b\"}",
                   "{'z': 1, 'a': 2, 'm': 3}{\"z\": 1, \"a\": 2, \"m\": 3}3\"a\\u0000b\"");
}

static const char conversation[] =
    "{% macro show(m) %}{% if m.content is string %}{{ m.content|trim }}{% else %}{% for p in "
    "m.content %}{{ p.text }}{% endfor %}{% endif %}{% endmacro %}{% set ns = namespace(n=0) %}{% "
    "for m in messages if m.role != 'system' %}<|{{ m.role }}|>{{ show(m) }}{% set ns.n = ns.n + 1 "
    "%}{% endfor %}{{ ns.n }}{{ messages|map(attribute='role')|unique|join(',') }}{{ tools|tojson "
    "}}";
static const char conversation_variables[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", \"content\": "
    "\" hi \"}, {\"role\": \"assistant\", \"content\": [{\"text\": \"a\"}, {\"text\": \"b\"}]}], "
    "\"tools\": [{\"name\": \"f\", \"parameters\": {\"x\": 1.5, \"y\": null}}]}";
static const char conversation_text[] = "<|user|>hi<|assistant|>ab2system,user,assistant[{\"name\":"
                                        " \"f\", \"parameters\": {\"x\": 1.5, "
                                        "\"y\": null}}]";

static void failing_allocation_is_reported_and_leaks_nothing(void **state)
{
    json_t *variables = json_loads(conversation_variables, 0, NULL);
    int status = -1;
    (void)state;
    for (unsigned long n = 1; status != 0; n++) {
        struct buffer out;
        struct hearth_error err = {0};
        buffer_init(&out, 1 << 20);
        mem_fail_nth(n);
        status = render_text(TEXT(conversation), variables, 0, NULL, &out, &err);
        mem_fail_nth(0);
        assert_true(status == 0 || status == HEARTH_E_MEMORY || status == HEARTH_E_LIMIT);
        if (status != 0)
            assert_int_equal(out.size, 0);
        buffer_finish(&out);
        assert_in_range(n, 1, 1000);
    }
    json_decref(variables);
    assert_renders(conversation, conversation_variables, conversation_text);
}

struct rendering {
    const struct chat_template *tpl;
    bool right;
};

static void render_often(void *context)
{
    struct rendering *rendering = context;
    json_t *variables = json_loads(conversation_variables, 0, NULL);
    rendering->right = true;
    for (int i = 0; i < 50; i++) {
        struct buffer out;
        buffer_init(&out, 1 << 20);
        int status = chat_template_render(rendering->tpl, variables, i, NULL, &out, NULL);
        rendering->right = rendering->right && status == 0 &&
                           text_equal(buffer_text(&out), TEXT(conversation_text));
        buffer_finish(&out);
    }
    json_decref(variables);
}

static void several_threads_render_one_template(void **state)
{
    struct chat_template *tpl;
    struct rendering renderings[3];
    struct os_thread *threads[3];
    (void)state;
    assert_int_equal(chat_template_parse(TEXT(conversation), &tpl, NULL), 0);
    for (int i = 0; i < 3; i++) {
        renderings[i].tpl = tpl;
        threads[i] = os_thread_start(render_often, &renderings[i]);
        assert_non_null(threads[i]);
    }
    for (int i = 0; i < 3; i++) {
        os_thread_join(threads[i]);
        assert_true(renderings[i].right);
    }
    chat_template_free(tpl);
}

int main(void)
{
    /* strftime_now prints local time; the golden file was made in UTC */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(language_is_that_of_jinja2),
        cmocka_unit_test(template_cut_at_any_byte_renders_or_fails_in_words),
        cmocka_unit_test(template_with_a_changed_byte_renders_or_fails_in_words),
        cmocka_unit_test(endless_work_ends_at_the_limit_of_steps),
        cmocka_unit_test(building_a_text_piece_by_piece_takes_linear_memory),
        cmocka_unit_test(nesting_ends_at_the_limit_of_depth),
        cmocka_unit_test(recursion_ends_at_the_limit_of_depth),
        cmocka_unit_test(deep_json_variables_end_at_the_limit_of_depth),
        cmocka_unit_test(output_is_limited_and_the_buffer_untouched),
        cmocka_unit_test(source_is_limited),
        cmocka_unit_test(no_way_leads_out_of_the_sandbox),
        cmocka_unit_test(errors_name_the_line_and_the_cause),
        cmocka_unit_test(variables_must_be_an_object),
        cmocka_unit_test(variables_keep_their_order_and_nul_bytes),
        cmocka_unit_test(failing_allocation_is_reported_and_leaks_nothing),
        cmocka_unit_test(several_threads_render_one_template),
    };
    return cmocka_run_group_tests_name("template", tests, NULL, NULL);
}
