/* requests.c - the table of requests and their passage through the states.
 * Only the loop thread changes a request's state; the engine tells by `over`,
 * the tokenizing thread by its work's completion. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/requests_internal.h"

#define GONE_GRACE_MS 2000u

static atomic_flag g_said = ATOMIC_FLAG_INIT; /* the template is missing */
#define SAY_EVERY_MS 1000u

struct hth_requests {
    struct hth_requests_opts o;
    struct request_owner owner;
    struct request v[HTH_REQUESTS_MAX];
    uint64_t next_id;
    struct hth_err stopped; /* status 0: taking requests */
};

int hth_requests_open(struct hth_requests **out,
                      const struct hth_requests_opts *opts, struct hth_err *err)
{
    struct hth_requests *r = calloc(1, sizeof *r);
    uint32_t i;

    if (r == NULL)
        return hth_fail(err, HTH_ENOMEM, "requests: out of memory");
    r->o = *opts;
    r->owner = (struct request_owner){opts->tokenizer, opts->chat, opts->wake,
                                      opts->arg};
    r->next_id = 1;
    for (i = 0; i < HTH_REQUESTS_MAX; i++) {
        r->v[i].owner = &r->owner;
        pthread_mutex_init(&r->v[i].lock, NULL);
    }
    *out = r;
    return HTH_OK;
}

static void release(struct request *q)
{
    if (q->call != NULL)
        hth_control_drop(q->call);
    q->call = NULL;
    hth_buf_fini(&q->memory);
    hth_buf_fini(&q->events);
    hth_buf_fini(&q->text);
    hth_buf_fini(&q->shown);
    hth_tokens_fini(&q->tokens);
    q->tokens = (struct hth_tokens){0};
    hth_grammar_close(q->grammar);
    q->grammar = NULL;
    q->state = REQUEST_FREE;
}

void hth_requests_close(struct hth_requests *r)
{
    uint32_t i;

    if (r == NULL)
        return;
    for (i = 0; i < HTH_REQUESTS_MAX; i++) {
        if (r->v[i].state != REQUEST_FREE)
            release(&r->v[i]);
        pthread_mutex_destroy(&r->v[i].lock);
    }
    free(r);
}

static struct request *find(struct hth_requests *r, uint64_t id)
{
    uint32_t i;

    for (i = 0; i < HTH_REQUESTS_MAX; i++)
        if (r->v[i].state != REQUEST_FREE && r->v[i].id == id)
            return &r->v[i];
    return NULL;
}

static struct request *find_key(struct hth_requests *r, uint64_t key)
{
    uint32_t i;

    for (i = 0; i < HTH_REQUESTS_MAX; i++)
        if (r->v[i].state != REQUEST_FREE && r->v[i].key == key)
            return &r->v[i];
    return NULL;
}

static struct request *find_free(struct hth_requests *r)
{
    uint32_t i;

    for (i = 0; i < HTH_REQUESTS_MAX; i++)
        if (r->v[i].state == REQUEST_FREE)
            return &r->v[i];
    return NULL;
}

/* ---- submission ---------------------------------------------------------- */

static int read_sampling(const struct hth_msg_submit *m, uint32_t vocab,
                         struct hth_sampling *s, struct hth_err *err)
{
    uint32_t i;

    hth_sampling_default(s);
    s->temperature = m->temperature;
    s->top_k = m->top_k;
    s->top_p = m->top_p;
    s->min_p = m->min_p;
    s->repeat_penalty = m->repeat_penalty;
    s->frequency_penalty = m->frequency_penalty;
    s->presence_penalty = m->presence_penalty;
    s->repeat_last_n = m->repeat_last_n;
    s->seed = m->seed;
    s->biases = m->bias_count;
    for (i = 0; i < m->bias_count; i++)
        s->bias[i] = (struct hth_bias){m->bias[i].id, m->bias[i].bias};
    return hth_sampling_check(s, vocab, err);
}

/* Copy what the message borrows, so that it can go. Offsets first, pointers
 * when the buffer has stopped moving. */
static int keep_texts(struct request *q, const struct hth_msg_submit *m,
                      struct hth_err *err)
{
    size_t at = 0;
    uint32_t i;

