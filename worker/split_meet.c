/* split_meet.c - opening and closing a rank's part in spread prompts, and
 * getting to know the other ranks. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "worker/split_internal.h"

/* ---- life -------------------------------------------------------------------
 */

/* When the ranks meet, all have their weights and nobody computes yet: what is
 * measured while others load is far from what a prompt will see. */
int hth__split_measure(struct hth_split *s, struct hth_err *err)
{
    struct hth_whole_rates r;
    int rc;

    s->rates = (struct hth_split_rates){.room_bytes = hth__split_room(s)};
    if (s->whole == NULL)
        return HTH_OK;
    rc = hth__split_take_room(s, 0, err);
    if (rc == HTH_OK)
        rc = hth_whole_measure(s->whole, &r, err);
    hth__split_give_room(s);
    if (rc != HTH_OK)
        return rc;
    s->rates =
        (struct hth_split_rates){.whole = true,
                                 .room_bytes = s->rates.room_bytes,
                                 .row_s = r.row_s,
                                 .pair_s = r.pair_s,
                                 .layer_s = r.layer_s,
                                 .crowd = r.crowd,
                                 .stream_bytes_per_s = r.stream_bytes_per_s};
    hth_log(HTH_LOG_INFO, "WHOLE-LAYERS",
            "rank=%u in_memory=%s row_us=%.1f chunk_us=%.1f pair_ns=%.2f "
            "crowd=%.2f: ready for long prompts",
            s->rank, s->all ? "all" : "window", r.row_s * 1e6, r.layer_s * 1e6,
            r.pair_s * 1e9, r.crowd);
    return HTH_OK;
}

int hth_split_open(struct hth_split **out, const struct hth_split_opts *o,
                   struct hth_err *err)
{
    struct hth_split *s = calloc(1, sizeof *s);
    int rc;

