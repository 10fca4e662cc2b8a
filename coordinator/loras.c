/* loras.c - the table of adapters. One lock guards it; only the thread of jobs
 * takes entries out, so it reads their files without the lock. */
#include "coordinator/loras.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "model/lora.h"

struct slice {
    uint8_t hash[HTH_HASH_BYTES];
    uint64_t bytes; /* 0: not cut */
    uint8_t *data;  /* until all have it; cut anew where asked for later */
};

struct entry {
    struct hth_lora_file *file; /* NULL: a free place */
    struct hth_lora_info info;
    uint8_t digest[HTH_HASH_BYTES];
    bool leaving;
    struct slice slice[HTH_RANKS_MAX]; /* of the session that was cut for */
};

struct hth_loras {
    struct hth_loras_opts o;
    char *dir;            /* resolved */
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct entry v[HTH_LORAS_MAX];
    uint64_t number;
    uint64_t session; /* cut for; 0: none */
    uint64_t cut;     /* number of the list that was cut */
    struct hth_plan plan;
    char gone[HTH_NAME_MAX]; /* the last that was taken away, and why */
    struct hth_err why;
};

int hth_loras_open(struct hth_loras **out, const struct hth_loras_opts *opts,
                   struct hth_err *err)
{
    struct hth_loras *l = calloc(1, sizeof *l);

    if (l == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for adapters");
    l->o = *opts;
    l->number = 1;
    if (l->o.count_max == 0 || l->o.count_max > HTH_LORAS_MAX)
        l->o.count_max = HTH_LORAS_MAX;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    if (opts->dir != NULL) {
        l->dir = realpath(opts->dir, NULL);
        if (l->dir == NULL) {
            hth_loras_close(l);
            return hth_fail(err, HTH_EUSAGE,
                            "--lora-dir %.200s: there is no such folder",
                            opts->dir);
        }
    }
    *out = l;
    return HTH_OK;
}

static void drop_slices(struct entry *e)
{
    for (uint32_t r = 0; r < HTH_RANKS_MAX; r++)
        hth_mem_free(e->slice[r].data);
    memset(e->slice, 0, sizeof e->slice);
}

static void free_entry(struct entry *e)
{
    drop_slices(e);
    hth_lora_file_close(e->file);
    memset(e, 0, sizeof *e);
}

void hth_loras_close(struct hth_loras *l)
{
    if (l == NULL)
        return;
    for (uint32_t i = 0; i < HTH_LORAS_MAX; i++)
        free_entry(&l->v[i]);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->changed);
    free(l->dir);
    free(l);
}

static void wake(struct hth_loras *l)
{
    if (l->o.wake != NULL)
        l->o.wake(l->o.arg);
}

/* ---- adding ----------------------------------------------------------------
 */

/* Locked. */
static struct entry *by_name(struct hth_loras *l, const char *name)
{
    for (uint32_t i = 0; i < HTH_LORAS_MAX; i++)
        if (l->v[i].file != NULL && strcmp(l->v[i].info.name, name) == 0)
            return &l->v[i];
    return NULL;
}

/* Locked; takes e->file on success. */
static int insert(struct hth_loras *l, struct entry *e, struct hth_err *err)
{
    struct entry *old = by_name(l, e->info.name);
    uint32_t i = 0;

    if (old != NULL)
        return hth_fail(err, old->leaving ? HTH_EBUSY : HTH_EEXIST,
                        "there is an adapter %s already%s", e->info.name,
                        old->leaving ? ", which is being unloaded" : "");
    while (i < l->o.count_max && l->v[i].file != NULL)
        i++;
    if (i == l->o.count_max)
        return hth_fail(err, HTH_ELIMIT,
                        "there are %u adapters already; unload one or raise "
                        "--max-loras",
                        i);
    e->info.id = i;
    l->v[i] = *e;
    l->number++;
    return HTH_OK;
}

