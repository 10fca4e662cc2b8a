/* profile.h - what this machine can do at best, in plain numbers: memory read
 * by threads, products by weight format, disk. Measured once by `hearth
 * profile`, kept as a small text file, read by the planner and by `hearth
 * bench --ops`.
 *
 * A file that does not parse or was made with another instruction set or
 * number of cores is as good as none. Functions are pure or do blocking file
 * I/O; any thread. */
#ifndef HTH_WORKER_PROFILE_H
#define HTH_WORKER_PROFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"
#include "base/limits.h"
#include "base/status.h"

struct hth_profile_read {
    uint32_t threads;
    double bytes_per_s; /* all threads together, a plain streaming read */
};

/* Products with our own kernels, all threads together. */
struct hth_profile_format {
    uint32_t type; /* enum hth_type */
    uint32_t threads;
    double decode_bytes_per_s; /* of weights, one row of x */
    double prefill_ops_per_s;  /* two per weight and row, many rows of x */
};

struct hth_profile {
    char isa[HTH_NAME_MAX];
    uint32_t cores;
    uint64_t made_s; /* Unix time */
    uint32_t reads;
    struct hth_profile_read read[HTH_PROFILE_READS_MAX]; /* [reads] */
    uint32_t formats;
    struct hth_profile_format format[HTH_PROFILE_FORMATS_MAX]; /* [formats] */
    double disk_bytes_per_s; /* sequential, past the page cache; 0: unknown */
};

/* ---- looking up ---------------------------------------------------------- */

/* Bytes per second that `threads` threads read together: as measured, between
 * two measured counts in proportion, beyond the last as the last. 0: the
 * profile has none. */
double hth_profile_read_rate(const struct hth_profile *p, uint32_t threads);
/* The same for a format; either result may be NULL. False: not measured. */
bool hth_profile_format_rate(const struct hth_profile *p, uint32_t type,
                             uint32_t threads, double *decode_bytes_per_s,
                             double *prefill_ops_per_s);

/* ---- the file ------------------------------------------------------------ */

void hth_profile_put(const struct hth_profile *p, struct hth_buf *out);
/* text[n] from anywhere: HTH_EFORMAT names the line. */
HTH_MUST_CHECK int hth_profile_parse(struct hth_profile *out, const char *text,
                                     size_t n, struct hth_err *err);
/* HTH_ENOTFOUND: there is none for this machine as it is (missing, damaged,
 * made with other kernels or cores); the text says which. */
HTH_MUST_CHECK int hth_profile_load(struct hth_profile *out, const char *path,
                                    struct hth_err *err);
/* Written beside and renamed, its directory made where missing: HTH_EIO. */
HTH_MUST_CHECK int hth_profile_save(const struct hth_profile *p,
                                    const char *path, struct hth_err *err);

/* ---- measuring (profile_measure.c) --------------------------------------- */

struct hth_profile_opts {
    uint32_t threads;      /* most; 0: one per usable core */
    uint32_t figure_ms;    /* spent on each figure; 0: 200 */
    const uint32_t *types; /* [type_count], formats to measure */
    uint32_t type_count;
    const char *disk_path; /* a large file to read; NULL: disk is left out */
    /* May be NULL: a line about what is being measured. */
    void (*progress)(void *ctx, const char *what);
    void *ctx;
    bool (*stop)(void *ctx); /* may be NULL: ends it with HTH_ECANCELLED */
};
/* Blocks for (reads + 2 formats) * figure_ms, and memory of 128 MiB. Errors:
 * HTH_ENOMEM, HTH_EIO (disk_path). */
HTH_MUST_CHECK int hth_profile_measure(struct hth_profile *out,
                                       const struct hth_profile_opts *opts,
                                       struct hth_err *err);
/* Only reading memory, `bytes` of it, with this many threads: bytes per
 * second, best of three or of what fits in `ms`; 0 without memory. */
double hth_profile_measure_read(uint32_t threads, size_t bytes, uint32_t ms);

#endif
