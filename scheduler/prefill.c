/* prefill.c - the time of a prompt in each mode, and the choice. Fails only
 * where a mode is asked for that the devices cannot do. */
#include "scheduler/prefill.h"

#include <math.h>
#include <string.h>

static double max2(double a, double b)
{
    return a > b ? a : b;
}

/* ---- tensor-parallel chunks -----------------------------------------------
 */

/* Longer vectors travel in pieces, and sums go back while later pieces are
 * still coming (docs/allreduce.md). */
#define REDUCE_PIECE_BYTES 65536.0

/* A star all-reduce of `bytes` per rank: all partials to rank 0, the sums
 * back. Rank 0's own interface carries all of it, both ways at once. */
static double star_s(const struct hth_prefill_load *l, double bytes)
{
    double slowest = 0, fastest = 0, alpha = 0, one_way;
    double last = bytes > REDUCE_PIECE_BYTES ? REDUCE_PIECE_BYTES / bytes : 1;

    for (uint32_t r = 1; r < l->ranks; r++) {
        slowest = max2(slowest, bytes / l->net->bytes_per_s[r][0]);
        fastest = max2(fastest, l->net->bytes_per_s[r][0]);
        alpha = max2(alpha, l->net->alpha_s[r][0]);
    }
    if (l->ranks <= 1)
        return 0;
    one_way = max2(slowest, (l->ranks - 1) * bytes / fastest);
    return l->barrier_s + 2 * alpha + one_way * (1 + last);
}

static double send_all_s(const struct hth_prefill_load *l, double bytes)
{
    double fastest = 0, alpha = 0;

    for (uint32_t r = 1; r < l->ranks; r++) {
        fastest = max2(fastest, l->net->bytes_per_s[0][r]);
        alpha = max2(alpha, l->net->alpha_s[0][r]);
    }
    return l->ranks > 1 ? alpha + (l->ranks - 1) * bytes / fastest : 0;
}

/* The slowest rank's part of one layer for a chunk whose rows see `pairs`. */
static double chunk_layer_s(const struct hth_prefill_load *l, double rows,
                            double pairs)
{
    double most = 0;

    for (uint32_t r = 0; r < l->ranks; r++) {
        const struct hth_prefill_device *d = &l->device[r];
        double t =
            d->share * (d->layer_s + rows * d->row_s + pairs * d->pair_s);

        most = max2(most, t);
    }
    return most;
}

/* Fewer rows do not take turns. */
#define TURNS_ROWS_MIN 64.0

/* Sums of a chunk's layers behind the computing that takes `compute`: all after
 * it, or, where the rows are enough to take turns in two halves, while the
 * other half is computed; whatever is less. */
static double behind_s(const struct hth_prefill_load *l, double rows,
                       double compute)
{
    double turns = 2.0 * l->layers;
    double whole = turns * star_s(l, rows * l->reduce_bytes);
    double halves = 2 * turns * star_s(l, rows / 2 * l->reduce_bytes);
    double longer = max2(compute, halves), ends;

    ends = (compute + halves) / (2 * turns);
    if (rows < TURNS_ROWS_MIN || longer + ends > compute + whole)
        return whole;
    return longer + ends - compute;
}

void hth_prefill_time_tp(const struct hth_prefill_load *l,
                         const struct hth_prompt *p,
                         struct hth_prefill_time *out)
{
    double at = 0, compute = 0;

    memset(out, 0, sizeof *out);
    for (uint32_t done = 0; done < p->count; done += l->chunk_rows) {
        double rows =
            p->count - done < l->chunk_rows ? p->count - done : l->chunk_rows;
        double seen = (double)p->prefix + done;
        double pairs = rows * seen + rows * (rows + 1) / 2;
        double c = l->layers * chunk_layer_s(l, rows, pairs);

        compute += c;
        at += c + send_all_s(l, rows * l->step_bytes) + behind_s(l, rows, c);
    }
    for (uint32_t r = 0; r < l->ranks; r++)
        out->rank[r] =
            (struct hth_prefill_rank_time){compute, at - compute, at};
    out->first_token_s = out->all_s = at;
}

/* ---- split modes: simulated ------------------------------------------------
 */

#define CREDIT_LAYERS 2u

/* One block on its way down the chain, in one layer: when its first piece and
 * its last one are at a rank. */
struct arrival {
    double first, last;
};

struct sim {
    const struct hth_prefill_load *l;
    const struct hth_prompt *p;
    const struct hth_spread *s;
    struct hth_prefill_time *out;
    double ready[HTH_RANKS_MAX]; /* the rank may begin its next layer */
    double nic[HTH_RANKS_MAX];   /* link to the next rank is free */
    double done[HTH_RANKS_MAX][CREDIT_LAYERS];       /* of the last layers */
    struct arrival at[HTH_RANKS_MAX][HTH_RANKS_MAX]; /* [rank][block] */
    double loaded[HTH_RANKS_MAX]; /* weights of the layer are there */
};

