/* help.c - help texts wrapped for a terminal of 80 columns. */
#include "cli/help.h"

#include <stdio.h>
#include <string.h>

#define HELP_INDENT 28u /* column of the descriptions */

const char *const hth_help_about =
    "Hearth turns the computers of a home into one machine that runs a large "
    "language model: tensor parallel, over encrypted links, each device "
    "holding only its slices.";

const struct hth_help_fact hth_help_exits[] = {
    {"0", "done"},
    {"1", "failed; standard error says why"},
    {"2", "wrong usage"},
    {"3", "a coordinator or device could not be reached, or was lost"},
    {"4", "not authorised: wrong code, revoked or unknown device"},
    {"130", "interrupted"},
    {NULL, NULL},
};

const struct hth_help_fact hth_help_environment[] = {
    {"HEARTH_OPTION",
     "Default for the option of that name, dashes written as underscores: "
     "HEARTH_LOG_LEVEL=info is --log-level info. Options of a single answer "
     "(the model of run, --shares of run) are taken from the command line "
     "only."},
    {"HEARTH_CONFIG",
     "Configuration file to use instead of $XDG_CONFIG_HOME/hearth/config.ini; "
     "/dev/null for none."},
    {"HEARTH_ISA", "Instruction set to compute with (scalar, avx2, "
                   "avxvnni, avx512, amx, asimd, neon) instead of "
                   "the best this CPU has."},
    {"XDG_CONFIG_HOME, XDG_STATE_HOME, XDG_CACHE_HOME",
     "Where configuration, keys and stored weights live. Defaults: ~/.config, "
     "~/.local/state and ~/.cache."},
    {"TMPDIR",
     "Where the ranks started by --local and --shares keep their files while "
     "they run."},
    {NULL, NULL},
};

const char *hth_opt_arg(const struct hth_opt *opt)
{
    if (opt->type == HTH_OPT_FLAG)
        return NULL;
    return opt->type == HTH_OPT_CHOICE ? opt->choices : opt->arg;
}

const char *hth_opt_shown_default(const struct hth_opt *opt)
{
    const char *d = opt->fallback;

    if (d == NULL || strcmp(d, "-1") == 0 ||
        (opt->type == HTH_OPT_INT && strcmp(d, "0") == 0))
        return NULL;
    return d;
}

/* Append one word, on a new line at `indent` where it would reach the last
 * column. *column is where the cursor stands. */
static void put_word(struct hth_buf *out, const char *word, unsigned n,
                     unsigned indent, unsigned *column)
{
    if (*column > indent && *column + 1 + n >= HTH_HELP_COLUMNS) {
        hth_put_printf(out, "\n%*s", (int)indent, "");
        *column = indent;
    } else if (*column > indent) {
        hth_put_u8(out, ' ');
        *column += 1;
    }
    hth_put_bytes(out, word, n);
    *column += n;
}

static void put_wrapped(struct hth_buf *out, const char *text, unsigned indent,
                        unsigned *column)
{
    while (*text != '\0') {
        unsigned n = (unsigned)strcspn(text, " ");

        put_word(out, text, n, indent, column);
        text += n;
        text += strspn(text, " ");
    }
}

static void put_paragraph(struct hth_buf *out, const char *text,
                          unsigned indent)
{
    unsigned column = indent;

    hth_put_printf(out, "%*s", (int)indent, "");
    put_wrapped(out, text, indent, &column);
    hth_put_u8(out, '\n');
}

/* "term   text...", the text on a line of its own when the term is long. */
static void put_entry(struct hth_buf *out, const char *term, const char *text,
                      const char *suffix)
{
    unsigned column = 2u + (unsigned)strlen(term);

    hth_put_printf(out, "  %s", term);
    if (column + 2 > HELP_INDENT)
        hth_put_printf(out, "\n%*s", (int)HELP_INDENT, "");
    else
        hth_put_printf(out, "%*s", (int)(HELP_INDENT - column), "");
    column = HELP_INDENT;
    put_wrapped(out, text, HELP_INDENT, &column);
    if (*suffix != '\0')
        put_word(out, suffix, (unsigned)strlen(suffix), HELP_INDENT, &column);
    hth_put_u8(out, '\n');
}

static void put_option(struct hth_buf *out, const struct hth_opt *opt)
{
    const char *arg = hth_opt_arg(opt);
    const char *shown = hth_opt_shown_default(opt);
    char term[96];
    char suffix[64] = "";
    char letter[6] = "    ";

    if (opt->letter != 0)
        snprintf(letter, sizeof letter, "-%c, ", opt->letter);
    snprintf(term, sizeof term, "%s--%s%s%s", letter, opt->name,
             arg != NULL ? " " : "", arg != NULL ? arg : "");
    if (opt->required)
        snprintf(suffix, sizeof suffix, "(required)");
    else if (shown != NULL)
        snprintf(suffix, sizeof suffix, "(default %s)", shown);
    put_entry(out, term, opt->help, suffix);
}

void hth_help_verb(struct hth_buf *out, const struct hth_verb *verb)
{
    hth_put_printf(out, "usage: hearth %s%s%s%s\n\n", verb->name,
                   verb->opts[0].name != NULL ? " [options]" : "",
                   verb->operand != NULL ? " " : "",
                   verb->operand != NULL ? verb->operand : "");
    put_paragraph(out, verb->summary, 0);
    if (verb->text != NULL)
        put_paragraph(out, verb->text, 0);
    if (verb->operand_choices != NULL && verb->operand_choices[0] != '(')
        hth_put_printf(out, "%s is one of %s.\n", verb->operand,
                       verb->operand_choices);
    hth_put_printf(out, "\nOptions:\n");
    for (const struct hth_opt *o = verb->opts; o->name != NULL; o++)
        put_option(out, o);
    put_entry(out, "-h, --help", "This text.", "");
}

void hth_help_program(struct hth_buf *out)
{
    hth_put_printf(out, "usage: hearth VERB [options]\n\n");
    put_paragraph(out, hth_help_about, 0);
    hth_put_printf(out, "\nVerbs:\n");
    for (const struct hth_verb *v = hth_verbs; v->name != NULL; v++) {
        char term[64];

        snprintf(term, sizeof term, "%s%s%s", v->name,
                 v->operand != NULL ? " " : "",
                 v->operand != NULL ? v->operand : "");
        put_entry(out, term, v->summary, "");
    }
    hth_put_printf(out, "\nExit codes:\n");
    for (const struct hth_help_fact *f = hth_help_exits; f->term != NULL; f++)
        put_entry(out, f->term, f->text, "");
    hth_put_printf(out, "\nOptions also come from HEARTH_... in the "
                        "environment and from\n"
                        "$XDG_CONFIG_HOME/hearth/config.ini. "
                        "More: hearth help VERB, man hearth.\n");
}
