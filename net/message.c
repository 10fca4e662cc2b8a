/* message.c - one description of each message's fields serves both ways.
 *
 * A `struct wire` either appends to a buffer or reads from a cursor; each
 * *_fields() function names a message's fields once, so encoder and decoder
 * cannot drift apart. Reading is bounded by the field's own maximum, sticks
 * at the first failure and never allocates. Text fields carry no control
 * characters: a name that moves a terminal's cursor is malformed. */
#include "net/message.h"

#include <math.h>
#include <string.h>

struct wire {
    struct hth_buf *out;   /* writing, or */
    struct hth_cursor *in; /* reading */
};

/* ---- the kinds of field ------------------------------------------------ */

static void f_u8(struct wire *w, uint8_t *v)
{
    if (w->out != NULL)
        hth_put_u8(w->out, *v);
    else
        *v = hth_get_u8(w->in);
}

static void f_u16(struct wire *w, uint16_t *v)
{
    if (w->out != NULL)
        hth_put_u16(w->out, *v);
    else
        *v = hth_get_u16(w->in);
}

static void f_u32(struct wire *w, uint32_t *v)
{
    if (w->out != NULL)
        hth_put_u32(w->out, *v);
    else
        *v = hth_get_u32(w->in);
}

static void f_u64(struct wire *w, uint64_t *v)
{
    if (w->out != NULL)
        hth_put_u64(w->out, *v);
    else
        *v = hth_get_u64(w->in);
}

static void f_i32(struct wire *w, int32_t *v)
{
    uint32_t bits = (uint32_t)*v;

    f_u32(w, &bits);
    *v = (int32_t)bits;
}

static void f_f32(struct wire *w, float *v)
{
    if (w->out != NULL)
        hth_put_f32(w->out, *v);
    else
        *v = hth_get_f32(w->in);
}

/* Rates, shares and seconds: finite and not negative, or malformed, so that
 * no plan is ever made from a NaN. */
static void f_amount(struct wire *w, double *v)
{
    if (w->out != NULL) {
        hth_put_f64(w->out, *v);
        return;
    }
    *v = hth_get_f64(w->in);
    if (!isfinite(*v) || *v < 0) {
        *v = 0;
        w->in->failed = true;
    }
}

static void f_bool(struct wire *w, bool *v)
{
    uint8_t raw = *v ? 1 : 0;

    f_u8(w, &raw);
    if (w->in != NULL && raw > 1)
        w->in->failed = true;
    *v = raw == 1;
}

static void f_fixed(struct wire *w, uint8_t *v, size_t n)
{
    const uint8_t *p;

    if (w->out != NULL) {
        hth_put_bytes(w->out, v, n);
        return;
    }
    p = hth_get_bytes(w->in, n);
    if (p != NULL)
        memcpy(v, p, n);
}

static bool is_control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7f;
}

/* One line of text. Writing replaces control characters (an error sentence
 * may quote a file's content), reading refuses them. */
static void f_text(struct wire *w, char *v, size_t size)
{
    size_t n, i;

    if (w->out != NULL) {
        n = strnlen(v, size - 1);
        hth_put_u32(w->out, (uint32_t)n);
        for (i = 0; i < n; i++)
            hth_put_u8(w->out, is_control(v[i]) ? ' ' : (uint8_t)v[i]);
        return;
    }
    hth_get_cstr(w->in, v, size);
    for (i = 0; v[i] != '\0'; i++)
        if (is_control(v[i]))
            w->in->failed = true;
}

static void f_blob(struct wire *w, struct hth_blob *v, size_t max)
{
    if (w->out != NULL) {
        if (v->n > max)
            w->out->failed = true;
        hth_put_str(w->out, (const char *)v->p, v->n);
        return;
    }
    v->p = (const uint8_t *)hth_get_str(w->in, max, &v->n);
}

/* ---- the messages ------------------------------------------------------ */