    hth_buf_init(&q->memory, HTH_CONTROL_BYTES_MAX);
    hth_put_bytes(&q->memory, m->text.p, m->text.n);
    hth_put_bytes(&q->memory, m->id_blob.p, m->id_blob.n);
    for (i = 0; i < m->stop_count; i++)
        hth_put_bytes(&q->memory, m->stop[i].p, m->stop[i].n);
    if (q->memory.failed)
        return hth_fail(err, HTH_ENOMEM, "request: out of memory");
    q->params = *m;
    q->params.text.p = q->memory.data;
    at += m->text.n;
    q->params.id_blob.p = q->memory.data + at;
    at += m->id_blob.n;
    for (i = 0; i < m->stop_count; i++) {
        q->params.stop[i].p = q->memory.data + at;
        at += m->stop[i].n;
    }
    return HTH_OK;
}

static int open_stops(struct request *q, struct hth_err *err)
{
    struct hth_str texts[HTH_STOPS_MAX];
    uint32_t i;

    for (i = 0; i < q->params.stop_count; i++)
        texts[i] = (struct hth_str){(const char *)q->params.stop[i].p,
                                    q->params.stop[i].n};
    return hth_stops_init(&q->stops, texts, q->params.stop_count, err);
}

static int push(struct hth_tokens *v, uint32_t id, struct hth_err *err)
{
    if (hth_tokens_push(v, id) != HTH_OK)
        return hth_fail(err, HTH_ENOMEM, "prompt: out of memory");
    return HTH_OK;
}

static int copy_ids(struct request *q, struct hth_err *err)
{
    uint32_t vocab = hth_tokenizer_vocab(q->owner->tokenizer);
    uint32_t i, id;
    int status = HTH_OK;

    for (i = 0; status == HTH_OK && i < q->params.id_count; i++) {
        id = hth_msg_submit_id_at(&q->params, i);
        status = id < vocab ? push(&q->tokens, id, err)
                            : hth_fail(err, HTH_EINVAL,
                                       "token %u is outside of the model's "
                                       "vocabulary of %u",
                                       id, vocab);
    }
    return status;
}

/* response_format as the API's: what the answer is held to. A kind that is not
 * known is refused, never left out. */
static int hold(struct request *q, const json_t *format, bool reasoning,
                struct hth_err *err)
{
    const char *type = json_string_value(json_object_get(format, "type"));

    if (format == NULL || (type != NULL && strcmp(type, "text") == 0))
        return HTH_OK;
    if (type == NULL || strcmp(type, "json_object") != 0)
        return hth_fail(err, HTH_EUNSUPPORTED,
                        "the conversation's response_format has a type that "
                        "is not supported; there are text and json_object");
    return hth_chat_open_schema(q->owner->chat, NULL, reasoning, &q->grammar,
                                err);
}

/* The text is JSON: an object with messages, and what may go with them. */
static int tokenize_chat(struct request *q, struct hth_err *err)
{
    json_t *o =
        json_loadb((const char *)q->params.text.p, q->params.text.n, 0, NULL);
    struct hth_chat_input in = {.messages = json_object_get(o, "messages"),
                                .kwargs = json_object_get(o, "kwargs"),
                                .generate = true};
    struct hth_chat_prompt p;
    int status;

    if (q->owner->chat == NULL || in.messages == NULL) {
        json_decref(o);
        return hth_fail(err, HTH_EINVAL, "the conversation has no messages");
    }
    if (hth_chat_problem(q->owner->chat)[0] != '\0' &&
        !atomic_flag_test_and_set(&g_said))
        hth_log(HTH_LOG_WARN, "TEMPLATE-FALLBACK",
                "ChatML is used in place of the model's chat template: %s",
                hth_chat_problem(q->owner->chat));
    hth_chat_prompt_init(&p);
    status = hth_chat_render(q->owner->chat, &in, &p, err);
    if (status == HTH_OK)
        status = hth_chat_tokenize(q->owner->tokenizer, &p, &q->tokens, err);
    if (status == HTH_OK)
        status =
            hold(q, json_object_get(o, "response_format"), p.reasoning, err);
    hth_chat_prompt_fini(&p);
    json_decref(o);
    return status;
}

