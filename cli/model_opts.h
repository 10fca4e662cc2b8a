/* model_opts.h - options that several verbs turn into the same numbers. Pure.
 */
#ifndef HTH_CLI_MODEL_OPTS_H
#define HTH_CLI_MODEL_OPTS_H

#include "cli/options.h"
#include "net/message.h"
#include "net/star.h"

/* "1,2.5,0" into shares[HTH_RANKS_MAX], rank 0 first. HTH_EUSAGE: too many
 * ranks, or none with anything to do. */
HTH_MUST_CHECK int hth_parse_shares(const char *text, double *shares,
                                    size_t *ranks, struct hth_err *err);
enum hth_wire hth_wire_option(const struct hth_args *args);
/* HTH_F16, HTH_F32 or HTH_Q8_0 */
uint32_t hth_kv_option(const struct hth_args *args);
uint32_t hth_prefill_option(const struct hth_args *args); /* --prefill */
/* Set the log level by --log-level. */
void hth_log_option(const struct hth_args *args);
/* --state-dir, or the default for the role in dst[HTH_PATH_BYTES_MAX]. The
 * result is borrowed from args or dst. */
HTH_MUST_CHECK int hth_state_option(const struct hth_args *args,
                                    const char *role, char *dst,
                                    const char **out, struct hth_err *err);

/* --lora as a running coordinator knows adapters, by name, into g->lora.
 * HTH_EUSAGE: they take too many bytes. */
HTH_MUST_CHECK int hth_lora_names(const struct hth_args *args,
                                  struct hth_msg_submit *g,
                                  struct hth_err *err);

#endif