    if (s == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for long prompts");
    s->o = *o;
    s->session = o->session;
    s->rank = o->session->rank;
    s->ranks = o->session->plan.ranks;
    pthread_mutex_init(&s->lock, NULL);
    hth_buf_init(&s->buf, HTH_SPLIT_BYTES_MAX);
    rc = hth__split_load(s, err);
    if (rc != HTH_OK) {
        hth_split_close(s);
        return rc;
    }
    *out = s;
    return HTH_OK;
}

void hth_split_detach(struct hth_split *s)
{
    hth_peer_links_close(s->links);
    s->links = NULL;
    hth__job_close(s);
    hth_mesh_close(s->mesh);
    s->mesh = NULL;
    s->met = false;
    memset(s->link, 0, sizeof s->link);
}

void hth_split_close(struct hth_split *s)
{
    if (s == NULL)
        return;
    hth_split_detach(s);
    hth_whole_close(s->whole);
    hth_buf_fini(&s->buf);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* A worker that cannot listen is reached by rank 0. */
void hth_split_attach(struct hth_split *s, struct hth_link *const *links)
{
    struct hth_mesh_opts m = {
        .identity = s->o.identity, .name = s->o.name, .rank = s->rank};
    struct hth_err why;

    memset(s->link, 0, sizeof s->link);
    if (s->rank == 0)
        memcpy(s->link, links, s->ranks * sizeof *links);
    else
        s->link[0] = links[0];
    if (s->rank != 0 && s->o.identity != NULL && s->ranks > 2 &&
        hth_mesh_open(&s->mesh, &m, &why) != HTH_OK)
        hth_log(HTH_LOG_WARN, "NO-LISTENER", "%s", why.text);
}

void hth_split_shutdown(struct hth_split *s)
{
    if (s->mesh != NULL)
        hth_mesh_shutdown(s->mesh);
}

int hth__split_open_links(struct hth_split *s, struct hth_err *err)
{
    struct hth_peer_links_opts o = {s->rank, s->ranks, s->link};

    hth_peer_links_close(s->links);
    s->links = NULL;
    return hth_peer_links_open(&s->links, &o, err);
}

bool hth_split_is_met(const struct hth_split *s)
{
    return s->met;
}

const struct hth_split_view *hth_split_view(const struct hth_split *s)
{
    return &s->view;
}

/* ---- rank 0 asks
 * -------------------------------------------------------------- */

static int failed(const struct hth_link *l, struct hth_err *err)
{
    if (err != NULL)
        *err = *hth_link_error(l);
    return hth_link_error(l)->status;
}

static int tell(struct hth_split *s, uint32_t rank, struct hth_err *err)
{
    return hth_link_send(s->link[rank], HTH_TAG_STEP, s->buf.data, s->buf.len,
                         HTH_STEP_DEADLINE_MS) == HTH_OK
               ? HTH_OK
               : failed(s->link[rank], err);
}

static int hear(struct hth_split *s, uint32_t rank, uint8_t *dst, size_t *n,
                struct hth_err *err)
{
    struct hth_link_msg m = {
        .tag = HTH_TAG_MEET, .data = dst, .max = HTH_SPLIT_BYTES_MAX};
    int rc = hth_link_recv_msg(s->link[rank], &m, HTH_STEP_DEADLINE_MS);

    *n = m.n;
    return rc == HTH_OK ? HTH_OK : failed(s->link[rank], err);
}

static int misread(const struct hth_split *s, uint32_t rank,
                   struct hth_err *err)
{
    return hth_fail(err, HTH_EPROTO, "device %s sent what cannot be read",
                    hth_link_peer(s->link[rank])->name);
}

/* "192.168.1.7:4711" or "[fe80::1%eth0]:4711" without the port. */
static void host_of(const struct hth_link *l, char *dst, size_t size)
{
    const char *a = hth_link_peer(l)->address;
    const char *colon = strrchr(a, ':');
    size_t n = colon != NULL ? (size_t)(colon - a) : 0;

    if (n >= 2 && a[0] == '[' && a[n - 1] == ']') {
        a++;
        n -= 2;
    }
    if (n >= size)
        n = 0;
    memcpy(dst, a, n);
    dst[n] = '\0';
}

/* All ranks measure at once, rank 0 too: where some share a machine's cores,
 * that shows as crowd. */
static int ask_met(struct hth_split *s, struct hth_split_dial *dial,
                   struct hth_err *err)
{
    uint8_t bytes[HTH_SPLIT_BYTES_MAX];
    struct hth_split_met met;
    size_t n;
    int rc = HTH_OK;

    hth_buf_reset(&s->buf);
    hth_split_put_kind(&s->buf, HTH_SPLIT_MEET);
    for (uint32_t r = 1; r < s->ranks && rc == HTH_OK; r++)
        rc = tell(s, r, err);
    if (rc == HTH_OK)
        rc = hth__split_measure(s, err);
    s->view.rates[0] = s->rates;
    for (uint32_t r = 1; r < s->ranks && rc == HTH_OK; r++) {
        rc = hear(s, r, bytes, &n, err);
        if (rc == HTH_OK && hth_split_get_met(&met, bytes, n) != HTH_OK)
            rc = misread(s, r, err);
        if (rc != HTH_OK)
            break;
        s->view.rates[r] = met.rates;
        if (met.port == 0)
            continue;
        memcpy(dial->peer[r].device, hth_link_peer(s->link[r])->id,
               sizeof dial->peer[r].device);
        host_of(s->link[r], dial->peer[r].host, sizeof dial->peer[r].host);
        dial->peer[r].port = met.port;
    }
    return rc;
}

static int ask_linked(struct hth_split *s, const struct hth_split_dial *dial,
                      uint32_t *bits, struct hth_err *err)
{
    uint8_t bytes[HTH_SPLIT_BYTES_MAX];
    size_t n;
    int rc = HTH_OK;

    hth_buf_reset(&s->buf);
    hth_split_put_dial(&s->buf, dial);
    for (uint32_t r = 1; r < s->ranks && rc == HTH_OK; r++)
        rc = tell(s, r, err);
    for (uint32_t r = 1; r < s->ranks && rc == HTH_OK; r++) {
        rc = hear(s, r, bytes, &n, err);
        if (rc == HTH_OK &&
            hth_split_get_bits(&bits[r], false, bytes, n) != HTH_OK)
            rc = misread(s, r, err);
    }
    return rc;
}

/* A link counts where both ends have it. */
static int tell_keep(struct hth_split *s, const uint32_t *bits,
                     struct hth_err *err)
{
    int rc = HTH_OK;

    for (uint32_t r = 1; r < s->ranks && rc == HTH_OK; r++) {
        uint32_t both = 0;

        for (uint32_t q = 1; q < s->ranks; q++) {
            bool direct = q != r && (bits[r] >> q & 1) && (bits[q] >> r & 1);

            s->view.pair[r][q].direct = direct;
            both |= direct ? 1u << q : 0;
            if (!direct && q > r)
                hth_log(HTH_LOG_NOTICE, "RELAYED",
                        "devices %s and %s have no link: what they exchange "
                        "in long prompts goes by the coordinator",
                        hth_link_peer(s->link[r])->name,
                        hth_link_peer(s->link[q])->name);
        }
        hth_buf_reset(&s->buf);
        hth_split_put_kind(&s->buf, HTH_SPLIT_KEEP);
        hth_split_put_bits(&s->buf, both);
        rc = tell(s, r, err);
    }
    return rc;
}

/* ---- measuring links
 * ------------------------------------------------------------ */

#define PING_SMALL 8u
#define PING_TRIES 4u
#define RATE_MIN \
    1e4 /* bytes per second: below, a measurement is believed less */
#define RATE_MAX 50e9

static int ping(struct hth_split *s, uint32_t rank, size_t bytes,
                uint64_t *took_ns, struct hth_err *err)
{
    uint8_t got[HTH_SPLIT_BYTES_MAX];
    uint8_t *p = calloc(1, bytes);
    uint64_t t0 = hth_now_ns();
    size_t n;
    int rc;

    if (p == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory");
    hth_store_u32(p, HTH_SPLIT_PING);
    rc = hth_link_send(s->link[rank], HTH_TAG_STEP, p, bytes,
                       HTH_STEP_DEADLINE_MS);
    rc =
        rc == HTH_OK ? hear(s, rank, got, &n, err) : failed(s->link[rank], err);
    *took_ns = hth_now_ns() - t0;
    free(p);
    return rc;
}

/* The best of some small ones is the latency there and back; what a large one
 * takes longer is its bytes. */
static int measure_link(struct hth_split *s, uint32_t rank, size_t large,
                        struct hth_err *err)
{
    uint64_t best[2] = {UINT64_MAX, UINT64_MAX}, took;
    struct hth_split_pair *p = &s->view.pair[0][rank];
    double extra;

    for (uint32_t i = 0; i < PING_TRIES; i++)
        for (uint32_t k = 0; k < 2; k++) {
            int rc = ping(s, rank, k == 0 ? PING_SMALL : large, &took, err);

            if (rc != HTH_OK)
                return rc;
            best[k] = took < best[k] ? took : best[k];
        }
    extra = best[1] > best[0] ? (double)(best[1] - best[0]) * 1e-9 : 1e-9;
    p->alpha_s = (double)best[0] * 0.5e-9;
    p->bytes_per_s = (double)large / extra;
    if (p->bytes_per_s < RATE_MIN)
        p->bytes_per_s = RATE_MIN;
    if (p->bytes_per_s > RATE_MAX)
        p->bytes_per_s = RATE_MAX;
    p->direct = true;
    s->view.pair[rank][0] = *p;
    return HTH_OK;
}

static int measure_links(struct hth_split *s, struct hth_err *err)
{
    size_t large = 4ull * s->session->rows_max * s->session->spec.dim;
    int rc = HTH_OK;

    if (large > 1u << 19)
        large = 1u << 19;
    for (uint32_t r = 1; r < s->ranks && rc == HTH_OK; r++)
        rc = measure_link(s, r, large, err);
    for (uint32_t r = 1; r < s->ranks && rc == HTH_OK; r++)
        hth_log(HTH_LOG_INFO, "LINK-MEASURED",
                "device=%s alpha_us=%.0f mbyte_per_s=%.1f",
                hth_link_peer(s->link[r])->name,
                s->view.pair[0][r].alpha_s * 1e6,
                s->view.pair[0][r].bytes_per_s * 1e-6);
    return rc;
}

int hth_split_meet(struct hth_split *s, struct hth_err *err)
{
    struct hth_split_dial *dial = calloc(1, sizeof *dial);
    uint32_t bits[HTH_RANKS_MAX] = {0};
    int rc = dial == NULL ? hth_fail(err, HTH_ENOMEM, "no memory") : HTH_OK;

    memset(&s->view, 0, sizeof s->view);
    if (rc == HTH_OK) {
        dial->ranks = s->ranks;
        dial->meeting = hth_now_ns();
        rc = ask_met(s, dial, err);
    }
    if (rc == HTH_OK)
        rc = ask_linked(s, dial, bits, err);
    if (rc == HTH_OK)
        rc = tell_keep(s, bits, err);
    if (rc == HTH_OK)
        rc = measure_links(s, err);
    if (rc == HTH_OK)
        rc = hth__split_open_links(s, err);
    free(dial);
    s->met = rc == HTH_OK;
    return rc;
}
