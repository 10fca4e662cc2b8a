/* verbs.h - the entry points of the verbs, one file each (cli/verb_*.c).
 *
 * Each gets a parsed, checked command line and does its work: data to stdout
 * through cli/out.h, everything else to stderr. 0 is success; otherwise err
 * holds the sentence main prints, and the status picks the exit code
 * (hth_exit_code()). HTH_EUSAGE is fine for mistakes the table cannot see.
 * Called once per process from the main thread. */
#ifndef HTH_CLI_VERBS_H
#define HTH_CLI_VERBS_H

#include "cli/options.h"

int hth_verb_serve(const struct hth_args *args, struct hth_err *err);
int hth_verb_worker(const struct hth_args *args, struct hth_err *err);
int hth_verb_run(const struct hth_args *args, struct hth_err *err);
int hth_verb_chat(const struct hth_args *args, struct hth_err *err);
int hth_verb_nodes(const struct hth_args *args, struct hth_err *err);
int hth_verb_pair(const struct hth_args *args, struct hth_err *err);
int hth_verb_revoke(const struct hth_args *args, struct hth_err *err);
int hth_verb_plan(const struct hth_args *args, struct hth_err *err);
int hth_verb_inspect(const struct hth_args *args, struct hth_err *err);
int hth_verb_tokenize(const struct hth_args *args, struct hth_err *err);
int hth_verb_detokenize(const struct hth_args *args, struct hth_err *err);
int hth_verb_template(const struct hth_args *args, struct hth_err *err);
int hth_verb_logits(const struct hth_args *args, struct hth_err *err);
int hth_verb_perplexity(const struct hth_args *args, struct hth_err *err);
int hth_verb_bench(const struct hth_args *args, struct hth_err *err);
int hth_verb_profile(const struct hth_args *args, struct hth_err *err);
int hth_verb_synth(const struct hth_args *args, struct hth_err *err);
int hth_verb_completion(const struct hth_args *args, struct hth_err *err);
int hth_verb_help(const struct hth_args *args, struct hth_err *err);
int hth_verb_version(const struct hth_args *args, struct hth_err *err);

#endif
