/* window.c - see window.h. Integers decide, so that the same numbers give the
 * same choice everywhere; times only rank choices that are all correct. */
#include "scheduler/window.h"

#include <stddef.h>

/* Sizes that the ring is tried for; a model's pieces have a handful. */
#define CUTS_MAX 64u
#define TOKENS_PLAYED 4u

static bool streams_in_order(const struct hth_window_piece *p)
{
    return p->use >= 1.0;
}

/* ---- choosing ------------------------------------------------------------ */

struct sums {
    uint64_t ordered, ordered_max; /* pieces that every token needs */
    uint64_t rare, rare_max;       /* experts */
};

static struct sums add_up(const struct hth_window_ask *a)
{
    struct sums s = {0};

    for (uint32_t i = 0; i < a->count; i++) {
        uint64_t b = a->piece[i].bytes;
        bool ordered = streams_in_order(&a->piece[i]);
        uint64_t *max = ordered ? &s.ordered_max : &s.rare_max;

        *(ordered ? &s.ordered : &s.rare) += b;
        *max = b > *max ? b : *max;
    }
    return s;
}

/* The largest ordered piece that is smaller than `below`; 0: none. */
static uint64_t next_size(const struct hth_window_ask *a, uint64_t below)
{
    uint64_t best = 0;

    for (uint32_t i = 0; i < a->count; i++) {
        uint64_t b = a->piece[i].bytes;

        if (streams_in_order(&a->piece[i]) && b < below && b > best)
            best = b;
    }
    return best;
}

/* Bytes of the ordered pieces that are larger than `cut`: they must stay when
 * the ring is made for pieces up to `cut`. */
static uint64_t larger_bytes(const struct hth_window_ask *a, uint64_t cut)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < a->count; i++)
        if (streams_in_order(&a->piece[i]) && a->piece[i].bytes > cut)
            sum += a->piece[i].bytes;
    return sum;
}

static uint64_t ring_for(const struct hth_window_ask *a, uint64_t cut)
{
    uint64_t bytes = cut + a->ahead_bytes;

    if (a->unit_bytes == 0)
        return bytes;
    return (bytes + a->unit_bytes - 1) / a->unit_bytes * a->unit_bytes;
}

/* Pin what is larger than cut, and of the rest `room` bytes, dealt out evenly
 * over the order: each piece earns its part of the room, and is pinned when
 * what was earned and not spent pays for it. What is left at the end goes to
 * the first pieces that fit. Returns the bytes pinned. */
static uint64_t spread(const struct hth_window_ask *a, uint64_t cut,
                       uint64_t room, bool *pinned)
{
    uint64_t all = 0, earned = 0, spent = 0, sum = 0;

    for (uint32_t i = 0; i < a->count; i++)
        if (streams_in_order(&a->piece[i]) && a->piece[i].bytes <= cut)
            all += a->piece[i].bytes;
    for (uint32_t i = 0; i < a->count; i++) {
        uint64_t b = a->piece[i].bytes;

        pinned[i] = streams_in_order(&a->piece[i]) && b > cut;
        if (pinned[i] || !streams_in_order(&a->piece[i]))
            continue;
        earned += b;
        pinned[i] = (double)earned * (double)room >=
                        (double)(spent + b) * (double)all &&
                    spent + b <= room;
        spent += pinned[i] ? b : 0;
    }
    for (uint32_t i = 0; i < a->count; i++)
        if (!pinned[i] && streams_in_order(&a->piece[i]) &&
            spent + a->piece[i].bytes <= room) {
            pinned[i] = true;
            spent += a->piece[i].bytes;
        }
    for (uint32_t i = 0; i < a->count; i++)
        sum += pinned[i] ? a->piece[i].bytes : 0;
    return sum;
}

/* ---- predicting ---------------------------------------------------------- */

/* The disk and the processor over some tokens. Bytes are places in the endless
 * stream of what is read in order. */
struct play {
    const struct hth_window_ask *a;
    uint64_t ring;
    double now;      /* the processor is free from here on */
    double disk_at;  /* the disk had read `read` at this time ... */
    uint64_t read;   /* ... and goes on unless the ring is full */
    uint64_t needed; /* end of the last piece that was needed */
    double compute, stall, disk;
};

/* A piece was computed, its room is free: a disk that was waiting for room
 * goes on now. */
