/* api_call.c - the life of a call: its body is read on a pool thread, its
 * generations are started, what they make is told in the call's dialect, and
 * whoever leaves has its work cancelled. A call is freed when its exchange is
 * answered and the engine holds nothing of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/api_internal.h"
#include "model/json_write.h"

#define OUT_BYTES_MAX (HTH_REQUEST_EVENTS_BYTES_MAX * 4u)
#define WHOLE_BYTES_MAX (16u << 20)
#define KEEP_ALIVE_MS 5000u
#define PROGRESS_MS 250u

/* ---- memory ---------------------------------------------------------------
 */

static void fini_choice(struct api_choice *ch)
{
    hth_generation_close(ch->generation);
    hth_chat_parser_close(ch->parser);
    hth_buf_fini(&ch->text);
    hth_buf_fini(&ch->reasoning);
    hth_buf_fini(&ch->tools);
    hth_buf_fini(&ch->logprobs);
}

void hth__api_call_free(struct api_call *c)
{
    uint32_t i;

    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        c->a->calls = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    for (i = 0; i < c->choices; i++)
        fini_choice(&c->choice[i]);
    for (i = 0; i < ASK_CHOICES_MAX; i++) {
        hth_tokens_fini(&c->prompt[i]);
        free(c->prompt_text[i]);
    }
    for (i = 0; i < HTH_STOPS_MAX; i++)
        free(c->stop_text[i]);
    hth_buf_fini(&c->out);
    hth_grammar_close(c->grammar);
    json_decref(c->body);
    free(c->ask);
    free(c->own);
    free(c->then);
    free(c);
}

/* ---- telling --------------------------------------------------------------
 */

static void flush(struct api_call *c)
{
    if (c->out.failed) {
        c->gone = true;
        c->out.failed = false;
    }
    if (c->out.len == 0)
        return;
    if (!c->gone)
        hth_http_write(c->x, c->out.data, c->out.len);
    hth_buf_reset(&c->out);
    c->told_ms = hth_now_ms();
}

/* Every generation has ended: the last words, and the end of the call. */
static void conclude(struct api_call *c)
{
    struct hth_http_exchange *x = c->x;

    hth__metrics_note(c);
    if (c->gone) {
        hth_http_end(x, true);
    } else if (c->fault.http != 0 && !c->streaming) {
        hth__api_reply_fault(x, c->d->shape, &c->fault);
    } else if (c->fault.http != 0) {
        c->d->fail(c, &c->fault);
        flush(c);
        hth_http_end(x, false);
    } else {
        c->d->end(c);
        if (c->streaming) {
            flush(c);
            hth_http_end(x, false);
        } else if (c->out.failed) {
            hth__api_fault(&c->fault, "internal_error", NULL,
                           "the answer grew beyond its bound");
            hth__api_reply_fault(x, c->d->shape, &c->fault);
        } else {
            hth_http_reply(x, 200, "application/json", c->out.data, c->out.len);
        }
    }
    hth__api_call_free(c);
}

static void cancel(struct api_call *c)
{
    uint32_t i;

    for (i = 0; i < c->choices; i++)
        if (c->choice[i].generation != NULL && !c->choice[i].ended)
            hth_generation_cancel(c->choice[i].generation);
}

static void on_gone(void *ctx)
{
    struct api_call *c = ctx;

    c->gone = true;
    cancel(c);
}

/* ---- pieces ---------------------------------------------------------------
 */

static void put_tool(struct hth_buf *b, const struct hth_chat_piece *p)
{
    hth_put_str(b, p->name.p, p->name.n);
    hth_put_str(b, p->text.p, p->text.n);
}

/* A stream tells; a whole answer collects. */
static void on_piece(void *ctx, const struct hth_chat_piece *p)
{
    struct api_choice *ch = ctx;
    struct api_call *c = ch->call;

    ch->reasons = p->part == HTH_CHAT_REASONING;
    if (p->part == HTH_CHAT_TOOL)
        ch->tool_calls++;
    if (c->streaming)
        c->d->piece(ch, p);
    else if (p->part == HTH_CHAT_TOOL)
        put_tool(&ch->tools, p);
    else
        hth_put_bytes(p->part == HTH_CHAT_REASONING ? &ch->reasoning
                                                    : &ch->text,
                      p->text.p, p->text.n);
}

