/* request_events.c - one request's events: made on the engine's thread from
 * tokens, taken by its client in batches. The list is bytes of encoded
 * events; what the client confirmed is cut off its front. */
#include <string.h>

#include "base/clock.h"
#include "coordinator/requests_internal.h"

/* ---- the list ------------------------------------------------------------ */

static void append(struct request *q, const struct hth_event *e)
{
    size_t before = q->events.len;

    if (q->ended || q->events.failed)
        return;
    hth_event_put(&q->events, e);
    if (q->events.failed) {
        q->events.len = before;
        q->overflow = true;
        return;
    }
    q->count++;
    q->ended = e->kind == HTH_EVENT_DONE || e->kind == HTH_EVENT_ERROR;
}

void hth__request_event(struct request *q, const struct hth_event *e)
{
    pthread_mutex_lock(&q->lock);
    append(q, e);
    pthread_mutex_unlock(&q->lock);
}

static struct hth_event text_event(uint8_t kind, const char *text)
{
    struct hth_event e = {.kind = kind};

    e.text = (struct hth_blob){(const uint8_t *)text,
                               strnlen(text, HTH_ERR_TEXT_MAX - 1)};
    return e;
}

/* An end must always fit: where the list is full, what the client did not
 * take gives way to it. */
static void append_end(struct request *q, const struct hth_event *e)
{
    if (q->ended)
        return;
    append(q, e);
    if (q->ended)
        return;
    q->first += q->count;
    q->count = 0;
    hth_buf_reset(&q->events);
    append(q, e);
}

void hth__request_error(struct request *q, int status, const char *text)
{
    struct hth_event e = text_event(HTH_EVENT_ERROR, text);

    e.status = status;
    pthread_mutex_lock(&q->lock);
    append_end(q, &e);
    pthread_mutex_unlock(&q->lock);
}

void hth__request_waiting(struct request *q, const char *text)
{
    struct hth_event e = text_event(HTH_EVENT_WAITING, text);

    hth__request_event(q, &e);
}

/* The byte length of the first n events. */
static size_t bytes_of(const struct request *q, uint64_t n)
{
    struct hth_cursor c;
    struct hth_event e;

    hth_cursor_init(&c, q->events.data, q->events.len);
    while (n > 0 && hth_event_next(&c, &e))
        n--;
    return c.pos;
}

/* How many events, from the front, one answer can carry; *bytes is theirs. */
static uint32_t batch(const struct request *q, size_t *bytes)
{
    struct hth_cursor c;
    struct hth_event e;
    uint32_t n = 0;

    *bytes = 0;
    hth_cursor_init(&c, q->events.data, q->events.len);
    while (hth_event_next(&c, &e) && c.pos <= HTH_EVENTS_BYTES_MAX) {
        *bytes = c.pos;
        n++;
    }
    return n;
}

/* Forget what came before number `from`. */
static void confirm(struct request *q, uint64_t from)
{
    uint64_t n = from > q->first ? from - q->first : 0;
    size_t cut;

    if (n > q->count)
        n = q->count;
    if (n == 0)
        return;
    cut = bytes_of(q, n);
    memmove(q->events.data, q->events.data + cut, q->events.len - cut);
    q->events.len -= cut;
    q->first += n;
    q->count -= (uint32_t)n;
}

bool hth__request_taken(struct request *q)
{
    bool taken;

    pthread_mutex_lock(&q->lock);
    taken = q->ended && q->count == 0;
    pthread_mutex_unlock(&q->lock);
    return taken;
}

void hth__request_answer(struct request *q, uint64_t now_ms)
{
    struct hth_msg m = {.type = HTH_MSG_EVENTS};
    struct hth_buf out;
    size_t bytes;

    if (q->call == NULL)
        return;
    hth_buf_init(&out, HTH_CONTROL_BYTES_MAX);
    pthread_mutex_lock(&q->lock);
    confirm(q, q->call_from);
    if (q->count == 0 && !q->ended && now_ms < q->call_until_ms) {
        pthread_mutex_unlock(&q->lock);
        return;
    }
    m.u.events.from = q->first;
    m.u.events.count = batch(q, &bytes);
    m.u.events.ended = q->ended && m.u.events.count == q->count;
    m.u.events.list = (struct hth_blob){q->events.data, bytes};
    hth_msg_encode(&out, &m);
    pthread_mutex_unlock(&q->lock);
    hth_control_reply(q->call, &out);
    q->call = NULL;
    hth_buf_fini(&out);
}

/* ---- text ---------------------------------------------------------------- */

