/* sampler_test.c - each rule of the sampler against its definition. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "model/sampler.h"

#define VOCAB 100u

static void random_logits(float *logits, uint64_t seed)
{
    struct hth_rng rng;

    hth_rng_init(&rng, seed);
    for (uint32_t i = 0; i < VOCAB; i++)
        logits[i] = 3 * hth_rng_normal(&rng);
}

static uint32_t pick(const struct hth_sampling *p, const float *logits,
                     const uint32_t *history, uint32_t n)
{
    struct hth_candidate c[VOCAB];
    struct hth_sampler *s;
    uint32_t id;

    cr_assert_eq(hth_sampler_open(&s, p, VOCAB), HTH_OK);
    for (uint32_t i = 0; i < n; i++)
        hth_sampler_accept(s, history[i]);
    for (uint32_t i = 0; i < VOCAB; i++)
        c[i] = (struct hth_candidate){i, logits[i]};
    id = hth_sampler_pick(s, c, VOCAB);
    hth_sampler_close(s);
    return id;
}

static uint32_t argmax(const float *logits)
{
    uint32_t best = 0;

    for (uint32_t i = 1; i < VOCAB; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

Test(sampler, greedy_takes_the_best_and_the_lowest_of_equals)
{
    struct hth_sampling p;
    float logits[VOCAB];

    hth_sampling_default(&p);
    p.temperature = 0;
    random_logits(logits, 1);
    cr_assert_eq(pick(&p, logits, NULL, 0), argmax(logits));
    logits[70] = logits[20] = 50;
    cr_assert_eq(pick(&p, logits, NULL, 0), 20u);
}

Test(sampler, top_k_one_is_greedy_and_seeds_repeat)
{
    struct hth_sampling p;
    float logits[VOCAB];
    uint32_t seen[2] = {0, 0};

    hth_sampling_default(&p);
    random_logits(logits, 2);
    p.top_k = 1;
    cr_assert_eq(pick(&p, logits, NULL, 0), argmax(logits));
    p.top_k = 0;
    p.temperature = 5;
    for (uint64_t seed = 0; seed < 50; seed++) {
        p.seed = seed;
        cr_assert_eq(pick(&p, logits, NULL, 0), pick(&p, logits, NULL, 0));
        seen[pick(&p, logits, NULL, 0) == argmax(logits)]++;
    }
    cr_assert_gt(seen[0], 0u);
}

/* Frequencies of many draws must follow the softmax at the temperature. */
Test(sampler, draws_follow_the_distribution)
{
    struct hth_sampling p;
    float logits[VOCAB];
    struct hth_sampler *s;
    double want[VOCAB], sum = 0;
    uint32_t count[VOCAB] = {0};
    const uint32_t draws = 200000;

    hth_sampling_default(&p);
    p.top_k = 0;
    p.top_p = 1;
    p.min_p = 0;
    p.temperature = 1.5f;
    random_logits(logits, 3);
    for (uint32_t i = 0; i < VOCAB; i++)
        sum += want[i] = exp(logits[i] / 1.5);
    cr_assert_eq(hth_sampler_open(&s, &p, VOCAB), HTH_OK);
    for (uint32_t d = 0; d < draws; d++) {
        struct hth_candidate c[VOCAB];

        for (uint32_t i = 0; i < VOCAB; i++)
            c[i] = (struct hth_candidate){i, logits[i]};
        count[hth_sampler_pick(s, c, VOCAB)]++;
    }
    hth_sampler_close(s);
    for (uint32_t i = 0; i < VOCAB; i++)
        cr_assert_float_eq((double)count[i] / draws, want[i] / sum, 0.005);
}

Test(sampler, top_p_and_min_p_cut_the_tail)
{
    struct hth_sampling p;
    float logits[VOCAB];

    hth_sampling_default(&p);
    for (uint32_t i = 0; i < VOCAB; i++)
        logits[i] = i < 2 ? 5.0f : 0.0f;
    p.top_k = 0;
    p.min_p = 0;
    p.top_p = 0.6f; /* the two best hold 0.75 */
    for (p.seed = 0; p.seed < 300; p.seed++)
        cr_assert_lt(pick(&p, logits, NULL, 0), 2u);
    p.top_p = 1;
    p.min_p = 0.1f;
    for (p.seed = 0; p.seed < 300; p.seed++)
        cr_assert_lt(pick(&p, logits, NULL, 0), 2u);
}

/* One token holds 0.4 of the probability, eight hold 0.07 each: the eight are
 * as surprising as is to be expected, the likeliest one is not. */