static int tokenize(struct request *q, struct hth_err *err)
{
    const struct hth_tokenizer *t = q->owner->tokenizer;
    int status = HTH_OK;

    if (q->params.id_count > 0)
        return copy_ids(q, err);
    if (q->params.chat)
        return tokenize_chat(q, err);
    if (hth_tokenizer_adds_bos(t) && hth_tokenizer_bos(t) != HTH_TOKEN_NONE)
        status = push(&q->tokens, hth_tokenizer_bos(t), err);
    if (status == HTH_OK)
        status = hth_tokenize(
            t,
            (struct hth_str){(const char *)q->params.text.p, q->params.text.n},
            q->params.special, &q->tokens, err);
    if (status == HTH_OK && q->tokens.count == 0)
        status = hth_fail(err, HTH_EINVAL, "the prompt is empty");
    return status;
}

/* On a thread of libuv's pool: a long prompt takes a while. */
static void on_work(uv_work_t *work)
{
    struct request *q = work->data;
    struct hth_err err = {0};
    int status = tokenize(q, &err);

    q->work_err = err;
    q->work_err.status = status;
}

/* On the loop thread again. */
static void on_worked(uv_work_t *work, int uv_status)
{
    struct request *q = work->data;

    if (uv_status == UV_ECANCELED)
        q->work_err.status = HTH_ECANCELLED;
    q->state = REQUEST_WAITING;
    if (q->work_err.status != HTH_OK) {
        hth__request_error(q, q->work_err.status, q->work_err.text);
        q->state = REQUEST_ENDED;
    }
    q->owner->wake(q->owner->arg);
}

static int begin(struct hth_requests *r, struct request *q,
                 const struct hth_msg_submit *m, struct hth_err *err)
{
    uint32_t vocab = hth_tokenizer_vocab(r->o.tokenizer);
    int status;

    if ((status = read_sampling(m, vocab, &q->sampling, err)) != HTH_OK ||
        (status = keep_texts(q, m, err)) != HTH_OK ||
        (status = open_stops(q, err)) != HTH_OK)
        return status;
    hth_buf_init(&q->events, HTH_REQUEST_EVENTS_BYTES_MAX);
    hth_buf_init(&q->text, HTH_EVENT_TEXT_MAX);
    hth_buf_init(&q->shown, HTH_EVENT_TEXT_MAX);
    hth_detok_init(&q->detok, false);
    q->first = 0;
    q->count = 0;
    q->ended = q->overflow = q->stopped = q->over = false;
    atomic_store(&q->cancelled, false);
    q->work_err = (struct hth_err){0};
    q->work.data = q;
    if (uv_queue_work(r->o.loop, &q->work, on_work, on_worked) != 0)
        return hth_fail(err, HTH_ENOMEM, "request: cannot queue work");
    q->state = REQUEST_TOKENIZING;
    return HTH_OK;
}

int hth_requests_submit(struct hth_requests *r, const struct hth_msg_submit *m,
                        uint32_t pipe, uint64_t *id_out, struct hth_err *err)
{
    struct request *q = find_key(r, m->key);
    int status;

    if (q != NULL) {
        *id_out = q->id;
        return HTH_OK;
    }
    if (r->stopped.status != HTH_OK)
        return hth_fail(err, r->stopped.status, "%s", r->stopped.text);
    if (r->o.tokenizer == NULL)
        return hth_fail(err, HTH_EUNSUPPORTED,
                        "this model file has no tokenizer that hearth can "
                        "read, so it takes no prompts");
    q = find_free(r);
    if (q == NULL)
        return hth_fail(err, HTH_ELIMIT,
                        "%u requests are waiting already; try again later",
                        HTH_REQUESTS_MAX);
    if ((status = begin(r, q, m, err)) != HTH_OK) {
        release(q);
        return status;
    }
    q->id = r->next_id++;
    q->key = m->key;
    q->pipe = pipe;
    q->submitted_ms = q->polled_ms = hth_now_ms();
    q->said_ms = 0;
    *id_out = q->id;
    hth_log(HTH_LOG_INFO, "REQUEST-IN", "id=%llu bytes=%zu",
            (unsigned long long)q->id, m->text.n);
    return HTH_OK;
}

/* ---- events -------------------------------------------------------------- */

static void reply_error(struct hth_control_call *call, int status,
                        const char *text)
{
    struct hth_msg m = {.type = HTH_MSG_ERROR, .u.error.status = status};
    struct hth_buf b;

    snprintf(m.u.error.text, sizeof m.u.error.text, "%s", text);
    hth_buf_init(&b, 4096);
    hth_msg_encode(&b, &m);
    hth_control_reply(call, &b);
    hth_buf_fini(&b);
}

