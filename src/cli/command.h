/* What a command of the program is: one table of its options and operands, from which parsing
 * (options.h), --help (help.h), the man pages and the shells' completions are all made, so that
 * they cannot disagree.
 *
 * Tables are constant data. A command's settings are a plain struct of its own; options and
 * operands say by offset which field they fill. */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum exit_code {
    EXIT_CODE_OK = 0,
    EXIT_CODE_ERROR = 1,
    EXIT_CODE_USAGE = 2,
    EXIT_CODE_SIGNAL = 128, /* and the signal's number */
    EXIT_CODE_INTERRUPTED = 130,
};

/* The type of the field at `offset` is the one in the comment. */
enum option_type {
    OPTION_FLAG,     /* bool; the option takes no argument */
    OPTION_INT,      /* int32_t */
    OPTION_UINT,     /* uint32_t */
    OPTION_SEED,     /* int64_t */
    OPTION_REAL,     /* float */
    OPTION_SIZE,     /* uint64_t: bytes, as 500M, 2.6G or 1.5Gi */
    OPTION_TEXT,     /* const char *, NULL when not given */
    OPTION_FILE,     /* the same, a path */
    OPTION_TEXTS,    /* struct text_list; the option may be repeated */
    OPTION_FILES,    /* the same, paths */
    OPTION_CHOICE,   /* int: the index into `choices` */
    OPTION_COUNTS,   /* struct count_list: numbers with commas between them */
    OPTION_DURATION, /* uint64_t: nanoseconds; UINT64_MAX for "never" */
    OPTION_SESSION,  /* const char *: the name of a conversation */
};

struct text_list {
    const char **items; /* freed by options_finish; the texts are argv's */
    size_t count;
};

#define COUNT_LIST_MAX 32

struct count_list {
    uint32_t items[COUNT_LIST_MAX];
    size_t count;
};

struct option {
    const char *name; /* without the dashes */
    char short_name;  /* '\0': none */
    enum option_type type;
    const char *argument;       /* its name in texts, NULL for a flag */
    double min, max;            /* of numbers, both included; max below min: no upper limit */
    const char *const *choices; /* ended by NULL */
    size_t offset;
    const char *topic;         /* the heading that it is listed under */
    const char *shown_default; /* NULL: what the settings begin with; "": nothing */
    const char *help;
};

enum operand_type {
    OPERAND_TEXT,
    OPERAND_MODEL,
    OPERAND_FILE,
    OPERAND_COMMAND,
    OPERAND_SHELL,
    OPERAND_CHOICE,   /* int: the index into `choices`; the first where it is not given */
    OPERAND_SERVED,   /* a model that the running daemon knows */
    OPERAND_SESSIONS, /* struct text_list: names of conversations; the last operand */
};

struct operand { /* where the type says nothing else a const char *, NULL when not given */
    const char *name;
    enum operand_type type;
    bool required;
    size_t offset;
    const char *help;
    const char *const *choices; /* ended by NULL */
};

struct example {
    const char *command, *meaning;
};

struct program;

struct command {
    const char *name;
    const char *summary;     /* a line for lists; no final period */
    const char *description; /* paragraphs with an empty line between them */
    const struct option *options;
    size_t option_count;
    const struct operand *operands;
    size_t operand_count;
    const struct example *examples;
    size_t example_count;
    size_t settings_size;
    void (*defaults)(void *settings); /* fills zeroed settings; may be NULL */
    enum exit_code (*run)(const struct program *program, const void *settings);
};

struct program {
    const struct command *const *commands;
    size_t command_count;
};

/* NULL where there is no command of that name. */
const struct command *program_find(const struct program *program, const char *name);

extern const struct command command_run, command_sessions, command_inspect, command_tokenize,
    command_perplexity, command_bench, command_completion, command_help, command_serve, command_ps,
    command_status, command_load, command_unload, command_logs, command_stop, command_upstream;

#endif
