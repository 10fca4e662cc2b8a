/* star.c - a star's life, and the collectives that move bytes. The sums are in
 * star_reduce.c. */
#include "net/star.h"

#include <string.h>

#include "base/mem.h"
#include "net/star_internal.h"

/* ---- life ---------------------------------------------------------------- */

static uint32_t links_of(const struct hth_star_opts *o)
{
    return o->rank == 0 ? o->ranks - 1 : 1;
}

static int check(const struct hth_star_opts *o, struct hth_err *err)
{
    if (o->ranks < 1 || o->ranks > HTH_RANKS_MAX || o->rank >= o->ranks)
        return hth_fail(err, HTH_EINVAL, "star: rank %u of %u", o->rank,
                        o->ranks);
    for (uint32_t i = 0; i < links_of(o); i++)
        if (o->links == NULL || o->links[i] == NULL)
            return hth_fail(err, HTH_EINVAL, "star: link %u is missing", i);
    return HTH_OK;
}

static void fill(struct hth_star *s, const struct hth_star_opts *o)
{
    s->rank = o->rank;
    s->ranks = o->ranks;
    s->link_count = links_of(o);
    s->timeout_ms = o->timeout_ms > 0 ? o->timeout_ms : HTH_LINK_DEADLINE_MS;
    s->pool = o->rank == 0 ? o->pool : NULL;
    for (uint32_t i = 0; i < s->link_count; i++)
        s->links[i] = o->links[i];
}

int hth_star_open(struct hth_star **out, const struct hth_star_opts *opts,
                  struct hth_err *err)
{
    int status = check(opts, err);
    struct hth_star *s;
    size_t pieces;

    if (status != HTH_OK)
        return status;
    s = hth_mem_alloc(sizeof *s);
    if (s == NULL)
        return hth_fail(err, HTH_ENOMEM, "star: out of memory");
    fill(s, opts);
    pieces = s->rank == 0 ? s->link_count * HTH__PIECE_BUFFERS : 1;
    s->scratch = hth_mem_alloc(HTH_LINK_CUT_BYTES);
    if (pieces > 0)
        s->pieces = hth_mem_alloc(pieces * HTH_LINK_CUT_BYTES);
    if (s->scratch == NULL || (pieces > 0 && s->pieces == NULL)) {
        hth_star_close(s);
        return hth_fail(err, HTH_ENOMEM, "star: out of memory");
    }
    *out = s;
    return HTH_OK;
}

void hth_star_close(struct hth_star *s)
{
    if (s == NULL)
        return;
    hth_mem_free(s->pieces);
    hth_mem_free(s->scratch);
    hth_mem_free(s);
}

const struct hth_err *hth_star_error(const struct hth_star *s)
{
    return &s->error;
}

/* ---- ends ---------------------------------------------------------------- */

/* The link that failed by itself explains best; one that was told to stop
 * comes second. */
static const struct hth_err *cause(const struct hth_star *s)
{
    const struct hth_err *told = NULL;

    for (uint32_t i = 0; i < s->link_count; i++) {
        const struct hth_err *e = hth_link_error(s->links[i]);

        if (e->status != HTH_OK && e->status != HTH_ECANCELLED)
            return e;
        if (e->status != HTH_OK && told == NULL)
            told = e;
    }
    return told;
}

int hth__star_fail(struct hth_star *s, int status, const char *doing)
{
    const struct hth_err *why = cause(s);

    if (s->error.status != HTH_OK)
        return s->error.status;
    if (why != NULL)
        status =
            hth_fail(&s->error, why->status, "%s: %.450s", doing, why->text);
    else
        hth_fail(&s->error, status, "%s: %s", doing, hth_status_text(status));
    for (uint32_t i = 0; i < s->link_count; i++)
        hth_link_abort(s->links[i], status, s->error.text);
    return status;
}

void hth_star_abort(struct hth_star *s, int status, const char *text)
{
    for (uint32_t i = 0; i < s->link_count; i++)
        hth_link_abort(s->links[i], status, text);
    if (s->error.status == HTH_OK)
        hth_fail(&s->error, HTH_ECANCELLED, "given up: %.450s", text);
}