/* Pairs of a rank's rows with a block, as simulated: exact where blocks are
 * contiguous, half of all where they are dealt evenly. */
static double pairs_of(const struct sim *m, uint32_t rank, uint32_t block)
{
    const struct hth_spread *s = m->s;
    double q = s->rows[rank], k = s->rows[block];

    if (rank == block)
        return q * (q + 1) / 2;
    if (!hth_spread_sees(s, rank, block))
        return 0;
    if (s->mode == HTH_PREFILL_STRIPED || s->mode == HTH_PREFILL_ZIGZAG)
        return q * k / 2;
    return q * k;
}

/* Queries, keys and values are this part of a layer's products, the rest is
 * after attention; a third fits what models there are. */
#define QKV_PART 0.3

static double block_bytes(const struct sim *m, uint32_t block)
{
    return m->s->rows[block] * m->l->kv_bytes;
}

/* Send a block from `rank` to the next one: pieces leave as they come. */
static void pass_on(struct sim *m, uint32_t rank, uint32_t block,
                    struct arrival have)
{
    uint32_t next = (rank + 1) % m->s->ranks;
    double rate = m->l->net->bytes_per_s[rank][next];
    double piece = m->l->piece_rows * m->l->kv_bytes;
    double bytes = block_bytes(m, block), start;

    if (piece > bytes)
        piece = bytes;
    start = max2(have.first, m->nic[rank]);
    m->nic[rank] = max2(start + bytes / rate, have.last + piece / rate);
    m->at[next][block].first =
        start + piece / rate + m->l->net->alpha_s[rank][next];
    m->at[next][block].last = m->nic[rank] + m->l->net->alpha_s[rank][next];
}

/* The layer's products of all of a rank's rows, in chunks. */
static double rows_s(const struct sim *m, uint32_t rank)
{
    const struct hth_prefill_device *d = &m->l->device[rank];
    uint32_t rows = m->s->rows[rank];
    uint32_t chunks = (rows + m->l->chunk_rows - 1) / m->l->chunk_rows;

    return chunks * d->layer_s + rows * d->row_s;
}

static double own_rows_ready(const struct sim *m, uint32_t rank)
{
    double start = max2(m->ready[rank], m->loaded[rank]);

    return start + QKV_PART * rows_s(m, rank);
}

/* The next rank has room for this layer once it is done with the one two
 * before it. */
static double credit(const struct sim *m, uint32_t rank, uint32_t layer)
{
    uint32_t next = (rank + 1) % m->s->ranks;

    return m->done[next][layer % CREDIT_LAYERS];
}

/* Blocks move in the order in which every rank sends them; a block can leave a
 * rank only after it came, so hops are walked outward from the owners. */
static void move_blocks(struct sim *m, uint32_t layer)
{
    uint32_t p = m->s->ranks;
    bool own_last = m->s->mode == HTH_PREFILL_KVR;

    for (uint32_t r = 0; r < p; r++)
        m->nic[r] = max2(m->nic[r], credit(m, r, layer));
    if (own_last) {
        for (uint32_t r = 0; r + 1 < p; r++) {
            double own = own_rows_ready(m, r);

            for (uint32_t b = 0; b < r; b++)
                if (hth_spread_goes_on(m->s, b, r))
                    pass_on(m, r, b, m->at[r][b]);
            if (hth_spread_passes(m->s, r, r + 1))
                pass_on(m, r, r, (struct arrival){own, own});
        }
        return;
    }
    for (uint32_t hop = 0; hop + 1 < p; hop++) {
        for (uint32_t r = 0; r < p; r++) {
            uint32_t block = (r + p - hop) % p;
            double own = own_rows_ready(m, r);

            if (hop == 0 && hth_spread_passes(m->s, r, (r + 1) % p))
                pass_on(m, r, r, (struct arrival){own, own});
            else if (hop > 0 && hth_spread_passes(m->s, block, r) &&
                     hth_spread_goes_on(m->s, block, r))
                pass_on(m, r, block, m->at[r][block]);
        }
    }
}