static void hello_fields(struct wire *w, struct hth_msg_hello *m)
{
    f_u32(w, &m->protocol_min);
    f_u32(w, &m->protocol_max);
    f_text(w, m->version, sizeof m->version);
    f_text(w, m->device, sizeof m->device);
    f_text(w, m->name, sizeof m->name);
    f_u8(w, &m->role);
    f_u64(w, &m->instance);
    f_fixed(w, m->nonce, sizeof m->nonce);
    f_text(w, m->arch, sizeof m->arch);
    f_text(w, m->isa, sizeof m->isa);
    f_u32(w, &m->cores);
    f_u32(w, &m->threads);
    f_u64(w, &m->memory_bytes);
    f_amount(w, &m->read_bytes_per_s);
    f_blob(w, &m->certificate, HTH_PEM_MAX);
}

static void challenge_fields(struct wire *w, struct hth_msg_challenge *m)
{
    f_u32(w, &m->protocol);
    f_text(w, m->server, sizeof m->server);
    f_fixed(w, m->nonce, sizeof m->nonce);
}

static void prove_fields(struct wire *w, struct hth_msg_prove *m)
{
    f_blob(w, &m->signature, HTH_SIG_MAX);
}

static void welcome_fields(struct wire *w, struct hth_msg_welcome *m)
{
    f_text(w, m->name, sizeof m->name);
    f_text(w, m->version, sizeof m->version);
    f_u16(w, &m->data_port);
    f_u32(w, &m->heartbeat_ms);
}

static void command_fields(struct wire *w, struct hth_msg_command *m)
{
    f_u64(w, &m->number);
    f_u8(w, &m->kind);
    switch (m->kind) {
    case HTH_COMMAND_NONE:
    case HTH_COMMAND_UNLOAD:
        break;
    case HTH_COMMAND_LEAVE:
        f_i32(w, &m->status);
        f_text(w, m->text, sizeof m->text);
        break;
    case HTH_COMMAND_LOAD:
        f_u64(w, &m->session);
        f_u32(w, &m->rank);
        f_u32(w, &m->attempt);
        f_blob(w, &m->setup, HTH_SETUP_BYTES_MAX);
        f_blob(w, &m->blocks, HTH_BLOCKS_MAX * HTH_MSG_BLOCK_BYTES);
        f_u64(w, &m->loras_number);
        f_blob(w, &m->loras, HTH_LORAS_MAX * HTH_MSG_LORA_BYTES);
        if (w->in != NULL &&
            (m->blocks.n % HTH_MSG_BLOCK_BYTES != 0 ||
             m->loras.n % HTH_MSG_LORA_BYTES != 0 || m->rank >= HTH_RANKS_MAX))
            w->in->failed = true;
        break;
    default:
        if (w->in != NULL)
            w->in->failed = true;
    }
}

static void phase_fields(struct wire *w, struct hth_phases *p)
{
    f_u64(w, &p->steps);
    f_u64(w, &p->compute_ns);
    f_u64(w, &p->send_ns);
    f_u64(w, &p->receive_ns);
    f_u64(w, &p->wait_ns);
    f_u64(w, &p->disk_ns);
    f_u64(w, &p->sent_bytes);
    f_u64(w, &p->received_bytes);
}

static void report_fields(struct wire *w, struct hth_msg_report *m)
{
    f_u8(w, &m->state);
    f_u64(w, &m->session);
    f_u64(w, &m->done_bytes);
    f_u64(w, &m->total_bytes);
    f_u64(w, &m->fetched_bytes);
    f_u64(w, &m->memory_bytes);
    f_u64(w, &m->round_trip_ns);
    f_u64(w, &m->loras_number);
    f_u8(w, &m->memory_short);
    phase_fields(w, &m->phases);
    f_i32(w, &m->status);
    f_text(w, m->text, sizeof m->text);
}

static void chunk_fields(struct wire *w, struct hth_msg_chunk *m)
{
    f_fixed(w, m->hash, sizeof m->hash);
    f_u64(w, &m->offset);
    f_u32(w, &m->length);
    if (w->in != NULL && (m->length == 0 || m->length > HTH_CHUNK_BYTES))
        w->in->failed = true;
}

