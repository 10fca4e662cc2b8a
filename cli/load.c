/* load.c - the requests: when they begin, their connections, what comes back.
 * A request that fails is counted and the run goes on. */
#include "cli/load.h"

#include <http_parser.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/clock.h"
#include "base/rng.h"
#include "cli/signals.h"
#include "cli/sse.h"

#define BODY_BYTES_MAX (16u << 20)
#define READ_BYTES 65536u
#define LOOK_MS 100u
#define SAFE_VOCAB 256u /* ids that every vocabulary has */

struct load;

/* One request under way. */
struct flight {
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    http_parser parser;
    struct load *load;
    struct hth_load_request *r;
    struct hth_buf out; /* head and body */
    struct hth_sse sse;
    uint64_t sent_ns, last_ns; /* last text */
    bool begun, done, ended;
};

struct load {
    const struct hth_load_opts *o;
    struct hth_load_result *result;
    uv_loop_t loop;
    uv_timer_t timer;
    struct sockaddr_storage address;
    struct hth_rng arrivals;
    uint64_t start_ns, next_ns; /* of the next arrival */
    uint64_t *due_ns;           /* [requests], open loop: by number */
    uint32_t due, begun, ended;
    uint32_t in_flight;
    bool cancelled;
    char read[READ_BYTES];
};

static void begin_more(struct load *l);

/* ---- a request's end ----------------------------------------------------- */

static void on_closed(uv_handle_t *h)
{
    struct flight *f = h->data;
    struct load *l = f->load;

    hth_buf_fini(&f->out);
    free(f);
    l->in_flight--;
    l->ended++;
    begin_more(l);
}

static void end_flight(struct flight *f, const char *failure)
{
    struct hth_load_result *result = f->load->result;

    if (f->ended)
        return;
    f->ended = true;
    f->r->ok = failure == NULL;
    if (failure != NULL && result->failure[0] == '\0')
        snprintf(result->failure, sizeof result->failure, "%s", failure);
    if (failure == NULL)
        result->duration_s = (double)(hth_now_ns() - f->load->start_ns) * 1e-9;
    uv_close((uv_handle_t *)&f->tcp, on_closed);
}

/* ---- what comes back ----------------------------------------------------- */

static void on_text(struct flight *f)
{
    struct hth_load_request *r = f->r;
    uint64_t now = hth_now_ns();

    if (r->ttft_s <= 0)
        r->ttft_s = (double)(now - f->sent_ns) * 1e-9;
    else if (r->gap_count < f->load->o->generate)
        r->gap_s[r->gap_count++] = (float)((double)(now - f->last_ns) * 1e-9);
    r->e2e_s = (double)(now - f->sent_ns) * 1e-9;
    f->last_ns = now;
}

static void on_event(void *ctx, const struct hth_sse_event *e)
{
    struct flight *f = ctx;

    if (e->text)
        on_text(f);
    if (e->tokens > 0)
        f->r->tokens = e->tokens;
    if (e->done)
        f->done = true;
    if (e->error)
        end_flight(f, "the server broke an answer off");
}

static int on_body(http_parser *p, const char *at, size_t n)
{
    struct flight *f = p->data;
    char text[160];

    if (f->ended)
        return 0;
    if (p->status_code == 200) {
        hth_sse_feed(&f->sse, at, n);
        return 0;
    }
    snprintf(text, sizeof text, "status %u: %.*s", p->status_code,
             (int)(n < 120 ? n : 120), at);
    end_flight(f, text);
    return 0;
}

static int on_complete(http_parser *p)
{
    struct flight *f = p->data;
    struct hth_load_request *r = f->r;

    if (r->tokens == 0 && r->ttft_s > 0)
        r->tokens = r->gap_count + 1;
    end_flight(f,
               f->done && r->ttft_s > 0 ? NULL : "an answer came without text");
    return 0;
}

static const http_parser_settings g_settings = {
    .on_body = on_body, .on_message_complete = on_complete};

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct flight *f = h->data;

    (void)suggested;
    *buf = uv_buf_init(f->load->read, READ_BYTES);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    struct flight *f = s->data;
    size_t used;

    if (n == 0 || f->ended)
        return;
    if (n < 0) {
        http_parser_execute(&f->parser, &g_settings, buf->base, 0);
        end_flight(f, "the connection ended before the answer did");
        return;
    }
    used = http_parser_execute(&f->parser, &g_settings, buf->base, (size_t)n);
    if (used != (size_t)n)
        end_flight(f, "what came back is not HTTP");
}

/* ---- a request's beginning ----------------------------------------------- */