static int add(struct hth_loras *l, struct entry *e, struct hth_err *err)
{
    int rc = hth_lora_file_open(&e->file, e->info.path, l->o.spec, err);

    if (rc == HTH_OK)
        rc = hth_lora_file_digest(e->file, e->digest, err);
    if (rc == HTH_OK) {
        e->info.rank = hth_lora_file_rank(e->file);
        e->info.alpha = hth_lora_file_alpha(e->file);
        pthread_mutex_lock(&l->lock);
        rc = insert(l, e, err);
        pthread_mutex_unlock(&l->lock);
    }
    if (rc != HTH_OK) {
        hth_lora_file_close(e->file);
        return rc;
    }
    hth_log(HTH_LOG_INFO, "ADAPTER", "name=%s id=%u rank=%u pairs=%u",
            e->info.name, e->info.id, e->info.rank,
            hth_lora_file_pairs(e->file));
    wake(l);
    return HTH_OK;
}

/* Names go into lists and URLs. */
static int set_name(struct entry *e, const char *name, size_t n,
                    struct hth_err *err)
{
    if (n == 0 || n >= sizeof e->info.name)
        return hth_fail(err, HTH_EUSAGE, "an adapter's name has 1 to %zu bytes",
                        sizeof e->info.name - 1);
    for (size_t i = 0; i < n; i++)
        if (name[i] <= ' ' || name[i] == 0x7f || strchr(":,=\"", name[i]))
            return hth_fail(err, HTH_EUSAGE,
                            "an adapter's name has no spaces and none of : , = "
                            "\": %.*s",
                            (int)n, name);
    memcpy(e->info.name, name, n);
    return HTH_OK;
}

static int name_after_file(struct entry *e, struct hth_err *err)
{
    const char *base = strrchr(e->info.path, '/');
    size_t n;

    base = base != NULL ? base + 1 : e->info.path;
    n = strlen(base);
    if (n > 5 && strcmp(base + n - 5, ".gguf") == 0)
        n -= 5;
    n = n < sizeof e->info.name ? n : sizeof e->info.name - 1;
    return set_name(e, base, n, err);
}

static int read_scale(const char *text, float *out)
{
    char *end;
    double v = strtod(text, &end);

    if (end == text || *end != '\0' || !isfinite(v) || fabs(v) > 1e6)
        return HTH_EUSAGE;
    *out = (float)v;
    return HTH_OK;
}

int hth_loras_add_text(struct hth_loras *l, const char *text,
                       struct hth_err *err)
{
    struct entry *e = calloc(1, sizeof *e);
    const char *equals = strchr(text, '='), *colon;
    const char *path = text;
    size_t n;
    int rc = HTH_OK;

    if (e == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for adapters");
    e->info.scale = 1;
    if (equals != NULL && memchr(text, '/', (size_t)(equals - text)) == NULL) {
        rc = set_name(e, text, (size_t)(equals - text), err);
        path = equals + 1;
    }
    n = strlen(path);
    colon = strrchr(path, ':');
    if (colon != NULL && read_scale(colon + 1, &e->info.scale) == HTH_OK)
        n = (size_t)(colon - path);
    if (rc == HTH_OK && (n == 0 || n >= sizeof e->info.path))
        rc = hth_fail(err, HTH_EUSAGE, "--lora takes [NAME=]FILE[:SCALE]");
    if (rc == HTH_OK) {
        memcpy(e->info.path, path, n);
        if (e->info.name[0] == '\0')
            rc = name_after_file(e, err);
    }
    if (rc == HTH_OK)
        rc = add(l, e, err);
    free(e);
    return rc;
}

bool hth_loras_may_load(const struct hth_loras *l)
{
    return l != NULL && l->dir != NULL;
}

static int check_dir(struct hth_loras *l, const char *path, struct entry *e,
                     struct hth_err *err)
{
    size_t n = strlen(l->dir);
    char *real = realpath(path, NULL);
    bool inside = real != NULL && strncmp(real, l->dir, n) == 0 &&
                  (real[n] == '/' || n == 1) &&
                  strlen(real) < sizeof e->info.path;

