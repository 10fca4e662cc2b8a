/* star_test.c - collectives: ranks as threads over sealed links. */
#include <criterion/criterion.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "kernels/ops.h"
#include "kernels/type.h"
#include "net/frame.h"
#include "net/star_internal.h"
#include "net_cluster.h"

#define MS 3000u
#define RANKS_MAX 6u

/* ---- a group ------------------------------------------------------------- */

struct group {
    uint32_t ranks;
    struct hth_pool *pool;
    struct hth_link *root[RANKS_MAX]; /* rank 0's ends */
    struct hth_link *leaf[RANKS_MAX]; /* [r - 1]: rank r's end */
    struct hth_star *star[RANKS_MAX];
};

static void group_open(struct group *g, uint32_t ranks, uint32_t threads)
{
    *g = (struct group){.ranks = ranks};
    cr_assert_eq(hth_isa_init(NULL), 0);
    if (threads > 1)
        cr_assert_eq(hth_pool_start(&g->pool, threads, false, NULL), 0);
    for (uint32_t r = 1; r < ranks; r++) {
        struct hth_link *l[2];

        tnet_raw_pair(HTH_CIPHER_AES128_GCM, l);
        g->root[r - 1] = l[0];
        g->leaf[r - 1] = l[1];
    }
    for (uint32_t r = 0; r < ranks; r++) {
        struct hth_star_opts o = {.rank = r,
                                  .ranks = ranks,
                                  .links = r ? &g->leaf[r - 1] : g->root,
                                  .pool = r ? NULL : g->pool,
                                  .timeout_ms = MS};

        cr_assert_eq(hth_star_open(&g->star[r], &o, NULL), 0);
    }
}

static void group_close(struct group *g)
{
    for (uint32_t r = 0; r < g->ranks; r++)
        hth_star_close(g->star[r]);
    for (uint32_t r = 1; r < g->ranks; r++) {
        hth_link_close(g->root[r - 1]);
        hth_link_close(g->leaf[r - 1]);
    }
    hth_pool_stop(g->pool);
}

struct rank_job {
    struct hth_star *star;
    float *x;
    size_t n;
    enum hth_wire wire;
    unsigned times;
    int status;
};

static void *run_rank(void *arg)
{
    struct rank_job *j = arg;

    j->status = HTH_OK;
    for (unsigned i = 0; i < j->times && j->status == HTH_OK; i++)
        j->status =
            hth_star_all_reduce(j->star, j->x + i * j->n, j->n, j->wire);
    return NULL;
}

static void run_all(struct group *g, struct rank_job *jobs)
{
    pthread_t t[RANKS_MAX];

    for (uint32_t r = 1; r < g->ranks; r++)
        pthread_create(&t[r], NULL, run_rank, &jobs[r]);
    run_rank(&jobs[0]);
    for (uint32_t r = 1; r < g->ranks; r++)
        pthread_join(t[r], NULL);
}

/* ---- sums ---------------------------------------------------------------- */

static float *numbers(size_t n, uint64_t seed)
{
    float *x = malloc(n * sizeof *x);
    struct hth_rng r;

    hth_rng_init(&r, seed);
    for (size_t i = 0; i < n; i++)
        x[i] = hth_rng_normal(&r) * (i % 97 == 0 ? 60.0f : 1.0f);
    return x;
}

/* What every rank must hold, written down as the header says it. */
static void expected(float *const *part, uint32_t ranks, size_t n,
                     enum hth_wire wire, float *sum)
{
    uint8_t *coded = malloc(hth_wire_bytes(wire, n));
    float *seen = malloc(n * sizeof *seen);

    memcpy(sum, part[0], n * sizeof *sum);
    if (ranks == 2) { /* both partials as sent; the sum is not rounded */
        hth_wire_encode(wire, part[0], coded, n);
        hth_wire_decode(wire, coded, sum, n);
    }
    for (uint32_t r = 1; r < ranks; r++) {
        hth_wire_encode(wire, part[r], coded, n);
        hth_wire_decode(wire, coded, seen, n);
        for (size_t i = 0; i < n; i++)
            sum[i] += seen[i];
    }
    if (ranks != 2) {
        hth_wire_encode(wire, sum, coded, n);
        hth_wire_decode(wire, coded, sum, n);
    }
    free(coded);
    free(seen);
}

struct sum_case {
    uint32_t ranks;
    uint32_t threads;
    size_t n;
    enum hth_wire wire;
};