/* Attention on the own block, then on the others as they come. */
static void rank_layer(struct sim *m, uint32_t rank, uint32_t layer)
{
    const struct hth_prefill_device *d = &m->l->device[rank];
    uint32_t from[HTH_RANKS_MAX];
    uint32_t n = hth_spread_arrivals(m->s, rank, from);
    struct hth_prefill_rank_time *t = &m->out->rank[rank];
    double rows = m->s->rows[rank], products = rows_s(m, rank);
    double start = max2(m->ready[rank], m->loaded[rank]);
    double own = pairs_of(m, rank, rank) + rows * m->p->prefix;
    double now = own_rows_ready(m, rank) + own * d->pair_s;
    double busy = QKV_PART * products + own * d->pair_s;

    for (uint32_t i = 0; i < n; i++) {
        double work = pairs_of(m, rank, from[i]) * d->pair_s;

        if (work > 0)
            now = max2(now + work,
                       m->at[rank][from[i]].last +
                           work * m->l->piece_rows /
                               max2(m->s->rows[from[i]], m->l->piece_rows));
        busy += work;
    }
    now += (1 - QKV_PART) * products;
    busy += (1 - QKV_PART) * products;
    t->compute_s += busy;
    t->wait_s += now - start - busy + (start - m->ready[rank]);
    m->ready[rank] = t->end_s = now;
    m->done[rank][layer % CREDIT_LAYERS] = now;
    if (d->stream_bytes_per_s > 0)
        m->loaded[rank] += m->l->layer_bytes / d->stream_bytes_per_s;
}

/* Tokens go out from rank 0, one rank after the other, and a cached prefix is
 * gathered on all (it runs ahead, so it is counted once). */
static void sim_start(struct sim *m)
{
    const struct hth_prefill_load *l = m->l;
    double at = 0;

    for (uint32_t r = 1; r < m->s->ranks; r++) {
        at += m->s->rows[r] * l->embed_bytes / l->net->bytes_per_s[0][r];
        m->ready[r] =
            at + l->net->alpha_s[0][r] +
            l->layers * m->p->prefix * l->kv_bytes / l->net->bytes_per_s[0][r];
    }
    for (uint32_t r = 0; r < m->s->ranks; r++)
        if (l->device[r].stream_bytes_per_s > 0)
            m->loaded[r] = l->layer_bytes / l->device[r].stream_bytes_per_s;
}

/* What was not passed is sent by its owner behind everything else. */
static double repair_s(const struct sim *m)
{
    double most = 0;

    for (uint32_t src = 0; src < m->s->ranks; src++)
        for (uint32_t dst = 0; dst < m->s->ranks; dst++)
            if (dst != src && !hth_spread_passes(m->s, src, dst))
                most = max2(most, block_bytes(m, src) * m->l->layers *
                                      m->l->device[dst].share /
                                      m->l->net->bytes_per_s[src][dst]);
    return most / m->l->layers;
}

void hth_prefill_time_split(const struct hth_prefill_load *l,
                            const struct hth_prompt *p,
                            const struct hth_spread *s,
                            struct hth_prefill_time *out)
{
    struct sim m = {.l = l, .p = p, .s = s, .out = out};
    uint32_t last = hth_spread_last(s);

    memset(out, 0, sizeof *out);
    sim_start(&m);
    for (uint32_t layer = 0; layer < l->layers; layer++) {
        move_blocks(&m, layer);
        for (uint32_t r = 0; r < s->ranks; r++)
            rank_layer(&m, r, layer);
    }
    out->first_token_s = m.ready[last] + 2 * l->net->alpha_s[last][0];
    for (uint32_t r = 0; r < s->ranks; r++)
        out->all_s = max2(out->all_s, m.ready[r]);
    out->all_s += repair_s(&m);
}

/* ---- choice ---------------------------------------------------------------
 */

static bool all_whole(const struct hth_prefill_load *l)
{
    for (uint32_t r = 0; r < l->ranks; r++)
        if (!l->whole[r])
            return false;
    return true;
}

/* The device that would finish the prompt first by itself. */
static void fastest_alone(const struct hth_prefill_load *l, double *weights)
{
    uint32_t best = HTH_RANKS_MAX;

    for (uint32_t r = 0; r < l->ranks; r++) {
        weights[r] = 0;
        if (l->whole[r] && (best == HTH_RANKS_MAX ||
                            l->device[r].row_s < l->device[best].row_s))
            best = r;
    }
    if (best < HTH_RANKS_MAX)
        weights[best] = 1;
}

/* Rank 0 as it is while the others do not compute. */
static void set_alone(struct hth_prefill_load *l)
{
    struct hth_prefill_device *d = &l->device[0];

    if (!(l->alone > 0 && l->alone < 1))
        return;
    d->row_s *= l->alone;
    d->pair_s *= l->alone;
    d->layer_s *= l->alone;
}

static bool mode_possible(const struct hth_prefill_load *l, uint32_t mode)
{
    if (l->barred >> mode & 1)
        return false;
    if (mode == HTH_PREFILL_TP)
        return true;
    if (mode == HTH_PREFILL_SINGLE)
        for (uint32_t r = 0; r < l->ranks; r++)
            if (l->whole[r])
                return true;
    return all_whole(l);
}