    if (inside)
        snprintf(e->info.path, sizeof e->info.path, "%s", real);
    free(real);
    return inside
               ? HTH_OK
               : hth_fail(err, HTH_EAUTH,
                          "there is no adapter at %.200s in --lora-dir", path);
}

static int may_load(const struct hth_loras *l, struct hth_err *err)
{
    return l->dir != NULL
               ? HTH_OK
               : hth_fail(err, HTH_EAUTH,
                          "adapters are not loaded or unloaded by request "
                          "here; start the coordinator with --lora-dir DIR");
}

/* A path that does not begin at the root is one below the folder. */
int hth_loras_load(struct hth_loras *l, const char *name, const char *path,
                   struct hth_err *err)
{
    struct entry *e = calloc(1, sizeof *e);
    char below[1024];
    int rc = may_load(l, err);

    if (e == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for adapters");
    if (rc == HTH_OK && path[0] != '/') {
        snprintf(below, sizeof below, "%.500s/%.500s", l->dir, path);
        path = below;
    }
    if (rc == HTH_OK)
        rc = check_dir(l, path, e, err);
    if (rc == HTH_OK)
        rc = name[0] != '\0' ? set_name(e, name, strlen(name), err)
                             : name_after_file(e, err);
    if (rc == HTH_OK)
        rc = add(l, e, err);
    free(e);
    return rc;
}

int hth_loras_unload(struct hth_loras *l, const char *name, struct hth_err *err)
{
    struct entry *e;
    int rc = may_load(l, err);

    if (rc != HTH_OK)
        return rc;
    pthread_mutex_lock(&l->lock);
    e = by_name(l, name);
    if (e == NULL || e->leaving)
        rc = hth_fail(err, HTH_ENOTFOUND, "there is no adapter %.60s", name);
    else
        e->leaving = true;
    pthread_mutex_unlock(&l->lock);
    wake(l);
    return rc;
}

int hth_loras_wait(struct hth_loras *l, const char *name, uint32_t timeout_ms,
                   struct hth_err *err)
{
    struct timespec until;
    const struct entry *e;
    int rc = HTH_OK, over = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += timeout_ms / 1000;
    pthread_mutex_lock(&l->lock);
    while ((e = by_name(l, name)) != NULL && !e->info.ready && over == 0)
        over = pthread_cond_timedwait(&l->changed, &l->lock, &until);
    if (e == NULL)
        rc = strcmp(l->gone, name) == 0
                 ? hth_fail(err, l->why.status, "%s", l->why.text)
                 : hth_fail(err, HTH_ENOTFOUND, "adapter %.60s was unloaded",
                            name);
    else if (!e->info.ready)
        rc = hth_fail(err, HTH_ETIMEDOUT,
                      "adapter %.60s is not on all devices yet; it can be used "
                      "once it is",
                      name);
    pthread_mutex_unlock(&l->lock);
    return rc;
}

/* ---- looking
 * ----------------------------------------------------------------- */

/* Locked. */
static struct entry *at(struct hth_loras *l, uint32_t id)
{
    return id < HTH_LORAS_MAX && l->v[id].file != NULL && !l->v[id].leaving
               ? &l->v[id]
               : NULL;
}

bool hth_loras_info(struct hth_loras *l, uint32_t id, struct hth_lora_info *out)
{
    const struct entry *e;

    if (l == NULL)
        return false;
    pthread_mutex_lock(&l->lock);
    e = at(l, id);
    if (e != NULL)
        *out = e->info;
    pthread_mutex_unlock(&l->lock);
    return e != NULL;
}

uint32_t hth_loras_find(struct hth_loras *l, const char *name)
{
    const struct entry *e;
    uint32_t id;

    if (l == NULL)
        return HTH_LORA_NONE;
    pthread_mutex_lock(&l->lock);
    e = by_name(l, name);
    id = e != NULL && !e->leaving ? e->info.id : HTH_LORA_NONE;
    pthread_mutex_unlock(&l->lock);
    return id;
}

int hth_loras_scale(struct hth_loras *l, uint32_t id, double scale,
                    struct hth_err *err)
{
    struct entry *e;