void hth_star_shutdown(struct hth_star *s)
{
    for (uint32_t i = 0; i < s->link_count; i++)
        hth_link_shutdown(s->links[i]);
}

/* ---- bytes --------------------------------------------------------------- */

/* Until nothing is under way on any link. */
static int settle(struct hth_star *s)
{
    int status = HTH_OK;

    for (;;) {
        bool busy = false;

        for (uint32_t i = 0; i < s->link_count; i++)
            busy |=
                !hth_link_sent(s->links[i]) || !hth_link_received(s->links[i]);
        if (!busy || status != HTH_OK)
            return status;
        status = hth_link_wait(s->links, s->link_count, s->timeout_ms);
    }
}

static int expect(struct hth_star *s, uint32_t link, uint64_t tag,
                  const struct hth_star_bytes *b)
{
    s->msgs[link] =
        (struct hth_link_msg){.tag = tag, .data = b->data, .max = b->max};
    return hth_link_expect(s->links[link], &s->msgs[link]);
}

int hth_star_bcast(struct hth_star *s, struct hth_star_bytes *bytes)
{
    uint64_t tag = hth__star_tag(s->op++, HTH__STAR_BCAST, 0, 0);
    int status = s->error.status;

    for (uint32_t i = 0; i < s->link_count && status == HTH_OK; i++)
        status = s->rank == 0
                     ? hth_link_post(s->links[i], tag, bytes->data, bytes->n)
                     : expect(s, i, tag, bytes);
    if (status == HTH_OK)
        status = settle(s);
    if (status != HTH_OK)
        return hth__star_fail(s, status, "broadcast");
    if (s->rank != 0)
        bytes->n = s->msgs[0].n;
    return HTH_OK;
}

int hth_star_gather(struct hth_star *s, const struct hth_star_bytes *own,
                    struct hth_star_bytes *all)
{
    uint64_t tag = hth__star_tag(s->op++, HTH__STAR_GATHER, 0, 0);
    int status = s->error.status;

    for (uint32_t i = 0; i < s->link_count && status == HTH_OK; i++)
        status = s->rank == 0
                     ? expect(s, i, tag, &all[i + 1])
                     : hth_link_post(s->links[i], tag, own->data, own->n);
    if (status == HTH_OK)
        status = settle(s);
    if (status != HTH_OK)
        return hth__star_fail(s, status, "gather");
    for (uint32_t i = 0; s->rank == 0 && i < s->link_count; i++)
        all[i + 1].n = s->msgs[i].n;
    return HTH_OK;
}

/* The link to a rank; false where the star has none. Point to point calls are
 * not made by all ranks, so they stay out of the operation count. */
static bool link_to(const struct hth_star *s, uint32_t rank, uint32_t *link)
{
    *link = s->rank == 0 ? rank - 1 : 0;
    return rank < s->ranks && rank != s->rank && (s->rank == 0 || rank == 0);
}

int hth_star_send(struct hth_star *s, uint32_t to,
                  const struct hth_star_bytes *bytes)
{
    uint64_t tag = hth__star_tag(0, HTH__STAR_SEND, 0, 0);
    uint32_t link;
    int status;

    if (!link_to(s, to, &link))
        return HTH_EINVAL;
    if (s->error.status != HTH_OK)
        return s->error.status;
    status = hth_link_send(s->links[link], tag, bytes->data, bytes->n,
                           s->timeout_ms);
    return status == HTH_OK ? status : hth__star_fail(s, status, "send");
}

int hth_star_recv(struct hth_star *s, uint32_t from,
                  struct hth_star_bytes *bytes)
{
    struct hth_link_msg m = {.tag = hth__star_tag(0, HTH__STAR_SEND, 0, 0),
                             .data = bytes->data,
                             .max = bytes->max};
    uint32_t link;
    int status;

    if (!link_to(s, from, &link))
        return HTH_EINVAL;
    if (s->error.status != HTH_OK)
        return s->error.status;
    status = hth_link_recv_msg(s->links[link], &m, s->timeout_ms);
    if (status != HTH_OK)
        return hth__star_fail(s, status, "receive");
    bytes->n = m.n;
    return HTH_OK;
}