/* Bytes of one token into what may be shown: whole characters, and nothing
 * that could still become a stop string. */
static void show(struct request *q)
{
    if (q->text.len > 0 && hth_stops_push(&q->stops, q->text.data, q->text.len,
                                          &q->shown) != HTH_STOPS_NONE)
        q->stopped = true;
    hth_buf_reset(&q->text);
}

/* ---- the engine's callbacks ---------------------------------------------- */

void hth__request_on_prefill(void *ctx, uint32_t done, uint32_t total)
{
    struct hth_event e = {
        .kind = HTH_EVENT_PROMPT, .done = done, .total = total};
    struct request *q = ctx;

    hth__request_event(q, &e);
    q->owner->wake(q->owner->arg);
}

/* Telling the client about every token of a fast stream costs more than the
 * token on a small machine: three threads wake on cores that compute. What is
 * not told now goes with the next one, or with the loop's tick. */
static void wake_for_token(struct request *q)
{
    uint64_t now_ns = hth_now_ns();

    if (now_ns - q->woken_ns < HTH_STREAM_PAUSE_MS * 1000000ull)
        return;
    q->woken_ns = now_ns;
    q->owner->wake(q->owner->arg);
}

bool hth__request_on_token(void *ctx, uint32_t id)
{
    struct hth_event e = {.kind = HTH_EVENT_TOKEN, .token = id};
    struct request *q = ctx;
    bool go;

    pthread_mutex_lock(&q->lock);
    hth_detok_push(&q->detok, q->owner->tokenizer, id, false, &q->text);
    show(q);
    e.text = (struct hth_blob){q->shown.data, q->shown.len};
    append(q, &e);
    hth_buf_reset(&q->shown);
    go = !q->stopped && !q->overflow;
    pthread_mutex_unlock(&q->lock);
    wake_for_token(q);
    return go;
}

static uint8_t finish_of(const struct request *q, int status,
                         const struct hth_request_stats *stats)
{
    if (status == HTH_ECANCELLED)
        return HTH_FINISH_CANCELLED;
    if (q->stopped)
        return HTH_FINISH_STOP;
    return stats->generated_tokens >= q->generate_max ? HTH_FINISH_LENGTH
                                                      : HTH_FINISH_END;
}

static void fill_weights(struct hth_event_stats *to,
                         const struct hth_request_stats *stats)
{
    to->pinned_bytes = stats->pinned_bytes;
    to->streamed_bytes = stats->streamed_bytes;
    to->read_bytes = stats->read_bytes;
    to->stall_s = (double)stats->stall_ns * 1e-9;
    to->disk_bytes_per_s = stats->disk_bytes_per_s;
    to->predicted_token_s = stats->predicted_token_s;
}

static void append_done(struct request *q, int status,
                        const struct hth_request_stats *stats)
{
    struct hth_event e = {.kind = HTH_EVENT_DONE};

    if (!q->stopped) {
        hth_detok_finish(&q->detok, &q->text);
        show(q);
        hth_stops_finish(&q->stops, &q->shown);
        e.text = (struct hth_blob){q->shown.data, q->shown.len};
    }
    e.finish = finish_of(q, status, stats);
    e.stats.prompt_tokens = stats->prompt_tokens;
    e.stats.generated_tokens = stats->generated_tokens;
    e.stats.wait_s = q->wait_s + (double)stats->queue_ns * 1e-9;
    e.stats.prompt_s = (double)stats->prefill_ns * 1e-9;
    e.stats.generate_s = (double)stats->decode_ns * 1e-9;
    e.stats.ranks = q->ranks;
    e.stats.prompt = stats->prompt;
    fill_weights(&e.stats, stats);
    append_end(q, &e);
}

void hth__request_on_end(void *ctx, int status, const struct hth_err *err,
                         const struct hth_request_stats *stats)
{
    struct request *q = ctx;
    struct hth_event e;
    bool done = status == HTH_OK || (status == HTH_ECANCELLED && q->cancelled);

    pthread_mutex_lock(&q->lock);
    if (q->overflow) {
        e = text_event(HTH_EVENT_ERROR,
                       "the client did not take its events in time");
        e.status = HTH_ELIMIT;
        append_end(q, &e);
    } else if (done) {
        append_done(q, status, stats);
    } else {
        e = text_event(HTH_EVENT_ERROR, err != NULL && err->text[0] != '\0'
                                            ? err->text
                                            : hth_status_text(status));
        e.status = status;
        append_end(q, &e);
    }
    q->over = true;
    pthread_mutex_unlock(&q->lock);
    q->owner->wake(q->owner->arg);
}
