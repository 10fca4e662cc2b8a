/* gguf.c - a GGUF model: one file or the parts of a split, mapped.
 *
 * Owns: descriptors, mappings, and the directory over all parts. Leaves every
 * check of a single file's bytes to gguf_parse.c. Refuses splits that are
 * incomplete, disagree about their number or hold a tensor twice. Fails with a
 * sentence naming the file; a failed open leaves nothing behind. */
#include "model/gguf_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"

/* "-00001-of-00003.gguf" */
#define SPLIT_SUFFIX_LEN 20u

struct hth_gguf {
    struct gguf_part *parts; /* [part_count], owned */
    uint32_t part_count;
    const struct hth_tensor **tensors; /* [tensor_count], owned, file order */
    const struct hth_tensor **by_name; /* the same, sorted */
    size_t tensor_count;
};

/* ---- one part ------------------------------------------------------------ */

/* Error texts are bounded, and the end of a path says more than its start. */
static void set_label(struct gguf_part *part, const char *path)
{
    size_t n = strlen(path);
    const char *from = path;
    const char *dots = "";

    if (n >= sizeof part->label) {
        from = path + n - (sizeof part->label - 4);
        dots = "...";
    }
    snprintf(part->label, sizeof part->label, "%s%s", dots, from);
}

static void part_fini(struct gguf_part *part)
{
    hth__gguf_free_keys(part);
    hth__gguf_free_tensors(part);
    if (part->mapped)
        munmap((void *)(uintptr_t)part->base, part->size);
    if (part->fd >= 0)
        close(part->fd);
    free(part->path);
}

static int check_file(struct gguf_part *part, struct hth_err *err)
{
    struct stat st;

    if (fstat(part->fd, &st) != 0)
        return hth_fail(err, HTH_EIO, "stat %s: %s", part->label,
                        strerror(errno));
    if (!S_ISREG(st.st_mode))
        return hth_fail(err, HTH_EIO, "%s: is no regular file", part->label);
    if (st.st_size == 0)
        return hth_fail(err, HTH_EFORMAT, "%s: is empty", part->label);
    if ((uint64_t)st.st_size > SIZE_MAX / 2)
        return hth_fail(err, HTH_ELIMIT,
                        "%s: is too large for this device's address space",
                        part->label);
    part->size = (size_t)st.st_size;
    return 0;
}

/* O_NONBLOCK only keeps a FIFO in the file's place from blocking us; it has
 * no effect on regular files. */
static int part_map(struct gguf_part *part, const char *path,
                    struct hth_err *err)
{
    void *map;
    int rc;

    set_label(part, path);
    part->path = strdup(path);
    if (part->path == NULL)
        return hth_fail(err, HTH_ENOMEM, "%s: out of memory", part->label);
    part->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (part->fd < 0)
        return hth_fail(err, HTH_EIO, "open %s: %s", part->label,
                        strerror(errno));
    rc = check_file(part, err);
    if (rc != 0)
        return rc;
    map = mmap(NULL, part->size, PROT_READ, MAP_SHARED, part->fd, 0);
    if (map == MAP_FAILED)
        return hth_fail(err, HTH_EIO, "mmap %s: %s", part->label,
                        strerror(errno));
    part->base = map;
    part->mapped = true;
    return 0;
}

/* ---- splits -------------------------------------------------------------- */

/* An optional integer key of one part; `missing` where it is absent. */
static int optional_uint(const struct gguf_part *part, const char *key,
                         uint64_t missing, uint64_t *out, struct hth_err *err)
{
    if (hth__gguf_part_find(part, key) == NULL) {
        *out = missing;
        return 0;
    }
    return hth__gguf_part_uint(part, key, INT32_MAX, out, err);
}

/* Does path end in "-NNNNN-of-NNNNN.gguf"? Both numbers if so. */
static bool parse_split_name(const char *path, uint32_t *no, uint32_t *count)
{
    size_t n = strlen(path);
    const char *s;
    int end = 0;

    if (n <= SPLIT_SUFFIX_LEN)
        return false;
    s = path + n - SPLIT_SUFFIX_LEN;
    if (strspn(s + 1, "0123456789") != 5 || strspn(s + 10, "0123456789") != 5)
        return false;
    return sscanf(s, "-%5" SCNu32 "-of-%5" SCNu32 ".gguf%n", no, count, &end) ==
               2 &&
           end == (int)SPLIT_SUFFIX_LEN;
}

/* How many parts the model has, from the first part's keys, which must agree
 * with its name: a renamed part must not pass for a whole model. */
