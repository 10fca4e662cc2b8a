/* lora_engine_test.c - adapters in the engine: several in one batch give what
 * each gives alone, over one rank and over several; nothing more is sent; the
 * cache does not mix them up; one in use cannot be taken away. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine_rig.h"
#include "folder.h"
#include "model/synth.h"
#include "scheduler/spread.h"
#include "support.h"
#include "worker/memory.h"

#define ADAPTERS 3u
#define PROMPT 40u
#define ANSWER 24u

static const double g_whole[] = {1}, g_three[] = {1, 2, 1},
                    g_idle[] = {0, 1, 1};

struct bench {
    struct folder f;
    char path[ADAPTERS][192];
    struct rig r;
    uint32_t ids[PROMPT];
};

static void bench_open(struct bench *b, const char *model, const double *shares,
                       uint32_t ranks)
{
    static const char *const types[ADAPTERS] = {"F16", "F32", "Q8_0"};
    struct hth_err err;
    char path[8192];

    if (golden_dir() == NULL)
        cr_skip_test("SKIPPED: no golden vectors (set HEARTH_GOLDEN)");
    snprintf(path, sizeof path, "%s", golden_path(model, ".gguf"));
    folder_init(&b->f);
    for (uint32_t i = 0; i < ADAPTERS; i++) {
        struct hth_synth_lora_opts o = {.model_path = path,
                                        .type = types[i],
                                        .rank = 4 + 8 * i,
                                        .alpha = 64,
                                        .seed = i + 1};
        char name[16];

        snprintf(name, sizeof name, "%u.gguf", i);
        snprintf(b->path[i], sizeof b->path[i], "%s", folder_path(&b->f, name));
        cr_assert_eq(hth_synth_lora(&o, b->path[i], &err), 0, "%s", err.text);
        rig_loras[i] = b->path[i];
    }
    rig_open(&b->r, model, shares, ranks);
    for (uint32_t i = 0; i < PROMPT; i++)
        b->ids[i] = 3 + i * 7 % 200;
}

static void bench_close(struct bench *b)
{
    rig_close(&b->r);
    folder_fini(&b->f);
}

/* Which adapters a request has, as bits; 0: none. */
static struct hth_request request(struct bench *b, struct answer *a,
                                  uint32_t mask)
{
    struct hth_request q;

    answer_init(a);
    q = answer_request(a, b->ids, PROMPT, ANSWER);
    for (uint32_t i = 0; i < ADAPTERS; i++)
        if (mask & 1u << i)
            q.lora[q.loras++] = (struct hth_lora_ask){i, 1.0f + (float)i / 4};
    q.variant = mask;
    return q;
}

static void ask(struct bench *b, struct answer *a, uint32_t mask, bool reuse)
{
    struct hth_request q = request(b, a, mask);

    q.reuse = reuse;
    rig_submit(&b->r, &q);
    answer_wait(a);
    cr_assert_eq(a->status, 0, "%s", a->err.text);
    cr_assert_eq(a->n, ANSWER);
}

static bool same(const struct answer *a, const struct answer *b)
{
    return memcmp(a->ids, b->ids, ANSWER * sizeof a->ids[0]) == 0;
}

/* ---- one batch ----------------------------------------------------------- */

static void together(const char *model, const double *shares, uint32_t ranks)
{
    static const uint32_t masks[] = {0, 1, 2, 4, 3, 7, 0, 1};
    struct answer alone[8], mixed[8];
    struct hth_request q[8];
    struct bench b;

    bench_open(&b, model, shares, ranks);
    for (uint32_t i = 0; i < 8; i++)
        ask(&b, &alone[i], masks[i], false);
    for (uint32_t i = 0; i < 8; i++)
        q[i] = request(&b, &mixed[i], masks[i]);
    for (uint32_t i = 0; i < 8; i++)
        rig_submit(&b.r, &q[i]);
    for (uint32_t i = 0; i < 8; i++) {
        answer_wait(&mixed[i]);
        cr_assert_eq(mixed[i].status, 0, "%s", mixed[i].err.text);
        cr_expect(same(&alone[i], &mixed[i]), "%s: request %u of 8", model, i);
    }
    cr_expect(same(&alone[0], &alone[6]) && same(&alone[1], &alone[7]));
    for (uint32_t i = 1; i < 6; i++)
        for (uint32_t k = 0; k < i; k++)
            cr_expect_not(same(&alone[i], &alone[k]), "%u and %u", i, k);
    bench_close(&b);
}