static void check_counters(const struct group *g, const struct sum_case *c)
{
    struct hth_star_cost cost = hth_star_all_reduce_cost(c->wire, c->n);

    for (uint32_t r = 1; r < g->ranks; r++) {
        struct hth_link_counters k;

        hth_link_counters(g->leaf[r - 1], &k);
        cr_assert_eq(k.payload_bytes_sent, cost.payload_bytes);
        cr_assert_eq(k.payload_bytes_received, cost.payload_bytes);
        cr_assert_eq(k.frames_sent, cost.frames);
        cr_assert_eq(k.frames_received, cost.frames);
        cr_assert_eq(k.overhead_bytes_sent, cost.overhead_bytes);
        cr_assert_eq(k.overhead_bytes_received, cost.overhead_bytes);
    }
}

static void check_sum(const struct sum_case *c)
{
    struct rank_job jobs[RANKS_MAX];
    float *part[RANKS_MAX];
    float *sum = malloc(c->n * sizeof *sum);
    struct group g;

    group_open(&g, c->ranks, c->threads);
    for (uint32_t r = 0; r < c->ranks; r++)
        part[r] = numbers(c->n, r + 1);
    expected(part, c->ranks, c->n, c->wire, sum);
    for (uint32_t r = 0; r < c->ranks; r++)
        jobs[r] =
            (struct rank_job){g.star[r], part[r], c->n, c->wire, 1, HTH_OK};
    run_all(&g, jobs);
    for (uint32_t r = 0; r < c->ranks; r++) {
        cr_assert_eq(jobs[r].status, 0, "%s", hth_star_error(g.star[r])->text);
        cr_assert_eq(memcmp(part[r], sum, c->n * sizeof *sum), 0,
                     "rank %u of %u, %zu numbers, %s", r, c->ranks, c->n,
                     hth_wire_name(c->wire));
        free(part[r]);
    }
    check_counters(&g, c);
    group_close(&g);
    free(sum);
}

Test(star, sums_in_rank_order_bit_for_bit, .timeout = 120)
{
    static const size_t sizes[] = {1, 31, 32, 4096, 16385, 70001};

    for (uint32_t ranks = 1; ranks <= RANKS_MAX; ranks++)
        for (int w = HTH_WIRE_F32; w <= HTH_WIRE_Q8; w++)
            for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                struct sum_case c = {ranks, 1, sizes[i], (enum hth_wire)w};

                check_sum(&c);
            }
}

Test(star, threads_change_nothing, .timeout = 120)
{
    for (uint32_t threads = 2; threads <= 4; threads++)
        for (int w = HTH_WIRE_F32; w <= HTH_WIRE_Q8; w++) {
            struct sum_case c = {4, threads, 70001, (enum hth_wire)w};

            check_sum(&c);
            c.n = 100;
            check_sum(&c);
        }
}

/* f32, three ranks, by hand: no shared code with the implementation. */
Test(star, a_sum_by_hand)
{
    float x[3][2] = {{1e8f, 1.0f}, {1.0f, 0.5f}, {-1e8f, 0.25f}};
    struct rank_job jobs[RANKS_MAX];
    struct group g;

    group_open(&g, 3, 1);
    for (uint32_t r = 0; r < 3; r++)
        jobs[r] = (struct rank_job){g.star[r], x[r], 2, HTH_WIRE_F32, 1, 0};
    run_all(&g, jobs);
    for (uint32_t r = 0; r < 3; r++) {
        /* (1e8 + 1) - 1e8 is 0 in f32: the order is visible */
        cr_assert_eq(x[r][0], 0.0f);
        cr_assert_eq(x[r][1], 1.75f);
    }
    group_close(&g);
}

static void sum_in_a_row(uint32_t ranks)
{
    enum { N = 512, TIMES = 300 };
    struct rank_job jobs[RANKS_MAX];
    struct group g;
    float times = (float)ranks, more = (float)(ranks * (ranks - 1) / 2);

    group_open(&g, ranks, 2);
    for (uint32_t r = 0; r < ranks; r++) {
        float *x = malloc(N * TIMES * sizeof *x);

        for (size_t i = 0; i < (size_t)N * TIMES; i++)
            x[i] = (float)(i + r);
        jobs[r] = (struct rank_job){g.star[r], x, N, HTH_WIRE_F32, TIMES, 0};
    }
    run_all(&g, jobs);
    for (uint32_t r = 0; r < ranks; r++) {
        cr_assert_eq(jobs[r].status, 0);
        for (size_t i = 0; i < (size_t)N * TIMES; i++)
            cr_assert_eq(jobs[r].x[i], (float)i * times + more);
        free(jobs[r].x);
    }
    group_close(&g);
}