static void free_room(struct play *p, uint64_t bytes)
{
    uint64_t limit = p->needed - bytes + p->ring;
    double full =
        p->disk_at + (double)(limit - p->read) / p->a->disk_bytes_per_s;

    if (full < p->now) {
        p->read = limit;
        p->disk_at = p->now;
    }
}

static void wait_until(struct play *p, double ready)
{
    if (ready > p->now) {
        p->stall += ready - p->now;
        p->now = ready;
    }
}

static void compute(struct play *p, double s)
{
    p->now += s;
    p->compute += s;
}

static void play_streamed(struct play *p, uint64_t bytes, double compute_s)
{
    p->needed += bytes;
    if (p->needed > p->read)
        wait_until(p, p->disk_at + (double)(p->needed - p->read) /
                                       p->a->disk_bytes_per_s);
    p->disk += (double)bytes / p->a->disk_bytes_per_s;
    compute(p, compute_s);
    free_room(p, bytes);
}

/* Part of the reads of experts that the cache saves, when all are as likely. */
static double rare_missing(const struct hth_window_ask *a,
                           const struct hth_window *w)
{
    struct sums s = add_up(a);

    if (s.rare == 0 || w->cache_bytes >= s.rare)
        return 0;
    return 1.0 - (double)w->cache_bytes / (double)s.rare;
}

static void play_token(struct play *p, const bool *pinned,
                       const struct hth_window *w)
{
    double missing = rare_missing(p->a, w);

    p->compute = p->stall = p->disk = 0;
    for (uint32_t i = 0; i < p->a->count; i++) {
        const struct hth_window_piece *piece = &p->a->piece[i];
        double used = (double)piece->bytes * piece->use;
        double compute_s = used / p->a->compute_bytes_per_s;

        if (pinned[i]) {
            compute(p, compute_s);
        } else if (streams_in_order(piece)) {
            play_streamed(p, piece->bytes, compute_s);
        } else {
            double read_s = used * missing / p->a->disk_bytes_per_s;

            wait_until(p, p->now + read_s);
            p->disk += read_s;
            compute(p, compute_s);
        }
    }
    compute(p, p->a->fixed_s);
}

void hth_window_predict(const struct hth_window_ask *a, const bool *pinned,
                        struct hth_window *w)
{
    struct play p = {.a = a, .ring = w->ring_bytes};
    double begin = 0;

    w->token_s = w->compute_s = w->disk_s = w->stall_s = 0;
    w->bound = HTH_BOUND_UNKNOWN;
    if (a->compute_bytes_per_s <= 0 ||
        (a->disk_bytes_per_s <= 0 && w->streamed_bytes > 0))
        return;
    for (uint32_t i = 0; i < TOKENS_PLAYED; i++) {
        begin = p.now;
        play_token(&p, pinned, w);
    }
    w->token_s = p.now - begin;
    w->compute_s = p.compute;
    w->disk_s = p.disk;
    w->stall_s = p.stall;
    w->bound = p.disk > p.compute ? HTH_BOUND_DISK : HTH_BOUND_COMPUTE;
}

/* ---- the plan ------------------------------------------------------------ */

static void count_streamed(const struct hth_window_ask *a, const bool *pinned,
                           struct hth_window *w)
{
    double rare = 0;

    w->streamed_bytes = 0;
    for (uint32_t i = 0; i < a->count; i++) {
        if (pinned[i])
            continue;
        if (streams_in_order(&a->piece[i]))
            w->streamed_bytes += a->piece[i].bytes;
        else
            rare += (double)a->piece[i].bytes * a->piece[i].use;
    }
    w->streamed_bytes += (uint64_t)(rare * rare_missing(a, w));
}

static int no_room(const struct hth_window_ask *a, const struct hth_window *w,
                   struct hth_err *err)
{
    return hth_fail(err, HTH_EOVERFLOW,
                    "a window over %llu MiB of weights needs at least %llu MiB "
                    "of memory and %llu are left for it",
                    (unsigned long long)(w->total_bytes >> 20),
                    (unsigned long long)(w->need_bytes >> 20) + 1,
                    (unsigned long long)(a->budget_bytes >> 20));
}

/* Is `w` better than what was found so far? */
static bool better(const struct hth_window *w, const struct hth_window *best)
{
    if (best->ring_bytes == 0)
        return true;
    if (w->token_s != best->token_s)
        return w->token_s < best->token_s;
    return w->streamed_bytes < best->streamed_bytes;
}

