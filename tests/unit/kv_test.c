/* The KV cache: growth and its bounds, blocks shared between sequences, and
 * positions that leave and come back. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernels/ops.h"
#include "kernels/type.h"
#include "model/kv.h"

enum { LAYERS = 2, HEADS = 3, DIM = 32, BLOCK = HTH_KV_BLOCK_POSITIONS };

static struct hth_kv *open_kv(uint32_t type, uint32_t blocks_max)
{
    struct hth_kv_opts o = {.layers = LAYERS,
                            .heads = HEADS,
                            .head_dim = DIM,
                            .type = type,
                            .ctx_max = 1000};
    struct hth_kv *kv;
    struct hth_err err;

    cr_assert_eq(hth_isa_init(&err), HTH_OK);
    cr_assert_eq(hth_kv_open(&kv, &o, &err), HTH_OK);
    if (blocks_max == 0)
        return kv;
    o.bytes_max = blocks_max * hth_kv_block_bytes(kv);
    hth_kv_close(kv);
    cr_assert_eq(hth_kv_open(&kv, &o, &err), HTH_OK);
    return kv;
}

static void reserve(struct hth_kv *kv, uint32_t seq, uint32_t positions)
{
    struct hth_err err;

    cr_assert_eq(hth_kv_reserve(kv, seq, positions, &err), HTH_OK, "%s",
                 err.text);
}

static void fork_seq(struct hth_kv *kv, uint32_t from, uint32_t to, uint32_t n)
{
    struct hth_err err;

    cr_assert_eq(hth_kv_fork(kv, from, to, n, &err), HTH_OK);
}

static uint64_t blocks(const struct hth_kv *kv)
{
    return hth_kv_bytes(kv) / hth_kv_block_bytes(kv);
}

/* What `salt` writes at a position: different for each column. */
static void numbers(const struct hth_kv_at *at, uint32_t salt, float *k,
                    float *v)
{
    for (uint32_t i = 0; i < DIM; i++) {
        k[i] = (float)(at->layer * 7 + at->head * 3 + at->pos % 97 + i) + 0.5f;
        v[i] = (float)salt - k[i];
    }
}

/* Write positions [from, to) of all layers and heads. */
static void write_range(struct hth_kv *kv, uint32_t seq, uint32_t from,
                        uint32_t to, uint32_t salt)
{
    struct hth_kv_at at;
    float k[DIM], v[DIM];

    for (at.layer = 0; at.layer < LAYERS; at.layer++)
        for (at.head = 0; at.head < HEADS; at.head++)
            for (at.pos = from; at.pos < to; at.pos++) {
                numbers(&at, salt, k, v);
                hth_kv_store(kv, seq, &at, k, v);
            }
}

/* Positions [from, to) hold what `salt` wrote (f32). */
static void expect_range(const struct hth_kv *kv, uint32_t seq, uint32_t from,
                         uint32_t to, uint32_t salt)
{
    struct hth_kv_at at;
    float k[2][DIM], v[2][DIM];
    struct hth_kv_rows row = {1, k[0], v[0]};

    for (at.layer = 0; at.layer < LAYERS; at.layer++)
        for (at.head = 0; at.head < HEADS; at.head++)
            for (at.pos = from; at.pos < to; at.pos++) {
                numbers(&at, salt, k[1], v[1]);
                hth_kv_export(kv, seq, &at, &row);
                cr_assert_eq(memcmp(k[0], k[1], sizeof k[0]), 0,
                             "sequence %u position %u", seq, at.pos);
                cr_assert_eq(memcmp(v[0], v[1], sizeof v[0]), 0,
                             "sequence %u position %u", seq, at.pos);
            }
}

/* ---- growth ----------------------------------------------------------------
 */

Test(kv, grows_is_bounded_and_gives_back)
{
    struct hth_kv *kv = open_kv(HTH_F16, 10);
    struct hth_err err;

    cr_assert_eq(hth_kv_block_bytes(kv), 2u * LAYERS * HEADS * DIM * 2 * BLOCK);
    reserve(kv, 5, BLOCK + 1);
    cr_assert_eq(blocks(kv), 2u);
    cr_assert_eq(hth_kv_positions(kv, 5), BLOCK + 1u);
    reserve(kv, 5, 3); /* never shrinks */
    cr_assert_eq(hth_kv_positions(kv, 5), BLOCK + 1u);
    cr_assert_eq(hth_kv_reserve(kv, 5, 1001, &err), HTH_ELIMIT);
    cr_assert_eq(hth_kv_own(kv, 5, 1000, UINT32_MAX, &err), HTH_ELIMIT);
    cr_assert_eq(hth_kv_reserve(kv, 9, 9 * BLOCK, &err), HTH_ELIMIT);
    cr_assert_neq(strstr(err.text, "KV cache is full"), NULL);
    cr_assert_eq(hth_kv_positions(kv, 9), 0u);
    hth_kv_truncate(kv, 5, 0);
    hth_kv_truncate(kv, 9, 0);
    cr_assert_eq(hth_kv_bytes(kv), 0u);
    reserve(kv, HTH_SLOTS_MAX - 1, 10 * BLOCK);
    hth_kv_close(kv);
}