static void on_written(uv_write_t *w, int status)
{
    struct flight *f = w->data;

    if (status != 0)
        end_flight(f, uv_strerror(status));
}

static void on_connected(uv_connect_t *c, int status)
{
    struct flight *f = c->data;
    uv_buf_t b;

    if (f->ended)
        return;
    if (status == 0)
        status = uv_read_start((uv_stream_t *)&f->tcp, on_alloc, on_read);
    b = uv_buf_init((char *)f->out.data, (unsigned)f->out.len);
    if (status == 0)
        status = uv_write(&f->write, (uv_stream_t *)&f->tcp, &b, 1, on_written);
    if (status != 0)
        end_flight(f, uv_strerror(status));
}

/* Every request has a prompt of its own, so that none is found in a cache. */
static void put_request(const struct load *l, uint32_t number,
                        struct hth_buf *out)
{
    const struct hth_load_opts *o = l->o;
    struct hth_buf body;
    struct hth_rng rng;

    hth_buf_init(&body, BODY_BYTES_MAX);
    hth_rng_init(&rng, o->seed + 1 + number);
    hth_put_printf(&body, "{\"prompt\":[");
    for (uint32_t i = 0; i < o->prompt; i++)
        hth_put_printf(&body, "%s%u", i > 0 ? "," : "",
                       (unsigned)(hth_rng_u64(&rng) % SAFE_VOCAB));
    hth_put_printf(&body,
                   "],\"max_tokens\":%u,\"temperature\":0,\"ignore_eos\":true,"
                   "\"cache_prompt\":false,\"stream\":true,"
                   "\"stream_options\":{\"include_usage\":true}",
                   o->generate);
    if (o->lora != NULL)
        hth_put_printf(&body, ",\"lora\":%s", o->lora);
    hth_put_u8(&body, '}');
    hth_put_printf(out,
                   "POST /v1/completions HTTP/1.1\r\nHost: %s:%u\r\n"
                   "Content-Type: application/json\r\nConnection: close\r\n",
                   o->host, o->port);
    if (o->api_key != NULL)
        hth_put_printf(out, "Authorization: Bearer %s\r\n", o->api_key);
    hth_put_printf(out, "Content-Length: %zu\r\n\r\n", body.len);
    hth_put_bytes(out, body.data, body.len);
    out->failed |= body.failed;
    hth_buf_fini(&body);
}

static struct flight *make_flight(struct load *l, uint32_t number)
{
    struct flight *f = calloc(1, sizeof *f);

    if (f == NULL)
        return NULL;
    f->load = l;
    f->r = &l->result->request[number];
    f->r->gap_s = calloc(l->o->generate + 1u, sizeof *f->r->gap_s);
    hth_buf_init(&f->out, BODY_BYTES_MAX + 4096u);
    put_request(l, number, &f->out);
    if (f->r->gap_s == NULL || f->out.failed) {
        hth_buf_fini(&f->out);
        free(f);
        return NULL;
    }
    hth_sse_init(&f->sse, on_event, f);
    http_parser_init(&f->parser, HTTP_RESPONSE);
    f->parser.data = f->tcp.data = f->connect.data = f->write.data = f;
    return f;
}

static bool begin(struct load *l, uint32_t number, uint64_t due_ns)
{
    struct flight *f = make_flight(l, number);
    int status;

    if (f == NULL)
        return false;
    f->sent_ns = hth_now_ns();
    if (due_ns > 0)
        f->r->queue_s = (double)(f->sent_ns - due_ns) * 1e-9;
    l->result->count = number + 1;
    l->in_flight++;
    uv_tcp_init(&l->loop, &f->tcp);
    f->tcp.data = f;
    uv_tcp_nodelay(&f->tcp, 1);
    status = uv_tcp_connect(&f->connect, &f->tcp,
                            (struct sockaddr *)&l->address, on_connected);
    if (status != 0)
        end_flight(f, uv_strerror(status));
    return true;
}

/* ---- when ---------------------------------------------------------------- */

static uint32_t may_be_in_flight(const struct load *l)
{
    if (l->o->rate > 0)
        return HTH_LOAD_IN_FLIGHT_MAX;
    return l->o->concurrency;
}

/* Moments of a Poisson process: gaps are exponential. */
static void note_arrivals(struct load *l)
{
    uint64_t now = hth_now_ns();

    while (l->due < l->o->requests && l->next_ns <= now) {
        double gap = -log(1.0 - hth_rng_unit(&l->arrivals)) / l->o->rate;

        l->due_ns[l->due++] = l->next_ns;
        l->next_ns += (uint64_t)(gap * 1e9);
    }
}

