/* step_test.c - messages of a step and a session: what is encoded comes back,
 * and no change of bytes does harm. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "model/gguf.h"
#include "support.h"
#include "worker/rank.h"
#include "worker/step.h"

#define DIM 8u

static const struct hth_step_bounds g_bounds = {DIM, 16, 100};

static void sample(struct hth_step *s, float *x)
{
    memset(s, 0, sizeof *s);
    s->kind = HTH_STEP_RUN;
    s->rows = 5;
    s->wants = 2;
    s->candidates = 3;
    s->ops = 2;
    s->op[0] = (struct hth_step_op){HTH_OP_CUT, 63, 0, 48, 0};
    s->op[1] = (struct hth_step_op){HTH_OP_FORK, 7, 255, 96, 1ull << 60};
    for (uint32_t i = 0; i < 5; i++) {
        s->seq[i] = i % 2;
        s->pos[i] = 10 + i;
    }
    s->want[0] = 1;
    s->want[1] = 4;
    for (uint32_t i = 0; i < 5 * DIM; i++)
        x[i] = (float)i / 3;
}

Test(step, comes_back_as_it_was)
{
    static struct hth_step a, b;
    float x[16 * DIM], y[16 * DIM];
    uint8_t raw[4096];
    size_t n;

    sample(&a, x);
    n = hth_step_encode(&a, x, DIM, raw);
    cr_assert_eq(n, hth_step_bytes(&a, DIM));
    cr_assert_leq(n, hth_step_bytes_max(&g_bounds));
    memset(&b, 0, sizeof b);
    cr_assert_eq(hth_step_decode(&b, y, &g_bounds, raw, n), HTH_OK);
    cr_assert_eq(memcmp(&a, &b, sizeof a), 0);
    cr_assert_eq(memcmp(x, y, 5 * DIM * sizeof *x), 0);
}

Test(step, refuses_what_does_not_fit)
{
    static struct hth_step a, b;
    float x[16 * DIM], y[16 * DIM];
    uint8_t raw[4096];
    size_t n;

    sample(&a, x);
    n = hth_step_encode(&a, x, DIM, raw);
    for (size_t cut = 0; cut < n; cut++)
        cr_assert_eq(hth_step_decode(&b, y, &g_bounds, raw, cut), HTH_EPROTO);
    a.pos[2] = 100;
    n = hth_step_encode(&a, x, DIM, raw);
    cr_assert_eq(hth_step_decode(&b, y, &g_bounds, raw, n), HTH_EPROTO);
    sample(&a, x);
    a.seq[4] = HTH_SLOTS_MAX;
    n = hth_step_encode(&a, x, DIM, raw);
    cr_assert_eq(hth_step_decode(&b, y, &g_bounds, raw, n), HTH_EPROTO);
    sample(&a, x);
    a.want[0] = 5;
    n = hth_step_encode(&a, x, DIM, raw);
    cr_assert_eq(hth_step_decode(&b, y, &g_bounds, raw, n), HTH_EPROTO);
}

Test(step, refuses_operations_that_cannot_be)
{
    static const struct hth_step_op bad[] = {
        {0, 1, 2, 3, 0},
        {HTH_OP_ADAPT + 1, 1, 2, 3, 0},
        {HTH_OP_CUT, HTH_SLOTS_MAX, 0, 3, 0},
        {HTH_OP_CUT, 1, 0, 101, 0},
        {HTH_OP_FORK, HTH_SLOTS_MAX, 2, 3, 0},
        {HTH_OP_FORK, 1, HTH_SLOTS_MAX, 3, 0},
        {HTH_OP_FORK, 1, 1, 3, 0},
        {HTH_OP_FORK, 1, 2, 101, 0},
        {HTH_OP_ADAPT, 1, HTH_LORAS_MAX, 0, 0},
    };
    static struct hth_step a, b;
    float x[16 * DIM], y[16 * DIM];
    uint8_t raw[4096];

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        size_t n;

        sample(&a, x);
        a.op[1] = bad[i];
        n = hth_step_encode(&a, x, DIM, raw);
        cr_assert_eq(hth_step_decode(&b, y, &g_bounds, raw, n), HTH_EPROTO,
                     "operation %zu", i);
    }
}

Test(step, survives_any_change)
{
    static struct hth_step a, b;
    float x[16 * DIM], y[16 * DIM];
    uint8_t raw[4096], bad[4096];
    struct hth_rng rng;
    size_t n;

    hth_rng_init(&rng, 5);
    sample(&a, x);
    n = hth_step_encode(&a, x, DIM, raw);
    for (int i = 0; i < 20000; i++) {
        memcpy(bad, raw, n);
        bad[hth_rng_u64(&rng) % n] ^= (uint8_t)(1 + hth_rng_u64(&rng) % 255);
        if (hth_step_decode(&b, y, &g_bounds, bad, n) == HTH_OK)
            cr_assert(b.rows <= 16 && b.wants <= HTH_STEP_WANTS_MAX);
    }
}

Test(step, results_merge)
{
    static struct hth_step s;
    float logits[2 * 50], x[16 * DIM];
    struct hth_slice slice = {1000, 50};
    struct hth_candidate c[50];
    uint8_t raw[2 * 50 * 8];

    sample(&s, x);
    for (uint32_t i = 0; i < 100; i++)
        logits[i] = (float)((i * 37) % 100);
    hth_result_encode(&s, &slice, logits, raw);
    cr_assert_eq(hth_result_bytes(2, 3, 50), 48u);
    cr_assert_eq(hth_result_row(&s, &slice, 1, raw, c), 3);
    cr_assert(c[0].logit >= c[1].logit && c[0].id >= 1000);
    hth_store_u32(raw + 24, 999);
    cr_assert_eq(hth_result_row(&s, &slice, 1, raw, c), HTH_EPROTO);
    s.candidates = 0;
    hth_result_encode(&s, &slice, logits, raw);
    cr_assert_eq(hth_result_bytes(2, 0, 50), 400u);
    cr_assert_eq(hth_result_row(&s, &slice, 1, raw, c), 50);
    cr_assert(c[49].id == 1049 && c[49].logit == logits[99]);
}

static void make_session(struct hth_session *s)
{
    struct hth_gguf *g;
    struct hth_shape shape;
    double w[3] = {1, 2, 1};
    char path[8192];
    struct hth_err err;

    snprintf(path, sizeof path, "%s", golden_path("llama3-rope-Q8_0", ".gguf"));
    cr_assert_eq(hth_gguf_open(&g, path, &err), 0, "%s", err.text);
    cr_assert_eq(hth_spec_read(&s->spec, g, &err), 0, "%s", err.text);
    hth_spec_shape(&s->spec, HTH_F16, &shape);
    cr_assert_eq(hth_plan_make(&shape, w, 3, &s->plan, &err), 0);
    hth_gguf_close(g);
    s->id = 77;
    s->rank = 2;
    s->ctx_max = 128;
    s->kv_positions_max = 256;
    s->rows_max = 32;
    s->kv_type = HTH_F16;
    s->wire_type = HTH_WIRE_Q8;
}

Test(session, comes_back_and_survives_any_change)
{
    struct hth_session *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b);
    struct hth_cursor c;
    struct hth_buf buf;
    struct hth_rng rng;
    struct hth_err err;

    if (golden_dir() == NULL)
        cr_skip_test("SKIPPED: no golden vectors (set HEARTH_GOLDEN)");
    hth_rng_init(&rng, 11);
    make_session(a);
    hth_buf_init(&buf, HTH_SESSION_BYTES_MAX);
    hth_session_encode(a, &buf);
    cr_assert_not(buf.failed);
    hth_cursor_init(&c, buf.data, buf.len);
    cr_assert_eq(hth_session_decode(b, &c, &err), 0, "%s", err.text);
    cr_assert_eq(memcmp(&a->plan, &b->plan, sizeof a->plan), 0);
    cr_assert_eq(memcmp(a->spec.rope_factors, b->spec.rope_factors,
                        sizeof a->spec.rope_factors),
                 0);
    for (size_t cut = 0; cut < buf.len; cut++) {
        hth_cursor_init(&c, buf.data, cut);
        cr_assert_neq(hth_session_decode(b, &c, &err), 0);
    }
    for (int i = 0; i < 5000; i++) {
        size_t at = hth_rng_u64(&rng) % buf.len;
        uint8_t old = buf.data[at];

        buf.data[at] ^= (uint8_t)(1 + hth_rng_u64(&rng) % 255);
        hth_cursor_init(&c, buf.data, buf.len);
        if (hth_session_decode(b, &c, &err) == HTH_OK)
            for (uint32_t k = 0; k < hth_shard_blocks(&b->spec); k++) {
                struct hth_block block;

                hth_shard_block(&b->spec, &b->plan, b->rank, k, &block);
            }
        buf.data[at] = old;
    }
    hth_buf_fini(&buf);
    free(a);
    free(b);
}
