/* seqpar_plan.c - the messages of a spread prompt: made once per job, posted
 * layer by layer. Fails for want of memory only. */
#include <stdlib.h>
#include <string.h>

#include "model/seqpar_internal.h"

void hth__prefix_heads(const struct hth_seqpar_opts *o,
                       struct hth__heads heads[HTH_RANKS_MAX])
{
    uint32_t end = 0;

    for (uint32_t r = 0; r < o->plan->ranks; r++) {
        const struct hth_share *s = &o->plan->share[r];
        uint32_t last = s->kv_first + s->kvs;

        heads[r].first = s->kv_first > end ? s->kv_first : end;
        heads[r].count =
            s->kvs > 0 && last > heads[r].first ? last - heads[r].first : 0;
        end = s->kvs > 0 && last > end ? last : end;
    }
}

static bool prefix_moves(const struct hth_seqpar_opts *o,
                         const struct hth__heads *heads, uint32_t from,
                         uint32_t to)
{
    return from != to && o->prefix > 0 && heads[from].count > 0 &&
           o->spread.rows[to] > 0;
}

static bool repair_moves(const struct hth_seqpar_opts *o, uint32_t from,
                         uint32_t to)
{
    return from != to && o->spread.rows[from] > 0 &&
           o->plan->share[to].kvs > 0 &&
           !hth_spread_passes(&o->spread, from, to);
}

bool hth__sends_prefix(const struct hth_seqpar *s, uint32_t from, uint32_t to)
{
    return prefix_moves(&s->o, s->heads, from, to);
}

bool hth__sends_repair(const struct hth_seqpar *s, uint32_t from, uint32_t to)
{
    return repair_moves(&s->o, from, to);
}

bool hth__wants_credit(const struct hth_seqpar *s, uint32_t from, uint32_t to)
{
    if (from == to)
        return false;
    return hth__sends_prefix(s, from, to) ||
           (to == (from + 1) % s->ranks &&
            hth_spread_link_rows(&s->o.spread, from) > 0);
}

/* ---- making ----------------------------------------------------------------
 */

static uint32_t arriving_pieces(const struct hth_seqpar *s)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->arrivals; i++)
        n += hth__pieces(s->o.spread.rows[s->from[i]]);
    return n;
}

static uint32_t count_ranks(const struct hth_seqpar *s,
                            bool (*is)(const struct hth_seqpar *, uint32_t,
                                       uint32_t),
                            bool outward)
{
    uint32_t n = 0;

    for (uint32_t r = 0; r < s->ranks; r++)
        n += outward ? is(s, s->rank, r) : is(s, r, s->rank);
    return n;
}

static bool make(struct hth__list *l, size_t n)
{
    l->v = calloc(n > 0 ? n : 1, sizeof *l->v);
    l->n = 0;
    return l->v != NULL;
}

static bool make_slot(struct hth_seqpar *s, struct hth__slot *slot)
{
    uint32_t own = hth__pieces(s->rows), in = arriving_pieces(s);
    uint32_t prefix = hth__pieces(s->o.prefix);

    return make(&slot->own, own) && make(&slot->in, in) &&
           make(&slot->on, in) &&
           make(&slot->repair,
                (size_t)own * count_ranks(s, hth__sends_repair, true)) &&
           make(&slot->prefix_out,
                (size_t)prefix * count_ranks(s, hth__sends_prefix, true)) &&
           make(&slot->prefix_in,
                (size_t)prefix * count_ranks(s, hth__sends_prefix, false)) &&
           make(&slot->credit, s->ranks);
}

static size_t repair_pieces_in(const struct hth_seqpar *s)
{
    size_t n = 0;

    for (uint32_t r = 0; r < s->ranks; r++)
        if (hth__sends_repair(s, r, s->rank))
            n += hth__pieces(s->o.spread.rows[r]);
    return n;
}

static bool make_staging(struct hth_seqpar *s)
{
    size_t bytes = (size_t)HTH_SEQPAR_PIECE_ROWS * 2 * s->row_bytes *
                   s->o.plan->share[s->rank].kvs;

    for (uint32_t r = 0; r < s->ranks; r++)
        if (hth__sends_repair(s, r, s->rank) &&
            (s->staging[r] = malloc(bytes)) == NULL)
            return false;
    return true;
}

int hth__make_messages(struct hth_seqpar *s, struct hth_err *err)
{
    bool ok = make_staging(s);

    for (uint32_t i = 0; i < HTH__SLOTS; i++)
        ok = ok && make_slot(s, &s->slot[i]);
    ok = ok &&
         make(&s->credit_in, (size_t)s->spec->layers *
                                 count_ranks(s, hth__wants_credit, true)) &&
         make(&s->repair_in, s->spec->layers * repair_pieces_in(s));
    return ok ? HTH_OK
              : hth_fail(err, HTH_ENOMEM,
                         "no memory for the messages of a long prompt");
}