void hth_requests_poll(struct hth_requests *r, const struct hth_msg_poll *m,
                       struct hth_control_call *call)
{
    struct request *q = find(r, m->id);
    uint32_t wait_ms =
        m->wait_ms < HTH_POLL_MS_MAX ? m->wait_ms : HTH_POLL_MS_MAX;

    if (q == NULL) {
        reply_error(call, HTH_ENOTFOUND, "no such request (any more)");
        return;
    }
    if (q->call != NULL)
        hth_control_drop(q->call);
    q->polled_ms = hth_now_ms();
    q->pipe = hth_control_pipe(call);
    q->call = call;
    q->call_from = m->from;
    q->call_until_ms = q->polled_ms + wait_ms;
    hth__request_answer(q, q->polled_ms);
}

/* ---- passage ------------------------------------------------------------- */

/* Cancelling is the engine's business once it has the request; before that
 * the request just ends. */
static void cancel(struct hth_requests *r, struct request *q)
{
    struct hth_event e = {.kind = HTH_EVENT_DONE,
                          .finish = HTH_FINISH_CANCELLED};

    atomic_store(&q->cancelled, true);
    if (q->state == REQUEST_RUNNING)
        hth_engine_cancel(r->o.engine, q->engine_id);
    if (q->state == REQUEST_WAITING) {
        hth__request_event(q, &e);
        q->state = REQUEST_ENDED;
    }
}

void hth_requests_cancel(struct hth_requests *r, uint64_t id)
{
    struct request *q = find(r, id);

    if (q == NULL)
        return;
    if (q->state == REQUEST_ENDED) {
        release(q); /* its client says that it has everything */
        return;
    }
    cancel(r, q);
    r->o.wake(r->o.arg);
}

void hth_requests_gone(struct hth_requests *r, uint32_t pipe)
{
    uint64_t now = hth_now_ms();
    struct request *q;
    uint32_t i;

    for (i = 0; i < HTH_REQUESTS_MAX; i++) {
        q = &r->v[i];
        if (q->state != REQUEST_FREE && q->pipe == pipe)
            q->polled_ms = now - (HTH_REQUEST_ABANDONED_MS - GONE_GRACE_MS);
    }
}

static void end_with(struct request *q, int status, const char *text)
{
    hth__request_error(q, status, text);
    q->state = REQUEST_ENDED;
}

/* Its adapters: those it names, or those of every request. HTH_EBUSY: they are
 * on their way to the devices. */
static int choose(struct hth_requests *r, const struct request *q,
                  struct hth_request *e, struct hth_err *err)
{
    const char *text = q->params.lora;
    struct hth_lora_choice c = {0};
    int status = HTH_OK;

    if (r->o.loras == NULL && text[0] != '\0')
        return hth_fail(err, HTH_ENOTFOUND,
                        "the coordinator has no adapters; start it with --lora "
                        "or --lora-dir");
    if (r->o.loras != NULL)
        status = text[0] != '\0'
                     ? hth_loras_choose_text(r->o.loras, text, &c, err)
                     : hth_loras_default(r->o.loras, &c, err);
    e->loras = c.n;
    memcpy(e->lora, c.ask, sizeof e->lora);
    e->variant = c.variant;
    return status;
}

/* Hand a request to the engine. A prompt that leaves room for at least one
 * token runs; how many follow is cut to what the context holds. */