static void mode_weights(const struct hth_prefill_load *l,
                         const struct hth_prompt *p, uint32_t mode,
                         struct hth_partition_table *table, double *w)
{
    if (mode == HTH_PREFILL_SINGLE) {
        fastest_alone(l, w);
    } else if (mode != HTH_PREFILL_KVR) {
        hth_partition_speed(l, w);
    } else if (table == NULL || !hth_partition_lookup(table, p->count, w)) {
        hth_partition_search(l, p, w);
        if (table != NULL && p->prefix == 0)
            hth_partition_learn(table, p->count, w);
    }
}

static double try_mode(const struct hth_prefill_load *l,
                       const struct hth_prompt *p, uint32_t mode,
                       struct hth_prefill_memory *memory,
                       struct hth_spread *spread)
{
    double w[HTH_RANKS_MAX];
    struct hth_prefill_time t;
    struct hth_prefill_load alone;

    if (mode == HTH_PREFILL_SINGLE) {
        alone = *l;
        set_alone(&alone);
        l = &alone;
    }
    if (mode == HTH_PREFILL_TP) {
        hth_prefill_time_tp(l, p, &t);
        return t.first_token_s;
    }
    mode_weights(l, p, mode, memory != NULL ? &memory->table : NULL, w);
    if (hth_spread_make(spread, mode, w, l->ranks, p->count) != HTH_OK)
        return 0;
    hth_prefill_time_split(l, p, spread, &t);
    return t.first_token_s;
}

/* All modes that are possible: what the model says, and what it comes to with
 * the past. */
static void predict_all(const struct hth_prefill_load *l,
                        const struct hth_prompt *p,
                        struct hth_prefill_memory *memory,
                        struct hth_spread *spread,
                        struct hth_prefill_choice *out)
{
    for (uint32_t mode = HTH_PREFILL_TP; mode < HTH_PREFILL_AUTO; mode++) {
        double t;

        if (!mode_possible(l, mode))
            continue;
        t = try_mode(l, p, mode, memory, &spread[mode]);
        out->model_by_mode_s[mode] = t;
        if (memory != NULL)
            t *= hth_prefill_factor(&memory->past, mode, p->count);
        out->by_mode_s[mode] = t;
    }
}

/* The mode of the least time; with a past, of the least time that it may turn
 * out to have, and now and then what comes after that. */
static uint32_t least(const struct hth_prefill_choice *c, uint32_t count,
                      const struct hth_prefill_past *past, uint32_t except)
{
    uint32_t best = HTH_PREFILL_AUTO;
    double best_s = 0;

    for (uint32_t m = 0; m < HTH_PREFILL_AUTO; m++) {
        double t = c->by_mode_s[m];

        if (t <= 0 || m == except)
            continue;
        if (past != NULL)
            t *= hth_prefill_doubt(past, m, count);
        if (best == HTH_PREFILL_AUTO || t < best_s) {
            best = m;
            best_s = t;
        }
    }
    return best;
}

/* Worth another try: what takes at most so many times the best one's time. */
#define AGAIN_MOST 1.25

static uint32_t pick(const struct hth_prefill_choice *c, uint32_t count,
                     const struct hth_prefill_past *past)
{
    uint32_t best = least(c, count, past, HTH_PREFILL_AUTO), next;

    if (past == NULL || best == HTH_PREFILL_AUTO ||
        !hth_prefill_again(past, count))
        return best;
    next = least(c, count, past, best);
    return next != HTH_PREFILL_AUTO &&
                   c->by_mode_s[next] <= AGAIN_MOST * c->by_mode_s[best]
               ? next
               : best;
}

int hth_prefill_choose(const struct hth_prefill_load *l,
                       const struct hth_prompt *p, uint32_t wanted,
                       struct hth_prefill_memory *memory,
                       struct hth_prefill_choice *out)
{
    struct hth_spread spread[HTH_PREFILL_AUTO] = {0};

    memset(out, 0, sizeof *out);
    predict_all(l, p, memory, spread, out);
    out->mode = wanted;
    if (wanted == HTH_PREFILL_AUTO)
        out->mode = pick(out, p->count, memory != NULL ? &memory->past : NULL);
    if (out->mode >= HTH_PREFILL_AUTO || out->by_mode_s[out->mode] <= 0)
        return HTH_EUNSUPPORTED;
    out->predicted_s = out->by_mode_s[out->mode];
    out->model_s = out->model_by_mode_s[out->mode];
    out->spread = spread[out->mode];
    return HTH_OK;
}