Test(star, many_in_a_row)
{
    sum_in_a_row(2);
    sum_in_a_row(3);
}

/* ---- two ranks ----------------------------------------------------------- */

/* More than sockets and inboxes hold, in both directions at once, several times
 * over; the rank that comes later changes nothing. */
Test(star, two_ranks_swap_much_at_once, .timeout = 120)
{
    enum { N = 1500001, TIMES = 2 };

    for (int late = 0; late < 2; late++)
        for (int w = HTH_WIRE_F32; w <= HTH_WIRE_Q8; w++) {
            float *sum = malloc(N * sizeof *sum);
            struct rank_job jobs[2];
            float *part[2];
            struct group g;
            pthread_t t;

            group_open(&g, 2, 1);
            for (uint32_t r = 0; r < 2; r++) {
                part[r] = malloc((size_t)N * TIMES * sizeof(float));
                for (int k = 0; k < TIMES; k++) {
                    float *x = numbers(N, 10 * r + (uint64_t)k);

                    memcpy(part[r] + (size_t)k * N, x, N * sizeof *x);
                    free(x);
                }
                jobs[r] = (struct rank_job){g.star[r],        part[r], N,
                                            (enum hth_wire)w, TIMES,   0};
            }
            pthread_create(&t, NULL, run_rank, &jobs[!late]);
            hth_sleep_ms(20);
            run_rank(&jobs[late]);
            pthread_join(t, NULL);
            for (uint32_t r = 0; r < 2; r++)
                cr_assert_eq(jobs[r].status, 0, "%s",
                             hth_star_error(g.star[r])->text);
            cr_assert_eq(memcmp(part[0], part[1], N * TIMES * sizeof(float)),
                         0);
            for (int k = 0; k < TIMES; k++) {
                float *own[2] = {numbers(N, (uint64_t)k),
                                 numbers(N, 10 + (uint64_t)k)};

                expected(own, 2, N, (enum hth_wire)w, sum);
                cr_assert_eq(
                    memcmp(part[0] + (size_t)k * N, sum, N * sizeof *sum), 0);
                free(own[0]);
                free(own[1]);
            }
            free(part[0]);
            free(part[1]);
            free(sum);
            group_close(&g);
        }
}

/* Where both partials are NaNs, or zeros of both signs, the bits agree. */
Test(star, two_ranks_agree_on_odd_numbers)
{
    static const uint32_t odd[2][6] = {
        {0x7fc00001, 0x7fc00002, 0x80000000, 0x7f800000, 0xff800000, 1},
        {0xffc00005, 0x7fc00001, 0x00000000, 0xff800000, 0xff800000, 3}};

    for (int w = HTH_WIRE_F32; w <= HTH_WIRE_Q8; w++) {
        struct rank_job jobs[RANKS_MAX];
        float x[2][6];
        struct group g;

        memcpy(x, odd, sizeof x);
        group_open(&g, 2, 1);
        for (uint32_t r = 0; r < 2; r++)
            jobs[r] =
                (struct rank_job){g.star[r], x[r], 6, (enum hth_wire)w, 1, 0};
        run_all(&g, jobs);
        cr_assert_eq(jobs[0].status | jobs[1].status, 0);
        cr_assert_eq(memcmp(x[0], x[1], sizeof x[0]), 0);
        group_close(&g);
    }
}

/* A rank that never sends is found by the time-out, one that goes at once; each
 * is named by the other, whichever of the two it is. */
Test(star, a_lost_rank_of_two_is_named)
{
    for (uint32_t left = 0; left < 2; left++)
        for (int gone = 0; gone < 2; gone++) {
            struct rank_job j = {.n = 3000000, .times = 1};
            struct hth_link *own, *other;
            struct group g;

            group_open(&g, 2, 1);
            own = left == 0 ? g.root[0] : g.leaf[0];
            other = left == 0 ? g.leaf[0] : g.root[0];
            snprintf(own->peer.name, HTH_NAME_MAX, "tablet");
            if (gone)
                hth_link_shutdown(other);
            g.star[left]->timeout_ms = gone ? MS : 200;
            j.star = g.star[left];
            j.x = numbers(j.n, left);
            run_rank(&j);
            cr_assert_eq(j.status, gone ? HTH_EPEER : HTH_ETIMEDOUT);
            cr_assert_not_null(strstr(hth_star_error(j.star)->text, "tablet"));
            free(j.x);
            group_close(&g);
        }
}