Test(kv, a_type_must_fit_the_heads)
{
    struct hth_kv_opts o = {1, 1, 80, HTH_Q8_0, 100, 0};
    struct hth_err err;
    struct hth_kv *kv;

    cr_assert_eq(hth_kv_open(&kv, &o, &err), HTH_EUNSUPPORTED);
    cr_assert_neq(strstr(err.text, "80"), NULL, "%s", err.text);
    o.type = 77;
    cr_assert_eq(hth_kv_open(&kv, &o, &err), HTH_EUNSUPPORTED);
}

Test(kv, a_rank_without_heads_holds_positions_only)
{
    struct hth_kv_opts o = {2, 0, 64, HTH_F16, 100, 0};
    struct hth_err err;
    struct hth_kv *kv;

    cr_assert_eq(hth_kv_open(&kv, &o, &err), HTH_OK);
    reserve(kv, 1, 70);
    fork_seq(kv, 1, 2, 65);
    cr_assert_eq(hth_kv_positions(kv, 2), 65u);
    cr_assert_eq(hth_kv_bytes(kv), 0u);
    hth_kv_close(kv);
}

/* ---- sharing ----------------------------------------------------------------
 */

Test(kv, a_fork_shares_and_copies_when_written)
{
    struct hth_kv *kv = open_kv(HTH_F32, 0);

    reserve(kv, 0, 150);
    write_range(kv, 0, 0, 150, 1000);
    fork_seq(kv, 0, 1, 140);
    cr_assert_eq(blocks(kv), 3u);
    expect_range(kv, 1, 0, 140, 1000);
    reserve(kv, 1, 160); /* the third block is copied, the others stay */
    cr_assert_eq(blocks(kv), 4u);
    write_range(kv, 1, 140, 160, 2000);
    expect_range(kv, 0, 0, 150, 1000);
    expect_range(kv, 1, 0, 140, 1000);
    expect_range(kv, 1, 140, 160, 2000);
    reserve(kv, 0, 170); /* alone with its block again: no copy */
    cr_assert_eq(blocks(kv), 4u);
    hth_kv_close(kv);
}

Test(kv, the_source_of_a_fork_copies_too)
{
    struct hth_kv *kv = open_kv(HTH_F32, 0);

    reserve(kv, 0, 100);
    write_range(kv, 0, 0, 100, 1000);
    fork_seq(kv, 0, 1, 100);
    reserve(kv, 0, 101);
    write_range(kv, 0, 100, 101, 3000);
    cr_assert_eq(blocks(kv), 3u);
    expect_range(kv, 1, 0, 100, 1000);
    hth_kv_truncate(kv, 0, 0);
    cr_assert_eq(blocks(kv), 2u);
    expect_range(kv, 1, 0, 100, 1000);
    hth_kv_close(kv);
}

Test(kv, a_cut_keeps_what_others_hold)
{
    struct hth_kv *kv = open_kv(HTH_F32, 0);

    reserve(kv, 0, 200);
    write_range(kv, 0, 0, 200, 1000);
    fork_seq(kv, 0, 1, 200);
    hth_kv_truncate(kv, 1, 70);
    cr_assert_eq(hth_kv_positions(kv, 1), 70u);
    cr_assert_eq(blocks(kv), 4u);
    reserve(kv, 1, 71);
    write_range(kv, 1, 70, 71, 5000);
    expect_range(kv, 0, 0, 200, 1000);
    expect_range(kv, 1, 0, 70, 1000);
    hth_kv_truncate(kv, 0, 0);
    cr_assert_eq(blocks(kv), 2u);
    expect_range(kv, 1, 0, 70, 1000);
    hth_kv_close(kv);
}

/* Also positions that it had: what a peer asks for must not reach others. */
Test(kv, owning_old_positions_leaves_others_alone)
{
    struct hth_kv *kv = open_kv(HTH_F32, 0);
    struct hth_err err;

    reserve(kv, 0, 200);
    write_range(kv, 0, 0, 200, 1000);
    fork_seq(kv, 0, 1, 200);
    cr_assert_eq(hth_kv_own(kv, 1, 10, 100, &err), HTH_OK);
    cr_assert_eq(blocks(kv), 6u);
    write_range(kv, 1, 10, 110, 4000);
    expect_range(kv, 0, 0, 200, 1000);
    expect_range(kv, 1, 0, 10, 1000);
    expect_range(kv, 1, 10, 110, 4000);
    hth_kv_close(kv);
}

Test(kv, a_full_cache_refuses_a_copy_and_stays_whole)
{
    struct hth_kv *kv = open_kv(HTH_F32, 2);
    struct hth_err err;

    reserve(kv, 0, 100);
    write_range(kv, 0, 0, 100, 1000);
    fork_seq(kv, 0, 1, 100);
    cr_assert_eq(hth_kv_reserve(kv, 1, 101, &err), HTH_ELIMIT);
    cr_assert_eq(hth_kv_positions(kv, 1), 100u);
    expect_range(kv, 1, 0, 100, 1000);
    hth_kv_truncate(kv, 0, 0);
    reserve(kv, 1, 101);
    expect_range(kv, 1, 0, 100, 1000);
    hth_kv_close(kv);
}

