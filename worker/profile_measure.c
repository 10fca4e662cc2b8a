/* profile_measure.c - measuring what a profile holds. Every figure is the best
 * of what fits into its time: other programs can only make it slower. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/ops.h"
#include "kernels/pack.h"
#include "worker/probe.h"
#include "worker/profile.h"

#define READ_BYTES (256u << 20) /* beyond last-level caches */
#define MATRIX_BYTES (128u << 20)
#define COLS 2048u
#define PREFILL_ROWS 256u /* of x */
#define PREFILL_W_ROWS 2048u
#define FIGURE_MS 200u
#define DISK_PIECE_BYTES (4u << 20)
#define DISK_BYTES_MAX (1u << 30)
#define DISK_NS_MAX 3000000000u
#define PREFETCH_BYTES 4096

/* ---- reading memory ------------------------------------------------------ */

struct reader {
    const uint64_t *data;
    size_t words;
    uint64_t sum[HTH_THREADS_MAX]; /* so that reading is not optimised away */
};

/* Eight sums, so that adding does not hold the loads up; a line is asked for
 * well before its use. */
static void read_part(void *ctx, uint32_t thread, uint32_t threads)
{
    struct reader *r = ctx;
    uint64_t first, count, sums[8] = {0};
    const uint64_t *p;

    hth_split(r->words, 8, thread, threads, &first, &count);
    p = r->data + first;
    for (uint64_t i = 0; i + 8 <= count; i += 8) {
        __builtin_prefetch((const char *)(p + i) + PREFETCH_BYTES);
        for (uint32_t j = 0; j < 8; j++)
            sums[j] += p[i + j];
    }
    for (uint32_t j = 0; j < 8; j++)
        r->sum[thread] += sums[j];
}

/* Seconds of the fastest of the runs that fit into `ms`; at least three. */
static double fastest_s(struct hth_pool *pool, hth_pool_fn fn, void *ctx,
                        uint32_t ms)
{
    uint64_t begin = hth_now_ns(), best = UINT64_MAX;
    uint32_t runs = 0;

    while (runs < 3 || hth_now_ns() - begin < (uint64_t)ms * 1000000u) {
        uint64_t t = hth_now_ns();

        hth_pool_run(pool, fn, ctx);
        t = hth_now_ns() - t;
        best = t < best ? t : best;
        runs++;
    }
    return (double)(best > 0 ? best : 1) * 1e-9;
}

double hth_profile_measure_read(uint32_t threads, size_t bytes, uint32_t ms)
{
    struct reader *r = calloc(1, sizeof *r);
    struct hth_pool *pool = NULL;
    void *data = hth_mem_alloc(bytes);
    double rate = 0;

    if (r != NULL && data != NULL &&
        hth_pool_start(&pool, threads, false, NULL) == HTH_OK) {
        memset(data, 1, bytes);
        r->data = data;
        r->words = bytes / 8;
        rate = (double)bytes / fastest_s(pool, read_part, r, ms);
    }
    hth_pool_stop(pool);
    hth_mem_free(data);
    free(r);
    return rate;
}

/* ---- products ------------------------------------------------------------ */

struct product {
    struct hth_mat w;
    float *x, *y;
    void *scratch;
    struct hth_pool *pool;
    uint32_t rows; /* of x */
};

static void free_product(struct product *p)
{
    hth_mem_free((void *)(uintptr_t)p->w.data);
    hth_mem_free(p->x);
    hth_mem_free(p->y);
    hth_mem_free(p->scratch);
}

/* Four numbers of a float type between -1 and 1, never tiny: arithmetic on
 * denormal numbers is slow, and no model has them. */
static uint64_t float_word(uint32_t type, struct hth_rng *rng)
{
    uint64_t v = hth_rng_u64(rng);

    if (type == HTH_F16)
        return (v & 0x83ff83ff83ff83ffu) | 0x3800380038003800u;
    if (type == HTH_BF16)
        return (v & 0x807f807f807f807fu) | 0x3f003f003f003f00u;
    return (v & 0x807fffff807fffffu) | 0x3f0000003f000000u;
}

/* Quantised, packed or not: any bits will do as long as no scale is an infinity
 * or a NaN. */