void hth__free_messages(struct hth_seqpar *s)
{
    for (uint32_t i = 0; i < HTH__SLOTS; i++) {
        free(s->slot[i].own.v);
        free(s->slot[i].in.v);
        free(s->slot[i].on.v);
        free(s->slot[i].repair.v);
        free(s->slot[i].prefix_out.v);
        free(s->slot[i].prefix_in.v);
        free(s->slot[i].credit.v);
    }
    free(s->credit_in.v);
    free(s->repair_in.v);
    for (uint32_t r = 0; r < HTH_RANKS_MAX; r++)
        free(s->staging[r]);
}

/* ---- posting ----------------------------------------------------------------
 */

static struct hth_peer_msg *add(struct hth__list *l, uint32_t peer,
                                uint64_t tag, const struct hth__piece *p,
                                size_t row_bytes)
{
    struct hth_peer_msg *m = &l->v[l->n++];

    *m = (struct hth_peer_msg){.peer = peer, .tag = tag};
    if (p != NULL) {
        m->data = (void *)(uintptr_t)p->data;
        m->n = (size_t)p->rows * p->heads * 2 * row_bytes;
    }
    return m;
}

/* A rank may send layer l once the receiver is through with layer l - 2. */
static void gate(struct hth_seqpar *s, struct hth_peer_msg *m, uint32_t layer)
{
    if (layer < HTH__SLOTS)
        return;
    m->gate = &s->credits[m->peer];
    m->gate_at = layer - HTH__SLOTS + 1;
}

static void send(struct hth_seqpar *s, struct hth_peer_msg *m)
{
    s->times.sent_bytes += m->n;
    s->o.peers->send(s->o.peers->ctx, m);
}

static void expect(struct hth_seqpar *s, struct hth_peer_msg *m)
{
    s->times.received_bytes += m->n;
    s->o.peers->expect(s->o.peers->ctx, m);
}

static void expect_blocks(struct hth_seqpar *s, struct hth__slot *slot,
                          uint32_t layer)
{
    slot->in.n = slot->on.n = 0;
    for (uint32_t a = 0; a < s->arrivals; a++) {
        uint32_t src = s->from[a];
        bool on = hth_spread_goes_on(&s->o.spread, src, s->rank);

        for (uint32_t i = 0; i < hth__pieces(s->o.spread.rows[src]); i++) {
            struct hth__piece p = hth__block_piece(s, slot, src, i);
            uint64_t tag = hth_peer_tag(HTH_PEER_BLOCK, layer, src, i);
            struct hth_peer_msg *m =
                add(&slot->in, s->before, tag, &p, s->row_bytes);

            m->done = &s->came[src];
            if (on) {
                m->then = add(&slot->on, s->next, tag, &p, s->row_bytes);
                m->then->done = &slot->on_done;
                gate(s, m->then, layer);
                slot->on_total++;
                s->times.sent_bytes += m->n;
            }
        }
    }
    for (uint32_t i = 0; i < slot->in.n; i++)
        expect(s, &slot->in.v[i]);
}

static void expect_prefix(struct hth_seqpar *s, struct hth__slot *slot,
                          uint32_t layer)
{
    slot->prefix_in.n = 0;
    for (uint32_t r = 0; r < s->ranks; r++) {
        if (!hth__sends_prefix(s, r, s->rank))
            continue;
        for (uint32_t i = 0; i < hth__pieces(s->o.prefix); i++) {
            struct hth__piece p = hth__prefix_piece(s, slot, r, i);
            struct hth_peer_msg *m = add(
                &slot->prefix_in, r, hth_peer_tag(HTH_PEER_PREFIX, layer, r, i),
                &p, s->row_bytes);

            m->done = &s->prefix_came[r];
            expect(s, m);
        }
    }
}

static void give_credit(struct hth_seqpar *s, struct hth__slot *slot,
                        uint32_t layer)
{
    slot->credit.n = 0;
    for (uint32_t r = 0; r < s->ranks; r++) {
        struct hth_peer_msg *m;

        if (!hth__wants_credit(s, r, s->rank))
            continue;
        m = add(&slot->credit, r, hth_peer_tag(HTH_PEER_CREDIT, layer, 0, 0),
                NULL, 0);
        m->done = &slot->on_done;
        slot->on_total++;
        send(s, m);
    }
}

void hth__open_layer(struct hth_seqpar *s, uint32_t layer)
{
    struct hth__slot *slot = &s->slot[layer % HTH__SLOTS];

    expect_blocks(s, slot, layer);
    expect_prefix(s, slot, layer);
    if (layer >= HTH__SLOTS)
        give_credit(s, slot, layer);
}

static void post_repair(struct hth_seqpar *s, struct hth__slot *slot,
                        uint32_t layer, uint32_t piece)
{
    for (uint32_t r = 0; r < s->ranks; r++) {
        const struct hth_share *share = &s->o.plan->share[r];
        struct hth__piece p = hth__block_piece(s, slot, s->rank, piece);
        struct hth_peer_msg *m;

        if (!hth__sends_repair(s, s->rank, r))
            continue;
        p.data += (size_t)share->kv_first * p.rows * 2 * s->row_bytes;
        p.heads = share->kvs;
        m = add(&slot->repair, r,
                hth_peer_tag(HTH_PEER_REPAIR, layer, s->rank, piece), &p,
                s->row_bytes);
        m->behind = true;
        m->done = &slot->own_done;
        slot->own_total++;
        send(s, m);
    }
}