/* Ids travel as a blob of u32; a writer may give the array instead. */
static void submit_ids(struct wire *w, struct hth_msg_submit *m)
{
    uint32_t i;

    if (w->out != NULL && m->ids != NULL) {
        hth_put_u32(w->out, m->id_count * 4);
        for (i = 0; i < m->id_count; i++)
            hth_put_u32(w->out, m->ids[i]);
        return;
    }
    f_blob(w, &m->id_blob, HTH_CTX_MAX * 4u);
    if (w->in == NULL)
        return;
    m->ids = NULL;
    m->id_count = (uint32_t)(m->id_blob.n / 4);
    if (m->id_blob.n % 4 != 0)
        w->in->failed = true;
}

static void submit_lists(struct wire *w, struct hth_msg_submit *m)
{
    uint32_t i;

    f_u32(w, &m->stop_count);
    if (m->stop_count > HTH_STOPS_MAX) {
        m->stop_count = 0;
        *(w->out != NULL ? &w->out->failed : &w->in->failed) = true;
    }
    for (i = 0; i < m->stop_count; i++)
        f_blob(w, &m->stop[i], HTH_STOP_BYTES_MAX);
    f_u32(w, &m->bias_count);
    if (m->bias_count > HTH_BIAS_MAX) {
        m->bias_count = 0;
        *(w->out != NULL ? &w->out->failed : &w->in->failed) = true;
    }
    for (i = 0; i < m->bias_count; i++) {
        f_u32(w, &m->bias[i].id);
        f_f32(w, &m->bias[i].bias);
    }
}

static void submit_fields(struct wire *w, struct hth_msg_submit *m)
{
    f_u64(w, &m->key);
    f_blob(w, &m->text, HTH_PROMPT_BYTES_MAX);
    submit_ids(w, m);
    f_bool(w, &m->special);
    f_bool(w, &m->chat);
    f_bool(w, &m->ignore_end);
    f_u32(w, &m->tokens_max);
    f_f32(w, &m->temperature);
    f_f32(w, &m->top_p);
    f_f32(w, &m->min_p);
    f_f32(w, &m->repeat_penalty);
    f_f32(w, &m->frequency_penalty);
    f_f32(w, &m->presence_penalty);
    f_u32(w, &m->top_k);
    f_u32(w, &m->repeat_last_n);
    f_u64(w, &m->seed);
    f_text(w, m->lora, sizeof m->lora);
    submit_lists(w, m);
}

static void poll_fields(struct wire *w, struct hth_msg_poll *m)
{
    f_u64(w, &m->id);
    f_u64(w, &m->from);
    f_u32(w, &m->wait_ms);
}

/* More parts than there may be ranks: not believed. */
static void prompt_stats(struct wire *w, struct hth_prompt_stats *m)
{
    f_u32(w, &m->mode);
    f_u64(w, &m->predicted_ns);
    f_u64(w, &m->took_ns);
    f_u32(w, &m->parts);
    if (w->in != NULL && m->parts > HTH_RANKS_MAX) {
        w->in->failed = true;
        m->parts = 0;
    }
    for (uint32_t i = 0; i < m->parts; i++) {
        f_u32(w, &m->part[i].rows);
        f_u64(w, &m->part[i].compute_ns);
        f_u64(w, &m->part[i].attend_ns);
        f_u64(w, &m->part[i].wait_ns);
        f_u64(w, &m->part[i].load_ns);
        f_u64(w, &m->part[i].sent_bytes);
        f_u64(w, &m->part[i].received_bytes);
    }
}

static void event_fields(struct wire *w, struct hth_event *e)
{
    f_u8(w, &e->kind);
    switch (e->kind) {
    case HTH_EVENT_WAITING:
        f_blob(w, &e->text, HTH_ERR_TEXT_MAX);
        break;
    case HTH_EVENT_PROMPT:
        f_u32(w, &e->done);
        f_u32(w, &e->total);
        break;
    case HTH_EVENT_TOKEN:
        f_u32(w, &e->token);
        f_blob(w, &e->text, HTH_EVENT_TEXT_MAX);
        break;
    case HTH_EVENT_DONE:
        f_u8(w, &e->finish);
        f_blob(w, &e->text, HTH_EVENT_TEXT_MAX);
        f_u32(w, &e->stats.prompt_tokens);
        f_u32(w, &e->stats.generated_tokens);
        f_amount(w, &e->stats.wait_s);
        f_amount(w, &e->stats.prompt_s);
        f_amount(w, &e->stats.generate_s);
        f_u32(w, &e->stats.ranks);
        f_u64(w, &e->stats.pinned_bytes);
        f_u64(w, &e->stats.streamed_bytes);
        f_u64(w, &e->stats.read_bytes);
        f_amount(w, &e->stats.stall_s);
        f_amount(w, &e->stats.disk_bytes_per_s);
        f_amount(w, &e->stats.predicted_token_s);
        prompt_stats(w, &e->stats.prompt);
        break;
    case HTH_EVENT_ERROR:
        f_i32(w, &e->status);
        f_blob(w, &e->text, HTH_ERR_TEXT_MAX);
        break;
    default:
        if (w->in != NULL)
            w->in->failed = true;
    }
}

