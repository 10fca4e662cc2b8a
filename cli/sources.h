/* sources.h - option values from the environment and the configuration file.
 * Part of options: only hth_args_parse() and its tests call these. Each fills
 * rows that nothing stronger has set, skips rows that belong on the command
 * line, and reports HTH_EUSAGE naming the variable or the file and line. */
#ifndef HTH_CLI_SOURCES_H
#define HTH_CLI_SOURCES_H

#include "cli/options.h"

/* environment: "NAME=value" strings, NULL-terminated, borrowed; or NULL. An
 * empty value counts as unset. */
HTH_MUST_CHECK int hth_sources_environment(struct hth_args *args,
                                           const char *const *environment,
                                           struct hth_err *err);
/* Read from->config_path (NULL: none) into args->config and take values from
 * it. */
HTH_MUST_CHECK int hth_sources_config(struct hth_args *args,
                                      const struct hth_opt_sources *from,
                                      struct hth_err *err);
/* The same from text, which is cut up in place and must outlive args. */
HTH_MUST_CHECK int hth_sources_config_text(struct hth_args *args, char *text,
                                           const char *path,
                                           struct hth_err *err);

#endif
