/* api_internal.h - what the API's parts share: routes, faults, asks, calls.
 *
 * An ask is what every dialect's body comes down to. A call is an ask on its
 * way: read on a pool thread, submitted, answered piece by piece in its
 * dialect. Everything but `read` runs on the HTTP loop's thread. */
#ifndef HTH_COORDINATOR_API_INTERNAL_H
#define HTH_COORDINATOR_API_INTERNAL_H

#include <jansson.h>

#include "base/rng.h"
#include "coordinator/prompt_json.h"
#include "coordinator/api.h"
#include "coordinator/generation.h"
#include "coordinator/http.h"
#include "coordinator/loras.h"

/* ---- faults ---------------------------------------------------------------
 */

enum api_shape { SHAPE_OPENAI, SHAPE_OLLAMA, SHAPE_ANTHROPIC };

struct api_fault {
    int http;         /* 0: none */
    const char *code; /* static; its row in api_fault.c has type and status */
    char param[64];   /* field, or "" */
    char text[HTH_ERR_TEXT_MAX];
};

/* Fill *f; returns -1. code: one of the table in api_fault.c. param NULL:
 * none. */
int hth__api_fault(struct api_fault *f, const char *code, const char *param,
                   const char *fmt, ...) HTH_PRINTF(4, 5);
/* From a status of ours. */
int hth__api_fault_from(struct api_fault *f, int status, const char *text);
/* The JSON of a fault in a dialect's shape. */
void hth__api_put_fault(struct hth_buf *b, enum api_shape shape,
                        const struct api_fault *f);
void hth__api_reply_fault(struct hth_http_exchange *x, enum api_shape shape,
                          const struct api_fault *f);
/* A JSON answer; fini's b. */
void hth__api_reply_json(struct hth_http_exchange *x, struct hth_buf *b);

/* ---- asks -----------------------------------------------------------------
 */

#define ASK_CHOICES_MAX 64u
#define ASK_TOKENS_UNSET UINT32_MAX

enum ask_tools { TOOLS_AUTO, TOOLS_NONE, TOOLS_REQUIRED, TOOLS_ONE };

struct api_ask {
    struct hth_sampling sampling;
    uint32_t n, tokens_max, logprobs; /* logprobs: as hth_request's */
    bool stream, include_usage, ignore_end, echo, cap_tokens;
    bool each_usage, each_timings; /* on every chunk of a stream */
    bool reuse;                    /* of cached prompts */
    bool special; /* control tokens in prompt texts are meant */
    struct hth_str stop[HTH_STOPS_MAX];
    uint32_t stop_count;
    /* Of the body, borrowed from the call's json. */
    const json_t *messages, *tools, *kwargs, *prompt, *schema, *suffix;
    const char *prompt_name, *format_name; /* their fields, for faults */
    bool constrained; /* to schema (NULL: any object) or grammar */
    const char *grammar;
    enum ask_tools tool_choice;
    const char *tool_name;
    bool by_model; /* the model named is model_lora */
    struct hth_lora_ask model_lora;
    struct hth_lora_choice lora;
    bool many_tools, split_reasoning;
    int32_t priority;
};

/* ---- fields ---------------------------------------------------------------
 */

enum api_use {
    USE_TAKEN,  /* an endpoint's reader looks at it */
    USE_PASSED, /* harmless here: not looked at */
    USE_REFUSED /* would change the answer: 400 with its name */
};

struct api_field {
    const char *name; /* NULL: the end of a list */
    enum api_use use;
    const char *neutral; /* a value that is not refused, besides null, false
                          * and what is empty; NULL: none */
};

/* The fields of one endpoint's body (api_fields.c). */
struct api_fields {
    const struct api_field *const *list;
    uint32_t count;
};

extern const struct api_fields hth__fields_chat, hth__fields_completions,
    hth__fields_embeddings, hth__fields_responses, hth__fields_messages,
    hth__fields_ollama_chat, hth__fields_ollama_generate,
    hth__fields_ollama_options, hth__fields_show, hth__fields_tokenize,
    hth__fields_detokenize, hth__fields_template, hth__fields_lora;

/* Names of unknown fields that the log has told, once each. */
#define API_STRANGE_MAX 64u
#define API_STRANGE_BYTES 48u

struct api_strange {
    pthread_mutex_t lock;
    uint32_t count;
    char name[API_STRANGE_MAX][API_STRANGE_BYTES];
};

/* ---- calls ----------------------------------------------------------------
 */

struct api_call;

