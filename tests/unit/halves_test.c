/* halves_test.c - two halves of a step's rows taking turns over real sealed
 * links: the bits are those of one piece; and which of the two is taken. */
#include <criterion/criterion.h>
#include <string.h>

#include "coordinator/turns.h"
#include "engine_rig.h"
#include "scheduler/spread.h"

#define MODEL "llama-gqa-F16"
#define PROMPT 97u
#define TOKENS 6u

/* The likeliest tokens of every place of an answer, with their numbers. */
struct likely {
    struct hth_logprob v[TOKENS][HTH_LOGPROBS_MAX];
    uint32_t n;
};

static struct likely *g_into;

static void keep(void *ctx, const struct hth_logprob *v, uint32_t n)
{
    (void)ctx;
    cr_assert(g_into->n < TOKENS && n <= HTH_LOGPROBS_MAX);
    memcpy(g_into->v[g_into->n++], v, n * sizeof *v);
}

/* A prompt's answer into *out; link frames that a rank sent for it. */
static uint64_t ask(struct rig *r, struct likely *out)
{
    uint32_t prompt[PROMPT];
    struct hth_link_counters before, after;
    struct hth_request q;
    struct answer a;

    for (uint32_t i = 0; i < PROMPT; i++)
        prompt[i] = (i * 37u + 5u) % 200u;
    memset(out, 0, sizeof *out);
    g_into = out;
    answer_init(&a);
    q = answer_request(&a, prompt, PROMPT, TOKENS);
    q.logprobs = 8;
    q.on_logprobs = keep;
    hth_link_counters(r->m[1].link, &before);
    rig_submit(r, &q);
    answer_wait(&a);
    cr_assert_eq(a.status, 0, "%s", a.err.text);
    cr_assert_eq(out->n, TOKENS);
    hth_link_counters(r->m[1].link, &after);
    return after.frames_sent - before.frames_sent;
}

/* The first long step is done as one, the second in halves (turns.h): a sum
 * more of each half layer. */
Test(halves, give_the_bits_of_one_piece, .timeout = 120)
{
    static const double shares[] = {1, 2, 1}, empty[] = {1, 0, 2};
    static struct likely one, two;

    rig_prefill = HTH_PREFILL_TP;
    rig_rows_max = 128;
    for (uint32_t i = 0; i < 2; i++) {
        uint64_t frames;
        struct rig r;

        rig_open(&r, MODEL, i == 0 ? shares : empty, 3);
        frames = ask(&r, &one);
        cr_assert_gt(ask(&r, &two), frames);
        cr_assert_eq(memcmp(&one, &two, sizeof one), 0);
        rig_close(&r);
    }
}

Test(turns, the_faster_way_stays)
{
    struct hth_turns t = {.steps = 0};

    cr_assert(!hth_turns_halves(&t, 512));
    hth_turns_note(&t, HTH_TURNS_ROWS_MIN - 1, false, 1000);
    cr_assert(!hth_turns_halves(&t, 512)); /* nothing to compare with */
    hth_turns_note(&t, 512, false, 512000);
    cr_assert(hth_turns_halves(&t, 512));
    cr_assert(!hth_turns_halves(&t, HTH_TURNS_ROWS_MIN - 1));
    hth_turns_note(&t, 512, true, 256000);
    cr_assert(hth_turns_halves(&t, 512));
    /* Once in a while the other one gets its chance, and may win. */
    for (uint32_t i = 0; hth_turns_halves(&t, 512); i++) {
        cr_assert_leq(i, HTH_TURNS_AGAIN);
        hth_turns_note(&t, 512, true, 256000);
    }
    hth_turns_note(&t, 512, false, 512000);
    cr_assert(hth_turns_halves(&t, 512));
    for (uint32_t i = 0; i < 200; i++)
        hth_turns_note(&t, 512, hth_turns_halves(&t, 512),
                       hth_turns_halves(&t, 512) ? 256000 : 51200);
    cr_assert(!hth_turns_halves(&t, 512) || t.steps >= HTH_TURNS_AGAIN);
    cr_assert_lt(t.row_ns[0], t.row_ns[1]);
}