static int split_count(const struct gguf_part *first, uint32_t *out,
                       struct hth_err *err)
{
    uint32_t name_no = 1, name_count = 1;
    bool named = parse_split_name(first->path, &name_no, &name_count);
    uint64_t count;
    int rc = optional_uint(first, "split.count", 1, &count, err);

    if (rc != 0)
        return rc;
    if (count > HTH_GGUF_SPLITS_MAX)
        return hth_fail(err, HTH_ELIMIT,
                        "%s: is split into %" PRIu64 " parts; at most %u are "
                        "supported",
                        first->label, count, HTH_GGUF_SPLITS_MAX);
    if (count <= 1 && name_count > 1)
        return hth_fail(err, HTH_EFORMAT,
                        "%s: is named as one of %" PRIu32 " parts but has no "
                        "split.count; rename it if it is a whole model",
                        first->label, name_count);
    if (count > 1 && (!named || name_count != count))
        return hth_fail(err, HTH_EFORMAT,
                        "%s: is one of %" PRIu64 " parts; name them "
                        "NAME-00001-of-%05" PRIu64 ".gguf and so on, in one "
                        "directory",
                        first->label, count, count);
    *out = count > 1 ? (uint32_t)count : 1;
    return 0;
}

/* What a part says about itself against what its place demands. A split that
 * was merged again has a count of 0. */
static int check_split_keys(const struct gguf_part *part, uint32_t no,
                            uint32_t count, struct hth_err *err)
{
    uint64_t own_no, own_count;
    int rc = optional_uint(part, "split.no", 0, &own_no, err);

    if (rc == 0)
        rc = optional_uint(part, "split.count", 1, &own_count, err);
    if (rc != 0)
        return rc;
    if (own_count != count && !(count == 1 && own_count == 0))
        return hth_fail(err, HTH_EFORMAT,
                        "%s: belongs to a split of %" PRIu64 " parts, not "
                        "%" PRIu32 "; the parts are of different models",
                        part->label, own_count, count);
    if (own_no == no)
        return 0;
    if (no == 0)
        return hth_fail(err, HTH_EFORMAT,
                        "%s: is part %" PRIu64 " of %" PRIu32 "; open part 1",
                        part->label, own_no + 1, count);
    return hth_fail(err, HTH_EFORMAT,
                    "%s: holds part %" PRIu64 " of the split where part "
                    "%" PRIu32 " is expected",
                    part->label, own_no + 1, no + 1);
}

/* Open part `no` (from 0). Of its keys only split.* matter; they go at once,
 * so that a vocabulary repeated in each part is held once. */
static int open_later_part(struct hth_gguf *g, uint32_t no, uint32_t count,
                           struct hth_err *err)
{
    struct gguf_part *part = &g->parts[no];
    size_t n = strlen(g->parts[0].path);
    char *path = malloc(n + 16);
    int rc;

    if (path == NULL)
        return hth_fail(err, HTH_ENOMEM, "%s: out of memory",
                        g->parts[0].label);
    memcpy(path, g->parts[0].path, n);
    snprintf(path + n - SPLIT_SUFFIX_LEN, SPLIT_SUFFIX_LEN + 16,
             "-%05" PRIu32 "-of-%05" PRIu32 ".gguf", no + 1, count);
    rc = part_map(part, path, err);
    free(path);
    if (rc != 0)
        return hth_fail_prefix(err, rc,
                               "part %" PRIu32 " of %" PRIu32
                               " (all parts must be in one directory)",
                               no + 1, count);
    rc = hth__gguf_parse(part, err);
    if (rc == 0)
        rc = check_split_keys(part, no, count, err);
    hth__gguf_free_keys(part);
    return rc;
}

static int open_splits(struct hth_gguf *g, struct hth_err *err)
{
    uint32_t count = 1;
    struct gguf_part *parts;
    int rc = split_count(&g->parts[0], &count, err);

    if (rc == 0)
        rc = check_split_keys(&g->parts[0], 0, count, err);
    if (rc != 0 || count == 1)
        return rc;
    parts = realloc(g->parts, count * sizeof *parts);
    if (parts == NULL)
        return hth_fail(err, HTH_ENOMEM, "%s: out of memory",
                        g->parts[0].label);
    g->parts = parts;
    for (uint32_t i = 1; i < count; i++)
        g->parts[i] = (struct gguf_part){.fd = -1};
    g->part_count = count;
    for (uint32_t i = 1; i < count && rc == 0; i++)
        rc = open_later_part(g, i, count, err);
    return rc;
}

/* ---- the directory ------------------------------------------------------- */

