/* star_reduce.c - the sum over ranks, in rank order: two ranks swap their
 * partials, more go by way of rank 0.
 *
 * The vector is cut into pieces of one frame each. Two ranks send all of theirs
 * at once and each adds for itself. In a larger group a worker sends its pieces
 * and takes the sums as they come. On rank 0 every thread looks after some of
 * the links and adds a share of each piece:
 *
 *   receive piece i on my links (piece i + 1 may already be arriving)
 *   -- all threads meet --
 *   add my share of piece i over all ranks, in rank order; encode it
 *   -- all threads meet --
 *   send the sum on my links
 *
 * A message of one frame is sealed when it is posted, so buffers it came from
 * may be used again at once: the encoded sum needs one buffer only. When a link
 * fails, its thread says so before the next meeting and all leave together. */
#include <string.h>

#include "kernels/ops.h"
#include "net/link_internal.h"
#include "net/star_internal.h"

#define ADD_NUMBERS 1024u /* decoded at a time while adding; on the stack */

struct reduce {
    struct hth_star *star;
    float *x; /* [n] */
    size_t n;
    enum hth_wire wire;
    size_t piece; /* numbers of a whole piece */
    uint64_t pieces;
    uint64_t op;
    struct hth_pool *pool; /* NULL: the caller alone */
};

static size_t piece_numbers(const struct reduce *r, uint64_t i)
{
    return i + 1 < r->pieces ? r->piece : r->n - (size_t)i * r->piece;
}

static size_t piece_bytes(const struct reduce *r, uint64_t i)
{
    return hth_wire_bytes(r->wire, piece_numbers(r, i));
}

static uint64_t piece_tag(const struct reduce *r, uint64_t i)
{
    return hth__star_tag(r->op, HTH__STAR_REDUCE, (unsigned)r->wire, i);
}

static float *piece_x(const struct reduce *r, uint64_t i)
{
    return r->x + (size_t)i * r->piece;
}

/* Ranks that disagree about n are found by the length of a piece. */
static int check_length(struct hth_link *l, const struct hth_link_msg *m,
                        size_t want)
{
    if (m->n == want)
        return HTH_OK;
    return hth__link_fail(l, HTH_EPROTO,
                          "it sums %zu bytes where %zu are summed here", m->n,
                          want);
}

/* ---- rank 0 -------------------------------------------------------------- */

struct lane {
    struct reduce *r;
    uint32_t first; /* links of this thread */
    uint32_t count;
    uint64_t have[HTH_RANKS_MAX]; /* whole pieces received, per link */
};

static uint8_t *piece_buffer(const struct hth_star *s, uint32_t link,
                             uint64_t i)
{
    return s->pieces + (link * HTH__PIECE_BUFFERS + i % HTH__PIECE_BUFFERS) *
                           (size_t)HTH_LINK_CUT_BYTES;
}

static int expect_piece(struct lane *lane, uint32_t link)
{
    struct reduce *r = lane->r;
    struct hth_star *s = r->star;
    uint64_t i = lane->have[link];

    s->msgs[link] = (struct hth_link_msg){.tag = piece_tag(r, i),
                                          .data = piece_buffer(s, link, i),
                                          .max = piece_bytes(r, i)};
    return hth_link_expect(s->links[link], &s->msgs[link]);
}

/* Note a piece that is complete and ask for the next, unless that one's
 * buffer is still being added (it is piece i + 1's, when we are at i). */
static int advance(struct lane *lane, uint32_t link, uint64_t i)
{
    struct reduce *r = lane->r;
    struct hth_star *s = r->star;
    int status = HTH_OK;

    if (!hth_link_received(s->links[link]) || lane->have[link] > i)
        return HTH_OK;
    status = check_length(s->links[link], &s->msgs[link],
                          piece_bytes(r, lane->have[link]));
    lane->have[link]++;
    if (status == HTH_OK && lane->have[link] < r->pieces)
        status = expect_piece(lane, link);
    return status;
}