    if (!isfinite(scale) || fabs(scale) > 1e6)
        return hth_fail(err, HTH_EINVAL, "a scale must be a finite number");
    pthread_mutex_lock(&l->lock);
    e = at(l, id);
    if (e != NULL)
        e->info.scale = (float)scale;
    pthread_mutex_unlock(&l->lock);
    return e != NULL ? HTH_OK
                     : hth_fail(err, HTH_ENOTFOUND,
                                "there is no adapter with id %u", id);
}

/* ---- for requests
 * ------------------------------------------------------------ */

static int by_id(const void *a, const void *b)
{
    const struct hth_lora_ask *x = a, *y = b;

    return x->id < y->id ? -1 : x->id > y->id;
}

/* Locked. A number for these adapters, by what is in them, at these scales. */
static uint64_t variant_of(struct hth_loras *l, const struct hth_lora_choice *c)
{
    uint8_t out[HTH_HASH_BYTES];
    struct hth_hash *h;
    uint64_t v;

    if (c->n == 0 || hth_hash_open(&h) != HTH_OK)
        return 0;
    for (uint32_t i = 0; i < c->n; i++) {
        hth_hash_update(h, l->v[c->ask[i].id].digest, HTH_HASH_BYTES);
        hth_hash_update(h, &c->ask[i].scale, sizeof c->ask[i].scale);
    }
    hth_hash_finish(h, out);
    hth_hash_close(h);
    v = hth_load_u64(out);
    return v != 0 ? v : 1;
}

/* Locked. */
static int check(struct hth_loras *l, const struct hth_lora_choice *c,
                 uint32_t i, struct hth_err *err)
{
    const struct entry *e = at(l, c->ask[i].id);

    if (e == NULL)
        return hth_fail(err, HTH_ENOTFOUND, "there is no adapter with id %u",
                        c->ask[i].id);
    if (i > 0 && c->ask[i].id == c->ask[i - 1].id)
        return hth_fail(err, HTH_EINVAL, "adapter %s is asked for twice",
                        e->info.name);
    if (!isfinite(c->ask[i].scale) || fabsf(c->ask[i].scale) > 1e6f)
        return hth_fail(err, HTH_EINVAL, "a scale must be a finite number");
    if (!e->info.ready)
        return hth_fail(err, HTH_EBUSY,
                        "adapter %s is not on all devices yet; try again soon",
                        e->info.name);
    return HTH_OK;
}

int hth_loras_choose(struct hth_loras *l, struct hth_lora_choice *c,
                     struct hth_err *err)
{
    uint32_t n = 0;
    int rc = HTH_OK;

    qsort(c->ask, c->n, sizeof c->ask[0], by_id);
    pthread_mutex_lock(&l->lock);
    for (uint32_t i = 0; i < c->n && rc == HTH_OK; i++)
        rc = check(l, c, i, err);
    for (uint32_t i = 0; i < c->n && rc == HTH_OK; i++)
        if (c->ask[i].scale < 0 || c->ask[i].scale > 0)
            c->ask[n++] = c->ask[i];
    if (rc == HTH_OK) {
        c->n = n;
        c->variant = variant_of(l, c);
        if (n > 0 && c->variant == 0)
            rc = hth_fail(err, HTH_ENOMEM, "no memory for a request");
    }
    pthread_mutex_unlock(&l->lock);
    return rc;
}

int hth_loras_default(struct hth_loras *l, struct hth_lora_choice *out,
                      struct hth_err *err)
{
    struct hth_lora_info info;