struct api_choice {
    struct api_call *call;
    uint32_t index;
    struct hth_generation *generation; /* NULL: never began, or closed */
    struct hth_chat_parser *parser;    /* chat only */
    uint32_t tokens, tool_calls;
    uint32_t reasoning_tokens; /* of tokens, told while it reasoned */
    bool reasons;              /* the last piece was reasoning */
    bool begun, ended;
    enum hth_generation_end end;
    int stop; /* index into the ask's, or -1 */
    struct hth_request_stats stats;
    int part;        /* streams: enum hth_chat_part of the open block, or -1 */
    uint32_t items;  /* streams: blocks begun */
    uint32_t offset; /* completions: characters of the tokens told */
    const float *embedding; /* [dim], where asked for; with the end */
    struct hth_buf text, reasoning, tools; /* of a whole answer */
    struct hth_buf logprobs;               /* JSON entries, not yet told */
};

/* How a dialect speaks. `out` of the call collects what is sent after each
 * callback. */
struct api_dialect {
    enum api_shape shape;
    const char *stream_type; /* content type of a stream */
    const char *id_prefix;
    bool chat;    /* answers are split into content, reasoning and tool calls */
    bool instant; /* nothing is generated: read and end are all */
    bool list;    /* the body is a list, not an object */
    bool embed;   /* hidden states instead of tokens */
    const struct api_fields *fields; /* NULL: the body is no object */
    /* Pool thread: body to ask and prompts. -1 with the call's fault. */
    int (*read)(struct api_call *c);
    /* Streams: admitted, headers are out. May be NULL. */
    void (*begin)(struct api_call *c);
    /* Streams only; whole answers are collected in the choice. */
    void (*piece)(struct api_choice *ch, const struct hth_chat_piece *p);
    void (*choice_end)(struct api_choice *ch);
    /* Everything ended well: the end of the stream, or the whole answer. */
    void (*end)(struct api_call *c);
    /* A stream that fails in the middle. */
    void (*fail)(struct api_call *c, const struct api_fault *f);
};

struct api_call {
    struct hth_api *a;
    struct hth_http_exchange *x;
    const struct api_dialect *d;
    struct api_call *prev, *next;
    uv_work_t work;
    json_t *body;
    struct api_ask *ask;
    struct api_fault fault;
    /* One prompt per group of ask->n choices. */
    struct hth_tokens prompt[ASK_CHOICES_MAX];
    char *prompt_text[ASK_CHOICES_MAX]; /* with echo; owned */
    uint32_t prompts;
    char *stop_text[HTH_STOPS_MAX]; /* owned; the ask's stops */
    bool reasoning;                 /* the answer begins inside its reasoning */
    struct hth_grammar *grammar;    /* or NULL */
    struct api_choice choice[ASK_CHOICES_MAX];
    uint32_t choices, ended;
    struct hth_buf out;
    char id[48];
    int64_t created_s;
    uint64_t begun_ns, first_ns, told_ms, progress_ms;
    uint32_t prefill_done, prefill_total;
    uint32_t sequence; /* of events, where a dialect counts them */
    uint64_t plan;
    uint64_t client; /* for turns in the queue: its key, or its address */
    bool gone, streaming, working;
    struct api_devices *then; /* the devices' times when it was admitted */
    void *own;                /* a dialect's, free()d with the call */
};

/* api_call.c: a call without an exchange, for reading a body into it; `read`
 * is what the pool's thread does. */
struct api_call *hth__api_call_new(struct hth_api *a,
                                   const struct api_dialect *d);
int hth__api_call_read(struct api_call *c, const char *text, size_t n);
void hth__api_call_free(struct api_call *c);
/* api_call.c: begin a call for this exchange; takes it. */
void hth__api_call(struct hth_api *a, struct hth_http_exchange *x,
                   const struct api_dialect *d);
/* Deliver what the engine did. */
void hth__api_calls_take(struct hth_api *a);
void hth__api_calls_tick(struct hth_api *a, uint64_t now_ms);
/* Cancel by request id; false: none has it. */
bool hth__api_cancel(struct hth_api *a, const char *id);
uint32_t hth__api_prompt_tokens(const struct api_call *c);
uint32_t hth__api_cached_tokens(const struct api_call *c);
uint32_t hth__api_reasoning_tokens(const struct api_call *c);
uint32_t hth__api_answer_tokens(const struct api_call *c);
/* Append one server-sent event to out; name NULL: only data. */
void hth__api_event(struct api_call *c, const char *name,
                    const struct hth_buf *json);

/* api_ask.c: fields that several dialects share, from an object. -1 with the
 * call's fault. */
int hth__ask_sampling(struct api_call *c, const json_t *o);
int hth__ask_model(struct api_call *c, const json_t *o);
int hth__ask_stops(struct api_call *c, const json_t *v, const char *param);
int hth__ask_fields(struct api_call *c, const json_t *o,
                    const struct api_fields *f); /* api_fields.c */
int hth__ask_bool(struct api_call *c, const json_t *o, const char *name,
                  bool *out);