/* Piece i on all links of this thread. */
static int receive_piece(struct lane *lane, uint64_t i)
{
    struct hth_star *s = lane->r->star;

    for (;;) {
        bool all = true;
        int status = HTH_OK;

        for (uint32_t k = lane->first; k < lane->first + lane->count; k++) {
            status = advance(lane, k, i);
            if (status != HTH_OK)
                return status;
            all &= lane->have[k] > i;
        }
        if (all)
            return HTH_OK;
        if (atomic_load_explicit(&s->failed, memory_order_relaxed) != 0)
            return HTH_OK; /* another thread's link: leave at the meeting */
        status =
            hth_link_wait(s->links + lane->first, lane->count, s->timeout_ms);
        if (status != HTH_OK)
            return status;
    }
}

/* x[first .. first + count) of piece i: add every rank's, in rank order. */
static void add_ranks(const struct reduce *r, uint64_t i, size_t first,
                      size_t count)
{
    struct hth_star *s = r->star;
    float *x = piece_x(r, i) + first;
    float part[ADD_NUMBERS];

    for (size_t at = 0; at < count; at += ADD_NUMBERS) {
        size_t n = count - at < ADD_NUMBERS ? count - at : ADD_NUMBERS;

        for (uint32_t k = 0; k < s->link_count; k++) {
            const uint8_t *src =
                piece_buffer(s, k, i) + hth_wire_bytes(r->wire, first + at);

            if (r->wire == HTH_WIRE_F32) {
                hth_add(x + at, (const float *)(const void *)src, n);
                continue;
            }
            hth_wire_decode(r->wire, src, part, n);
            hth_add(x + at, part, n);
        }
    }
}

/* A thread's share of a piece, in whole blocks so that shares do not meet
 * inside one. What everybody keeps is what the wire makes of the sum. */
static void add_share(struct reduce *r, uint64_t i, uint32_t thread,
                      uint32_t threads)
{
    uint8_t *sum = r->star->scratch;
    uint64_t first, count;

    hth_split(piece_numbers(r, i), 32, thread, threads, &first, &count);
    if (count == 0)
        return;
    add_ranks(r, i, (size_t)first, (size_t)count);
    if (r->wire == HTH_WIRE_F32)
        return; /* sent straight from x */
    sum += hth_wire_bytes(r->wire, (size_t)first);
    hth_wire_encode(r->wire, piece_x(r, i) + first, sum, (size_t)count);
    hth_wire_decode(r->wire, sum, piece_x(r, i) + first, (size_t)count);
}

/* Send the sum of piece i; waits only for the piece before it. */
static int send_piece(struct lane *lane, uint64_t i)
{
    struct reduce *r = lane->r;
    struct hth_star *s = r->star;
    const void *src =
        r->wire == HTH_WIRE_F32 ? (const void *)piece_x(r, i) : s->scratch;

    for (uint32_t k = lane->first; k < lane->first + lane->count; k++) {
        int status = HTH_OK;

        while (status == HTH_OK && !hth_link_sent(s->links[k]))
            status = hth_link_wait(&s->links[k], 1, s->timeout_ms);
        if (status == HTH_OK)
            status = hth_link_post(s->links[k], piece_tag(r, i), src,
                                   piece_bytes(r, i));
        if (status == HTH_OK)
            status = hth_link_progress(s->links[k]);
        if (status < 0)
            return status;
    }
    return HTH_OK;
}

static int flush(struct lane *lane)
{
    struct hth_star *s = lane->r->star;

    for (uint32_t k = lane->first; k < lane->first + lane->count; k++) {
        int status = HTH_OK;

        while (status == HTH_OK && !hth_link_sent(s->links[k]))
            status = hth_link_wait(&s->links[k], 1, s->timeout_ms);
        if (status != HTH_OK)
            return status;
    }
    return HTH_OK;
}

/* The first failure of any thread stays. */
static void note(struct hth_star *s, int status)
{
    int none = 0;

    if (status < 0)
        atomic_compare_exchange_strong(&s->failed, &none, status);
}

/* One thread's whole part. Between the two meetings of a piece nobody touches
 * a link, and before the first nobody touches x: the meetings are what orders
 * the memory. */