/* The ring for pieces up to `cut`, the rest pinned as far as the room goes. */
static uint64_t try_cut(const struct hth_window_ask *a, uint64_t cut,
                        uint64_t room, bool *pinned, struct hth_window *w)
{
    uint64_t fixed = larger_bytes(a, cut) + ring_for(a, cut);

    if (fixed > room)
        return fixed;
    w->ring_bytes = ring_for(a, cut);
    w->pinned_bytes = spread(a, cut, room - fixed, pinned);
    count_streamed(a, pinned, w);
    hth_window_predict(a, pinned, w);
    return fixed;
}

/* The ring exists: everything that it cannot carry must stay pinned. */
static int plan_for_ring(const struct hth_window_ask *a, uint64_t room,
                         bool *pinned, struct hth_window *out)
{
    uint64_t cut = a->ring_bytes - a->ahead_bytes;
    uint64_t fixed = larger_bytes(a, cut) + a->ring_bytes;

    out->need_bytes = fixed + out->cache_bytes;
    if (fixed > room)
        return HTH_EOVERFLOW;
    out->ring_bytes = a->ring_bytes;
    out->pinned_bytes = spread(a, cut, room - fixed, pinned);
    return HTH_OK;
}

/* Ordered pieces in `room` bytes: the best of all sizes of ring. */
static int plan_ordered(const struct hth_window_ask *a, uint64_t room,
                        bool *pinned, struct hth_window *out)
{
    struct hth_window best = *out;
    uint64_t best_cut = 0, cut = UINT64_MAX, least = UINT64_MAX;

    if (a->ring_bytes > a->ahead_bytes)
        return plan_for_ring(a, room, pinned, out);
    for (uint32_t i = 0; i < CUTS_MAX; i++) {
        struct hth_window w = *out;
        uint64_t fixed;

        cut = next_size(a, cut);
        if (cut == 0)
            break;
        fixed = try_cut(a, cut, room, pinned, &w);
        least = fixed < least ? fixed : least;
        if (fixed <= room && better(&w, &best)) {
            best = w;
            best_cut = cut;
        }
    }
    out->need_bytes = least + out->cache_bytes;
    if (best_cut == 0)
        return HTH_EOVERFLOW;
    best.need_bytes = out->need_bytes;
    (void)try_cut(a, best_cut, room, pinned, &best);
    *out = best;
    return HTH_OK;
}

static void pin_all(const struct hth_window_ask *a, bool *pinned, bool rare,
                    struct hth_window *out)
{
    out->pinned_bytes = 0;
    for (uint32_t i = 0; i < a->count; i++) {
        pinned[i] = rare || streams_in_order(&a->piece[i]);
        out->pinned_bytes += pinned[i] ? a->piece[i].bytes : 0;
    }
}

int hth_window_plan(const struct hth_window_ask *a, bool *pinned,
                    struct hth_window *out, struct hth_err *err)
{
    struct sums s = add_up(a);
    uint64_t least = s.rare > 0 ? 2 * s.rare_max : 0; /* one in use, one read */
    struct hth_window w = {.total_bytes = s.ordered + s.rare};
    int rc = HTH_OK;

    least = least < s.rare ? least : s.rare;
    if (a->budget_bytes == 0 || w.total_bytes <= a->budget_bytes) {
        w.need_bytes = w.total_bytes;
        pin_all(a, pinned, true, &w);
    } else if (s.rare > 0 && a->ring_bytes == 0 &&
               s.ordered + least <= a->budget_bytes) {
        w.cache_bytes = a->budget_bytes - s.ordered;
        w.need_bytes = s.ordered + least;
        pin_all(a, pinned, false, &w);
    } else {
        w.cache_bytes = least;
        rc = least > a->budget_bytes
                 ? HTH_EOVERFLOW
                 : plan_ordered(a, a->budget_bytes - least, pinned, &w);
        if (w.need_bytes == 0)
            w.need_bytes = least + ring_for(a, s.ordered_max);
    }
    *out = w;
    if (rc != HTH_OK)
        return no_room(a, &w, err);
    count_streamed(a, pinned, out);
    hth_window_predict(a, pinned, out);
    return HTH_OK;
}

const char *hth_window_bound_text(enum hth_window_bound b)
{
    switch (b) {
    case HTH_BOUND_COMPUTE:
        return "compute";
    case HTH_BOUND_DISK:
        return "disk";
    default:
        return "unknown";
    }
}
