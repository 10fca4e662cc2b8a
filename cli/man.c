/* man.c - the manual page, as mdoc(7), from the option tables. */
#include <stdio.h>
#include <string.h>

#include "base/version.h"
#include "cli/help.h"

/* Text for a roff input line: backslashes and leading control characters
 * escaped, so that help texts need know nothing of roff. */
static void put_text(struct hth_buf *out, const char *text)
{
    if (*text == '.' || *text == '\'')
        hth_put_printf(out, "\\&");
    for (; *text != '\0'; text++) {
        if (*text == '\\')
            hth_put_printf(out, "\\e");
        else if (*text == '-')
            hth_put_printf(out, "\\-");
        else
            hth_put_u8(out, (uint8_t)*text);
    }
}

/* A sentence per line, as mdoc wants it (it sets the space after a full
 * stop). */
static void put_sentences(struct hth_buf *out, const char *text)
{
    while (*text != '\0') {
        const char *end = strstr(text, ". ");
        size_t n = end == NULL ? strlen(text) : (size_t)(end - text) + 1;
        char line[512];

        snprintf(line, sizeof line, "%.*s", (int)n, text);
        put_text(out, line);
        hth_put_u8(out, '\n');
        text += n;
        text += strspn(text, " ");
    }
}

static void put_option(struct hth_buf *out, const struct hth_opt *opt)
{
    const char *arg = hth_opt_arg(opt);
    const char *shown = hth_opt_shown_default(opt);

    hth_put_printf(out, ".It ");
    if (opt->letter != 0)
        hth_put_printf(out, "Fl %c , ", opt->letter);
    hth_put_printf(out, "Fl Fl ");
    put_text(out, opt->name);
    if (arg != NULL) {
        hth_put_printf(out, " Ar \"");
        put_text(out, arg);
        hth_put_u8(out, '"');
    }
    hth_put_u8(out, '\n');
    put_sentences(out, opt->help);
    if (opt->required) {
        hth_put_printf(out, "Required.\n");
    } else if (shown != NULL) {
        hth_put_printf(out, "Default: ");
        put_text(out, shown);
        hth_put_printf(out, ".\n");
    }
}

static void put_verb(struct hth_buf *out, const struct hth_verb *verb)
{
    hth_put_printf(out, ".Ss %s", verb->name);
    if (verb->operand != NULL)
        hth_put_printf(out, " %s", verb->operand);
    hth_put_u8(out, '\n');
    put_sentences(out, verb->summary);
    if (verb->text != NULL)
        put_sentences(out, verb->text);
    if (verb->opts[0].name == NULL)
        return;
    hth_put_printf(out, ".Bl -tag -width Ds\n");
    for (const struct hth_opt *o = verb->opts; o->name != NULL; o++)
        put_option(out, o);
    hth_put_printf(out, ".El\n");
}

static void put_facts(struct hth_buf *out, const struct hth_help_fact *f,
                      const char *macro)
{
    hth_put_printf(out, ".Bl -tag -width Ds\n");
    for (; f->term != NULL; f++) {
        hth_put_printf(out, ".It %s", macro);
        put_text(out, f->term);
        hth_put_u8(out, '\n');
        put_sentences(out, f->text);
    }
    hth_put_printf(out, ".El\n");
}

static const struct hth_help_fact files[] = {
    {"$XDG_CONFIG_HOME/hearth/config.ini",
     "Lines of key = value; keys are long option names. What stands before "
     "any section holds for every verb that has the option, what stands under "
     "[verb] for that one. A value there is overridden by the environment, "
     "and that by the command line."},
    {"$XDG_STATE_HOME/hearth/coordinator",
     "The coordinator's keys, the devices it knows, its local socket."},
    {"$XDG_STATE_HOME/hearth/worker", "A worker's key and certificate."},
    {"$XDG_CACHE_HOME/hearth/store",
     "Weights a worker was sent. May be deleted while no worker runs; they "
     "are sent again."},
    {NULL, NULL},
};

static const char *const examples[] = {
    "desktop$ hearth serve -m llama-3.1-8b-q4_k_m.gguf",
    "laptop$  hearth worker --join 192.168.1.10 --code 4F7K-9QPX",
    "desktop$ hearth run \"Why is the sky blue?\"",
    "desktop$ hearth run -m tale-q8_0.gguf --shares 0,2,1 \"The door\"",
};

static void put_tail(struct hth_buf *out)
{
    hth_put_printf(out, ".Sh ENVIRONMENT\n");
    put_facts(out, hth_help_environment, "Ev ");
    hth_put_printf(out, ".Sh FILES\n");
    put_facts(out, files, "Pa ");
    hth_put_printf(out, ".Sh EXIT STATUS\n");
    put_facts(out, hth_help_exits, "");
    hth_put_printf(out, ".Sh EXAMPLES\n.Bd -literal -compact\n");
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
        put_text(out, examples[i]);
        hth_put_u8(out, '\n');
    }
    hth_put_printf(out, ".Ed\n");
}

void hth_help_man(struct hth_buf *out)
{
    hth_put_printf(out, ".\\\" Printed by hearth help --man; edit "
                        "cli/verbs.c instead.\n");
    hth_put_printf(out, ".Dd %s\n.Dt HEARTH 1\n.Os Hearth %s\n",
                   HTH_VERSION_DATE, HTH_VERSION);
    hth_put_printf(out, ".Sh NAME\n.Nm hearth\n"
                        ".Nd one large language model over the computers of "
                        "a home\n");
    hth_put_printf(out, ".Sh SYNOPSIS\n.Nm hearth\n.Ar verb\n"
                        ".Op Ar options\n.Op Ar operands\n");
    hth_put_printf(out, ".Sh DESCRIPTION\n");
    put_sentences(out, hth_help_about);
    hth_put_printf(
        out, ".Pp\nData goes to standard output, everything else to standard "
             "error.\nSizes are written 512MiB or 2GiB (powers of 1024), 2GB "
             "(powers of 1000), or as bytes.\n.Sh VERBS\n");
    for (const struct hth_verb *v = hth_verbs; v->name != NULL; v++)
        put_verb(out, v);
    put_tail(out);
}