static void push_text(struct api_choice *ch, const char *text, size_t n)
{
    struct hth_chat_piece p = {.part = HTH_CHAT_CONTENT, .text = {text, n}};

    if (ch->parser == NULL)
        on_piece(ch, &p);
    else if (hth_chat_parser_push(ch->parser, text, n) != HTH_OK &&
             ch->call->fault.http == 0) {
        hth__api_fault(&ch->call->fault, "internal_error", NULL,
                       "a tool call grew beyond its bound");
        cancel(ch->call);
    }
}

static void end_choice(struct api_choice *ch,
                       const struct hth_generation_news *n)
{
    struct api_call *c = ch->call;

    ch->ended = true;
    ch->end = n->end;
    ch->stop = n->stop;
    ch->stats = n->stats;
    ch->embedding = n->embedding;
    c->ended++;
    if (n->end == HTH_END_FAILED ||
        (n->end == HTH_END_CANCELLED && c->fault.http == 0)) {
        if (c->fault.http == 0)
            hth__api_fault_from(&c->fault, n->err.status, n->err.text);
        cancel(c);
        return;
    }
    if (c->gone || c->fault.http != 0)
        return;
    if (ch->parser != NULL)
        hth_chat_parser_finish(ch->parser);
    if (c->streaming)
        c->d->choice_end(ch);
}

static void take(struct api_choice *ch)
{
    struct api_call *c = ch->call;
    struct hth_generation_news n;

    if (ch->generation == NULL || ch->ended ||
        !hth_generation_take(ch->generation, &n))
        return;
    ch->tokens += n.tokens;
    c->prefill_done = n.prefill_done;
    c->prefill_total = n.prefill_total;
    if (n.tokens > 0 && c->first_ns == 0)
        c->first_ns = hth_now_ns();
    if (!c->gone && c->fault.http == 0) {
        if (n.token_count > 0)
            hth__put_logprobs(ch, &n);
        if (n.text_bytes > 0)
            push_text(ch, n.text, n.text_bytes);
    }
    /* Tokens of the marks around it are counted with it. */
    ch->reasoning_tokens += ch->reasons ? n.tokens : 0;
    if (n.end != HTH_END_NONE)
        end_choice(ch, &n);
}

static void take_call(struct api_call *c)
{
    uint32_t i;

    if (c->working)
        return;
    for (i = 0; i < c->choices; i++)
        take(&c->choice[i]);
    if (c->streaming)
        flush(c);
    if (c->ended == c->choices)
        conclude(c);
}

void hth__api_calls_take(struct hth_api *a)
{
    struct api_call *c, *next;

    for (c = a->calls; c != NULL; c = next) {
        next = c->next;
        take_call(c);
    }
}

/* ---- keep-alive -----------------------------------------------------------
 */

static bool is_sse(const struct api_call *c)
{
    return c->streaming && strcmp(c->d->stream_type, "text/event-stream") == 0;
}

/* Comments are skipped by every client, keep the way open and show how far
 * the prompt is. */
static void tick_call(struct api_call *c, uint64_t now_ms)
{
    if (!is_sse(c) || c->working || c->gone)
        return;
    if (c->first_ns == 0 && c->prefill_done > 0 &&
        c->prefill_done < c->prefill_total &&
        now_ms - c->progress_ms >= PROGRESS_MS) {
        c->progress_ms = now_ms;
        hth_put_printf(&c->out,
                       ": prefill_progress {\"done\":%u,\"total\":%u}\n\n",
                       c->prefill_done, c->prefill_total);
    } else if (now_ms - c->told_ms >= KEEP_ALIVE_MS) {
        hth_put_printf(&c->out, ": keep-alive\n\n");
    }
    flush(c);
}

void hth__api_calls_tick(struct hth_api *a, uint64_t now_ms)
{
    struct api_call *c;

    for (c = a->calls; c != NULL; c = c->next)
        tick_call(c, now_ms);
}

bool hth__api_cancel(struct hth_api *a, const char *id)
{
    struct api_call *c;
    bool found = false;

    for (c = a->calls; c != NULL; c = c->next)
        if (strcmp(c->id, id) == 0 || strcmp(hth_http_id(c->x), id) == 0) {
            if (c->fault.http == 0)
                hth__api_fault(&c->fault, "cluster_degraded", NULL,
                               "the request was cancelled by its id");
            cancel(c);
            found = true;
        }
    return found;
}

/* ---- starting -------------------------------------------------------------
 */

static void on_wake(void *arg)
{
    hth_api_delivered(arg);
}