    *out = (struct hth_lora_choice){0};
    for (uint32_t i = 0; l != NULL && i < HTH_LORAS_MAX; i++) {
        if (!hth_loras_info(l, i, &info) || !(info.scale < 0 || info.scale > 0))
            continue;
        if (out->n == HTH_LORA_SET_MAX)
            return hth_fail(err, HTH_ELIMIT,
                            "more than %u adapters have a scale that is not 0",
                            HTH_LORA_SET_MAX);
        out->ask[out->n++] = (struct hth_lora_ask){i, info.scale};
    }
    return out->n > 0 ? hth_loras_choose(l, out, err) : HTH_OK;
}

int hth_loras_choose_text(struct hth_loras *l, const char *text,
                          struct hth_lora_choice *out, struct hth_err *err)
{
    *out = (struct hth_lora_choice){0};
    while (*text != '\0') {
        size_t n = strcspn(text, ",");
        char one[HTH_NAME_MAX + 32], *colon;
        struct hth_lora_ask ask = {.scale = 1};

        snprintf(one, sizeof one, "%.*s",
                 (int)(n < sizeof one ? n : sizeof one - 1), text);
        colon = strrchr(one, ':');
        if (colon != NULL)
            *colon = '\0';
        if (colon != NULL && read_scale(colon + 1, &ask.scale) != HTH_OK)
            return hth_fail(err, HTH_EINVAL, "%.40s is no scale", colon + 1);
        ask.id = hth_loras_find(l, one);
        if (ask.id == HTH_LORA_NONE)
            return hth_fail(err, HTH_ENOTFOUND, "there is no adapter %s", one);
        if (out->n == HTH_LORA_SET_MAX)
            return hth_fail(err, HTH_EINVAL,
                            "%u adapters at most for one request",
                            HTH_LORA_SET_MAX);
        out->ask[out->n++] = ask;
        text += n;
        text += *text == ',';
    }
    return hth_loras_choose(l, out, err);
}

/* ---- for the session
 * ----------------------------------------------------------- */

uint64_t hth_loras_bytes(struct hth_loras *l)
{
    static const double all[] = {1};
    struct hth_shape shape;
    struct hth_plan plan;
    struct hth_lora_place whole = {l->o.spec, &plan, 0};
    uint64_t sum = 0;

    hth_spec_shape(l->o.spec, HTH_F16, &shape);
    if (hth_plan_make(&shape, all, 1, &plan, NULL) != HTH_OK)
        return 0;
    pthread_mutex_lock(&l->lock);
    for (uint32_t i = 0; i < HTH_LORAS_MAX; i++)
        if (l->v[i].file != NULL)
            sum += hth_lora_slice_bytes(l->v[i].file, &whole);
    pthread_mutex_unlock(&l->lock);
    return sum;
}

uint64_t hth_loras_number(struct hth_loras *l)
{
    uint64_t n;

    pthread_mutex_lock(&l->lock);
    n = l->number;
    pthread_mutex_unlock(&l->lock);
    return n;
}

static int cut_slice(const struct entry *e, const struct hth_lora_place *place,
                     struct slice *s, struct hth_err *err)
{
    struct hth_hash *h = NULL;
    int rc;