Test(lora_engine, several_in_one_batch, .timeout = 240)
{
    together("llama-gqa-Q4_0", g_whole, 1);
    together("llama-gqa-Q4_0", g_three, 3);
    together("qwen3-Q8_0", g_idle, 3);
}

/* With experts: of attention only. */
Test(lora_engine, beside_experts, .timeout = 240)
{
    together("qwen3moe-Q8_0", g_three, 3);
}

/* Any cut, the same answer. */
Test(lora_engine, one_rank_or_three, .timeout = 240)
{
    struct answer one, three;
    struct bench b;

    bench_open(&b, "llama-gqa-F16", g_whole, 1);
    ask(&b, &one, 3, false);
    bench_close(&b);
    bench_open(&b, "llama-gqa-F16", g_three, 3);
    ask(&b, &three, 3, false);
    bench_close(&b);
    cr_assert(same(&one, &three));
}

/* ---- on the wire --------------------------------------------------------- */

/* The bytes of a request, sent and received. What the request before it left
 * to be told goes along where the next one is quick, so it is asked often. */
static void bytes_of(struct bench *b, uint32_t mask, uint64_t out[2])
{
    struct answer a;

    out[0] = out[1] = UINT64_MAX;
    for (uint32_t i = 0; i < 10; i++) {
        ask(b, &a, 0, false);
        hth_sleep_ms(2);
        ask(b, &a, mask, false);
        out[0] = a.stats.sent_bytes < out[0] ? a.stats.sent_bytes : out[0];
        out[1] =
            a.stats.received_bytes < out[1] ? a.stats.received_bytes : out[1];
    }
}

/* One operation per adapter and worker when a request begins, and nothing else:
 * no byte per token, no message. */
Test(lora_engine, sends_nothing_more, .timeout = 240)
{
    uint64_t bare[2], two[2];
    struct bench b;

    bench_open(&b, "llama-gqa-Q4_0", g_three, 3);
    bytes_of(&b, 0, bare);
    bytes_of(&b, 3, two);
    cr_assert_eq(two[1], bare[1]);
    cr_assert_eq(two[0] - bare[0], 2 * 2 * 24, "%llu and %llu",
                 (unsigned long long)two[0], (unsigned long long)bare[0]);
    bench_close(&b);
}

/* ---- the cache ----------------------------------------------------------- */

static void cached(const double *shares, uint32_t ranks)
{
    struct answer cold[3], warm[3];
    struct bench b;

    bench_open(&b, "llama-gqa-Q4_0", shares, ranks);
    for (uint32_t i = 0; i < 3; i++)
        ask(&b, &cold[i], i, false);
    for (uint32_t i = 0; i < 3; i++) {
        ask(&b, &warm[i], i, true);
        cr_expect_eq(warm[i].stats.cached_tokens, 0, "another's keys");
        cr_expect(same(&cold[i], &warm[i]));
    }
    for (uint32_t i = 0; i < 3; i++) {
        ask(&b, &warm[i], i, true);
        cr_expect_eq(warm[i].stats.cached_tokens, 32, "its own keys");
        cr_expect(same(&cold[i], &warm[i]));
    }
    bench_close(&b);
}

Test(lora_engine, the_cache_tells_them_apart, .timeout = 120)
{
    cached(g_whole, 1);
    cached(g_three, 3);
}

#define LONG 200u