static void begin_more(struct load *l)
{
    if (l->o->rate > 0)
        note_arrivals(l);
    else
        l->due = l->o->requests;
    while (!l->cancelled && l->begun < l->due &&
           l->in_flight < may_be_in_flight(l)) {
        uint64_t due = l->o->rate > 0 ? l->due_ns[l->begun] : 0;

        if (!begin(l, l->begun, due)) {
            l->cancelled = true;
            break;
        }
        l->begun++;
    }
    if (l->in_flight == 0 && (l->cancelled || l->ended == l->o->requests))
        uv_stop(&l->loop);
}

static void cancel_one(uv_handle_t *h, void *ctx)
{
    (void)ctx;
    if (h->type == UV_TCP && !uv_is_closing(h))
        end_flight(h->data, "interrupted");
}

static void on_timer(uv_timer_t *t)
{
    struct load *l = t->data;
    uint64_t now = hth_now_ns(), wait_ms = LOOK_MS;

    if (hth_interrupted() && !l->cancelled) {
        l->cancelled = true;
        uv_walk(&l->loop, cancel_one, NULL);
    }
    begin_more(l);
    if (l->o->rate > 0 && l->next_ns > now &&
        (l->next_ns - now) / 1000000u < wait_ms)
        wait_ms = (l->next_ns - now) / 1000000u;
    uv_timer_start(t, on_timer, wait_ms > 0 ? wait_ms : 1, 0);
}

/* ---- all ----------------------------------------------------------------- */

static int find_address(struct load *l, struct hth_err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    uv_getaddrinfo_t r;
    char port[8];
    int status;

    snprintf(port, sizeof port, "%u", l->o->port);
    status = uv_getaddrinfo(&l->loop, &r, NULL, l->o->host, port, &hints);
    if (status != 0)
        return hth_fail(err, HTH_EUNREACHABLE, "%.100s: %s", l->o->host,
                        uv_strerror(status));
    memcpy(&l->address, r.addrinfo->ai_addr, r.addrinfo->ai_addrlen);
    uv_freeaddrinfo(r.addrinfo);
    return HTH_OK;
}

static void drive(struct load *l)
{
    uv_timer_init(&l->loop, &l->timer);
    l->timer.data = l;
    l->start_ns = l->next_ns = hth_now_ns();
    hth_rng_init(&l->arrivals, l->o->seed);
    uv_timer_start(&l->timer, on_timer, 0, 0);
    uv_run(&l->loop, UV_RUN_DEFAULT);
    uv_close((uv_handle_t *)&l->timer, NULL);
    uv_run(&l->loop, UV_RUN_DEFAULT);
}

static int judge(const struct load *l, struct hth_err *err)
{
    const struct hth_load_result *r = l->result;
    uint32_t ok = 0;

    for (uint32_t i = 0; i < r->count; i++)
        ok += r->request[i].ok;
    if (hth_interrupted())
        return hth_fail_interrupted(err);
    if (l->cancelled)
        return hth_fail(err, HTH_ENOMEM, "out of memory");
    if (ok == 0)
        return hth_fail(err, HTH_EUNREACHABLE,
                        "no request succeeded at %.100s:%u: %.200s", l->o->host,
                        l->o->port, r->failure);
    return HTH_OK;
}

int hth_load_run(struct hth_load_result *out, const struct hth_load_opts *opts,
                 struct hth_err *err)
{
    struct load *l = calloc(1, sizeof *l);
    int rc;

    *out = (struct hth_load_result){0};
    out->request = calloc(opts->requests, sizeof *out->request);
    if (l != NULL)
        l->due_ns = calloc(opts->requests, sizeof *l->due_ns);
    if (l == NULL || l->due_ns == NULL || out->request == NULL ||
        uv_loop_init(&l->loop) != 0) {
        if (l != NULL)
            free(l->due_ns);
        free(l);
        return hth_fail(err, HTH_ENOMEM, "out of memory");
    }
    l->o = opts;
    l->result = out;
    rc = find_address(l, err);
    if (rc == HTH_OK) {
        drive(l);
        rc = judge(l, err);
    }
    uv_loop_close(&l->loop);
    free(l->due_ns);
    free(l);
    return rc;
}

void hth_load_fini(struct hth_load_result *r)
{
    for (uint32_t i = 0; r->request != NULL && i < r->count; i++)
        free(r->request[i].gap_s);
    free(r->request);
    *r = (struct hth_load_result){0};
}
