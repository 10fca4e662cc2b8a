/* message_samples.c - filled-in messages, every field different from zero so
 * that a forgotten field shows in a round trip. */
#include "tests/unit/message_samples.h"

#include <stdio.h>
#include <string.h>

static const uint8_t some_bytes[] = "0123456789abcdef0123456789abcdef";
static struct hth_buf blocks, loras, events, nodes;

static void fill_hello(struct hth_msg_hello *h)
{
    h->protocol_min = 1;
    h->protocol_max = 3;
    snprintf(h->version, sizeof h->version, "0.1.0");
    snprintf(h->device, sizeof h->device, "ABCD-EFGH-IJKL-MNOP");
    snprintf(h->name, sizeof h->name,
             "k\xc3\xbc"
             "che");
    h->role = HTH_PEER_WORKER;
    h->instance = 0x1122334455667788u;
    memset(h->nonce, 7, sizeof h->nonce);
    snprintf(h->arch, sizeof h->arch, "aarch64");
    snprintf(h->isa, sizeof h->isa, "neon");
    h->cores = 8;
    h->threads = 4;
    h->memory_bytes = (uint64_t)6 << 30;
    h->read_bytes_per_s = 12.5e9;
    h->certificate = (struct hth_blob){some_bytes, 32};
}

static void fill_command(struct hth_msg_command *m)
{
    struct hth_msg_block b = {.bytes = 4096};

    memset(b.hash, 9, sizeof b.hash);
    if (blocks.len == 0) {
        hth_buf_init(&blocks, 4096);
        hth_msg_put_block(&blocks, &b);
        hth_msg_put_block(&blocks, &(struct hth_msg_block){0});
    }
    m->number = 5;
    m->kind = HTH_COMMAND_LOAD;
    m->session = 77;
    m->rank = 3;
    m->attempt = 2;
    m->setup = (struct hth_blob){some_bytes, 20};
    m->blocks = (struct hth_blob){blocks.data, blocks.len};
    if (loras.len == 0) {
        hth_buf_init(&loras, 4096);
        hth_msg_put_lora(&loras, &(struct hth_msg_lora){7, b});
    }
    m->loras_number = 4;
    m->loras = (struct hth_blob){loras.data, loras.len};
}

static void fill_report(struct hth_msg_report *m)
{
    m->state = HTH_NODE_LOADING;
    m->session = 77;
    m->done_bytes = 10;
    m->total_bytes = 20;
    m->fetched_bytes = 5;
    m->memory_bytes = 1000;
    m->phases = (struct hth_phases){3, 4, 5, 6, 7, 8, 9, 10};
    m->round_trip_ns = 250000;
    m->loras_number = 4;
    m->memory_short = 1;
    m->status = HTH_EHASH;
    snprintf(m->text, sizeof m->text, "block 3 differs");
}

static void fill_submit(struct hth_msg_submit *m)
{
    hth_msg_submit_init(m);
    m->key = 99;
    m->text = (struct hth_blob){(const uint8_t *)"Hello\nworld", 11};
    m->special = true;
    m->chat = true;
    m->tokens_max = 12;
    m->seed = 42;
    snprintf(m->lora, sizeof m->lora, "tale:0.5");
    m->stop_count = 2;
    m->stop[0] = (struct hth_blob){(const uint8_t *)"\n\n", 2};
    m->stop[1] = (struct hth_blob){(const uint8_t *)"END", 3};
    m->bias_count = 1;
    m->bias[0] = (struct hth_msg_bias){7, -1.5f};
}

static void fill_submit_ids(struct hth_msg_submit *m)
{
    hth_msg_submit_init(m);
    m->key = 100;
    m->id_blob = (struct hth_blob){some_bytes, 12};
    m->id_count = 3;
    m->ignore_end = true;
}