static int open_parser(struct api_choice *ch)
{
    const struct api_call *c = ch->call;
    struct hth_chat_parser_opts o = {.tools = c->ask->tools != NULL,
                                     .reasoning = c->reasoning,
                                     .split_reasoning = c->ask->split_reasoning,
                                     .sink = on_piece,
                                     .ctx = ch};

    return c->d->chat ? hth_chat_parser_open(&ch->parser, c->a->chat, &o)
                      : HTH_OK;
}

static void fill_request(const struct api_call *c, uint32_t i,
                         struct hth_request *r)
{
    const struct api_ask *a = c->ask;
    const struct hth_tokens *prompt = &c->prompt[i / a->n];
    uint32_t room = c->a->o.ctx - (uint32_t)prompt->count;

    memset(r, 0, sizeof *r);
    r->tokens = prompt->ids;
    r->count = (uint32_t)prompt->count;
    r->generate_max = a->tokens_max < room ? a->tokens_max : room;
    r->ignore_end = a->ignore_end;
    r->reuse = a->reuse;
    r->sampling = a->sampling;
    r->sampling.seed = a->sampling.seed + i % a->n;
    r->logprobs = a->logprobs;
    r->grammar = c->grammar;
    r->client = c->client;
    r->priority = a->priority;
    r->loras = a->lora.n;
    memcpy(r->lora, a->lora.ask, sizeof r->lora);
    r->variant = a->lora.variant;
    r->deadline_ms = c->a->o.timeout_ms;
    if (c->d->embed)
        r->generate_max = 0;
}

static int start_choice(struct api_call *c, uint32_t i, struct hth_request *r,
                        struct hth_err *err)
{
    struct api_choice *ch = &c->choice[i];
    struct hth_generation_opts o = {.engine = c->a->o.engine,
                                    .tokenizer = c->a->o.tokenizer,
                                    .request = r,
                                    .stops = c->ask->stop,
                                    .stop_count = c->ask->stop_count,
                                    .special = c->d->chat,
                                    .at_start = c->d->chat,
                                    .embed =
                                        c->d->embed ? c->a->o.spec->dim : 0,
                                    .wake = on_wake,
                                    .arg = c->a};
    int status;

    ch->call = c;
    ch->index = i;
    ch->stop = HTH_STOPS_NONE;
    ch->part = -1;
    ch->reasons = c->reasoning && c->ask->split_reasoning;
    hth_buf_init(&ch->text, WHOLE_BYTES_MAX);
    hth_buf_init(&ch->reasoning, WHOLE_BYTES_MAX);
    hth_buf_init(&ch->tools, WHOLE_BYTES_MAX);
    hth_buf_init(&ch->logprobs, WHOLE_BYTES_MAX);
    fill_request(c, i, r);
    status = open_parser(ch);
    return status == HTH_OK ? hth_generation_start(&ch->generation, &o, err)
                            : status;
}

/* All or nothing: where one of several is refused the others are cancelled,
 * and the refusal is the answer. */
static void start(struct api_call *c)
{
    struct hth_request *r = malloc(sizeof *r);
    uint32_t total = c->prompts * c->ask->n;
    struct hth_err err = {.status = HTH_ENOMEM};
    int status = r != NULL ? HTH_OK : HTH_ENOMEM;

    while (status == HTH_OK && c->choices < total) {
        status = start_choice(c, c->choices, r, &err);
        c->choices++;
    }
    free(r);
    if (status == HTH_OK)
        return;
    if (c->choices > 0) { /* the one that was refused holds nothing */
        c->choices--;
        fini_choice(&c->choice[c->choices]);
    }
    hth__api_fault_from(&c->fault, status, err.text);
    cancel(c);
}

static void admit(struct api_call *c)
{
    char waiting[HTH_ERR_TEXT_MAX];

    if (!c->d->embed)
        c->then = hth__api_devices(c->a); /* before it runs */
    pthread_mutex_lock(&c->a->gate);
    if (c->a->closing)
        hth__api_fault(&c->fault, "cluster_degraded", NULL,
                       "the coordinator is stopping");
    else if (!c->a->o.cluster.ready(c->a->o.cluster.ctx, &c->plan, waiting,
                                    sizeof waiting))
        hth__api_fault(&c->fault, "cluster_degraded", NULL, "not ready: %s",
                       waiting);
    else
        start(c);
    pthread_mutex_unlock(&c->a->gate);
    json_decref(c->body); /* everything is copied; it may be large */
    c->body = NULL;
    if (c->fault.http != 0 || !c->streaming)
        return;
    hth_http_add(c->x, "Cache-Control", "no-cache");
    hth_http_add(c->x, "X-Accel-Buffering", "no");
    hth_http_start(c->x, 200, c->d->stream_type);
    c->told_ms = hth_now_ms();
    if (c->d->begin != NULL)
        c->d->begin(c);
}

