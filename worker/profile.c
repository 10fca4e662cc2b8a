/* profile.c - a machine's profile as text, and looking rates up in it.
 *
 *   hearth-profile 2
 *   isa avx512
 *   cores 2
 *   made 1790000000
 *   read THREADS BYTES_PER_S
 *   format NAME THREADS DECODE_BYTES_PER_S PREFILL_OPS_PER_S
 *   disk BYTES_PER_S
 */
#include "worker/profile.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/ops.h"
#include "worker/probe.h"

#define VERSION_LINE "hearth-profile 2"
#define PATH_MAX_BYTES 4096u
#define RATE_MAX 1e18

/* ---- looking up ---------------------------------------------------------- */

/* A point of a curve over thread counts. */
struct point {
    uint32_t threads;
    double v;
};

/* points ascend. */
static double between(const struct point *p, uint32_t n, uint32_t threads)
{
    if (n == 0)
        return 0;
    if (threads <= p[0].threads)
        return p[0].v * threads / p[0].threads;
    for (uint32_t i = 1; i < n; i++) {
        double part = p[i].threads - p[i - 1].threads;

        if (threads <= p[i].threads)
            return p[i - 1].v +
                   (p[i].v - p[i - 1].v) * (threads - p[i - 1].threads) / part;
    }
    return p[n - 1].v;
}

double hth_profile_read_rate(const struct hth_profile *p, uint32_t threads)
{
    struct point points[HTH_PROFILE_READS_MAX];

    for (uint32_t i = 0; i < p->reads; i++)
        points[i] = (struct point){p->read[i].threads, p->read[i].bytes_per_s};
    return between(points, p->reads, threads);
}

bool hth_profile_format_rate(const struct hth_profile *p, uint32_t type,
                             uint32_t threads, double *decode, double *prefill)
{
    struct point d[HTH_PROFILE_FORMATS_MAX], f[HTH_PROFILE_FORMATS_MAX];
    uint32_t n = 0;

    for (uint32_t i = 0; i < p->formats; i++) {
        const struct hth_profile_format *v = &p->format[i];

        if (v->type != type || (n > 0 && d[n - 1].threads >= v->threads))
            continue;
        d[n] = (struct point){v->threads, v->decode_bytes_per_s};
        f[n++] = (struct point){v->threads, v->prefill_ops_per_s};
    }
    if (decode != NULL)
        *decode = between(d, n, threads);
    if (prefill != NULL)
        *prefill = between(f, n, threads);
    return n > 0;
}

/* ---- writing ------------------------------------------------------------- */

void hth_profile_put(const struct hth_profile *p, struct hth_buf *out)
{
    hth_put_printf(out, VERSION_LINE "\nisa %s\ncores %u\nmade %llu\n", p->isa,
                   p->cores, (unsigned long long)p->made_s);
    for (uint32_t i = 0; i < p->reads; i++)
        hth_put_printf(out, "read %u %.0f\n", p->read[i].threads,
                       p->read[i].bytes_per_s);
    for (uint32_t i = 0; i < p->formats; i++) {
        const struct hth_profile_format *f = &p->format[i];

        hth_put_printf(out, "format %s %u %.0f %.0f\n",
                       hth_type_info(f->type)->name, f->threads,
                       f->decode_bytes_per_s, f->prefill_ops_per_s);
    }
    if (p->disk_bytes_per_s > 0)
        hth_put_printf(out, "disk %.0f\n", p->disk_bytes_per_s);
}

/* ---- parsing ------------------------------------------------------------- */

static bool rate_ok(double v)
{
    return isfinite(v) && v > 0 && v < RATE_MAX;
}

static bool threads_ok(uint32_t threads)
{
    return threads >= 1 && threads <= HTH_THREADS_MAX;
}

/* Thread counts ascend, so that looking up is simple. */
static bool parse_read(struct hth_profile *p, const char *rest)
{
    struct hth_profile_read r;

    if (p->reads == HTH_PROFILE_READS_MAX ||
        sscanf(rest, "%9u %lf", &r.threads, &r.bytes_per_s) != 2 ||
        !threads_ok(r.threads) || !rate_ok(r.bytes_per_s) ||
        (p->reads > 0 && p->read[p->reads - 1].threads >= r.threads))
        return false;
    p->read[p->reads++] = r;
    return true;
}

static bool parse_format(struct hth_profile *p, const char *rest)
{
    struct hth_profile_format f;
    const struct hth_type_info *type;
    char name[16];

    if (p->formats == HTH_PROFILE_FORMATS_MAX ||
        sscanf(rest, "%15s %9u %lf %lf", name, &f.threads,
               &f.decode_bytes_per_s, &f.prefill_ops_per_s) != 4 ||
        !threads_ok(f.threads) || !rate_ok(f.decode_bytes_per_s) ||
        !rate_ok(f.prefill_ops_per_s))
        return false;
    type = hth_type_by_name(name);
    if (type == NULL)
        return false;
    f.type = type->id;
    p->format[p->formats++] = f;
    return true;
}

