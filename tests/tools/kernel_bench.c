/* kernel_bench.c - how fast the products are on this machine: for each
 * instruction set, type and layout of the weights, decode (one row of x; GB/s
 * of weights read, from a matrix larger than most caches) and prefill (many
 * rows; GFLOP/s), beside a plain streaming read of the same memory.
 *
 * usage: kernel_bench [-t threads] [-i isa] [-y type] [-n rows-of-x]
 *                     [-l packed|gguf] [-c cols] [-m MiB]
 *                     [-s seconds-per-figure]
 * Reports only; asserts nothing. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/isa.h"
#include "kernels/pack.h"
#include "kernels/quant.h"

struct options {
    uint32_t threads;
    uint32_t n;
    uint32_t cols;
    uint32_t matrix_mib;
    double seconds;
    const char *isa;
    const char *type;
    const char *layout; /* "packed", "gguf", or "both" */
};

/* One product, as every thread of the pool sees it. */
struct bench {
    const struct hth_isa *isa;
    struct hth_mat w;
    struct hth_q8 q8;
    struct hth_xf xf;
    const float *x;
    float *y;
    uint32_t n;
    volatile uint64_t sink;
};

static void *take(size_t bytes)
{
    void *p = hth_mem_alloc(bytes);

    if (p == NULL) {
        fprintf(stderr, "kernel_bench: no memory for %zu bytes\n", bytes);
        exit(1);
    }
    memset(p, 0, bytes); /* touch every page */
    return p;
}

static void product(void *ctx, uint32_t thread, uint32_t threads)
{
    struct bench *b = ctx;
    uint64_t first, count;

    hth_split(b->w.rows, 32, thread, threads, &first, &count);
    if (b->w.packed && (b->w.type == HTH_F16 || b->w.type == HTH_BF16))
        b->isa->gemm_packed_float(&b->w, (uint32_t)first, (uint32_t)count,
                                  &b->xf, b->y, b->w.rows);
    else if (b->w.packed)
        b->isa->gemm_packed(&b->w, (uint32_t)first, (uint32_t)count, &b->q8,
                            b->y, b->w.rows);
    else if (b->w.type == HTH_F32 || b->w.type == HTH_F16 ||
             b->w.type == HTH_BF16)
        b->isa->gemm_float(&b->w, (uint32_t)first, (uint32_t)count, b->x,
                           b->w.cols, b->n, b->y, b->w.rows);
    else
        b->isa->gemm_q8(&b->w, (uint32_t)first, (uint32_t)count, &b->q8, b->y,
                        b->w.rows);
}

/* The sum of all words, eight at a time so that adding costs nothing. */
static void read_all(void *ctx, uint32_t thread, uint32_t threads)
{
    struct bench *b = ctx;
    const uint64_t *p = b->w.data;
    uint64_t sums[8] = {0}, first, count;

    hth_split(b->w.rows * b->w.row_bytes / 8, 8, thread, threads, &first,
              &count);
    for (uint64_t i = 0; i + 8 <= count; i += 8) {
        __builtin_prefetch((const char *)(p + first + i) + 4096);
        for (int j = 0; j < 8; j++)
            sums[j] += p[first + i + (uint64_t)j];
    }
    for (int j = 0; j < 8; j++)
        b->sink += sums[j];
}

/* The best of several runs: others share the machine. */
static double seconds_of(struct hth_pool *pool, hth_pool_fn fn, struct bench *b,
                         double budget_s)
{
    double best = 1e9, spent = 0;

    hth_pool_run(pool, fn, b);
    while (spent < budget_s) {
        uint64_t start = hth_now_ns();
        double s;

        hth_pool_run(pool, fn, b);
        s = (double)(hth_now_ns() - start) * 1e-9;
        spent += s;
        if (s < best)
            best = s;
    }
    return best;
}

static void fill_random(struct bench *b, uint32_t cols, struct hth_rng *rng)
{
    uint8_t *data = take((size_t)b->w.rows * b->w.row_bytes + 64);
    size_t bytes = (size_t)b->w.rows * b->w.row_bytes;
    float *x = take((size_t)b->n * cols * sizeof *x);

    /* moderate exponents everywhere: no infinity, NaN or subnormal */
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        uint64_t v = hth_rng_u64(rng) & 0x3fff3fff3fff3fffull;

        v |= 0x2000200020002000ull;
        memcpy(data + i, &v, 8);
    }
    for (size_t i = 0; i < (size_t)b->n * cols; i++)
        x[i] = (float)(hth_rng_u64(rng) >> 40) / (1 << 23) - 1.0f;
    b->w.data = data;
    b->x = x;
    b->q8.q = take((size_t)b->n * cols);
    b->q8.d = take((size_t)b->n * cols / 32 * sizeof(float));
    b->q8.sums = take((size_t)b->n * cols / 16 * sizeof(int16_t));
    b->q8.cols = cols;
    for (size_t r = 0; r < b->n; r++)
        b->isa->q8_row(x + r * cols, cols, b->q8.q + r * cols,
                       b->q8.d + r * cols / 32, b->q8.sums + r * cols / 16);
    b->q8.tiles = take(hth_tile_bytes(b->n, cols));
    b->xf.cols = cols;
    b->xf.tiles = take(hth_tile_floats(b->n, cols));
    b->y = take((size_t)b->n * b->w.rows * sizeof *b->y);
}