/* ---- reading --------------------------------------------------------------
 */

int hth__api_call_read(struct api_call *c, const char *text, size_t n)
{
    json_error_t why;

    c->body = json_loadb(text, n, 0, &why);
    if (c->body == NULL)
        return hth__api_fault(&c->fault, "invalid_json", NULL,
                              "the body is no JSON: %s (line %d, column %d)",
                              why.text, why.line, why.column);
    if (!json_is_object(c->body) && !c->d->list)
        return hth__api_fault(&c->fault, "invalid_json", NULL,
                              "the body must be a JSON object");
    if (c->d->fields != NULL && hth__ask_fields(c, c->body, c->d->fields) != 0)
        return -1;
    if (c->d->read(c) != 0 || (!c->d->instant && hth__ask_adapters(c) != 0))
        HTH_ASSERT(c->fault.http != 0);
    return c->fault.http != 0 ? -1 : 0;
}

static void default_ask(struct api_call *c)
{
    struct api_ask *a = c->ask;

    hth_sampling_default(&a->sampling);
    a->sampling.seed = hth_rng_u64(&c->a->rng);
    a->n = 1;
    a->tokens_max = ASK_TOKENS_UNSET;
    a->reuse = true;
    a->many_tools = true;
    a->split_reasoning = true;
}

static void on_work(uv_work_t *work)
{
    struct api_call *c = work->data;

    const char *text;
    size_t n;

    text = hth_http_body(c->x, &n);
    (void)hth__api_call_read(c, text, n);
}

static void on_worked(uv_work_t *work, int status)
{
    struct api_call *c = work->data;

    c->working = false;
    if (status != 0 && c->fault.http == 0)
        hth__api_fault(&c->fault, "internal_error", NULL, "cancelled");
    if (c->fault.http == 0 && !c->gone) {
        c->streaming = c->ask->stream && !c->d->instant;
        if (!c->d->instant)
            admit(c);
        if (c->fault.http != 0)
            c->streaming = false;
    }
    take_call(c);
}

/* FNV-1a; that two clients fall on one number only makes them share turns. */
static uint64_t client_of(const struct hth_http_exchange *x)
{
    const char *key = hth_http_header(x, "authorization");
    uint64_t h = 0xcbf29ce484222325u;

    if (key == NULL)
        key = hth_http_header(x, "x-api-key");
    for (key = key != NULL ? key : hth_http_peer(x); *key != '\0'; key++)
        h = (h ^ (unsigned char)*key) * 0x100000001b3u;
    return h;
}

struct api_call *hth__api_call_new(struct hth_api *a,
                                   const struct api_dialect *d)
{
    struct api_call *c = calloc(1, sizeof *c);

    if (c != NULL)
        c->ask = calloc(1, sizeof *c->ask);
    if (c == NULL || c->ask == NULL) {
        free(c);
        return NULL;
    }
    c->a = a;
    c->d = d;
    c->next = a->calls;
    if (c->next != NULL)
        c->next->prev = c;
    a->calls = c;
    hth_buf_init(&c->out, OUT_BYTES_MAX);
    snprintf(c->id, sizeof c->id, "%s%016llx", d->id_prefix,
             (unsigned long long)hth_rng_u64(&a->rng));
    c->created_s = (int64_t)time(NULL);
    c->begun_ns = hth_now_ns();
    c->work.data = c;
    default_ask(c);
    return c;
}

void hth__api_call(struct hth_api *a, struct hth_http_exchange *x,
                   const struct api_dialect *d)
{
    struct api_call *c = hth__api_call_new(a, d);
    struct api_fault f;

    if (c == NULL) {
        hth__api_fault(&f, "internal_error", NULL, "out of memory");
        hth__api_reply_fault(x, d->shape, &f);
        return;
    }
    c->x = x;
    c->client = client_of(x);
    c->working = true;
    hth_http_on_gone(x, on_gone, c);
    if (uv_queue_work(hth_http_loop(a->http), &c->work, on_work, on_worked) !=
        0) {
        c->working = false;
        hth__api_fault(&c->fault, "internal_error", NULL, "cannot queue work");
        take_call(c);
    }
}
