/* message_test.c - the control codec: every message survives a round trip,
 * and none of a thousand flips or a hundred cuts of each does any harm. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "net/message.h"
#include "tests/unit/message_samples.h"

static void encode(struct hth_buf *b, const struct hth_msg *m)
{
    hth_buf_init(b, HTH_CONTROL_BYTES_MAX);
    hth_msg_encode(b, m);
    cr_assert(!b->failed, "%s", hth_msg_type_text(m->type));
}

/* Decoding and encoding again gives the same bytes: no field is lost. */
Test(message, round_trip)
{
    struct hth_buf a, b;
    struct hth_msg m, back;
    struct hth_err err = {0};
    uint32_t i;

    for (i = 0; i < HTH_SAMPLES; i++) {
        hth_sample_message(i, &m);
        encode(&a, &m);
        cr_assert_eq(hth_msg_decode(&back, a.data, a.len, &err), HTH_OK, "%s",
                     err.text);
        cr_assert_eq(back.type, m.type);
        encode(&b, &back);
        cr_assert_eq(a.len, b.len, "%s", hth_msg_type_text(m.type));
        cr_assert_eq(memcmp(a.data, b.data, a.len), 0);
        hth_buf_fini(&a);
        hth_buf_fini(&b);
    }
}

Test(message, fields_arrive)
{
    struct hth_buf a;
    struct hth_msg m, back;
    struct hth_msg_block block;

    hth_sample_message(0, &m);
    encode(&a, &m);
    cr_assert_eq(hth_msg_decode(&back, a.data, a.len, NULL), HTH_OK);
    cr_assert_str_eq(back.u.hello.isa, "neon");
    cr_assert_eq(back.u.hello.instance, 0x1122334455667788u);
    cr_assert_eq(back.u.hello.certificate.n, 32);
    hth_buf_fini(&a);
    hth_sample_message(16, &m);
    encode(&a, &m);
    cr_assert_eq(hth_msg_decode(&back, a.data, a.len, NULL), HTH_OK);
    cr_assert_eq(hth_msg_blocks(&back.u.command), 2);
    hth_msg_block_at(&back.u.command, 0, &block);
    cr_assert_eq(block.bytes, 4096);
    cr_assert_eq(block.hash[31], 9);
    hth_buf_fini(&a);
}

Test(message, events_arrive_in_order)
{
    static const uint8_t kinds[] = {HTH_EVENT_TOKEN, HTH_EVENT_PROMPT,
                                    HTH_EVENT_WAITING, HTH_EVENT_ERROR,
                                    HTH_EVENT_DONE};
    struct hth_buf a;
    struct hth_msg m, back;
    struct hth_cursor c;
    struct hth_event e;
    uint32_t n = 0;

    hth_sample_message(19, &m);
    encode(&a, &m);
    cr_assert_eq(hth_msg_decode(&back, a.data, a.len, NULL), HTH_OK);
    hth_cursor_init(&c, back.u.events.list.p, back.u.events.list.n);
    while (hth_event_next(&c, &e))
        cr_assert_eq(e.kind, kinds[n++]);
    cr_assert_eq(n, 5);
    cr_assert_float_eq(e.stats.wait_s, 0, 1e-9);
    hth_buf_fini(&a);
}

/* Walk what a successful decode promised is walkable. */
static void use(const struct hth_msg *m)
{
    struct hth_msg_block block;
    struct hth_msg_node node;
    struct hth_event event;
    struct hth_cursor c;
    uint32_t i;

    if (m->type == HTH_MSG_COMMAND)
        for (i = 0; i < hth_msg_blocks(&m->u.command); i++)
            hth_msg_block_at(&m->u.command, i, &block);
    if (m->type == HTH_MSG_SUBMIT)
        for (i = 0; i < m->u.submit.id_count; i++)
            (void)hth_msg_submit_id_at(&m->u.submit, i);
    if (m->type == HTH_MSG_EVENTS) {
        hth_cursor_init(&c, m->u.events.list.p, m->u.events.list.n);
        while (hth_event_next(&c, &event))
            ;
        cr_assert(!c.failed);
    }
    if (m->type == HTH_MSG_NODES) {
        hth_cursor_init(&c, m->u.nodes.list.p, m->u.nodes.list.n);
        while (hth_msg_node_next(&c, &node))
            cr_assert(isfinite(node.share));
        cr_assert(!c.failed);
    }
}

/* A copy of its own so that a sanitizer sees one byte too far. */
static int decode_copy(const uint8_t *p, size_t n)
{
    uint8_t *copy = malloc(n > 0 ? n : 1);
    struct hth_err err = {0};
    struct hth_msg m;
    int status;

    memcpy(copy, p, n);
    status = hth_msg_decode(&m, copy, n, &err);
    if (status == HTH_OK)
        use(&m);
    else
        cr_assert(err.text[0] != '\0' && err.status == status);
    free(copy);
    return status;
}

