/* prompt_json.h - how a prompt was computed, as JSON: the same in the answers
 * of the HTTP API and of `hearth run --json`. Any thread. */
#ifndef HTH_COORDINATOR_PROMPT_JSON_H
#define HTH_COORDINATOR_PROMPT_JSON_H

#include "base/cursor.h"
#include "net/message.h"

/* Bytes of it at most. */
#define HTH_PROMPT_JSON_BYTES_MAX (256u * (HTH_RANKS_MAX + 1))

/* "prefill":{"mode":...,"predicted_ms":...,"took_ms":...,"ranks":[...]}, with a
 * comma in front unless first in its object. Nothing where no part is known:
 * one device computes by itself. predicted_ms is null where the cost model was
 * not asked. */
void hth_put_prompt_stats(struct hth_buf *b, const struct hth_prompt_stats *s);

#endif