    s->bytes = hth_lora_slice_bytes(e->file, place);
    s->data = hth_mem_alloc(s->bytes);
    if (s->data == NULL || hth_hash_open(&h) != HTH_OK)
        return hth_fail(err, HTH_ENOMEM, "no memory to cut adapter %s",
                        e->info.name);
    rc = hth_lora_slice(e->file, place, s->data, err);
    if (rc == HTH_OK) {
        hth_hash_update(h, s->data, s->bytes);
        hth_hash_finish(h, s->hash);
    }
    hth_hash_close(h);
    return rc;
}

/* Rank 0's is cut when it is placed; here only its size counts. */
static int cut_entry(struct entry *e, const struct hth_session *s,
                     uint64_t *sum, struct hth_err *err)
{
    int rc = HTH_OK;

    for (uint32_t r = 0; r < s->plan.ranks && rc == HTH_OK; r++) {
        struct hth_lora_place place = {&s->spec, &s->plan, r};

        if (r == 0)
            e->slice[0].bytes = hth_lora_slice_bytes(e->file, &place);
        else if (e->slice[r].bytes == 0)
            rc = cut_slice(e, &place, &e->slice[r], err);
        sum[r] += e->slice[r].bytes;
        if (rc == HTH_OK && sum[r] > s->lora_bytes)
            rc = hth_fail(err, HTH_EOVERFLOW,
                          "adapter %s does not fit: all of them take %.1f MiB "
                          "of rank %u, and --lora-memory is %.1f MiB",
                          e->info.name, (double)sum[r] / (1 << 20), r,
                          (double)s->lora_bytes / (1 << 20));
    }
    return rc;
}

/* Jobs' thread; the entry leaves, and why is kept for who waits. */
static void refuse(struct hth_loras *l, struct entry *e,
                   const struct hth_err *why)
{
    hth_log(HTH_LOG_ERROR, "ADAPTER-REFUSED", "name=%s: %s", e->info.name,
            why->text);
    pthread_mutex_lock(&l->lock);
    snprintf(l->gone, sizeof l->gone, "%s", e->info.name);
    l->why = *why;
    e->leaving = true;
    pthread_mutex_unlock(&l->lock);
}

static bool here(struct hth_loras *l, uint32_t i)
{
    bool is;

    pthread_mutex_lock(&l->lock);
    is = l->v[i].file != NULL && !l->v[i].leaving;
    pthread_mutex_unlock(&l->lock);
    return is;
}

void hth_loras_cut(struct hth_loras *l, const struct hth_session *s)
{
    uint64_t number, sum[HTH_RANKS_MAX] = {0};
    struct hth_err err;

    pthread_mutex_lock(&l->lock);
    number = l->number;
    if (l->session != s->id) {
        for (uint32_t i = 0; i < HTH_LORAS_MAX; i++) {
            drop_slices(&l->v[i]);
            l->v[i].info.ready = false;
        }
        l->session = 0;
        l->plan = s->plan;
    }
    pthread_mutex_unlock(&l->lock);
    for (uint32_t i = 0; i < HTH_LORAS_MAX; i++)
        if (here(l, i) && cut_entry(&l->v[i], s, sum, &err) != HTH_OK) {
            refuse(l, &l->v[i], &err);
            for (uint32_t r = 0; r < s->plan.ranks; r++)
                sum[r] -= l->v[i].slice[r].bytes;
        }
    pthread_mutex_lock(&l->lock);
    l->session = s->id;
    l->cut = number;
    pthread_mutex_unlock(&l->lock);
    wake(l);
}

uint64_t hth_loras_cut_for(struct hth_loras *l, uint64_t *number)
{
    uint64_t session;

    pthread_mutex_lock(&l->lock);
    session = l->session;
    *number = l->cut;
    pthread_mutex_unlock(&l->lock);
    return session;
}

uint64_t hth_loras_list(struct hth_loras *l, uint32_t rank, struct hth_buf *out)
{
    uint64_t number;

    pthread_mutex_lock(&l->lock);
    number = l->cut;
    for (uint32_t i = 0; i < HTH_LORAS_MAX; i++) {
        const struct slice *s = &l->v[i].slice[rank];
        struct hth_msg_lora m = {.id = i, .slice.bytes = s->bytes};

        if (l->v[i].file == NULL || l->v[i].leaving || s->bytes == 0)
            continue;
        memcpy(m.slice.hash, s->hash, sizeof m.slice.hash);
        hth_msg_put_lora(out, &m);
    }
    pthread_mutex_unlock(&l->lock);
    return number;
}

/* Locked. The bytes of a slice that was let go of are made again. */
static int read_slice(struct hth_loras *l, struct slice *s,
                      const struct entry *e, const struct hth_msg_chunk *chunk,
                      void *dst)
{
    struct hth_lora_place place = {l->o.spec, &l->plan,
                                   (uint32_t)(s - e->slice)};
    struct hth_err err;
    int rc;

    if (chunk->length > s->bytes || chunk->offset > s->bytes - chunk->length)
        return HTH_EINVAL;
    if (s->data == NULL) {
        rc = cut_slice(e, &place, s, &err);
        if (rc != HTH_OK)
            return rc;
    }
    memcpy(dst, s->data + chunk->offset, chunk->length);
    return HTH_OK;
}

int hth_loras_read(struct hth_loras *l, uint32_t rank,
                   const struct hth_msg_chunk *chunk, void *dst,
                   struct hth_err *err)
{
    int rc = HTH_ENOTFOUND;