static void start(struct hth_requests *r, struct request *q, uint32_t ranks)
{
    struct hth_request e = {.tokens = q->tokens.ids,
                            .count = (uint32_t)q->tokens.count,
                            .ignore_end = q->params.ignore_end,
                            .reuse = !q->params.ignore_end,
                            .sampling = q->sampling,
                            .grammar = q->grammar,
                            .on_prefill = hth__request_on_prefill,
                            .on_token = hth__request_on_token,
                            .on_end = hth__request_on_end,
                            .ctx = q};
    struct hth_err err = {0};
    uint32_t room;
    int status = choose(r, q, &e, &err);

    if (status != HTH_OK) {
        if (status != HTH_EBUSY)
            end_with(q, status, err.text);
        return;
    }
    if (q->tokens.count >= r->o.ctx) {
        snprintf(err.text, sizeof err.text,
                 "the prompt has %zu tokens, the context holds %u (--ctx of "
                 "hearth serve)",
                 q->tokens.count, r->o.ctx);
        end_with(q, HTH_EOVERFLOW, err.text);
        return;
    }
    room = r->o.ctx - e.count;
    e.generate_max = q->params.tokens_max > 0 && q->params.tokens_max < room
                         ? q->params.tokens_max
                         : room;
    q->generate_max = e.generate_max;
    q->ranks = ranks;
    q->wait_s = (double)(hth_now_ms() - q->submitted_ms) / 1000.0;
    q->state = REQUEST_RUNNING;
    status = hth_engine_submit(r->o.engine, &e, &q->engine_id, &err);
    if (status == HTH_OK)
        return;
    q->state = REQUEST_WAITING;
    if (status != HTH_EUNREACHABLE && status != HTH_EBUSY)
        end_with(q, status, err.text);
}

static void wait_more(struct hth_requests *r, struct request *q,
                      const char *waiting, uint64_t now)
{
    char text[HTH_ERR_TEXT_MAX];

    if (now - q->submitted_ms >= r->o.wait_ms) {
        snprintf(text, sizeof text, "no answer within %u s: %s",
                 r->o.wait_ms / 1000, waiting);
        end_with(q, HTH_EUNREACHABLE, text);
        return;
    }
    if (q->said_ms != 0 && now - q->said_ms < SAY_EVERY_MS)
        return;
    q->said_ms = now;
    hth__request_waiting(q, waiting);
}

static bool is_over(struct request *q)
{
    bool over;

    pthread_mutex_lock(&q->lock);
    over = q->over;
    pthread_mutex_unlock(&q->lock);
    return over;
}

static void tick_one(struct hth_requests *r, struct request *q, uint64_t now,
                     const char *waiting)
{
    bool ready = waiting == NULL;

    if (q->state == REQUEST_WAITING && atomic_load(&q->cancelled))
        cancel(r, q);
    if (q->state == REQUEST_WAITING && ready)
        start(r, q, r->o.ranks != NULL ? *r->o.ranks : 1);
    else if (q->state == REQUEST_WAITING)
        wait_more(r, q, waiting, now);
    if (q->state == REQUEST_RUNNING && is_over(q))
        q->state = REQUEST_ENDED;
    hth__request_answer(q, now);
    if (q->call == NULL && now - q->polled_ms >= HTH_REQUEST_ABANDONED_MS) {
        if (!atomic_load(&q->cancelled) && q->state != REQUEST_ENDED) {
            hth_log(HTH_LOG_INFO, "REQUEST-ABANDONED",
                    "id=%llu: its client is gone", (unsigned long long)q->id);
            cancel(r, q);
        }
        if (q->state == REQUEST_ENDED)
            release(q);
    } else if (q->state == REQUEST_ENDED && hth__request_taken(q)) {
        release(q);
    }
}

void hth_requests_tick(struct hth_requests *r, bool ready, const char *waiting,
                       const struct hth_err *problem)
{
    uint64_t now = hth_now_ms();
    uint32_t i;

    for (i = 0; i < HTH_REQUESTS_MAX; i++) {
        if (r->v[i].state == REQUEST_FREE)
            continue;
        if (r->v[i].state == REQUEST_WAITING && !ready &&
            problem->status != HTH_OK)
            end_with(&r->v[i], problem->status, problem->text);
        tick_one(r, &r->v[i], now, ready ? NULL : waiting);
    }
}

void hth_requests_stop(struct hth_requests *r, const struct hth_err *why)
{
    struct request *q;
    uint32_t i;

    r->stopped = *why;
    for (i = 0; i < HTH_REQUESTS_MAX; i++) {
        q = &r->v[i];
        if (q->state == REQUEST_FREE)
            continue;
        hth__request_error(q, why->status, why->text);
        hth__request_answer(q, UINT64_MAX);
    }
}

uint32_t hth_requests_queued(const struct hth_requests *r)
{
    uint32_t i, n = 0;

    for (i = 0; i < HTH_REQUESTS_MAX; i++)
        n += r->v[i].state == REQUEST_WAITING ||
             r->v[i].state == REQUEST_TOKENIZING;
    return n;
}