/* ---- the wire ------------------------------------------------------------ */

Test(star, wire_types_lose_what_they_may)
{
    enum { N = 1000 };
    float *x = numbers(N, 9);
    uint8_t coded[N * 4];
    float y[N];

    cr_assert_eq(hth_wire_bytes(HTH_WIRE_F32, N), 4000);
    cr_assert_eq(hth_wire_bytes(HTH_WIRE_F16, N), 2000);
    cr_assert_eq(hth_wire_bytes(HTH_WIRE_Q8, N), 32 * 34);
    hth_wire_encode(HTH_WIRE_F32, x, coded, N);
    hth_wire_decode(HTH_WIRE_F32, coded, y, N);
    cr_assert_eq(memcmp(x, y, sizeof y), 0);
    hth_wire_encode(HTH_WIRE_F16, x, coded, N);
    hth_wire_decode(HTH_WIRE_F16, coded, y, N);
    for (int i = 0; i < N; i++)
        cr_assert_leq(fabsf(x[i] - y[i]), fabsf(x[i]) / 2048 + 1e-7f);
    hth_wire_encode(HTH_WIRE_Q8, x, coded, N);
    hth_wire_decode(HTH_WIRE_Q8, coded, y, N);
    for (int i = 0; i < N; i++) {
        float most = 0;

        for (int k = i / 32 * 32; k < i / 32 * 32 + 32 && k < N; k++)
            most = fmaxf(most, fabsf(x[k]));
        /* half a step, and the half-precision scale's own error */
        cr_assert_leq(fabsf(x[i] - y[i]), most / 127 * 0.5f + most / 2048);
    }
    free(x);
}

Test(star, q8_is_total)
{
    static const float odd[] = {0.0f,  -0.0f,    1e-30f,    1e30f,
                                -1e9f, INFINITY, -INFINITY, NAN};

    for (size_t k = 0; k < sizeof odd / sizeof odd[0]; k++) {
        float x[32] = {0}, y[32];
        uint8_t coded[34];

        x[5] = odd[k];
        hth_wire_encode(HTH_WIRE_Q8, x, coded, 32);
        hth_wire_decode(HTH_WIRE_Q8, coded, y, 32);
        if (!isfinite(odd[k]))
            cr_assert(isnan(y[5]) && isnan(y[0]));
        else
            cr_assert(isfinite(y[5]) && y[0] == 0.0f);
        if (odd[k] == -1e9f) /* beyond 127 * 65504: the largest there is */
            cr_assert_float_eq(y[5], -127.0f * 65504.0f, 1.0f);
    }
}

Test(star, wire_names)
{
    enum hth_wire w;

    for (int i = HTH_WIRE_F32; i <= HTH_WIRE_Q8; i++) {
        cr_assert_eq(hth_wire_parse(hth_wire_name((enum hth_wire)i), &w), 0);
        cr_assert_eq(w, i);
    }
    cr_assert_eq(hth_wire_parse("f64", &w), HTH_EINVAL);
}

/* ---- bytes --------------------------------------------------------------- */

struct bytes_job {
    struct hth_star *star;
    uint32_t rank;
    uint8_t data[100000];
    struct hth_star_bytes got;
    int status;
};

static void *run_bytes(void *arg)
{
    struct bytes_job *j = arg;
    struct hth_star_bytes b = {.data = j->data, .max = sizeof j->data};

    j->status = hth_star_bcast(j->star, &b);
    if (j->status == HTH_OK) {
        b.n -= j->rank; /* a different length from each */
        j->status = hth_star_gather(j->star, &b, NULL);
    }
    return NULL;
}

Test(star, bytes_out_and_back)
{
    struct bytes_job *j = calloc(4, sizeof *j);
    struct hth_star_bytes all[4] = {{0}};
    struct hth_star_bytes out = {.data = j[0].data, .n = sizeof j[0].data};
    struct group g;
    pthread_t t[4];

    group_open(&g, 4, 1);
    for (size_t i = 0; i < out.n; i++)
        j[0].data[i] = (uint8_t)(i * 31);
    for (uint32_t r = 1; r < 4; r++) {
        j[r].star = g.star[r];
        j[r].rank = r;
        all[r] = (struct hth_star_bytes){.data = malloc(out.n), .max = out.n};
        pthread_create(&t[r], NULL, run_bytes, &j[r]);
    }
    cr_assert_eq(hth_star_bcast(g.star[0], &out), 0);
    cr_assert_eq(hth_star_gather(g.star[0], NULL, all), 0);
    for (uint32_t r = 1; r < 4; r++) {
        pthread_join(t[r], NULL);
        cr_assert_eq(j[r].status, 0);
        cr_assert_eq(all[r].n, out.n - r);
        cr_assert_eq(memcmp(all[r].data, j[0].data, all[r].n), 0);
        free(all[r].data);
    }
    group_close(&g);
    free(j);
}