static int compare_name(const void *a, const void *b)
{
    const struct hth_tensor *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

static int check_names(const struct hth_gguf *g, struct hth_err *err)
{
    for (size_t i = 1; i < g->tensor_count; i++) {
        const struct hth_tensor *a = g->by_name[i - 1], *b = g->by_name[i];

        if (strcmp(a->name, b->name) != 0)
            continue;
        if (a->part == b->part)
            return hth_fail(err, HTH_EFORMAT, "%s: tensor %s appears twice",
                            g->parts[a->part].label, a->name);
        return hth_fail(err, HTH_EFORMAT,
                        "%s: tensor %s appears in parts %" PRIu32
                        " and %" PRIu32,
                        g->parts[a->part].label, a->name,
                        (a->part < b->part ? a->part : b->part) + 1,
                        (a->part < b->part ? b->part : a->part) + 1);
    }
    return 0;
}

/* Copy the tensors of part `p` into the directory from entry `at` on. */
static size_t list_part(struct hth_gguf *g, uint32_t p, size_t at)
{
    struct gguf_part *part = &g->parts[p];

    for (size_t i = 0; i < part->tensor_count; i++) {
        part->tensors[i].part = p;
        g->tensors[at] = &part->tensors[i];
        g->by_name[at++] = &part->tensors[i];
    }
    return at;
}

/* split.tensors.count is of all parts together; it catches parts of two
 * quantisations of one model put side by side. */
static int check_total(const struct hth_gguf *g, struct hth_err *err)
{
    uint64_t told;
    int rc = optional_uint(&g->parts[0], "split.tensors.count", g->tensor_count,
                           &told, err);

    if (rc == 0 && g->part_count > 1 && told != g->tensor_count)
        rc = hth_fail(err, HTH_EFORMAT,
                      "%s: the parts hold %zu tensors, split.tensors.count "
                      "says %" PRIu64,
                      g->parts[0].label, g->tensor_count, told);
    return rc;
}

static int list_tensors(struct hth_gguf *g, struct hth_err *err)
{
    size_t total = 0, at = 0;
    int rc;

    for (uint32_t p = 0; p < g->part_count; p++)
        total += g->parts[p].tensor_count;
    if (total > HTH_GGUF_TENSORS_MAX)
        return hth_fail(err, HTH_ELIMIT,
                        "%s: the parts hold %zu tensors; at most %u are "
                        "supported",
                        g->parts[0].label, total, HTH_GGUF_TENSORS_MAX);
    g->tensors = calloc(total + 1, sizeof *g->tensors);
    g->by_name = calloc(total + 1, sizeof *g->by_name);
    if (g->tensors == NULL || g->by_name == NULL)
        return hth_fail(err, HTH_ENOMEM, "%s: out of memory",
                        g->parts[0].label);
    for (uint32_t p = 0; p < g->part_count; p++)
        at = list_part(g, p, at);
    g->tensor_count = total;
    qsort(g->by_name, total, sizeof *g->by_name, compare_name);
    rc = check_names(g, err);
    return rc != 0 ? rc : check_total(g, err);
}

/* ---- open, close --------------------------------------------------------- */

static struct hth_gguf *alloc_gguf(void)
{
    struct hth_gguf *g = calloc(1, sizeof *g);

    if (g == NULL)
        return NULL;
    g->parts = calloc(1, sizeof *g->parts);
    if (g->parts == NULL) {
        free(g);
        return NULL;
    }
    g->part_count = 1;
    g->parts[0].fd = -1;
    return g;
}

static int open_path(struct hth_gguf *g, const char *path, struct hth_err *err)
{
    int rc = part_map(&g->parts[0], path, err);

    if (rc == 0)
        rc = hth__gguf_parse(&g->parts[0], err);
    if (rc == 0)
        rc = open_splits(g, err);
    return rc != 0 ? rc : list_tensors(g, err);
}

int hth_gguf_open(struct hth_gguf **out, const char *path, struct hth_err *err)
{
    struct hth_gguf *g = alloc_gguf();
    int rc;

    if (g == NULL)
        return hth_fail(err, HTH_ENOMEM, "open %.200s: out of memory", path);
    rc = open_path(g, path, err);
    if (rc != 0) {
        hth_gguf_close(g);
        return rc;
    }
    *out = g;
    return 0;
}

static int open_bytes(struct hth_gguf *g, struct hth_err *err)
{
    uint64_t count;
    int rc = hth__gguf_parse(&g->parts[0], err);

    if (rc == 0)
        rc = optional_uint(&g->parts[0], "split.count", 1, &count, err);
    if (rc == 0 && count > 1)
        rc = hth_fail(err, HTH_EUNSUPPORTED,
                      "%s: is one of %" PRIu64 " parts, which needs a path",
                      g->parts[0].label, count);
    return rc != 0 ? rc : list_tensors(g, err);
}

int hth_gguf_open_memory(struct hth_gguf **out, const void *data, size_t size,
                         struct hth_err *err)
{
    struct hth_gguf *g = alloc_gguf();
    int rc;

    if (g == NULL)
        return hth_fail(err, HTH_ENOMEM, "memory: out of memory");
    set_label(&g->parts[0], "memory");
    g->parts[0].base = data;
    g->parts[0].size = size;
    rc = open_bytes(g, err);
    if (rc != 0) {
        hth_gguf_close(g);
        return rc;
    }
    *out = g;
    return 0;
}

void hth_gguf_close(struct hth_gguf *g)
{
    if (g == NULL)
        return;
    for (uint32_t p = 0; p < g->part_count; p++)
        part_fini(&g->parts[p]);
    free(g->parts);
    free(g->tensors);
    free(g->by_name);
    free(g);
}

/* ---- access -------------------------------------------------------------- */

const struct gguf_part *hth__gguf_first(const struct hth_gguf *g)
{
    return &g->parts[0];
}

const char *hth_gguf_path(const struct hth_gguf *g)
{
    return hth_gguf_part_path(g, 0);
}

uint32_t hth_gguf_version(const struct hth_gguf *g)
{
    return g->parts[0].version;
}

uint64_t hth_gguf_file_bytes(const struct hth_gguf *g)
{
    uint64_t sum = 0;

    for (uint32_t p = 0; p < g->part_count; p++)
        sum += g->parts[p].size;
    return sum;
}

uint32_t hth_gguf_parts(const struct hth_gguf *g)
{
    return g->part_count;
}

const char *hth_gguf_part_path(const struct hth_gguf *g, uint32_t part)
{
    HTH_ASSERT(part < g->part_count);
    return g->parts[part].path != NULL ? g->parts[part].path : "";
}

uint64_t hth_gguf_part_bytes(const struct hth_gguf *g, uint32_t part)
{
    HTH_ASSERT(part < g->part_count);
    return g->parts[part].size;
}

size_t hth_gguf_kv_count(const struct hth_gguf *g)
{
    return g->parts[0].kv_count;
}

const struct hth_gguf_kv *hth_gguf_kv_at(const struct hth_gguf *g, size_t i)
{
    HTH_ASSERT(i < g->parts[0].kv_count);
    return &g->parts[0].kvs[i];
}

const struct hth_gguf_kv *hth_gguf_find(const struct hth_gguf *g,
                                        const char *key)
{
    return hth__gguf_part_find(&g->parts[0], key);
}

size_t hth_gguf_tensor_count(const struct hth_gguf *g)
{
    return g->tensor_count;
}

const struct hth_tensor *hth_gguf_tensor_at(const struct hth_gguf *g, size_t i)
{
    HTH_ASSERT(i < g->tensor_count);
    return g->tensors[i];
}

const struct hth_tensor *hth_gguf_tensor(const struct hth_gguf *g,
                                         const char *name)
{
    struct hth_tensor want = {.name = name};
    const struct hth_tensor *const pointer = &want;
    const struct hth_tensor **hit;

    hit = bsearch(&pointer, g->by_name, g->tensor_count, sizeof *g->by_name,
                  compare_name);
    return hit != NULL ? *hit : NULL;
}

/* pread may return less than asked for, and returns 0 where the file has been
 * cut short since it was opened. */
static int read_exact(const struct gguf_part *part, uint64_t at, void *dst,
                      size_t n, struct hth_err *err)
{
    char *to = dst;

    while (n > 0) {
        ssize_t got = pread(part->fd, to, n, (off_t)at);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return hth_fail(err, HTH_EIO, "read %s: %s", part->label,
                            strerror(errno));
        if (got == 0)
            return hth_fail(err, HTH_EIO,
                            "read %s: the file ends at byte %" PRIu64
                            "; it was cut short while in use",
                            part->label, at);
        to += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

int hth_gguf_read(const struct hth_gguf *g, const struct hth_tensor *t,
                  struct hth_read what, struct hth_err *err)
{
    const struct gguf_part *part = &g->parts[t->part];

    if (what.at > t->bytes || what.n > t->bytes - what.at)
        return hth_fail(err, HTH_EINVAL,
                        "%s: %zu bytes at %" PRIu64 " of tensor %s, which has "
                        "%" PRIu64,
                        part->label, what.n, what.at, t->name, t->bytes);
    if (part->fd >= 0)
        return read_exact(part, t->offset + what.at, what.dst, what.n, err);
    memcpy(what.dst, (const char *)t->data + what.at, what.n);
    return 0;
}