Test(sampler, typical_p_keeps_what_surprises_as_expected)
{
    struct hth_sampling p;
    float logits[VOCAB];
    uint32_t first = 0;

    hth_sampling_default(&p);
    for (uint32_t i = 0; i < VOCAB; i++)
        logits[i] = i == 3 ? logf(0.4f) : i >= 8 && i < 16 ? logf(0.07f) : -50;
    p.top_k = 0;
    p.top_p = 1;
    p.min_p = 0;
    p.temperature = 1;
    p.typical_p = 0.5f;
    for (p.seed = 0; p.seed < 300; p.seed++) {
        uint32_t id = pick(&p, logits, NULL, 0);

        cr_assert(id >= 8 && id < 16, "%u", id);
    }
    p.typical_p = 0.9f; /* the eight hold 0.58: the one comes too */
    for (p.seed = 0; p.seed < 300; p.seed++)
        first += pick(&p, logits, NULL, 0) == 3;
    cr_assert(first > 60 && first < 180, "%u", first);
    p.typical_p = 1;
    for (p.seed = first = 0; p.seed < 300; p.seed++)
        first += pick(&p, logits, NULL, 0) == 3;
    cr_assert(first > 60 && first < 180, "%u", first);
}

Test(sampler, penalties_and_bias_move_the_choice)
{
    struct hth_sampling p;
    float logits[VOCAB] = {0};
    const uint32_t history[] = {4, 4, 4};

    hth_sampling_default(&p);
    p.temperature = 0;
    logits[4] = 2;
    logits[9] = 1.5f;
    cr_assert_eq(pick(&p, logits, history, 3), 4u);
    p.repeat_penalty = 2;
    cr_assert_eq(pick(&p, logits, history, 3), 9u);
    p.repeat_penalty = 1;
    p.frequency_penalty = 0.2f; /* three times 0.2 is more than 0.5 */
    cr_assert_eq(pick(&p, logits, history, 3), 9u);
    p.frequency_penalty = 0;
    p.presence_penalty = 0.6f;
    cr_assert_eq(pick(&p, logits, history, 3), 9u);
    p.repeat_last_n = 0;
    cr_assert_eq(pick(&p, logits, history, 3), 4u);
    p.biases = 1;
    p.bias[0] = (struct hth_bias){4, -INFINITY};
    cr_assert_eq(pick(&p, logits, history, 3), 9u);
}

/* What falls out of the window is forgotten. */
Test(sampler, history_is_bounded)
{
    struct hth_sampling p;
    float logits[VOCAB] = {0};
    const uint32_t history[] = {4, 7, 8};

    hth_sampling_default(&p);
    p.temperature = 0;
    p.presence_penalty = 5;
    p.repeat_last_n = 2;
    logits[4] = 1;
    cr_assert_eq(pick(&p, logits, history, 3), 4u);
    p.repeat_last_n = 3;
    cr_assert_neq(pick(&p, logits, history, 3), 4u);
}

Test(sampler, candidates_of_slices_give_the_same_choice)
{
    struct hth_sampling p;
    float logits[VOCAB];

    hth_sampling_default(&p);
    p.top_k = 7;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct hth_candidate c[VOCAB];
        struct hth_sampler *s;
        uint32_t n = 0, k;

        p.seed = seed;
        random_logits(logits, seed + 100);
        k = hth_sampling_candidates(&p);
        cr_assert_eq(k, 7u);
        n += hth_top_candidates(logits, 33, 0, k, c + n);
        n += hth_top_candidates(logits + 33, 2, 33, k, c + n);
        n += hth_top_candidates(logits + 35, 65, 35, k, c + n);
        cr_assert_eq(hth_sampler_open(&s, &p, VOCAB), HTH_OK);
        cr_assert_eq(hth_sampler_pick(s, c, n), pick(&p, logits, NULL, 0));
        hth_sampler_close(s);
    }
}

Test(sampler, top_candidates_are_sorted_and_survive_nan)
{
    float logits[VOCAB];
    struct hth_candidate c[10];

    random_logits(logits, 9);
    logits[3] = NAN;
    logits[8] = INFINITY;
    cr_assert_eq(hth_top_candidates(logits, VOCAB, 1000, 10, c), 10u);
    cr_assert_eq(c[0].id, 1008u);
    for (int i = 1; i < 10; i++)
        cr_assert(c[i].logit <= c[i - 1].logit && c[i].id != 1003);
    cr_assert_eq(hth_top_candidates(logits, 0, 0, 10, c), 0u);
}

Test(sampler, nothing_but_minus_infinity_still_gives_a_token)
{
    struct hth_sampling p;
    float logits[VOCAB];

    hth_sampling_default(&p);
    for (uint32_t i = 0; i < VOCAB; i++)
        logits[i] = -INFINITY;
    cr_assert_lt(pick(&p, logits, NULL, 0), VOCAB);
}

Test(sampler, parameters_out_of_range_are_named)
{
    struct hth_sampling p;
    struct hth_err err;

    hth_sampling_default(&p);
    cr_assert_eq(hth_sampling_check(&p, VOCAB, &err), HTH_OK);
    p.top_p = 1.5f;
    cr_assert_eq(hth_sampling_check(&p, VOCAB, &err), HTH_EINVAL);
    cr_assert(strstr(err.text, "top-p") != NULL);
    hth_sampling_default(&p);
    p.temperature = NAN;
    cr_assert_eq(hth_sampling_check(&p, VOCAB, &err), HTH_EINVAL);
    hth_sampling_default(&p);
    p.biases = 1;
    p.bias[0].id = VOCAB;
    cr_assert_eq(hth_sampling_check(&p, VOCAB, &err), HTH_EINVAL);
}