Test(star, point_to_point_along_its_links)
{
    char text[16] = "hello";
    struct hth_star_bytes out = {.data = text, .n = 6};
    struct hth_star_bytes in = {.data = text, .max = sizeof text};
    struct group g;

    group_open(&g, 3, 1);
    cr_assert_eq(hth_star_send(g.star[2], 0, &out), 0);
    cr_assert_eq(hth_star_recv(g.star[0], 2, &in), 0);
    cr_assert_eq(in.n, 6);
    cr_assert_str_eq(text, "hello");
    cr_assert_eq(hth_star_send(g.star[2], 1, &out), HTH_EINVAL);
    cr_assert_eq(hth_star_send(g.star[0], 0, &out), HTH_EINVAL);
    cr_assert_eq(hth_star_send(g.star[0], 3, &out), HTH_EINVAL);
    group_close(&g);
}

/* ---- failures ------------------------------------------------------------ */

/* Rank 2 is gone: rank 0 names it, rank 1 is told. */
Test(star, a_lost_rank_ends_it_for_all)
{
    for (uint32_t threads = 1; threads <= 3; threads++) {
        struct rank_job jobs[RANKS_MAX];
        struct group g;
        uint64_t start = hth_now_ms();
        pthread_t t;

        group_open(&g, 3, threads);
        snprintf(g.root[1]->peer.name, HTH_NAME_MAX, "tablet");
        for (uint32_t r = 0; r < 2; r++)
            jobs[r] = (struct rank_job){
                g.star[r], numbers(70000, r), 70000, HTH_WIRE_F32, 1, 0};
        hth_link_shutdown(g.leaf[1]);
        pthread_create(&t, NULL, run_rank, &jobs[1]);
        run_rank(&jobs[0]);
        pthread_join(t, NULL);
        cr_assert_eq(jobs[0].status, HTH_EPEER);
        cr_assert_not_null(strstr(hth_star_error(g.star[0])->text, "tablet"));
        cr_assert_eq(jobs[1].status, HTH_ECANCELLED);
        cr_assert_not_null(strstr(hth_star_error(g.star[1])->text, "tablet"));
        cr_assert_eq(hth_star_all_reduce(g.star[0], jobs[0].x, 4, 0), HTH_EPEER,
                     "for good");
        cr_assert_lt(hth_now_ms() - start, MS);
        free(jobs[0].x);
        free(jobs[1].x);
        group_close(&g);
    }
}

static void disagree(struct rank_job a, struct rank_job b)
{
    struct rank_job jobs[RANKS_MAX] = {a, b};
    struct group g;

    group_open(&g, 2, 1);
    for (uint32_t r = 0; r < 2; r++) {
        jobs[r].star = g.star[r];
        jobs[r].x = calloc(jobs[r].n, sizeof(float));
        jobs[r].times = 1;
    }
    run_all(&g, jobs);
    cr_assert_eq(jobs[0].status, HTH_EPROTO);
    cr_assert_neq(jobs[1].status, 0);
    free(jobs[0].x);
    free(jobs[1].x);
    group_close(&g);
}

Test(star, ranks_that_disagree_are_found)
{
    struct rank_job base = {.n = 4096, .wire = HTH_WIRE_F16};
    struct rank_job shorter = {.n = 4000, .wire = HTH_WIRE_F16};
    struct rank_job other = {.n = 2048, .wire = HTH_WIRE_F32};

    disagree(base, shorter);
    disagree(shorter, base);
    disagree(base, other); /* the same number of bytes */
}

Test(star, abort_and_shutdown)
{
    struct group g;
    float x[4] = {0};

    group_open(&g, 3, 1);
    hth_star_abort(g.star[1], HTH_ENOMEM, "no memory here");
    cr_assert_eq(hth_star_all_reduce(g.star[0], x, 4, 0), HTH_ECANCELLED);
    cr_assert_not_null(
        strstr(hth_star_error(g.star[0])->text, "no memory here"));
    group_close(&g);
    group_open(&g, 3, 1);
    hth_star_shutdown(g.star[0]);
    cr_assert_eq(hth_star_all_reduce(g.star[0], x, 4, 0), HTH_ECANCELLED);
    group_close(&g);
}
