/* rows_many_avx512.h - all rows of x times all groups of packed weights, panel
 * by panel: the loops around a set's run_tile(), which its file defines before
 * it includes this one. Compiled into each set's file. */
#ifndef HTH_KERNELS_ROWS_MANY_AVX512_H
#define HTH_KERNELS_ROWS_MANY_AVX512_H

#include "kernels/rows_panel_avx512.h"

HTH_INLINE void run_width(const struct tile *t, uint32_t width, uint32_t groups,
                          struct hth_wtraits traits)
{
    switch (width) {
    case 6:
        run_tile(t, (struct shape){6, groups, traits});
        break;
    case 8:
        run_tile(t, (struct shape){8, groups, traits});
        break;
    case 10:
        run_tile(t, (struct shape){10, groups, traits});
        break;
    default:
        run_tile(t, (struct shape){HTH_TILE_WIDTH_MAX, groups, traits});
        break;
    }
}

typedef void (*run_fn)(const struct tile *t, uint32_t width, uint32_t groups);

#define RUN_OF(name, halves, mins)                                            \
    static void run_##name(const struct tile *t, uint32_t width,              \
                           uint32_t groups)                                   \
    {                                                                         \
        if (groups == 1)                                                      \
            run_width(t, width, 1, (struct hth_wtraits){0, 0, halves, mins}); \
        else                                                                  \
            run_width(t, width, PAIR,                                         \
                      (struct hth_wtraits){0, 0, halves, mins});              \
    }
RUN_OF(plain, false, false)
RUN_OF(mins, false, true)
RUN_OF(halves, true, false)
RUN_OF(both, true, true)

static run_fn run_of(struct hth_wtraits traits)
{
    if (traits.halves)
        return traits.mins ? run_both : run_halves;
    return traits.mins ? run_mins : run_plain;
}

/* All tiles of x times one panel; tile says which, for the first. */
static void run_tiles(const struct hth_q8_product *job, struct tile *tile,
                      uint32_t groups, run_fn run)
{
    uint32_t n = job->x->n, width = hth_tile_width(n);
    size_t tile_bytes =
        (size_t)job->x->cols / 32 * width * HTH_TILE_BLOCK_BYTES;

    for (uint32_t r = 0; r < n; r += width) {
        tile->rows = n - r < width ? n - r : width;
        run(tile, width, groups);
        tile->x += tile_bytes;
        tile->y += width * tile->ldy;
    }
}

HTH_INLINE void many_rows(uint32_t type, const struct hth_q8_product *job)
{
    const struct hth_wtraits traits = hth_wtraits(type);
    const struct hth_pack_shape s = hth_row_shape(type);
    const struct hth_mat *w = job->w;
    uint32_t blocks = w->cols / 32, width = hth_tile_width(job->x->n);
    struct panel panel;
    struct tile tile = {
        .panel = &panel, .ldy = job->ldy, .offset = traits.offset};

    for (uint32_t b = 0; b < blocks; b += panel.blocks) {
        const uint8_t *at =
            (const uint8_t *)w->data + (size_t)b / s.parts * s.unit_bytes;
        uint32_t groups;

        panel.blocks = blocks - b < PANEL_BLOCKS ? blocks - b : PANEL_BLOCKS;
        tile.fresh = b == 0;
        for (uint32_t o = 0; o < job->count; o += groups * HTH_PACK_ROWS) {
            size_t row = (size_t)job->first + o;

            groups = job->count - o >= PAIR * HTH_PACK_ROWS ? PAIR : 1;
            for (uint32_t g = 0; g < groups; g++)
                fill_panel(type, at + (row + g * HTH_PACK_ROWS) * w->row_bytes,
                           g, &panel);
            tile.x = job->x->tiles + (size_t)b * width * HTH_TILE_BLOCK_BYTES;
            tile.y = job->y + row;
            run_tiles(job, &tile, groups, run_of(traits));
        }
    }
}

#define GROUPS_STEP (PAIR * HTH_PACK_ROWS)
#include "kernels/rows_groups.h"

#endif
