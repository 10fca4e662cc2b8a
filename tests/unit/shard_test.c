/* shard_test.c - slices put together give the tensors back, in any reading
 * pattern; specs that do not match their tensors are refused by name. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernels/quant.h"
#include "model/piece.h"
#include "model/shard.h"
#include "support.h"

static struct hth_gguf *open_golden(const char *name, struct hth_spec *spec)
{
    struct hth_gguf *g;
    struct hth_err err;
    char path[8192];

    if (golden_dir() == NULL)
        cr_skip_test("SKIPPED: no golden vectors (set HEARTH_GOLDEN)");
    snprintf(path, sizeof path, "%s", golden_path(name, ".gguf"));
    cr_assert_eq(hth_gguf_open(&g, path, &err), 0, "%s", err.text);
    cr_assert_eq(hth_spec_read(spec, g, &err), 0, "%s", err.text);
    return g;
}

static void plan_for(const struct hth_spec *spec, const double *w, uint32_t n,
                     struct hth_plan *plan)
{
    struct hth_shape shape;

    hth_spec_shape(spec, HTH_F16, &shape);
    cr_assert_eq(hth_plan_make(&shape, w, n, plan, NULL), 0);
}

/* Every number of a slice must be the tensor's number at that place. */
static void check_part(const struct hth_block *b, const struct hth_part *p,
                       const uint8_t *data, const struct hth_tensor *t)
{
    uint32_t cols = t->dims == 1 && p->cols == 1 ? 1 : (uint32_t)t->ne[0];
    uint32_t rows = cols == 1 ? (uint32_t)t->ne[0] : (uint32_t)t->ne[1];
    size_t whole = hth_row_bytes(t->type, cols);
    float *want = malloc(cols * sizeof *want);
    float *got = malloc((p->cols + 1) * sizeof *got);

    for (uint32_t e = 0; e < p->planes; e++)
        for (uint32_t r = 0; r < p->rows; r++) {
            struct hth_mat m = hth_block_mat(b, data, p->role, e);
            const uint8_t *src = (const uint8_t *)t->data +
                                 ((size_t)e * rows + p->row_first + r) * whole;

            hth_dequantize((enum hth_type)t->type, src, want, cols);
            hth_dequantize((enum hth_type)m.type,
                           (const uint8_t *)m.data + r * m.row_bytes, got,
                           m.cols);
            cr_assert_eq(
                memcmp(want + p->col_first, got, p->cols * sizeof *got), 0,
                "%s row %u", t->name, r);
        }
    free(want);
    free(got);
}

static const struct hth_tensor *tensor_of(const struct hth_gguf *g,
                                          const struct hth_spec *s,
                                          const struct hth_block *b,
                                          uint32_t role)
{
    char name[64];

    if (role == HTH_ROLE_OUTPUT_NORM)
        return hth_gguf_tensor(g, "output_norm.weight");
    if (role == HTH_ROLE_OUTPUT)
        return hth_gguf_tensor(g,
                               s->tied ? "token_embd.weight" : "output.weight");
    hth_role_tensor_name((enum hth_role)role, b->layer, name, sizeof name);
    return hth_gguf_tensor(g, name);
}

static void check_model(const char *name, const double *w, uint32_t ranks)
{
    static struct hth_spec spec;
    struct hth_gguf *g = open_golden(name, &spec);
    struct hth_plan plan;

    plan_for(&spec, w, ranks, &plan);
    for (uint32_t r = 0; r < ranks; r++)
        for (uint32_t i = 0; i < hth_shard_blocks(&spec); i++) {
            struct hth_block b;
            uint8_t *data;

            hth_shard_block(&spec, &plan, r, i, &b);
            data = malloc(b.bytes + 1);
            cr_assert_eq(hth_block_read(g, &spec, &b,
                                        (struct hth_read){0, data, b.bytes},
                                        NULL),
                         0);
            for (uint32_t k = 0; k < b.parts; k++)
                check_part(&b, &b.part[k], data,
                           tensor_of(g, &spec, &b, b.part[k].role));
            free(data);
        }
    hth_gguf_close(g);
}

