/* log.h - one line, one event.
 *
 *   2026-01-02T03:04:05.678Z N coordinator PEER-LOST peer=2: no heartbeat...
 *
 * Levels: E error, W warning, N notice (state transitions only), I info,
 * D debug. The id is stable upper-case text for grep; details follow as
 * key=value with units, then a sentence. Goes to stderr unless a sink is set.
 * Thread-safe; a line is written whole. Never log prompts, keys or tensors.
 * kernels/ and scheduler/ do not log. */
#ifndef HTH_BASE_LOG_H
#define HTH_BASE_LOG_H

#include "base/status.h"

enum hth_log_level {
    HTH_LOG_ERROR,
    HTH_LOG_WARN,
    HTH_LOG_NOTICE,
    HTH_LOG_INFO,
    HTH_LOG_DEBUG
};

typedef void (*hth_log_sink)(void *ctx, enum hth_log_level level,
                             const char *line);

void hth_log_set_role(const char *role); /* "coordinator", "worker/desk" */
void hth_log_set_level(enum hth_log_level level); /* default NOTICE */
int hth_log_level_parse(const char *text, enum hth_log_level *out);
/* NULL sink restores stderr. The sink may be called from any thread. */
void hth_log_set_sink(hth_log_sink sink, void *ctx);

void hth_log(enum hth_log_level level, const char *id, const char *fmt, ...)
    HTH_PRINTF(3, 4);

#endif
