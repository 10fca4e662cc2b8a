/* help.h - everything that is printed from the option tables: help texts, the
 * man page, completion scripts. Text is appended to a buffer, so that tests
 * read what users read. Pure apart from the buffer's memory. */
#ifndef HTH_CLI_HELP_H
#define HTH_CLI_HELP_H

#include "base/cursor.h"
#include "cli/options.h"

#define HTH_HELP_COLUMNS 80u
#define HTH_HELP_BYTES_MAX (1u << 20)

/* What `hearth help` prints. At most HTH_HELP_COLUMNS - 1 columns. */
void hth_help_program(struct hth_buf *out);
/* What `hearth help VERB` and `hearth VERB --help` print. */
void hth_help_verb(struct hth_buf *out, const struct hth_verb *verb);
/* The manual page hearth(1), mdoc(7) source. */
void hth_help_man(struct hth_buf *out);
/* A completion script; shell is bash, zsh or fish, anything else is our bug. */
void hth_help_completion(struct hth_buf *out, const char *shell);

/* ---- facts that help and manual share (cli/help.c) ----------------------- */

struct hth_help_fact {
    const char *term; /* NULL ends a list */
    const char *text;
};
extern const struct hth_help_fact hth_help_exits[];
extern const struct hth_help_fact hth_help_environment[];
extern const char *const hth_help_about;
/* "N", "f32|f16|q8" or NULL for a flag: the argument as help shows it. */
const char *hth_opt_arg(const struct hth_opt *opt);
/* The default worth telling, or NULL ("-1", "0" and the like are explained in
 * the row's own words). */
const char *hth_opt_shown_default(const struct hth_opt *opt);

#endif