Test(message, flipped_bytes)
{
    struct hth_rng rng;
    struct hth_buf a;
    struct hth_msg m;
    uint32_t i, round, refused = 0;
    size_t at;
    uint8_t was;

    hth_rng_init(&rng, 1);
    for (i = 0; i < HTH_SAMPLES; i++) {
        hth_sample_message(i, &m);
        encode(&a, &m);
        for (round = 0; round < 1000; round++) {
            at = (size_t)(hth_rng_u64(&rng) % a.len);
            was = a.data[at];
            a.data[at] ^= (uint8_t)(1 + hth_rng_u64(&rng) % 255);
            refused += decode_copy(a.data, a.len) != HTH_OK;
            a.data[at] = was;
        }
        hth_buf_fini(&a);
    }
    cr_assert_gt(refused, 1000u);
}

/* Every strict prefix is an error; there is no message that ends early. */
Test(message, truncated)
{
    struct hth_buf a;
    struct hth_msg m;
    uint32_t i;
    size_t n, step;

    for (i = 0; i < HTH_SAMPLES; i++) {
        hth_sample_message(i, &m);
        encode(&a, &m);
        step = a.len / 100 + 1;
        for (n = 0; n < a.len; n += step)
            cr_assert_neq(decode_copy(a.data, n), HTH_OK, "%s cut at %zu",
                          hth_msg_type_text(m.type), n);
        hth_put_u8(&a, 0);
        cr_assert_neq(decode_copy(a.data, a.len), HTH_OK, "one byte more");
        hth_buf_fini(&a);
    }
}

Test(message, refuses_control_characters)
{
    struct hth_buf a;
    struct hth_msg m = {.type = HTH_MSG_REVOKE};

    snprintf(m.u.revoke.device, sizeof m.u.revoke.device, "desk");
    encode(&a, &m);
    a.data[a.len - 1] = 0x1b;
    cr_assert_eq(decode_copy(a.data, a.len), HTH_EFORMAT);
    hth_buf_fini(&a);
    snprintf(m.u.revoke.device, sizeof m.u.revoke.device, "a\nb");
    encode(&a, &m);
    cr_assert_eq(decode_copy(a.data, a.len), HTH_OK, "writing replaces them");
    hth_buf_fini(&a);
}

/* The sentence says which side is behind; hello and error get through. */
Test(message, protocol_mismatch)
{
    struct hth_buf a;
    struct hth_msg m = {.type = HTH_MSG_LIST};
    struct hth_err err;

    encode(&a, &m);
    a.data[2] = HTH_PROTOCOL_MAX + 1;
    cr_assert_eq(hth_msg_decode(&m, a.data, a.len, &err), HTH_EVERSION);
    cr_assert_not_null(strstr(err.text, "upgrade the receiving"));
    hth_buf_fini(&a);
    hth_sample_message(0, &m);
    encode(&a, &m);
    a.data[2] = HTH_PROTOCOL_MAX + 1;
    cr_assert_eq(hth_msg_decode(&m, a.data, a.len, &err), HTH_OK);
    hth_buf_fini(&a);
}

Test(message, limits_are_kept)
{
    struct hth_buf a;
    struct hth_msg m = {.type = HTH_MSG_CHUNK};

    m.u.chunk.length = HTH_CHUNK_BYTES + 1;
    encode(&a, &m);
    cr_assert_eq(decode_copy(a.data, a.len), HTH_EFORMAT);
    hth_buf_fini(&a);
    m.u.chunk.length = 0;
    encode(&a, &m);
    cr_assert_eq(decode_copy(a.data, a.len), HTH_EFORMAT);
    hth_buf_fini(&a);
    m = (struct hth_msg){.type = HTH_MSG_HELLO};
    m.u.hello.read_bytes_per_s = NAN;
    encode(&a, &m);
    cr_assert_eq(decode_copy(a.data, a.len), HTH_EFORMAT);
    hth_buf_fini(&a);
}

Test(message, proof_binds_both_sides)
{
    struct hth_msg_hello h = {.device = "D", .instance = 1};
    struct hth_msg_challenge c = {.server = "S"};
    struct hth_buf a, b;

    hth_buf_init(&a, 4096);
    hth_buf_init(&b, 4096);
    hth_msg_proof_text(&a, &h, &c);
    c.nonce[0] = 1;
    hth_msg_proof_text(&b, &h, &c);
    cr_assert_neq(memcmp(a.data, b.data, a.len), 0);
    c.nonce[0] = 0;
    h.nonce[0] = 1;
    hth_buf_reset(&b);
    hth_msg_proof_text(&b, &h, &c);
    cr_assert_neq(memcmp(a.data, b.data, a.len), 0);
    h.nonce[0] = 0;
    snprintf(c.server, sizeof c.server, "T");
    hth_buf_reset(&b);
    hth_msg_proof_text(&b, &h, &c);
    cr_assert_neq(memcmp(a.data, b.data, a.len), 0);
    hth_buf_fini(&a);
    hth_buf_fini(&b);
}
