/* tiles.c - rows of x in the order in which the kernels of packed weights read
 * them (isa.h): what belongs to a block of columns lies together, so a tile is
 * one sequential read and never meets itself in a cache's set, whatever the
 * length of a row. Copies only; no failure. */
#include "kernels/isa.h"

#include <string.h>

#include "base/mem.h"

#define FLOAT_BYTES 4u      /* f32, or two bf16 (kernels_rows_float_amx.c) */
#define FLOAT_WIDTH_MAX 16u /* rows in a tile of those */
#define SMALL 4u            /* widths up to here have kernels of their own */

static uint32_t tiles_of(uint32_t n)
{
    return (n + HTH_TILE_WIDTH_MAX - 1) / HTH_TILE_WIDTH_MAX;
}

uint32_t hth_tile_width(uint32_t n)
{
    uint32_t tiles = tiles_of(n), width;

    if (n <= SMALL)
        return n;
    width = (n + tiles - 1) / tiles;
    return width + width % 2;
}

static size_t align_up(size_t n)
{
    return (n + HTH_MEM_ALIGN - 1) & ~(size_t)(HTH_MEM_ALIGN - 1);
}

size_t hth_tile_bytes(uint32_t n, uint32_t cols)
{
    return align_up((size_t)tiles_of(n) * hth_tile_width(n) *
                    (cols / HTH_Q8_BLOCK) * HTH_TILE_BLOCK_BYTES);
}

/* A block of a tile, and where row `at` has its things in it. */
static void put_block(uint8_t *block, uint32_t width, uint32_t at,
                      const struct hth_q8 *from, size_t index)
{
    uint8_t *d = block + (size_t)width * HTH_Q8_BLOCK;

    memcpy(block + (size_t)at * HTH_Q8_BLOCK, from->q + index * HTH_Q8_BLOCK,
           HTH_Q8_BLOCK);
    memcpy(d + (size_t)at * 4, from->d + index, 4);
    memcpy(d + (size_t)(width + at) * 4, from->sums + 2 * index, 4);
}

static void put_zeros(uint8_t *block, uint32_t width, uint32_t from)
{
    uint8_t *d = block + (size_t)width * HTH_Q8_BLOCK;
    size_t rows = width - from;

    memset(block + (size_t)from * HTH_Q8_BLOCK, 0, rows * HTH_Q8_BLOCK);
    memset(d + (size_t)from * 4, 0, rows * 4);
    memset(d + (size_t)(width + from) * 4, 0, rows * 4);
}

void hth_tile_blocks(const struct hth_q8 *x, uint32_t row, uint32_t block,
                     uint32_t count)
{
    uint32_t width = hth_tile_width(x->n), blocks = x->cols / HTH_Q8_BLOCK;
    size_t bytes = (size_t)width * HTH_TILE_BLOCK_BYTES;
    uint8_t *at = x->tiles + ((size_t)(row / width) * blocks + block) * bytes;

    for (uint32_t b = 0; b < count; b++, at += bytes) {
        put_block(at, width, row % width, x, (size_t)row * blocks + block + b);
        if (row + 1 == x->n && (row + 1) % width != 0)
            put_zeros(at, width, row % width + 1);
    }
}

size_t hth_tile_floats(uint32_t n, uint32_t cols)
{
    size_t whole = (size_t)(cols + 31) / 32 * 32;
    size_t rows = (size_t)tiles_of(n) * hth_tile_width(n);
    /* Even tiles of up to 16 rows have less than a row each too many. */
    size_t wide = n + n / FLOAT_WIDTH_MAX;

    return align_up((rows > wide ? rows : wide) * whole * FLOAT_BYTES);
}

void hth_tile_float_row(const struct hth_xf *to, uint32_t row, const float *x,
                        uint32_t col, uint32_t count)
{
    uint32_t width = hth_tile_width(to->n);
    float *at = to->tiles + ((size_t)(row / width) * to->cols + col) * width +
                row % width;
    uint32_t zeros = row + 1 == to->n ? width - 1 - row % width : 0;

    for (uint32_t c = 0; c < count; c++, at += width) {
        *at = x[c];
        for (uint32_t i = 1; i <= zeros; i++)
            at[i] = 0.0f;
    }
}
