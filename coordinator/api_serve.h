/* api_serve.h - what the routes lead to: handlers that answer at once, and
 * the dialects of calls that generate. Loop thread. */
#ifndef HTH_COORDINATOR_API_SERVE_H
#define HTH_COORDINATOR_API_SERVE_H

#include "coordinator/api_internal.h"

extern const struct api_dialect hth__dialect_chat; /* api_openai.c */

/* api_info.c */
void hth__serve_health(struct hth_api *a, struct hth_http_exchange *x);
void hth__serve_models(struct hth_api *a, struct hth_http_exchange *x);
void hth__serve_model(struct hth_api *a, struct hth_http_exchange *x);
void hth__serve_cancel(struct hth_api *a, struct hth_http_exchange *x);

#endif
