/* options.h - the option tables of all verbs, and parsing by them.
 *
 * One table row per option drives everything a user meets: parsing, --help,
 * the man page, completion, environment and configuration file. A value comes
 * from, strongest first: the command line, HEARTH_NAME in the environment
 * (dashes become underscores), the configuration file ([verb] section before
 * the part without a section), the table's default. Every value is checked
 * against its row wherever it came from, and a bad one is HTH_EUSAGE with a
 * sentence naming where it stands.
 *
 * Owns: a parsed command line (struct hth_args). Text handed out is borrowed
 * from argv, the environment or the args, so it lives as long as the shortest
 * of them. One thread; no output. */
#ifndef HTH_CLI_OPTIONS_H
#define HTH_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"

enum hth_opt_type {
    HTH_OPT_FLAG,   /* no argument; --x=no switches it off again */
    HTH_OPT_TEXT,   /* any text */
    HTH_OPT_FILE,   /* text; completed as a path */
    HTH_OPT_DIR,    /* text; completed as a directory */
    HTH_OPT_INT,    /* whole number in [min, max] */
    HTH_OPT_FLOAT,  /* number in [min, max] */
    HTH_OPT_SIZE,   /* bytes: 512MiB, 2GiB, 1.5G, 4000000 */
    HTH_OPT_CHOICE, /* one of choices */
    HTH_OPT_INTS,   /* comma-separated whole numbers in [min, max] */
    HTH_OPT_FLOATS  /* comma-separated numbers in [min, max], or a choice */
};

struct hth_opt {
    const char *name; /* long name without dashes; NULL ends a table */
    char letter;      /* short name or 0 */
    enum hth_opt_type type;
    const char *arg;      /* what the argument is called in help */
    const char *fallback; /* default as text, checked like any value; or NULL */
    const char *help;     /* one or two sentences, wrapped when printed */
    double min, max;      /* both 0: no bound */
    const char *choices;  /* "f32|f16|q8" */
    bool required;
    bool repeats;   /* may be given up to HTH_OPT_REPEATS_MAX times */
    bool line_only; /* not taken from environment or configuration */
    bool one_dash;  /* -name is taken as well: "-pg", as others write it */
};

struct hth_args;

struct hth_verb {
    const char *name;    /* NULL ends the table */
    const char *operand; /* "[PROMPT]", or NULL: takes none */
    const char *summary; /* one line */
    const char *text;    /* paragraphs, separated by a newline; or NULL */
    const struct hth_opt *opts;
    unsigned operands_min, operands_max;
    const char *operand_choices; /* checked; "(verbs)": a verb's name */
    /* Does the verb's work; the status becomes the exit code. */
    int (*run)(const struct hth_args *args, struct hth_err *err);
};

extern const struct hth_verb hth_verbs[]; /* cli/verbs.c */

const struct hth_verb *hth_verb_find(const char *name); /* or NULL */

/* Where values come from besides the command line; any may be NULL. */
struct hth_opt_sources {
    const char *const *environment; /* "NAME=value", NULL-terminated */
    const char *config_path;
    bool config_required; /* a missing file is an error */
};

enum hth_opt_origin {
    HTH_ORIGIN_NONE,
    HTH_ORIGIN_DEFAULT,
    HTH_ORIGIN_CONFIG,
    HTH_ORIGIN_ENVIRONMENT,
    HTH_ORIGIN_LINE
};

struct hth_opt_value {
    const char *text[HTH_OPT_REPEATS_MAX];
    unsigned count;
    enum hth_opt_origin origin;
};

struct hth_args {
    const struct hth_verb *verb;
    struct hth_opt_value values[HTH_OPTS_MAX]; /* by row of the verb's table */
    const char *operands[HTH_OPERANDS_MAX];
    unsigned operand_count;
    bool help;    /* --help or -h was given; nothing else was checked */
    char *config; /* owned text of the configuration file, or NULL */
};

/* Parse argv[0..argc) (without the program and the verb). On success the
 * caller owes hth_args_fini(); on error *args needs none. Errors: HTH_EUSAGE,
 * HTH_EIO (configuration unreadable), HTH_ELIMIT, HTH_ENOMEM. */
HTH_MUST_CHECK int hth_args_parse(struct hth_args *args,
                                  const struct hth_verb *verb,
                                  const struct hth_opt_sources *from,
                                  char *const *argv, struct hth_err *err);
void hth_args_fini(struct hth_args *args); /* fine on a zeroed one */

/* Values by option name. Asking for a name or type the verb's table does not
 * have is a bug and asserts. Unset: NULL, 0, false. */
bool hth_args_given(const struct hth_args *args, const char *name);
enum hth_opt_origin hth_args_origin(const struct hth_args *args,
                                    const char *name);
const char *hth_args_text(const struct hth_args *args, const char *name);
unsigned hth_args_count(const struct hth_args *args, const char *name);
const char *hth_args_at(const struct hth_args *args, const char *name,
                        unsigned i);
bool hth_args_flag(const struct hth_args *args, const char *name);
int64_t hth_args_int(const struct hth_args *args, const char *name);
double hth_args_float(const struct hth_args *args, const char *name);
uint64_t hth_args_size(const struct hth_args *args, const char *name);
/* Index of the chosen word in the row's choices. */
unsigned hth_args_choice(const struct hth_args *args, const char *name);

/* ---- values (cli/values.c) ---------------------------------------------- */

/* All of text must be the value. HTH_EUSAGE otherwise; *out untouched. */
int hth_parse_int(const char *text, int64_t *out);
int hth_parse_float(const char *text, double *out); /* finite, no hex */
int hth_parse_bool(const char *text, bool *out);
/* Units: K M G T and KiB MiB GiB TiB are powers of 1024, kB MB GB TB of 1000,
 * none is bytes. Fractions are allowed: 1.5GiB. */
int hth_parse_size(const char *text, uint64_t *out);
/* Index of word in "a|b|c", or -1. */
int hth_choice_index(const char *choices, const char *word);
/* Check one value against its row: HTH_EUSAGE says what would be right. */
int hth_opt_check(const struct hth_opt *opt, const char *text,
                  struct hth_err *err);
/* Comma-separated numbers; at most max of them. */
int hth_parse_floats(const char *text, double *out, size_t max, size_t *count);
int hth_parse_u32s(const char *text, uint32_t *out, size_t max, size_t *count);

/* ---- names --------------------------------------------------------------- */

/* Edits (insert, delete, replace, swap neighbours) between two short words;
 * words longer than 63 bytes compare as far apart. */
unsigned hth_edit_distance(const char *a, const char *b);
/* The option or verb a mistyped name most likely means, or NULL. */
const char *hth_closest_option(const struct hth_verb *verb, const char *name);
const char *hth_closest_verb(const char *name);
/* HTH_EUSAGE that names the word and the verb it most likely means. */
int hth_fail_unknown_verb(const char *word, struct hth_err *err);
/* HEARTH_LOG_LEVEL for log-level. */
void hth_opt_env_name(const char *name, char *dst, size_t dst_size);

#endif