static void run_lane(void *ctx, uint32_t thread, uint32_t threads)
{
    struct reduce *r = ctx;
    struct hth_star *s = r->star;
    struct lane lane = {.r = r};
    uint64_t first, count;

    hth_split(s->link_count, 1, thread, threads, &first, &count);
    lane.first = (uint32_t)first;
    lane.count = (uint32_t)count;
    for (uint32_t k = lane.first; k < lane.first + lane.count; k++)
        note(s, expect_piece(&lane, k));
    for (uint64_t i = 0; i < r->pieces; i++) {
        if (lane.count > 0)
            note(s, receive_piece(&lane, i));
        hth_pool_barrier(r->pool);
        if (atomic_load(&s->failed) != 0)
            return;
        add_share(r, i, thread, threads);
        hth_pool_barrier(r->pool);
        note(s, send_piece(&lane, i));
    }
    note(s, flush(&lane));
}

/* Threads pay off where there are several links to look after. */
static int reduce_root(struct reduce *r)
{
    struct hth_star *s = r->star;

    r->pool = s->link_count > 1 ? s->pool : NULL;
    atomic_store(&s->failed, 0);
    hth_pool_run(r->pool, run_lane, r);
    return atomic_load(&s->failed);
}

/* ---- the other ranks ----------------------------------------------------- */

static int post_piece(struct reduce *r, uint64_t i)
{
    struct hth_star *s = r->star;
    const void *src = piece_x(r, i);

    if (r->wire != HTH_WIRE_F32) {
        hth_wire_encode(r->wire, piece_x(r, i), s->scratch,
                        piece_numbers(r, i));
        src = s->scratch;
    }
    return hth_link_post(s->links[0], piece_tag(r, i), src, piece_bytes(r, i));
}

/* f32 sums land in x itself: the piece they replace was sealed before, or no
 * sum of it could have come. Others land in the piece buffer. */
static int expect_sum(struct reduce *r, uint64_t i, uint8_t *buffer)
{
    struct hth_star *s = r->star;

    s->msgs[0] = (struct hth_link_msg){
        .tag = piece_tag(r, i),
        .data = r->wire == HTH_WIRE_F32 ? (void *)piece_x(r, i) : buffer,
        .max = piece_bytes(r, i)};
    return hth_link_expect(s->links[0], &s->msgs[0]);
}

static int take_sum(struct reduce *r, uint64_t i)
{
    struct hth_star *s = r->star;
    int status = check_length(s->links[0], &s->msgs[0], piece_bytes(r, i));

    if (status == HTH_OK && r->wire != HTH_WIRE_F32)
        hth_wire_decode(r->wire, s->msgs[0].data, piece_x(r, i),
                        piece_numbers(r, i));
    return status;
}

static int reduce_leaf(struct reduce *r)
{
    struct hth_star *s = r->star;
    struct hth_link *l = s->links[0];
    uint64_t posted = 0;
    uint64_t taken = 0;
    int status = expect_sum(r, 0, s->pieces);

    while (status == HTH_OK && taken < r->pieces) {
        if (posted < r->pieces && hth_link_sent(l)) {
            status = post_piece(r, posted++);
            if (status == HTH_OK)
                status = hth_link_progress(l);
            status = status > 0 ? HTH_OK : status;
        } else {
            status = hth_link_wait(&l, 1, s->timeout_ms);
        }
        if (status == HTH_OK && hth_link_received(l)) {
            status = take_sum(r, taken++);
            if (status == HTH_OK && taken < r->pieces)
                status = expect_sum(r, taken, s->pieces);
        }
    }
    return status;
}

/* ---- two ranks ----------------------------------------------------------- */

static int expect_partial(struct reduce *r, uint64_t i)
{
    struct hth_star *s = r->star;

    s->msgs[0] = (struct hth_link_msg){
        .tag = piece_tag(r, i), .data = s->pieces, .max = piece_bytes(r, i)};
    return hth_link_expect(s->links[0], &s->msgs[0]);
}

/* Send piece i of the own partial and, while it travels, turn it into what the
 * other rank makes of it: both must add the same numbers. */
static int send_partial(struct reduce *r, uint64_t i)
{
    struct hth_star *s = r->star;
    int status = post_piece(r, i);

    if (status == HTH_OK)
        status = hth_link_progress(s->links[0]);
    if (status < 0)
        return status;
    if (r->wire != HTH_WIRE_F32)
        hth_wire_decode(r->wire, s->scratch, piece_x(r, i),
                        piece_numbers(r, i));
    return HTH_OK;
}