static void node_fields(struct wire *w, struct hth_msg_node *m)
{
    uint32_t rank = (uint32_t)m->rank;

    f_text(w, m->device, sizeof m->device);
    f_text(w, m->name, sizeof m->name);
    f_text(w, m->address, sizeof m->address);
    f_text(w, m->version, sizeof m->version);
    f_text(w, m->arch, sizeof m->arch);
    f_text(w, m->isa, sizeof m->isa);
    f_u8(w, &m->state);
    f_bool(w, &m->coordinator);
    f_u32(w, &rank);
    m->rank = rank < HTH_RANKS_MAX ? (int32_t)rank : -1;
    f_amount(w, &m->share);
    f_u32(w, &m->cores);
    f_u32(w, &m->threads);
    f_u64(w, &m->memory_bytes);
    f_amount(w, &m->read_bytes_per_s);
    f_u64(w, &m->shard_bytes);
    f_u64(w, &m->done_bytes);
    f_u64(w, &m->sent_bytes);
    f_u64(w, &m->seen_ms_ago);
    f_u64(w, &m->round_trip_ns);
    phase_fields(w, &m->phases);
    f_text(w, m->text, sizeof m->text);
}

/* A list is checked entry by entry while its message is decoded, so that
 * whoever walks it later meets no surprise. */
static void check_events(struct wire *w, const struct hth_msg_events *m)
{
    struct hth_cursor c;
    struct hth_event e;
    uint32_t n = 0;

    if (w->in == NULL || w->in->failed)
        return;
    hth_cursor_init(&c, m->list.p, m->list.n);
    while (hth_event_next(&c, &e))
        n++;
    if (c.failed || n != m->count)
        w->in->failed = true;
}

static void check_nodes(struct wire *w, const struct hth_msg_nodes *m)
{
    struct hth_cursor c;
    struct hth_msg_node node;
    uint32_t n = 0;

    if (w->in == NULL || w->in->failed)
        return;
    hth_cursor_init(&c, m->list.p, m->list.n);
    while (n <= HTH_DEVICES_MAX && hth_msg_node_next(&c, &node))
        n++;
    if (c.failed || n != m->count)
        w->in->failed = true;
}

static void events_fields(struct wire *w, struct hth_msg_events *m)
{
    f_u64(w, &m->from);
    f_u32(w, &m->count);
    f_bool(w, &m->ended);
    f_blob(w, &m->list, HTH_EVENTS_BYTES_MAX);
    check_events(w, m);
}

static void nodes_fields(struct wire *w, struct hth_msg_nodes *m)
{
    f_text(w, m->version, sizeof m->version);
    f_text(w, m->model, sizeof m->model);
    f_bool(w, &m->ready);
    f_text(w, m->waiting, sizeof m->waiting);
    f_u64(w, &m->session);
    f_u32(w, &m->ctx);
    f_u32(w, &m->running);
    f_u32(w, &m->queued);
    f_u32(w, &m->count);
    f_blob(w, &m->list, HTH_NODES_BYTES_MAX);
    check_nodes(w, m);
}

static void code_fields(struct wire *w, struct hth_msg_code *m)
{
    f_text(w, m->code, sizeof m->code);
    f_text(w, m->host, sizeof m->host);
    f_u16(w, &m->port);
    f_u32(w, &m->expires_s);
}

static void error_fields(struct wire *w, struct hth_msg_error *m)
{
    f_i32(w, &m->status);
    f_text(w, m->text, sizeof m->text);
}

