/* kept.h - which contexts are on disk: the tokens of each, and the key under
 * which every rank keeps its keys and values (worker/kv_file.h).
 *
 *   DIR/<key>.ctx   magic, version, count, fingerprint, [variant,] tokens,
 *                   SHA-256 of all that
 *
 * The fingerprint says for which model, plan, cache type and wire the ranks'
 * files are; contexts of another one stay on disk and are not looked at. A
 * files of version 2 have the variant (prefix.h), version 1 is of variant 0. A
 * damaged file is ignored with a line in the log. One thread. */
#ifndef HTH_COORDINATOR_KEPT_H
#define HTH_COORDINATOR_KEPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/limits.h"
#include "base/status.h"
#include "coordinator/prefix.h"

struct hth_kept;

/* Reads what is there; makes the folder if it is missing. */
HTH_MUST_CHECK int hth_kept_open(struct hth_kept **out, const char *dir,
                                 const uint8_t fingerprint[HTH_HASH_BYTES],
                                 struct hth_err *err);
void hth_kept_close(struct hth_kept *k); /* NULL is fine */

/* The context that has most in common with c from the start; returns
 * how many tokens that is, *key and *count are the context's. */
uint32_t hth_kept_match(const struct hth_kept *k, const struct hth_context *c,
                        uint64_t *key, uint32_t *count);
/* Its tokens, borrowed until the next change; NULL: unknown. */
const uint32_t *hth_kept_tokens(const struct hth_kept *k, uint64_t key);
uint64_t hth_kept_key(const struct hth_kept *k, const struct hth_context *c);
/* All ranks have it. Contexts that are a beginning of it are forgotten, and
 * the one added longest ago beyond HTH_KEPT_MAX. */
HTH_MUST_CHECK int hth_kept_add(struct hth_kept *k, const struct hth_context *c,
                                struct hth_err *err);
/* A rank could not read it. */
void hth_kept_forget(struct hth_kept *k, uint64_t key);

struct hth_kept_text {
    uint32_t *tokens; /* [count], allocated */
    uint32_t count;
    uint64_t variant;
};
/* The tokens of a context's file. For fuzzing, too. */
HTH_MUST_CHECK int hth_kept_decode(const uint8_t *p, size_t n,
                                   const uint8_t fingerprint[HTH_HASH_BYTES],
                                   struct hth_kept_text *out,
                                   struct hth_err *err);

#endif