static uint32_t ask_long(struct bench *b, struct answer *a, uint32_t mask)
{
    uint32_t ids[LONG];
    struct hth_request q = request(b, a, mask);

    for (uint32_t i = 0; i < LONG; i++)
        ids[i] = 3 + i * 11 % 200;
    q.tokens = ids;
    q.count = LONG;
    q.reuse = true;
    rig_submit(&b->r, &q);
    answer_wait(a);
    cr_assert_eq(a->status, 0, "%s", a->err.text);
    return a->stats.cached_tokens;
}

/* A context that was computed with an adapter is read back for that one. */
Test(lora_engine, contexts_on_disk, .timeout = 120)
{
    uint64_t until = hth_now_ms() + 60000;
    struct answer first, other, again;
    struct folder kept;
    struct bench b;

    folder_init(&kept);
    rig_opts.kv_dir = kept.dir;
    bench_open(&b, "llama-gqa-Q4_0", g_three, 3);
    cr_assert_eq(ask_long(&b, &first, 1), 0);
    while (folder_count(&kept) != 4 && hth_now_ms() < until)
        hth_sleep_ms(10);
    cr_assert_eq(folder_count(&kept), 4, "three parts and the list");
    hth_sleep_ms(300); /* no .part among them */
    bench_close(&b);
    bench_open(&b, "llama-gqa-Q4_0", g_three, 3);
    cr_expect_eq(ask_long(&b, &other, 0), 0, "another's keys");
    cr_expect_eq(ask_long(&b, &again, 1), 192, "its own, from disk");
    cr_expect(same(&first, &again));
    cr_expect_not(same(&first, &other));
    bench_close(&b);
    folder_fini(&kept);
}

/* ---- prompts spread over ranks --------------------------------------------
 */

Test(lora_engine, prompts_with_adapters_take_steps, .timeout = 120)
{
    struct answer steps, ring;
    struct bench b;

    bench_open(&b, "llama-gqa-Q4_0", g_three, 3);
    ask(&b, &steps, 1, false);
    bench_close(&b);
    rig_prefill = HTH_PREFILL_RING;
    bench_open(&b, "llama-gqa-Q4_0", g_three, 3);
    ask(&b, &ring, 1, false);
    bench_close(&b);
    cr_assert_eq(ring.stats.prompt.mode, HTH_PREFILL_TP);
    cr_assert(same(&steps, &ring));
}

/* ---- memory ----------------------------------------------------------------
 */

/* What is set aside comes out of what weights may have, and bounds what is
 * held. */
Test(lora_engine, memory_is_counted, .timeout = 120)
{
    static struct hth_session s;
    struct hth_lora_place at = {&s.spec, &s.plan, 0};
    struct hth_adapter_slice slice;
    struct hth_adapters *a;
    struct hth_lora_file *f;
    uint64_t bare, with;
    struct hth_err err;
    struct bench b;

    bench_open(&b, "llama-gqa-Q4_0", g_whole, 1);
    rig_session(&b.r, &s, g_whole);
    cr_assert_eq(hth_memory_for_weights(&s, 1u << 30, &with, &err), 0);
    s.lora_bytes = 0;
    cr_assert_eq(hth_memory_for_weights(&s, 1u << 30, &bare, &err), 0);
    cr_assert_geq(bare - with, 16u << 20);
    cr_assert_lt(bare - with, 32u << 20);
    cr_assert_eq(hth_lora_file_open(&f, b.path[0], &s.spec, &err), 0);
    slice.bytes = hth_lora_slice_bytes(f, &at);
    cr_assert_eq(hth_adapters_open(&a, &at, 2 * slice.bytes - 1, &err), 0);
    for (uint32_t id = 5; id < 7; id++) {
        slice.data = hth_mem_alloc(slice.bytes);
        cr_assert_eq(hth_lora_slice(f, &at, slice.data, &err), 0);
        cr_assert_eq(hth_adapters_put(a, id, slice, &err),
                     id == 5 ? HTH_OK : HTH_EOVERFLOW);
    }
    cr_assert(strstr(err.text, "--lora-memory") != NULL, "%s", err.text);
    cr_assert_eq(hth_adapters_bytes(a), slice.bytes);
    cr_assert(hth_adapters_has(a, 5) && !hth_adapters_has(a, 6));
    cr_assert_eq(hth_adapters_drop(a, 5), HTH_OK);
    cr_assert_eq(hth_adapters_bytes(a), 0);
    hth_adapters_close(a);
    hth_lora_file_close(f);
    bench_close(&b);
}

