/* api_serve.h - what the routes lead to: handlers that answer at once, and
 * the dialects of calls that generate. Loop thread. */
#ifndef HTH_COORDINATOR_API_SERVE_H
#define HTH_COORDINATOR_API_SERVE_H

#include "coordinator/api_internal.h"

extern const struct api_dialect hth__dialect_chat; /* api_openai.c */
extern const struct api_dialect hth__dialect_completions;
extern const struct api_dialect hth__dialect_embeddings;
extern const struct api_dialect hth__dialect_tokenize; /* api_metrics.c */
void hth__serve_metrics(struct hth_api *a, struct hth_http_exchange *x);

/* api_llama.c */
extern const struct api_dialect hth__dialect_detokenize;
extern const struct api_dialect hth__dialect_template;

extern const struct api_dialect hth__dialect_ollama_chat;
extern const struct api_dialect hth__dialect_ollama_generate;
extern const struct api_dialect hth__dialect_ollama_show;
extern const struct api_dialect hth__dialect_messages; /* api_anthropic.c */
extern const struct api_dialect hth__dialect_count;
extern const struct api_dialect hth__dialect_responses;

/* api_ollama.c */
void hth__serve_ollama_version(struct hth_api *a, struct hth_http_exchange *x);
void hth__serve_ollama_tags(struct hth_api *a, struct hth_http_exchange *x);
void hth__serve_ollama_ps(struct hth_api *a, struct hth_http_exchange *x);
void hth__serve_ollama_none(struct hth_api *a, struct hth_http_exchange *x);

/* api_openai.c: how hard to think, from a field's value. */
int hth__ask_effort(struct api_call *c, const json_t *v, const char *param);
/* api_openai.c: an error event, as all of OpenAI's clients read it. */
void hth__openai_fail(struct api_call *c, const struct api_fault *f);

/* api_lora.c */
void hth__serve_loras(struct hth_api *a, struct hth_http_exchange *x);
extern const struct api_dialect hth__dialect_lora_scales;
extern const struct api_dialect hth__dialect_lora_load;
extern const struct api_dialect hth__dialect_lora_unload;

/* api_llama.c */
void hth__serve_props(struct hth_api *a, struct hth_http_exchange *x);
void hth__serve_slots(struct hth_api *a, struct hth_http_exchange *x);

/* api_console.c */
void hth__serve_console(struct hth_api *a, struct hth_http_exchange *x);
void hth__serve_cluster(struct hth_api *a, struct hth_http_exchange *x);
void hth__serve_watch(struct hth_api *a, struct hth_http_exchange *x);
void hth__serve_plan(struct hth_api *a, struct hth_http_exchange *x);
void hth__serve_pair(struct hth_api *a, struct hth_http_exchange *x);

/* api_info.c */
double hth__model_params(const struct hth_api *a); /* numbers in the file */
void hth__serve_health(struct hth_api *a, struct hth_http_exchange *x);
void hth__serve_models(struct hth_api *a, struct hth_http_exchange *x);
void hth__serve_model(struct hth_api *a, struct hth_http_exchange *x);
void hth__serve_cancel(struct hth_api *a, struct hth_http_exchange *x);

#endif
