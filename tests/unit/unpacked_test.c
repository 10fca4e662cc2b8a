/* unpacked_test.c - matrices without a packed layout are found, all of them,
 * however they are cut, and no others. */
#include <criterion/criterion.h>

#include "folder.h"
#include "model/synth.h"
#include "model/unpacked.h"

#define LAYERS 2u
#define MATRICES (LAYERS * 7 + 1) /* q, k, v, o, gate, up, down; the output */
#define MAX 4u

struct model {
    struct folder folder;
    struct hth_gguf *g;
    struct hth_spec spec;
};

static void make(struct model *m, const char *type)
{
    struct hth_err err;
    struct hth_synth_opts o = {
        .shape = "d=64,layers=2,heads=4,kv=2,ff=128,vocab=320",
        .type = type,
        .seed = 1};

    folder_init(&m->folder);
    cr_assert_eq(hth_synth_write(&o, folder_path(&m->folder, "m.gguf"), &err),
                 0, "%s", err.text);
    cr_assert_eq(hth_gguf_open(&m->g, folder_path(&m->folder, "m.gguf"), &err),
                 0, "%s", err.text);
    cr_assert_eq(hth_spec_read(&m->spec, m->g, &err), 0, "%s", err.text);
}

static void drop(struct model *m)
{
    hth_gguf_close(m->g);
    folder_fini(&m->folder);
}

/* Bytes over all ranks. */
static uint64_t found(const struct model *m, uint32_t ranks, uint32_t matrices)
{
    const double weights[] = {1, 1};
    struct hth_unpacked u[MAX];
    struct hth_shape shape;
    struct hth_plan plan;
    uint64_t bytes = 0;

    hth_spec_shape(&m->spec, HTH_F16, &shape);
    cr_assert_eq(hth_plan_make(&shape, weights, ranks, &plan, NULL), 0);
    for (uint32_t r = 0; r < ranks; r++) {
        uint32_t n = hth_unpacked_find(&m->spec, &plan, r, u, MAX);

        cr_assert_eq(n, matrices > 0 ? 1u : 0u);
        if (n == 0)
            continue;
        cr_assert_eq(u[0].matrices, matrices);
        cr_assert_str_eq(u[0].first, "blk.0.attn_q.weight");
        bytes += u[0].bytes;
    }
    return bytes;
}

Test(unpacked, all_matrices_of_f32)
{
    struct model m;
    const uint64_t attn = 64 * (64 + 32 + 32 + 64), ffn = 3 * 64 * 128;

    make(&m, "F32");
    for (uint32_t ranks = 1; ranks <= 2; ranks++)
        cr_assert_eq(found(&m, ranks, MATRICES),
                     4 * (LAYERS * (attn + ffn) + 320 * 64));
    drop(&m);
}

Test(unpacked, none_of_quantised_and_half_floats)
{
    const char *types[] = {"Q8_0", "F16", "BF16", "Q4_0"};

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct model m;

        make(&m, types[i]);
        cr_assert_eq(found(&m, 1, 0), 0u);
        drop(&m);
    }
}

Test(unpacked, types_beyond_the_most_are_left_out)
{
    const double weight = 1;
    struct hth_shape shape;
    struct hth_plan plan;
    struct model m;

    make(&m, "F32");
    hth_spec_shape(&m.spec, HTH_F16, &shape);
    cr_assert_eq(hth_plan_make(&shape, &weight, 1, &plan, NULL), 0);
    cr_assert_eq(hth_unpacked_find(&m.spec, &plan, 0, NULL, 0), 0u);
    drop(&m);
}