int hth__ask_u32(struct api_call *c, const json_t *o, const char *name,
                 uint32_t *out);
int hth__ask_max(struct api_call *c, const json_t *o, const char *const *names);
int hth__ask_logprobs(struct api_call *c, const json_t *o);
int hth__ask_format(struct api_call *c, const json_t *v, const char *param);
int hth__ask_grammar(struct api_call *c, const json_t *o);
/* A variable of the template, unless the request set it itself; takes v. */
int hth__ask_variable(struct api_call *c, const char *name, json_t *v);
/* The member must be an object; NULL in *out: missing or null. */
int hth__ask_object(struct api_call *c, const json_t *o, const char *name,
                    const json_t **out);
int hth__ask_stream(struct api_call *c);  /* stream, stream_options */
int hth__ask_choices(struct api_call *c); /* n */
int hth__ask_tools(struct api_call *c, const json_t *o);
/* api_lora.c: does the name mean an adapter (ADAPTER or MODEL:ADAPTER), which
 * the ask then has; then, once all is read: which adapters it gets. */
bool hth__ask_adapter_model(struct api_call *c, const char *model);
int hth__ask_adapters(struct api_call *c);

/* api_prompt.c: the ask's messages or prompt into tokens, its constraint into
 * a grammar, and everything against the context. */
int hth__prompt_chat(struct api_call *c);
int hth__prompt_text(struct api_call *c);

/* api_put.c: JSON that several dialects share. */
void hth__put_usage(struct hth_buf *b, const struct api_call *c);
void hth__put_timings(struct hth_buf *b, const struct api_call *c);
/* Both as far as the call is, where each chunk is to have them. */
void hth__put_progress(struct hth_buf *b, const struct api_call *c);
/* {"content": entries, "refusal": null}, or null; the entries are told then. */
void hth__put_chat_logprobs(struct hth_buf *b, struct api_choice *ch);
void hth__put_logprobs(struct api_choice *ch,
                       const struct hth_generation_news *n);
/* api_devices.c: what every device did since c->then, for "cluster". */
#define API_DEVICES_JSON_MAX 32768u
struct api_devices *hth__api_devices(struct hth_api *a); /* free() it */
void hth__put_devices(struct hth_buf *b, const struct api_call *c);
void hth__put_fingerprint(struct hth_buf *b, const struct api_call *c);
const char *hth__finish_reason(const struct api_choice *ch);

/* ---- metrics --------------------------------------------------------------
 */

#define API_BUCKETS 20u

struct api_histogram {
    uint64_t count[API_BUCKETS + 1];
    double sum;
};

enum api_finish {
    FINISH_STOP,
    FINISH_LENGTH,
    FINISH_TOOLS,
    FINISH_CANCELLED, /* from here on no times are kept */
    FINISH_REFUSED,
    FINISH_ERROR,
    FINISH_COUNT
};

/* What devices count anew with every session, added up over sessions. */
#define API_NODE_COUNTS 7u

struct api_node_counts {
    char device[HTH_DEVICE_ID_SIZE];
    uint64_t last[API_NODE_COUNTS], before[API_NODE_COUNTS];
};

struct api_metrics {
    uint64_t requests[FINISH_COUNT];
    struct api_histogram first, token, whole, queue;
    struct api_node_counts node[HTH_DEVICES_MAX];
    uint32_t nodes;
};

/* api_metrics.c: a call is over. */
void hth__metrics_note(struct api_call *c);

/* ---- the API ---------------------------------------------------------------
 */

struct api_route {
    const char *method, *path; /* a path that ends with * is a beginning */
    enum api_shape shape;
    bool open; /* no key needed */
    void (*serve)(struct hth_api *a, struct hth_http_exchange *x);
    const struct api_dialect *dialect; /* instead of serve */
};

/* A page that is told of the cluster each second; x NULL: none. */
struct api_watch {
    struct hth_http_exchange *x;
};

/* Tokens per second, over the second before told_ms. */
struct api_rate {
    uint64_t told_ms;
    struct hth_engine_totals told;
    double decode, prefill;
};

struct hth_api {
    struct hth_api_opts o;
    struct hth_http *http;
    struct hth_chat *chat;
    struct api_call *calls;
    struct hth_rng rng;
    struct api_metrics metrics;
    struct api_strange strange;
    pthread_mutex_t gate; /* guards closing; held while the engine is given a
                             generation */
    bool closing;
    int64_t started_s;
    uint64_t started_ms;
    struct api_watch watch[HTH_WATCHES_MAX];
    struct api_rate rate;
};

/* api_console.c */
void hth__api_watches_tick(struct hth_api *a, uint64_t now_ms);

const struct api_route *hth__api_routes(uint32_t *count);

#endif