static uint64_t random_word(uint32_t type, struct hth_rng *rng)
{
    if (type == HTH_F32 || type == HTH_F16 || type == HTH_BF16)
        return float_word(type, rng);
    return hth_rng_u64(rng) & 0x3fff3fff3fff3fffu;
}

static void fill(struct product *p, void *data, size_t bytes)
{
    struct hth_rng rng;

    hth_rng_init(&rng, 1);
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        uint64_t v = random_word(p->w.type, &rng);

        memcpy((uint8_t *)data + i, &v, 8);
    }
    for (size_t i = 0; i < (size_t)PREFILL_ROWS * COLS; i++)
        p->x[i] = (float)(hth_rng_unit(&rng) * 2 - 1);
    p->w.data = data;
}

/* In the layout in which the type is computed (pack.h). */
static int make_product(struct product *p, uint32_t type, uint32_t threads)
{
    size_t row = hth_row_bytes(type, COLS);
    uint32_t rows = (uint32_t)(MATRIX_BYTES / row / 64 * 64);
    void *data = hth_mem_alloc(rows * row);

    *p = (struct product){.w = {.type = type,
                                .rows = rows,
                                .cols = COLS,
                                .row_bytes = row,
                                .data = data,
                                .packed = hth_can_pack(type, COLS)}};
    p->x = hth_mem_alloc((size_t)PREFILL_ROWS * COLS * 4);
    p->y = hth_mem_alloc((size_t)PREFILL_ROWS *
                         (rows > PREFILL_W_ROWS ? rows : PREFILL_W_ROWS) * 4);
    p->scratch =
        hth_mem_alloc(hth_matmul_scratch_bytes(PREFILL_ROWS, COLS, threads));
    if (data == NULL || p->x == NULL || p->y == NULL || p->scratch == NULL) {
        free_product(p);
        return HTH_ENOMEM;
    }
    fill(p, data, rows * row);
    return HTH_OK;
}

/* As thread 0 of a pool of one, so that one loop times everything. */
static void multiply(void *ctx, uint32_t thread, uint32_t threads)
{
    struct product *p = ctx;
    const size_t ldy = p->w.rows;
    const struct hth_matmul_job job = {.w = &p->w,
                                       .y = &p->y,
                                       .ldy = &ldy,
                                       .count = 1,
                                       .x = p->x,
                                       .ldx = COLS,
                                       .n = p->rows,
                                       .scratch = p->scratch};

    (void)thread;
    (void)threads;
    hth_matmul(p->pool, &job);
}

static void measure_format(struct product *p, uint32_t ms,
                           struct hth_profile_format *out)
{
    uint32_t rows = p->w.rows;

    p->rows = 1;
    out->decode_bytes_per_s = (double)rows * (double)p->w.row_bytes /
                              fastest_s(NULL, multiply, p, ms);
    p->rows = PREFILL_ROWS;
    p->w.rows = rows < PREFILL_W_ROWS ? rows : PREFILL_W_ROWS;
    out->prefill_ops_per_s = 2.0 * p->w.rows * COLS * PREFILL_ROWS /
                             fastest_s(NULL, multiply, p, ms);
    p->w.rows = rows;
}

/* ---- disk ---------------------------------------------------------------- */

/* Sequential reads past the page cache where the file system can; elsewhere
 * what the cache holds of the file is dropped first. */
static int measure_disk(const char *path, double *out, struct hth_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    uint64_t begin = hth_now_ns(), bytes = 0;
    void *piece = aligned_alloc(4096, DISK_PIECE_BYTES);
    ssize_t n = 0;

    if (fd < 0 && errno == EINVAL) {
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0)
            (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    }
    if (fd < 0 || piece == NULL) {
        int rc = hth_fail(err, HTH_EIO, "%.200s: %s", path, strerror(errno));

        if (fd >= 0)
            close(fd);
        free(piece);
        return rc;
    }
    while (bytes < DISK_BYTES_MAX && hth_now_ns() - begin < DISK_NS_MAX) {
        n = pread(fd, piece, DISK_PIECE_BYTES, (off_t)bytes);
        if (n <= 0)
            break;
        bytes += (uint64_t)n;
        if ((size_t)n < DISK_PIECE_BYTES)
            break;
    }
    close(fd);
    free(piece);
    if (n < 0)
        return hth_fail(err, HTH_EIO, "read %.200s: %s", path, strerror(errno));
    *out = (double)bytes * 1e9 / (double)(hth_now_ns() - begin + 1);
    return HTH_OK;
}

