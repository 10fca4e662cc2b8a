/* main.c - from argv to a verb and from its status to an exit code. Nothing
 * else lives here: everything is testable through the library. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/help.h"
#include "cli/out.h"
#include "cli/paths.h"
#include "cli/verbs.h"

extern char **environ;

/* One sentence on standard error; after a usage error also where to look. */
static int report(const char *verb, int status, const struct hth_err *err)
{
    const char *text =
        err->text[0] != '\0' ? err->text : hth_status_text(status);

    fprintf(stderr, "hearth%s%s: %s\n", verb != NULL ? " " : "",
            verb != NULL ? verb : "", text);
    if (status == HTH_EUSAGE)
        fprintf(stderr, "Try: hearth help%s%s\n", verb != NULL ? " " : "",
                verb != NULL ? verb : "");
    return hth_exit_code(status);
}

static int print_help(const struct hth_verb *verb, struct hth_err *err)
{
    struct hth_buf out;
    int rc;

    hth_buf_init(&out, HTH_HELP_BYTES_MAX);
    hth_help_verb(&out, verb);
    rc = hth_out_buf(&out, err);
    hth_buf_fini(&out);
    return rc;
}

/* Whatever a verb returned, output that did not arrive is a failure. Help takes
 * no settings: it must work where they are broken. */
static int run_verb(const struct hth_verb *verb, char **argv)
{
    struct hth_opt_sources from = {0};
    char config[HTH_PATH_BYTES_MAX];
    struct hth_err err = {0};
    struct hth_args args;
    int rc;

    if (verb->run != hth_verb_help) {
        from.environment = (const char *const *)environ;
        if (hth_path_config(config, sizeof config, &err) == HTH_OK)
            from.config_path = config;
        from.config_required = getenv("HEARTH_CONFIG") != NULL;
    }
    rc = hth_args_parse(&args, verb, &from, argv, &err);
    if (rc == HTH_OK) {
        rc = args.help ? print_help(verb, &err) : verb->run(&args, &err);
        hth_args_fini(&args);
    }
    if (rc == HTH_OK)
        rc = hth_out_finish(&err);
    return rc == HTH_OK ? HTH_EXIT_OK : report(verb->name, rc, &err);
}

static int unknown(const char *word)
{
    struct hth_err err;

    if (word[0] == '-')
        hth_fail(&err, HTH_EUSAGE, "unknown option %.60s; a verb comes first",
                 word);
    else
        hth_fail_unknown_verb(word, &err);
    return report(NULL, HTH_EUSAGE, &err);
}

int main(int argc, char **argv)
{
    const struct hth_verb *verb;
    const char *word = argc > 1 ? argv[1] : NULL;

    hth_out_start();
    if (word == NULL) {
        fprintf(stderr, "usage: hearth VERB [options]\nTry: hearth help\n");
        return HTH_EXIT_USAGE;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        word = "help";
    else if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0)
        word = "version";
    verb = hth_verb_find(word);
    if (verb == NULL)
        return unknown(word);
    return run_verb(verb, argv + 2);
}