static void fill_events(struct hth_msg_events *m)
{
    struct hth_event e = {.kind = HTH_EVENT_TOKEN, .token = 5};

    if (events.len == 0) {
        hth_buf_init(&events, 4096);
        e.text = (struct hth_blob){(const uint8_t *)" the", 4};
        hth_event_put(&events, &e);
        e = (struct hth_event){.kind = HTH_EVENT_PROMPT, .done = 3, .total = 9};
        hth_event_put(&events, &e);
        e = (struct hth_event){.kind = HTH_EVENT_WAITING};
        e.text = (struct hth_blob){(const uint8_t *)"waiting", 7};
        hth_event_put(&events, &e);
        e = (struct hth_event){.kind = HTH_EVENT_ERROR, .status = HTH_EPEER};
        e.text = (struct hth_blob){(const uint8_t *)"tablet is gone", 14};
        hth_event_put(&events, &e);
        e = (struct hth_event){.kind = HTH_EVENT_DONE,
                               .finish = HTH_FINISH_STOP};
        e.stats =
            (struct hth_event_stats){5,
                                     6,
                                     0.5,
                                     1.5,
                                     2.5,
                                     3,
                                     7,
                                     8,
                                     9,
                                     0.1,
                                     1e9,
                                     0.2,
                                     {.mode = 4,
                                      .predicted_ns = 10,
                                      .took_ns = 11,
                                      .parts = 2,
                                      .part = {{1, 2, 3, 4, 5, 6, 7}, {8}}}};
        hth_event_put(&events, &e);
    }
    m->from = 17;
    m->count = 5;
    m->ended = true;
    m->list = (struct hth_blob){events.data, events.len};
}

static void fill_node(struct hth_msg_node *n)
{
    snprintf(n->device, sizeof n->device, "ABCD-EFGH-IJKL-MNOP");
    snprintf(n->name, sizeof n->name, "desk");
    snprintf(n->address, sizeof n->address, "10.0.0.2:4000");
    snprintf(n->version, sizeof n->version, "0.1.0");
    snprintf(n->arch, sizeof n->arch, "x86_64");
    snprintf(n->isa, sizeof n->isa, "avx2");
    n->state = HTH_NODE_READY;
    n->coordinator = true;
    n->rank = 2;
    n->share = 0.25;
    n->cores = 4;
    n->threads = 3;
    n->memory_bytes = 1 << 30;
    n->read_bytes_per_s = 1e9;
    n->shard_bytes = 30;
    n->done_bytes = 20;
    n->sent_bytes = 10;
    n->seen_ms_ago = 4;
    snprintf(n->text, sizeof n->text, "all is well");
}

static void fill_nodes(struct hth_msg_nodes *m)
{
    struct hth_msg_node n = {0};

    if (nodes.len == 0) {
        hth_buf_init(&nodes, 8192);
        fill_node(&n);
        hth_msg_put_node(&nodes, &n);
        n.rank = -1;
        n.coordinator = false;
        hth_msg_put_node(&nodes, &n);
    }
    snprintf(m->version, sizeof m->version, "0.1.0");
    snprintf(m->model, sizeof m->model, "tale");
    m->ready = true;
    snprintf(m->waiting, sizeof m->waiting, "for tablet");
    m->session = 77;
    m->ctx = 4096;
    m->running = 1;
    m->queued = 2;
    m->count = 2;
    m->list = (struct hth_blob){nodes.data, nodes.len};
}

static void fill_code(struct hth_msg_code *m)
{
    snprintf(m->code, sizeof m->code, "4F7K-9QPX");
    snprintf(m->host, sizeof m->host, "192.168.1.10");
    m->port = 47470;
    m->expires_s = 600;
}