/* x += y on rank 0, x = y + x on rank 1: rank 0's number comes first on both,
 * which shows where both are NaNs. Changes y. */
static void add_pair(const struct reduce *r, float *x, float *y, size_t n)
{
    if (r->star->rank == 0) {
        hth_add(x, y, n);
        return;
    }
    hth_add(y, x, n);
    memcpy(x, y, n * sizeof *x);
}

static int take_partial(struct reduce *r, uint64_t i)
{
    struct hth_star *s = r->star;
    size_t n = piece_numbers(r, i);
    float *x = piece_x(r, i);
    float part[ADD_NUMBERS];
    int status = check_length(s->links[0], &s->msgs[0], piece_bytes(r, i));

    if (status != HTH_OK)
        return status;
    if (r->wire == HTH_WIRE_F32) {
        add_pair(r, x, (float *)(void *)s->pieces, n);
        return HTH_OK;
    }
    for (size_t at = 0; at < n; at += ADD_NUMBERS) {
        size_t count = n - at < ADD_NUMBERS ? n - at : ADD_NUMBERS;

        hth_wire_decode(r->wire, s->pieces + hth_wire_bytes(r->wire, at), part,
                        count);
        add_pair(r, x + at, part, count);
    }
    return HTH_OK;
}

/* Both ranks run this. A piece is added only after the own one was sealed,
 * since the sum takes its place. Nobody waits in a circle: the rank that has
 * posted fewer pieces always finds the other ready to take them, and a rank
 * that cannot take yet reads ahead while its sending is stuck. The end waits
 * for the last piece to leave, so that the next call finds the link free. */
static int reduce_pair(struct reduce *r)
{
    struct hth_star *s = r->star;
    struct hth_link *l = s->links[0];
    uint64_t posted = 0;
    uint64_t taken = 0;
    int status = expect_partial(r, 0);

    while (status == HTH_OK && (taken < r->pieces || !hth_link_sent(l))) {
        if (posted < r->pieces && hth_link_sent(l))
            status = send_partial(r, posted++);
        else
            status = hth_link_wait(&l, 1, s->timeout_ms);
        if (status == HTH_OK && taken < posted && hth_link_received(l)) {
            status = take_partial(r, taken++);
            if (status == HTH_OK && taken < r->pieces)
                status = expect_partial(r, taken);
        }
    }
    return status;
}

/* ---- all ----------------------------------------------------------------- */

/* Alone, the sum is the partial, but with what the wire makes of it: one
 * device and several give the same kind of numbers. */
static void reduce_alone(struct reduce *r)
{
    for (uint64_t i = 0; i < r->pieces; i++)
        add_share(r, i, 0, 1);
}

int hth_star_all_reduce(struct hth_star *s, float *x, size_t n,
                        enum hth_wire wire)
{
    struct reduce r = {.star = s,
                       .x = x,
                       .n = n,
                       .wire = wire,
                       .piece = HTH__PIECE_NUMBERS(wire),
                       .op = s->op};
    int status;

    if (s->error.status != HTH_OK)
        return s->error.status;
    HTH_ASSERT(n > 0 && wire >= HTH_WIRE_F32 && wire <= HTH_WIRE_Q8);
    s->op++;
    r.pieces = (n + r.piece - 1) / r.piece;
    if (s->link_count == 0) {
        reduce_alone(&r);
        return HTH_OK;
    }
    if (s->ranks == 2)
        status = reduce_pair(&r);
    else
        status = s->rank == 0 ? reduce_root(&r) : reduce_leaf(&r);
    return status == HTH_OK ? status : hth__star_fail(s, status, "all-reduce");
}

struct hth_star_cost hth_star_all_reduce_cost(enum hth_wire wire, size_t n)
{
    size_t piece = HTH__PIECE_NUMBERS(wire);
    struct hth_star_cost c = {.payload_bytes = hth_wire_bytes(wire, n),
                              .frames = (n + piece - 1) / piece};

    c.overhead_bytes = c.frames * HTH_FRAME_OVERHEAD_BYTES;
    return c;
}
