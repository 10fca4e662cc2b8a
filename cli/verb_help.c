/* verb_help.c - help, version, completion: the verbs that only print. */
#include "base/version.h"
#include "cli/help.h"
#include "cli/out.h"
#include "cli/verbs.h"

int hth_verb_help(const struct hth_args *args, struct hth_err *err)
{
    const struct hth_verb *verb = NULL;
    struct hth_buf out;
    int rc;

    if (args->operand_count > 0)
        verb = hth_verb_find(args->operands[0]);
    hth_buf_init(&out, HTH_HELP_BYTES_MAX);
    if (hth_args_flag(args, "man"))
        hth_help_man(&out);
    else if (verb != NULL)
        hth_help_verb(&out, verb);
    else
        hth_help_program(&out);
    rc = hth_out_buf(&out, err);
    hth_buf_fini(&out);
    return rc;
}

int hth_verb_completion(const struct hth_args *args, struct hth_err *err)
{
    struct hth_buf out;
    int rc;

    hth_buf_init(&out, HTH_HELP_BYTES_MAX);
    hth_help_completion(&out, args->operands[0]);
    rc = hth_out_buf(&out, err);
    hth_buf_fini(&out);
    return rc;
}

int hth_verb_version(const struct hth_args *args, struct hth_err *err)
{
    if (hth_args_flag(args, "json"))
        return hth_out_text("{\"version\":\"" HTH_VERSION "\"}\n", err);
    return hth_out_text("hearth " HTH_VERSION "\n", err);
}