/* From here on n rows of x. */
static void use_rows(struct bench *b, uint32_t n)
{
    b->n = b->q8.n = b->xf.n = n;
    for (uint32_t r = 0; r < n; r++) {
        hth_tile_blocks(&b->q8, r, 0, b->w.cols / 32);
        b->isa->tile_float(&b->xf, r, b->x + (size_t)r * b->w.cols, 0,
                           b->w.cols);
    }
}

static void drop(struct bench *b)
{
    hth_mem_free((void *)b->w.data);
    hth_mem_free((void *)b->x);
    hth_mem_free(b->q8.q);
    hth_mem_free(b->q8.d);
    hth_mem_free(b->q8.sums);
    hth_mem_free(b->q8.tiles);
    hth_mem_free(b->xf.tiles);
    hth_mem_free(b->y);
}

static void figures(const struct hth_isa *isa, const struct hth_type_info *type,
                    const struct options *o, struct hth_pool *pool, bool packed)
{
    size_t row_bytes = hth_row_bytes(type->id, o->cols);
    size_t bytes = (size_t)o->matrix_mib << 20;
    struct bench b = {.isa = isa, .n = o->n};
    uint32_t rows = (uint32_t)(bytes / row_bytes / 32 * 32);
    struct hth_rng rng;
    double decode_s, read_s, prefill_s;

    hth_rng_init(&rng, 1);
    b.w = (struct hth_mat){type->id, rows, o->cols, row_bytes, NULL, packed};
    fill_random(&b, o->cols, &rng);
    bytes = (size_t)rows * row_bytes;
    use_rows(&b, 1);
    read_s = seconds_of(pool, read_all, &b, o->seconds);
    decode_s = seconds_of(pool, product, &b, o->seconds);
    use_rows(&b, o->n);
    /* short runs, so that some are not interrupted */
    b.w.rows = rows < 256 * o->threads ? rows : 256 * o->threads;
    prefill_s = seconds_of(pool, product, &b, o->seconds);
    printf("%-8s %-7s %-6s %u threads  read %6.1f GB/s  decode %6.1f GB/s  "
           "n=%u %7.1f GFLOP/s\n",
           isa->name, type->name, packed ? "packed" : "gguf", o->threads,
           (double)bytes / read_s * 1e-9, (double)bytes / decode_s * 1e-9, o->n,
           2.0 * b.w.rows * o->cols * o->n / prefill_s * 1e-9);
    fflush(stdout);
    drop(&b);
}

static void all_types(const struct hth_isa *isa, const struct options *o,
                      struct hth_pool *pool)
{
    for (uint32_t id = 0; id <= HTH_BF16; id++) {
        const struct hth_type_info *type = hth_type_info(id);

        if (type == NULL || o->cols % type->block != 0)
            continue;
        if (o->type != NULL && strcasecmp(o->type, type->name) != 0)
            continue;
        if (strcmp(o->layout, "packed") != 0)
            figures(isa, type, o, pool, false);
        if (strcmp(o->layout, "gguf") != 0 && hth_can_pack(id, o->cols))
            figures(isa, type, o, pool, true);
    }
}

static int parse(int argc, char **argv, struct options *o)
{
    int c;

    while ((c = getopt(argc, argv, "t:i:y:n:c:m:s:l:")) != -1) {
        if (c == 't')
            o->threads = (uint32_t)strtoul(optarg, NULL, 10);
        else if (c == 'i')
            o->isa = optarg;
        else if (c == 'y')
            o->type = optarg;
        else if (c == 'l')
            o->layout = optarg;
        else if (c == 'n')
            o->n = (uint32_t)strtoul(optarg, NULL, 10);
        else if (c == 'c')
            o->cols = (uint32_t)strtoul(optarg, NULL, 10);
        else if (c == 'm')
            o->matrix_mib = (uint32_t)strtoul(optarg, NULL, 10);
        else if (c == 's')
            o->seconds = strtod(optarg, NULL);
        else
            return -1;
    }
    return o->threads > 0 && o->n > 0 && o->cols > 0 && o->cols % 32 == 0 &&
                   o->matrix_mib > 0
               ? 0
               : -1;
}

int main(int argc, char **argv)
{
    struct options o = {1, 256, 2048, 128, 0.3, NULL, NULL, "both"};
    struct hth_pool *pool;
    struct hth_err err;

    if (parse(argc, argv, &o) != 0) {
        fprintf(stderr, "usage: kernel_bench [-t threads] [-i isa] [-y type] "
                        "[-n rows] [-l packed|gguf] [-c cols] [-m MiB] "
                        "[-s seconds]\n");
        return 2;
    }
    if (hth_pool_start(&pool, o.threads, true, &err) != HTH_OK) {
        fprintf(stderr, "kernel_bench: %s\n", err.text);
        return 1;
    }
    for (uint32_t i = 0; hth_isa_at(i) != NULL; i++) {
        const struct hth_isa *isa = hth_isa_at(i);

        if (!isa->usable())
            continue;
        if (o.isa == NULL || strcmp(o.isa, isa->name) == 0)
            all_types(isa, &o, pool);
    }
    hth_pool_stop(pool);
    return 0;
}