void hth__post_own(struct hth_seqpar *s, uint32_t layer, uint32_t piece)
{
    struct hth__slot *slot = &s->slot[layer % HTH__SLOTS];
    struct hth__piece p = hth__block_piece(s, slot, s->rank, piece);
    struct hth_peer_msg *m;

    if (piece == 0)
        slot->own.n = slot->repair.n = 0;
    if (hth_spread_passes(&s->o.spread, s->rank, s->next)) {
        m = add(&slot->own, s->next,
                hth_peer_tag(HTH_PEER_BLOCK, layer, s->rank, piece), &p,
                s->row_bytes);
        m->done = &slot->own_done;
        gate(s, m, layer);
        slot->own_total++;
        send(s, m);
    }
    post_repair(s, slot, layer, piece);
}

void hth__post_prefix(struct hth_seqpar *s, uint32_t layer)
{
    struct hth__slot *slot = &s->slot[layer % HTH__SLOTS];

    slot->prefix_out.n = 0;
    for (uint32_t r = 0; r < s->ranks; r++) {
        if (!hth__sends_prefix(s, s->rank, r))
            continue;
        for (uint32_t i = 0; i < hth__pieces(s->o.prefix); i++) {
            struct hth__piece p = hth__prefix_piece(s, slot, s->rank, i);
            struct hth_peer_msg *m =
                add(&slot->prefix_out, r,
                    hth_peer_tag(HTH_PEER_PREFIX, layer, s->rank, i), &p,
                    s->row_bytes);

            m->done = &slot->own_done;
            gate(s, m, layer);
            slot->own_total++;
            send(s, m);
        }
    }
}

/* ---- what may come at any time ---------------------------------------------
 */

/* The owner of a block that never passes here sent our heads of it. Its tag
 * says which layer and piece it is; the memory it came into is used again for
 * the next, which is why it is kept at once. */
static void repair_came(void *ctx, struct hth_peer_msg *m)
{
    struct hth_seqpar *s = ctx;
    uint32_t layer = m->gate_at, piece = (uint32_t)(m->tag & 0xfffffu);
    const struct hth_share *mine = &s->o.plan->share[s->rank];
    struct hth__piece p = hth__block_piece(s, &s->slot[0], m->peer, piece);

    p.data = m->data;
    p.head_first = mine->kv_first;
    p.heads = mine->kvs;
    hth__keep(s, layer, &p);
}

static void expect_repair(struct hth_seqpar *s, uint32_t layer, uint32_t from)
{
    for (uint32_t i = 0; i < hth__pieces(s->o.spread.rows[from]); i++) {
        struct hth__piece p = hth__block_piece(s, &s->slot[0], from, i);
        struct hth_peer_msg *m;

        p.data = s->staging[from];
        p.heads = s->o.plan->share[s->rank].kvs;
        m = add(&s->repair_in, from,
                hth_peer_tag(HTH_PEER_REPAIR, layer, from, i), &p,
                s->row_bytes);
        m->done = &s->repaired;
        m->came = repair_came;
        m->ctx = s;
        m->gate_at = layer;
        expect(s, m);
    }
}

void hth__expect_always(struct hth_seqpar *s)
{
    for (uint32_t layer = 0; layer < s->spec->layers; layer++)
        for (uint32_t r = 0; r < s->ranks; r++) {
            if (hth__sends_repair(s, r, s->rank))
                expect_repair(s, layer, r);
            if (layer >= HTH__SLOTS && hth__wants_credit(s, s->rank, r)) {
                struct hth_peer_msg *m =
                    add(&s->credit_in, r,
                        hth_peer_tag(HTH_PEER_CREDIT, layer, 0, 0), NULL, 0);

                m->done = &s->credits[r];
                expect(s, m);
            }
        }
}

/* ---- bytes ------------------------------------------------------------------
 */

void hth_seqpar_traffic(const struct hth_seqpar_opts *o, uint32_t from,
                        uint32_t to, struct hth_seqpar_traffic *out)
{
    uint64_t head =
        2ull * hth_row_bytes(o->kv_type, o->spec->head_dim) * o->spec->layers;
    struct hth__heads heads[HTH_RANKS_MAX];

    hth__prefix_heads(o, heads);
    *out = (struct hth_seqpar_traffic){0};
    if (from == to)
        return;
    if (to == (from + 1) % o->spread.ranks)
        out->block_bytes =
            hth_spread_link_rows(&o->spread, from) * o->spec->kv_heads * head;
    if (prefix_moves(o, heads, from, to))
        out->prefix_bytes = (uint64_t)o->prefix * heads[from].count * head;
    if (repair_moves(o, from, to))
        out->repair_bytes =
            (uint64_t)o->spread.rows[from] * o->plan->share[to].kvs * head;
}