static void fill_ask(uint32_t i, struct hth_msg *m)
{
    switch (m->type) {
    case HTH_MSG_HELLO:
        fill_hello(&m->u.hello);
        break;
    case HTH_MSG_PROVE:
        m->u.prove.signature = (struct hth_blob){some_bytes, 30};
        break;
    case HTH_MSG_NEXT:
        m->u.next.seen = 4;
        break;
    case HTH_MSG_REPORT:
        fill_report(&m->u.report);
        break;
    case HTH_MSG_CHUNK:
        memset(m->u.chunk.hash, 3, sizeof m->u.chunk.hash);
        m->u.chunk.offset = 1 << 20;
        m->u.chunk.length = 65536;
        break;
    case HTH_MSG_SUBMIT:
        if (i < 6)
            fill_submit(&m->u.submit);
        else
            fill_submit_ids(&m->u.submit);
        break;
    case HTH_MSG_POLL:
        m->u.poll = (struct hth_msg_poll){7, 17, 900};
        break;
    case HTH_MSG_REVOKE:
        snprintf(m->u.revoke.device, sizeof m->u.revoke.device, "desk");
        break;
    default:
        m->u.id.id = 7;
    }
}

static void fill_answer(uint32_t i, struct hth_msg *m)
{
    switch (m->type) {
    case HTH_MSG_ERROR:
        m->u.error.status = HTH_EPEER;
        snprintf(m->u.error.text, sizeof m->u.error.text, "tablet is gone");
        break;
    case HTH_MSG_CHALLENGE:
        m->u.challenge.protocol = 1;
        snprintf(m->u.challenge.server, sizeof m->u.challenge.server, "S");
        memset(m->u.challenge.nonce, 8, sizeof m->u.challenge.nonce);
        break;
    case HTH_MSG_WELCOME:
        snprintf(m->u.welcome.name, sizeof m->u.welcome.name, "attic");
        m->u.welcome.data_port = 47470;
        m->u.welcome.heartbeat_ms = 1000;
        break;
    case HTH_MSG_COMMAND:
        fill_command(&m->u.command);
        if (i == 23) {
            m->u.command = (struct hth_msg_command){
                .number = 6, .kind = HTH_COMMAND_LEAVE, .status = HTH_EAUTH};
            snprintf(m->u.command.text, sizeof m->u.command.text, "revoked");
        }
        break;
    case HTH_MSG_DATA:
        m->u.data.bytes = (struct hth_blob){some_bytes, 32};
        break;
    case HTH_MSG_ACCEPTED:
        m->u.id.id = 7;
        break;
    case HTH_MSG_EVENTS:
        fill_events(&m->u.events);
        break;
    case HTH_MSG_NODES:
        fill_nodes(&m->u.nodes);
        break;
    case HTH_MSG_CODE:
        fill_code(&m->u.code);
        break;
    default:
        break;
    }
}

void hth_sample_message(uint32_t i, struct hth_msg *out)
{
    static const uint8_t types[HTH_SAMPLES] = {
        HTH_MSG_HELLO,   HTH_MSG_PROVE,  HTH_MSG_NEXT,      HTH_MSG_REPORT,
        HTH_MSG_CHUNK,   HTH_MSG_SUBMIT, HTH_MSG_SUBMIT,    HTH_MSG_POLL,
        HTH_MSG_CANCEL,  HTH_MSG_LIST,   HTH_MSG_PAIR,      HTH_MSG_REVOKE,
        HTH_MSG_ERROR,   HTH_MSG_OK,     HTH_MSG_CHALLENGE, HTH_MSG_WELCOME,
        HTH_MSG_COMMAND, HTH_MSG_DATA,   HTH_MSG_ACCEPTED,  HTH_MSG_EVENTS,
        HTH_MSG_NODES,   HTH_MSG_CODE,   HTH_MSG_REPORT,    HTH_MSG_COMMAND,
        HTH_MSG_WHO};

    HTH_ASSERT(i < HTH_SAMPLES);
    memset(out, 0, sizeof *out);
    out->type = types[i];
    if (out->type < HTH_MSG_ERROR)
        fill_ask(i, out);
    else
        fill_answer(i, out);
}