/* ---- all ----------------------------------------------------------------- */

static void tell(const struct hth_profile_opts *o, const char *what)
{
    if (o->progress != NULL)
        o->progress(o->ctx, what);
}

static int look_for_stop(const struct hth_profile_opts *o, struct hth_err *err)
{
    if (o->stop != NULL && o->stop(o->ctx))
        return hth_fail(err, HTH_ECANCELLED, "interrupted");
    return HTH_OK;
}

/* 1, 2, 4, ... and the most. Returns how many counts there are. */
static uint32_t thread_counts(uint32_t most, uint32_t *dst, uint32_t max)
{
    uint32_t n = 0;

    for (uint32_t t = 1; t < most && n + 1 < max; t *= 2)
        dst[n++] = t;
    dst[n++] = most;
    return n;
}

static int measure_reads(struct hth_profile *p,
                         const struct hth_profile_opts *o, uint32_t threads,
                         struct hth_err *err)
{
    uint32_t counts[HTH_PROFILE_READS_MAX];
    uint32_t n = thread_counts(threads, counts, HTH_PROFILE_READS_MAX);

    for (uint32_t i = 0; i < n; i++) {
        int rc = look_for_stop(o, err);

        if (rc != HTH_OK)
            return rc;
        tell(o, "memory");
        p->read[i].threads = counts[i];
        p->read[i].bytes_per_s =
            hth_profile_measure_read(counts[i], READ_BYTES, o->figure_ms);
        if (p->read[i].bytes_per_s <= 0)
            return hth_fail(err, HTH_ENOMEM, "no memory to measure with");
        p->reads = i + 1;
    }
    return HTH_OK;
}

static int measure_type(struct hth_profile *p, const struct hth_profile_opts *o,
                        struct product *product, uint32_t threads,
                        struct hth_err *err)
{
    struct hth_profile_format *f = &p->format[p->formats];
    int rc = hth_pool_start(&product->pool, threads, false, err);

    if (rc != HTH_OK)
        return rc;
    *f = (struct hth_profile_format){.type = product->w.type,
                                     .threads = threads};
    measure_format(product, o->figure_ms, f);
    hth_pool_stop(product->pool);
    p->formats++;
    return HTH_OK;
}

/* Each format with one thread and with all. */
static int measure_formats(struct hth_profile *p,
                           const struct hth_profile_opts *o, uint32_t threads,
                           struct hth_err *err)
{
    int rc = HTH_OK;

    for (uint32_t i = 0; i < o->type_count && rc == HTH_OK; i++) {
        struct product product;

        rc = look_for_stop(o, err);
        if (rc != HTH_OK || p->formats + 2 > HTH_PROFILE_FORMATS_MAX)
            break;
        tell(o, hth_type_info(o->types[i])->name);
        rc = make_product(&product, o->types[i], threads);
        if (rc != HTH_OK)
            return hth_fail(err, rc, "no memory to measure with");
        rc = measure_type(p, o, &product, 1, err);
        if (rc == HTH_OK && threads > 1)
            rc = measure_type(p, o, &product, threads, err);
        free_product(&product);
    }
    return rc;
}

int hth_profile_measure(struct hth_profile *out,
                        const struct hth_profile_opts *opts,
                        struct hth_err *err)
{
    struct hth_profile_opts o = *opts;
    struct hth_profile p = {.cores = hth_probe_cores(),
                            .made_s = hth_wall_ms() / 1000};
    uint32_t threads = o.threads > 0 ? o.threads : p.cores;
    int rc;

    o.figure_ms = o.figure_ms > 0 ? o.figure_ms : FIGURE_MS;
    snprintf(p.isa, sizeof p.isa, "%s", hth_isa_name());
    rc = measure_reads(&p, &o, threads, err);
    if (rc == HTH_OK)
        rc = measure_formats(&p, &o, threads, err);
    if (rc == HTH_OK && o.disk_path != NULL) {
        tell(&o, "disk");
        rc = measure_disk(o.disk_path, &p.disk_bytes_per_s, err);
    }
    if (rc == HTH_OK)
        *out = p;
    return rc;
}