/* ---- taking one away -------------------------------------------------------
 */

/* What a step may read at this moment is neither freed nor replaced, whoever
 * asks for it: the last guard, below that of the engine's requests. */
Test(lora_engine, a_slot_holds_its_adapters, .timeout = 120)
{
    static struct hth_session s;
    struct hth_lora_place at = {&s.spec, &s.plan, 0};
    struct hth_adapter_slice slice[2];
    uint32_t seq[2] = {3, 4};
    struct hth_adapters *a;
    struct hth_lora_file *f;
    struct hth_err err;
    struct bench b;

    bench_open(&b, "llama-gqa-Q4_0", g_whole, 1);
    rig_session(&b.r, &s, g_whole);
    cr_assert_eq(hth_lora_file_open(&f, b.path[0], &s.spec, &err), 0);
    for (int i = 0; i < 2; i++) {
        slice[i].bytes = hth_lora_slice_bytes(f, &at);
        slice[i].data = hth_mem_alloc(slice[i].bytes);
        cr_assert_eq(hth_lora_slice(f, &at, slice[i].data, &err), 0);
    }
    cr_assert_eq(hth_adapters_open(&a, &at, 2 * slice[0].bytes, &err), 0);
    cr_assert_eq(hth_adapters_put(a, 5, slice[0], &err), 0);
    cr_assert_eq(hth_adapters_use(a, 3, 6, 1, &err), HTH_EPROTO, "no such");
    cr_assert_null(hth_adapters_rows(a, seq, 2));
    cr_assert_eq(hth_adapters_use(a, 3, 5, 1, &err), 0);
    cr_assert_eq(hth_adapters_use(a, 4, 5, 0.5f, &err), 0);
    cr_assert_eq(hth_adapters_drop(a, 5), HTH_EBUSY);
    cr_assert_eq(hth_adapters_put(a, 5, slice[1], &err), HTH_EBUSY);
    cr_assert(strstr(err.text, "in use") != NULL, "%s", err.text);
    hth_adapters_unuse(a, 3);
    cr_assert_eq(hth_adapters_drop(a, 5), HTH_EBUSY, "slot 4 still has it");
    cr_assert(hth_adapters_has(a, 5));
    cr_assert_not_null(hth_adapters_rows(a, seq, 2));
    hth_adapters_unuse(a, 4);
    hth_adapters_unuse(a, 4);
    cr_assert_null(hth_adapters_rows(a, seq, 2));
    cr_assert_eq(hth_adapters_drop(a, 5), HTH_OK);
    cr_assert(!hth_adapters_has(a, 5));
    hth_adapters_close(a);
    hth_lora_file_close(f);
    bench_close(&b);
}

Test(lora_engine, one_in_use_stays, .timeout = 120)
{
    struct answer a;
    struct hth_request q;
    struct hth_err err;
    struct bench b;
    uint64_t id;

    bench_open(&b, "llama-gqa-Q4_0", g_three, 3);
    q = request(&b, &a, 2);
    q.generate_max = 150;
    id = rig_submit(&b.r, &q);
    cr_assert_eq(hth_engine_lora_drop(b.r.e, 1), HTH_EBUSY);
    cr_assert_eq(hth_engine_lora_drop(b.r.e, 0), HTH_OK);
    cr_assert_eq(hth_engine_lora_drop(b.r.e, 17), HTH_OK);
    hth_engine_cancel(b.r.e, id);
    answer_wait(&a);
    cr_assert_eq(hth_engine_lora_drop(b.r.e, 1), HTH_OK);
    q = request(&b, &a, 2);
    cr_assert_eq(hth_engine_submit(b.r.e, &q, &id, &err), HTH_ENOTFOUND);
    ask(&b, &a, 4, false);
    bench_close(&b);
}