    if (l == NULL)
        return hth_fail(err, rc, "there are no adapters");
    pthread_mutex_lock(&l->lock);
    for (uint32_t i = 0; i < HTH_LORAS_MAX && rc == HTH_ENOTFOUND; i++) {
        struct entry *e = &l->v[i];

        if (e->file != NULL && e->slice[rank].bytes > 0 &&
            memcmp(e->slice[rank].hash, chunk->hash, HTH_HASH_BYTES) == 0)
            rc = read_slice(l, &e->slice[rank], e, chunk, dst);
    }
    pthread_mutex_unlock(&l->lock);
    return rc == HTH_OK
               ? rc
               : hth_fail(err, rc, "that part of an adapter cannot be had: %s",
                          hth_status_text(rc));
}

/* ---- taking effect
 * ------------------------------------------------------------ */

static int give_rank0(struct hth_loras *l, struct entry *e,
                      struct hth_engine *engine, struct hth_err *err)
{
    struct hth_lora_place place = {l->o.spec, &l->plan, 0};
    struct slice s = {{0}, 0, NULL};
    int rc;

    if (hth_engine_lora_has(engine, e->info.id))
        return HTH_OK;
    rc = cut_slice(e, &place, &s, err);
    if (rc != HTH_OK) {
        hth_mem_free(s.data);
        return rc;
    }
    return hth_engine_lora_put(
        engine, e->info.id, (struct hth_adapter_slice){s.data, s.bytes}, err);
}

void hth_loras_place(struct hth_loras *l, struct hth_engine *engine,
                     uint64_t number)
{
    struct hth_err err = {0};

    for (uint32_t i = 0; i < HTH_LORAS_MAX; i++) {
        struct entry *e = &l->v[i];
        bool due;
        int rc;

        pthread_mutex_lock(&l->lock);
        due = number == l->cut && e->file != NULL && !e->leaving &&
              e->slice[0].bytes > 0;
        pthread_mutex_unlock(&l->lock);
        if (!due)
            continue;
        rc = give_rank0(l, e, engine, &err);
        if (rc != HTH_OK)
            refuse(l, e, &err);
        pthread_mutex_lock(&l->lock);
        if (!e->info.ready && rc == HTH_OK)
            hth_log(HTH_LOG_NOTICE, "ADAPTER-READY", "name=%s id=%u",
                    e->info.name, i);
        e->info.ready = rc == HTH_OK;
        for (uint32_t r = 0; r < HTH_RANKS_MAX; r++) {
            hth_mem_free(e->slice[r].data);
            e->slice[r].data = NULL;
        }
        pthread_cond_broadcast(&l->changed);
        pthread_mutex_unlock(&l->lock);
    }
}

void hth_loras_reap(struct hth_loras *l, struct hth_engine *engine)
{
    for (uint32_t i = 0; i < HTH_LORAS_MAX; i++) {
        struct entry *e = &l->v[i];
        bool due;

        pthread_mutex_lock(&l->lock);
        due = e->file != NULL && e->leaving;
        pthread_mutex_unlock(&l->lock);
        if (!due || hth_engine_lora_drop(engine, i) != HTH_OK)
            continue;
        hth_log(HTH_LOG_NOTICE, "ADAPTER-GONE", "name=%s id=%u", e->info.name,
                i);
        pthread_mutex_lock(&l->lock);
        free_entry(e);
        l->number++;
        pthread_cond_broadcast(&l->changed);
        pthread_mutex_unlock(&l->lock);
        wake(l);
    }
}

bool hth_loras_leaving(struct hth_loras *l)
{
    bool any = false;

    pthread_mutex_lock(&l->lock);
    for (uint32_t i = 0; i < HTH_LORAS_MAX; i++)
        any = any || (l->v[i].file != NULL && l->v[i].leaving);
    pthread_mutex_unlock(&l->lock);
    return any;
}