Test(shard, slices_hold_the_tensors_numbers)
{
    const double w[] = {1, 2, 1, 3};
    const char *names[] = {"llama-gqa-Q4_0", "llama-k-Q6_K", "qwen2-Q5_0",
                           "qwen3-F16", "qwen3moe-Q8_0"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        check_model(names[i], w, 4);
}

Test(shard, any_pieces_make_the_same_block)
{
    static struct hth_spec spec;
    struct hth_gguf *g = open_golden("qwen3moe-Q8_0", &spec);
    const double w[] = {2, 1, 1};
    struct hth_plan plan;
    struct hth_rng rng;

    hth_rng_init(&rng, 3);
    plan_for(&spec, w, 3, &plan);
    for (uint32_t i = 0; i < hth_shard_blocks(&spec); i++) {
        struct hth_block b;
        uint8_t *whole, *pieces;

        hth_shard_block(&spec, &plan, 1, i, &b);
        whole = malloc(b.bytes + 1);
        pieces = malloc(b.bytes + 1);
        cr_assert_eq(hth_block_read(g, &spec, &b,
                                    (struct hth_read){0, whole, b.bytes}, NULL),
                     0);
        for (uint64_t at = 0, n; at < b.bytes; at += n) {
            n = 1 + hth_rng_u64(&rng) % 5000;
            n = n < b.bytes - at ? n : b.bytes - at;
            cr_assert_eq(hth_block_read(g, &spec, &b,
                                        (struct hth_read){at, pieces + at, n},
                                        NULL),
                         0);
        }
        cr_assert_eq(memcmp(whole, pieces, b.bytes), 0);
        cr_assert_eq(hth_block_read(g, &spec, &b,
                                    (struct hth_read){1, whole, b.bytes}, NULL),
                     HTH_EINVAL);
        free(whole);
        free(pieces);
    }
    hth_gguf_close(g);
}

/* What lies at the same place of block and piece, read on both ways. Returns
 * the bytes of its parts. */
static uint64_t check_piece(const struct hth_gguf *g,
                            const struct hth_spec *spec,
                            const struct hth_block *whole, const uint8_t *data,
                            const struct hth_block *piece)
{
    uint8_t *got = malloc(piece->bytes + 1);
    uint64_t sum = 0;

    cr_assert_eq(hth_block_read(g, spec, piece,
                                (struct hth_read){0, got, piece->bytes}, NULL),
                 0);
    for (uint32_t i = 0; i < piece->parts; i++) {
        const struct hth_part *p = &piece->part[i];
        uint64_t n = p->row_bytes * p->rows * p->planes;

        cr_assert_eq(p->offset % HTH_PART_ALIGN, 0u);
        cr_assert_eq(memcmp(got + p->offset,
                            data + hth_piece_part_at(whole, piece, i), n),
                     0, "role %u", p->role);
        sum += n;
    }
    free(got);
    return sum;
}

static void check_pieces(const char *name)
{
    static struct hth_spec spec;
    struct hth_gguf *g = open_golden(name, &spec);
    const double w[] = {2, 1, 0.01};
    struct hth_plan plan;
    uint32_t at = 0;

    plan_for(&spec, w, 3, &plan);
    for (uint32_t rank = 0; rank < 3; rank++, at = 0) {
        for (uint32_t i = 0; i < hth_shard_blocks(&spec); i++) {
            struct hth_block b, piece;
            uint64_t sum = 0, want = 0;
            uint8_t *data;

            hth_shard_block(&spec, &plan, rank, i, &b);
            data = malloc(b.bytes + 1);
            cr_assert_eq(hth_block_read(g, &spec, &b,
                                        (struct hth_read){0, data, b.bytes},
                                        NULL),
                         0);
            for (uint32_t k = 0; k < b.parts; k++)
                want += b.part[k].row_bytes * b.part[k].rows * b.part[k].planes;
            for (; at < hth_pieces(&spec, &plan, rank) &&
                   hth_piece_block(&spec, at) == i;
                 at++) {
                hth_piece(&spec, &plan, rank, at, &piece);
                sum += check_piece(g, &spec, &b, data, &piece);
            }
            cr_assert_eq(sum, want, "%s block %u", name, i);
            free(data);
        }
        cr_assert_eq(at, hth_pieces(&spec, &plan, rank));
    }
    hth_gguf_close(g);
}

Test(shard, pieces_are_all_of_the_blocks)
{
    check_pieces("llama-k-Q4_K");
    check_pieces("qwen2-Q5_0");
    check_pieces("qwen3moe-Q8_0");
}

/* A large output matrix is cut by rows; the pieces follow each other. */
Test(shard, head_is_cut_between_rows)
{
    static const struct hth_arch arch = {.name = "a"};
    static struct hth_spec spec = {.arch = &arch,
                                   .layers = 1,
                                   .dim = 4096,
                                   .vocab = 128256,
                                   .output_type = HTH_Q6_K};
    static struct hth_plan plan = {
        .ranks = 2,
        .share = {{.vocab = 1000}, {.vocab_first = 1000, .vocab = 127256}}};
    uint32_t head = hth_piece_head(&spec), n = hth_pieces(&spec, &plan, 1);
    uint32_t next = 1000;

    cr_assert_gt(n, head + 10);
    for (uint32_t i = head; i < n; i++) {
        struct hth_block b;

        hth_piece(&spec, &plan, 1, i, &b);
        cr_assert_eq(b.parts, i == head ? 2u : 1u);
        cr_assert_eq(b.part[b.parts - 1].row_first, next);
        cr_assert_leq(b.bytes, HTH_PIECE_HEAD_BYTES + 4 * spec.dim);
        next += b.part[b.parts - 1].rows;
        cr_assert(i + 1 == n || (next - 1000) % HTH_PIECE_ROWS == 0);
    }
    cr_assert_eq(next, 128256u);
}