/* Lines of other names are those of a later version: passed over. */
static bool parse_line(struct hth_profile *p, const char *line)
{
    unsigned long long made;

    if (strncmp(line, "isa ", 4) == 0)
        return sscanf(line + 4, "%63s", p->isa) == 1;
    if (strncmp(line, "cores ", 6) == 0)
        return sscanf(line + 6, "%9u", &p->cores) == 1;
    if (strncmp(line, "made ", 5) == 0) {
        if (sscanf(line + 5, "%18llu", &made) != 1)
            return false;
        p->made_s = made;
        return true;
    }
    if (strncmp(line, "read ", 5) == 0)
        return parse_read(p, line + 5);
    if (strncmp(line, "format ", 7) == 0)
        return parse_format(p, line + 7);
    if (strncmp(line, "disk ", 5) == 0)
        return sscanf(line + 5, "%lf", &p->disk_bytes_per_s) == 1 &&
               rate_ok(p->disk_bytes_per_s);
    return true;
}

int hth_profile_parse(struct hth_profile *out, const char *text, size_t n,
                      struct hth_err *err)
{
    struct hth_profile p = {0};
    uint32_t number = 0;

    for (size_t at = 0; at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t length = end != NULL ? (size_t)(end - text) - at : n - at;
        char line[128];
        bool ok = length < sizeof line;

        number++;
        if (ok) {
            memcpy(line, text + at, length);
            line[length] = '\0';
            ok = number == 1 ? strcmp(line, VERSION_LINE) == 0
                             : parse_line(&p, line);
        }
        if (!ok)
            return hth_fail(err, HTH_EFORMAT, "line %u is no part of a profile",
                            number);
        at += length + 1;
    }
    if (number == 0 || p.reads == 0 || p.isa[0] == '\0')
        return hth_fail(err, HTH_EFORMAT, "the profile is not complete");
    *out = p;
    return HTH_OK;
}

/* ---- the file ------------------------------------------------------------ */

static int read_text(const char *path, char *text, size_t max, size_t *n)
{
    FILE *f = fopen(path, "re");
    bool whole;

    if (f == NULL)
        return HTH_ENOTFOUND;
    *n = fread(text, 1, max, f);
    whole = ferror(f) == 0 && *n < max;
    fclose(f);
    return whole ? HTH_OK : HTH_EIO;
}

int hth_profile_load(struct hth_profile *out, const char *path,
                     struct hth_err *err)
{
    char text[HTH_PROFILE_BYTES_MAX];
    struct hth_profile p;
    struct hth_err why;
    size_t n;

    if (read_text(path, text, sizeof text, &n) != HTH_OK)
        return hth_fail(err, HTH_ENOTFOUND,
                        "this machine has no profile; hearth profile makes it");
    if (hth_profile_parse(&p, text, n, &why) != HTH_OK)
        return hth_fail(err, HTH_ENOTFOUND,
                        "%.200s: %.100s; hearth profile makes it anew", path,
                        why.text);
    if (strcmp(p.isa, hth_isa_name()) != 0 || p.cores != hth_probe_cores())
        return hth_fail(err, HTH_ENOTFOUND,
                        "%.200s was made with %.60s on %u cores; hearth "
                        "profile makes it anew",
                        path, p.isa, p.cores);
    *out = p;
    return HTH_OK;
}

/* The directories above a path. */
static int make_parents(const char *path, struct hth_err *err)
{
    char dir[PATH_MAX_BYTES];

    if (strlen(path) >= sizeof dir)
        return hth_fail(err, HTH_ELIMIT, "the path of the profile is too long");
    snprintf(dir, sizeof dir, "%s", path);
    for (char *p = dir + 1; *p != '\0'; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        if (mkdir(dir, 0700) != 0 && errno != EEXIST)
            return hth_fail(err, HTH_EIO, "make %.200s: %s", dir,
                            strerror(errno));
        *p = '/';
    }
    return HTH_OK;
}

static int write_text(const char *path, const struct hth_buf *b)
{
    char temp[PATH_MAX_BYTES + 8];
    FILE *f;
    bool ok;

    snprintf(temp, sizeof temp, "%s.part", path);
    f = fopen(temp, "we");
    if (f == NULL)
        return HTH_EIO;
    ok = fwrite(b->data, 1, b->len, f) == b->len;
    ok = fclose(f) == 0 && ok;
    if (ok && rename(temp, path) == 0)
        return HTH_OK;
    (void)unlink(temp);
    return HTH_EIO;
}

int hth_profile_save(const struct hth_profile *p, const char *path,
                     struct hth_err *err)
{
    struct hth_buf b;
    int rc = make_parents(path, err);

    if (rc != HTH_OK)
        return rc;
    hth_buf_init(&b, HTH_PROFILE_BYTES_MAX);
    hth_profile_put(p, &b);
    rc = b.failed ? HTH_ENOMEM : write_text(path, &b);
    if (rc != HTH_OK)
        hth_fail(err, rc, "write %.200s: %s", path,
                 rc == HTH_EIO ? strerror(errno) : "out of memory");
    hth_buf_fini(&b);
    return rc;
}