/* False for a type that no message has. */
static bool fields(struct wire *w, struct hth_msg *m)
{
    switch (m->type) {
    case HTH_MSG_HELLO:
        return hello_fields(w, &m->u.hello), true;
    case HTH_MSG_PROVE:
        return prove_fields(w, &m->u.prove), true;
    case HTH_MSG_NEXT:
        return f_u64(w, &m->u.next.seen), true;
    case HTH_MSG_REPORT:
        return report_fields(w, &m->u.report), true;
    case HTH_MSG_CHUNK:
        return chunk_fields(w, &m->u.chunk), true;
    case HTH_MSG_SUBMIT:
        return submit_fields(w, &m->u.submit), true;
    case HTH_MSG_POLL:
        return poll_fields(w, &m->u.poll), true;
    case HTH_MSG_ACCEPTED:
    case HTH_MSG_CANCEL:
        return f_u64(w, &m->u.id.id), true;
    case HTH_MSG_REVOKE:
        return f_text(w, m->u.revoke.device, sizeof m->u.revoke.device), true;
    case HTH_MSG_ERROR:
        return error_fields(w, &m->u.error), true;
    case HTH_MSG_CHALLENGE:
        return challenge_fields(w, &m->u.challenge), true;
    case HTH_MSG_WELCOME:
        return welcome_fields(w, &m->u.welcome), true;
    case HTH_MSG_COMMAND:
        return command_fields(w, &m->u.command), true;
    case HTH_MSG_DATA:
        return f_blob(w, &m->u.data.bytes, HTH_CHUNK_BYTES), true;
    case HTH_MSG_EVENTS:
        return events_fields(w, &m->u.events), true;
    case HTH_MSG_NODES:
        return nodes_fields(w, &m->u.nodes), true;
    case HTH_MSG_CODE:
        return code_fields(w, &m->u.code), true;
    case HTH_MSG_LIST:
    case HTH_MSG_PAIR:
    case HTH_MSG_OK:
    case HTH_MSG_WHO:
        return true;
    default:
        return false;
    }
}

/* ---- whole messages ---------------------------------------------------- */

void hth_msg_encode(struct hth_buf *out, const struct hth_msg *m)
{
    struct wire w = {.out = out};
    uint8_t head[HTH_MSG_HEAD_BYTES];

    hth_store_u16(head, HTH_MSG_MAGIC);
    head[2] = HTH_PROTOCOL_MAX;
    head[3] = m->type;
    hth_put_bytes(out, head, sizeof head);
    /* Writing only reads the fields; the visitor is shared with reading and
     * so cannot say const. */
    if (!fields(&w, (struct hth_msg *)(uintptr_t)m))
        out->failed = true;
}

int hth_msg_decode(struct hth_msg *out, const void *p, size_t n,
                   struct hth_err *err)
{
    struct hth_cursor c;
    struct wire w = {.in = &c};
    uint16_t magic;

    hth_cursor_init(&c, p, n);
    memset(out, 0, sizeof *out);
    magic = hth_get_u16(&c);
    out->protocol = hth_get_u8(&c);
    out->type = hth_get_u8(&c);
    if (c.failed || magic != HTH_MSG_MAGIC)
        return hth_fail(err, HTH_EFORMAT,
                        "not a Hearth control message (%zu bytes)", n);
    if (out->type != HTH_MSG_HELLO && out->type != HTH_MSG_ERROR &&
        (out->protocol < HTH_PROTOCOL_MIN || out->protocol > HTH_PROTOCOL_MAX))
        return hth_fail(err, HTH_EVERSION,
                        "control protocol %u is not spoken here (%u to %u): "
                        "upgrade the %s side",
                        out->protocol, HTH_PROTOCOL_MIN, HTH_PROTOCOL_MAX,
                        out->protocol < HTH_PROTOCOL_MIN ? "sending"
                                                         : "receiving");
    if (!fields(&w, out) || !hth_cursor_done(&c))
        return hth_fail(err, HTH_EFORMAT, "malformed %s message (%zu bytes)",
                        hth_msg_type_text(out->type), n);
    return HTH_OK;
}