/* Random forks, cuts and writes: every sequence keeps what it wrote, and the
 * blocks are gone when all sequences are. */
Test(kv, many_sequences)
{
    struct hth_kv *kv = open_kv(HTH_F32, 0);
    uint32_t len[6] = {0}, salt[6][400];
    struct hth_rng r;

    hth_rng_init(&r, 3);
    for (uint32_t step = 0; step < 300; step++) {
        uint32_t a = (uint32_t)(hth_rng_u64(&r) % 6);
        uint32_t b = (uint32_t)(hth_rng_u64(&r) % 6);
        uint32_t n = (uint32_t)(hth_rng_u64(&r) % 60);

        if (len[a] + n > 400 || hth_rng_u64(&r) % 8 == 0) {
            len[a] = len[a] > n ? n : 0;
            hth_kv_truncate(kv, a, len[a]);
        } else if (len[b] == 0 && a != b) {
            len[b] = len[a] > n ? len[a] - n : 0;
            fork_seq(kv, a, b, len[b]);
            memcpy(salt[b], salt[a], sizeof salt[a]);
        } else {
            reserve(kv, a, len[a] + n);
            write_range(kv, a, len[a], len[a] + n, step);
            for (uint32_t i = 0; i < n; i++)
                salt[a][len[a] + i] = step;
            len[a] += n;
        }
        for (uint32_t i = 0; i < len[b]; i += 13)
            expect_range(kv, b, i, i + 1, salt[b][i]);
    }
    for (uint32_t s = 0; s < 6; s++)
        hth_kv_truncate(kv, s, 0);
    cr_assert_eq(hth_kv_bytes(kv), 0u);
    hth_kv_close(kv);
}

/* ---- out and in
 * --------------------------------------------------------------- */

static void check_export(uint32_t type)
{
    struct hth_kv *kv = open_kv(type, 0);
    size_t bytes = hth_kv_row_bytes(kv);
    uint8_t *k = malloc(200 * bytes), *v = malloc(200 * bytes);
    uint8_t *k2 = malloc(200 * bytes), *v2 = malloc(200 * bytes);
    struct hth_kv_rows out = {130, k, v}, in = {130, k2, v2};
    struct hth_kv_at at = {1, 2, 37}, to = {0, 1, 11};

    reserve(kv, 0, 200);
    reserve(kv, 1, 200);
    write_range(kv, 0, 0, 200, 900);
    hth_kv_export(kv, 0, &at, &out);
    hth_kv_import(kv, 1, &to, &out);
    hth_kv_export(kv, 1, &to, &in);
    cr_assert_eq(memcmp(k, k2, 130 * bytes), 0);
    cr_assert_eq(memcmp(v, v2, 130 * bytes), 0);
    cr_assert_neq(memcmp(k, k + bytes, bytes), 0);
    free(k);
    free(v);
    free(k2);
    free(v2);
    hth_kv_close(kv);
}

Test(kv, what_is_exported_imports)
{
    check_export(HTH_F32);
    check_export(HTH_F16);
    check_export(HTH_Q8_0);
}

Test(kv, blocks_say_where_they_start)
{
    struct hth_kv *kv = open_kv(HTH_F16, 0);
    struct hth_kv_at at = {1, 2, 70};
    struct hth_attn_keys keys;

    reserve(kv, 0, 100);
    hth_kv_keys(kv, 0, &at, &keys);
    cr_assert_eq(keys.pos, 64u);
    cr_assert_eq(keys.count, 36u);
    cr_assert_eq(keys.step, 1u);
    at.pos = 3;
    hth_kv_keys(kv, 0, &at, &keys);
    cr_assert_eq(keys.pos, 0u);
    cr_assert_eq(keys.count, 64u);
    hth_kv_close(kv);
}

/* Only what nobody holds goes, and comes again when it is needed. */
Test(kv, trim_gives_spare_blocks_back)
{
    struct hth_kv *kv = open_kv(HTH_F16, 0);
    size_t block = hth_kv_block_bytes(kv);

    reserve(kv, 0, 200);
    reserve(kv, 1, 100);
    cr_assert_eq(hth_kv_held_bytes(kv), 6 * block);
    hth_kv_truncate(kv, 0, 64);
    cr_assert_eq(hth_kv_held_bytes(kv), 6 * block, "kept for the next");
    hth_kv_trim(kv);
    cr_assert_eq(hth_kv_held_bytes(kv), 3 * block);
    cr_assert_eq(hth_kv_bytes(kv), 3 * block);
    reserve(kv, 0, 200);
    cr_assert_eq(hth_kv_held_bytes(kv), 6 * block);
    hth_kv_close(kv);
}