const char *hth_msg_type_text(uint8_t type)
{
    switch (type) {
#define X(name, number, text) \
    case number:              \
        return text;
        HTH_MSG_MAP(X)
#undef X
    default:
        return "unknown";
    }
}

void hth_msg_proof_text(struct hth_buf *out, const struct hth_msg_hello *h,
                        const struct hth_msg_challenge *c)
{
    hth_put_cstr(out, "hearth control 1");
    hth_put_bytes(out, c->nonce, sizeof c->nonce);
    hth_put_bytes(out, h->nonce, sizeof h->nonce);
    hth_put_cstr(out, c->server);
    hth_put_cstr(out, h->device);
    hth_put_u64(out, h->instance);
}

void hth_msg_submit_init(struct hth_msg_submit *m)
{
    memset(m, 0, sizeof *m);
    m->temperature = 0.8f;
    m->top_k = 40;
    m->top_p = 0.95f;
    m->min_p = 0.05f;
    m->repeat_penalty = 1.0f;
    m->repeat_last_n = 64;
}

uint32_t hth_msg_submit_id_at(const struct hth_msg_submit *m, uint32_t i)
{
    HTH_ASSERT(i < m->id_count);
    return m->ids != NULL ? m->ids[i] : hth_load_u32(m->id_blob.p + 4u * i);
}

/* ---- lists ------------------------------------------------------------- */

void hth_msg_put_block(struct hth_buf *b, const struct hth_msg_block *m)
{
    hth_put_u64(b, m->bytes);
    hth_put_bytes(b, m->hash, sizeof m->hash);
}

uint32_t hth_msg_blocks(const struct hth_msg_command *m)
{
    return (uint32_t)(m->blocks.n / HTH_MSG_BLOCK_BYTES);
}

void hth_msg_block_at(const struct hth_msg_command *m, uint32_t i,
                      struct hth_msg_block *out)
{
    const uint8_t *p = m->blocks.p + (size_t)i * HTH_MSG_BLOCK_BYTES;

    HTH_ASSERT(i < hth_msg_blocks(m));
    out->bytes = hth_load_u64(p);
    memcpy(out->hash, p + 8, sizeof out->hash);
}

void hth_msg_put_lora(struct hth_buf *b, const struct hth_msg_lora *m)
{
    hth_put_u32(b, m->id);
    hth_msg_put_block(b, &m->slice);
}

uint32_t hth_msg_loras(const struct hth_msg_command *m)
{
    return (uint32_t)(m->loras.n / HTH_MSG_LORA_BYTES);
}

void hth_msg_lora_at(const struct hth_msg_command *m, uint32_t i,
                     struct hth_msg_lora *out)
{
    const uint8_t *p = m->loras.p + (size_t)i * HTH_MSG_LORA_BYTES;

    HTH_ASSERT(i < hth_msg_loras(m));
    out->id = hth_load_u32(p);
    out->slice.bytes = hth_load_u64(p + 4);
    memcpy(out->slice.hash, p + 12, sizeof out->slice.hash);
}

void hth_event_put(struct hth_buf *b, const struct hth_event *e)
{
    struct wire w = {.out = b};

    event_fields(&w, (struct hth_event *)(uintptr_t)e);
}

bool hth_event_next(struct hth_cursor *c, struct hth_event *out)
{
    struct wire w = {.in = c};

    memset(out, 0, sizeof *out);
    if (hth_cursor_left(c) == 0)
        return false;
    event_fields(&w, out);
    return !c->failed;
}

void hth_msg_put_node(struct hth_buf *b, const struct hth_msg_node *n)
{
    struct wire w = {.out = b};

    node_fields(&w, (struct hth_msg_node *)(uintptr_t)n);
}

bool hth_msg_node_next(struct hth_cursor *c, struct hth_msg_node *out)
{
    struct wire w = {.in = c};

    memset(out, 0, sizeof *out);
    if (hth_cursor_left(c) == 0)
        return false;
    node_fields(&w, out);
    return !c->failed;
}

const char *hth_node_state_text(uint32_t state)
{
    switch (state) {
#define X(name, number, text) \
    case number:              \
        return text;
        HTH_NODE_STATE_MAP(X)
#undef X
    default:
        return "unknown";
    }
}
