/* peer_link.c - the thread that moves a spread prompt's messages. One lock
 * guards the queues; links are touched by the thread alone and without it. */
#include "worker/peer_link.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/limits.h"
#include "model/peers_queue.h"

/* The tag of model/peers.h and who talks to whom, in which job. */
#define TAG_MAGIC 0xbu
#define MAGIC_SHIFT 60u
#define JOB_SHIFT 56u
#define TO_SHIFT 36u
#define FROM_SHIFT 30u
#define RANK_MASK 0x3fu
#define JOB_MASK 0xfu
#define ADDRESS_MASK                                                   \
    (((uint64_t)0xff << JOB_SHIFT) | (uint64_t)RANK_MASK << TO_SHIFT | \
     (uint64_t)RANK_MASK << FROM_SHIFT)

/* Messages of others that rank 0 holds at a time, of each link. */
#define RELAYS_MAX 8u

_Static_assert(HTH_RANKS_MAX <= RANK_MASK + 1, "a rank fits a tag");

/* What a link is doing. */
struct line {
    struct hth_link *link;
    struct hth_peer_msg *sending;
    struct hth_link_msg msg;      /* what is expected on it */
    struct hth_peer_msg *getting; /* where it goes; NULL: thrown away */
    bool stalled;                 /* has what cannot be taken yet */
    uint8_t *bin;                 /* for what is thrown away */
    uint32_t relays;
};

struct relay {
    struct hth_peer_msg m; /* first: freed by this address */
    struct line *line;     /* it came by */
    uint8_t data[];
};

struct hth_peer_links {
    struct hth_peers peers;
    uint32_t rank, ranks;
    struct line line[HTH_RANKS_MAX];
    pthread_t thread;
    bool started;
    int wake_fd;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct hth_peer_queue out[HTH_RANKS_MAX][2];  /* by receiver; [1]: behind */
    struct hth_peer_queue relayed[HTH_RANKS_MAX]; /* by receiver, on rank 0 */
    struct hth_peer_queue in[HTH_RANKS_MAX];      /* by sender */
    uint32_t job;
    size_t message_max;
    bool moving, resting; /* told to, and is */
    bool cancelled, dropped, over, stop;
    struct hth_err err; /* status 0: none */
    struct hth_peer_links_counters counters;
};

/* ---- queues ----------------------------------------------------------------
 */

static uint32_t field(uint64_t tag, uint32_t shift, uint32_t mask)
{
    return (uint32_t)(tag >> shift) & mask;
}

static void wake(struct hth_peer_links *p)
{
    uint64_t one = 1;

    (void)!write(p->wake_fd, &one, sizeof one);
}

/* The line that leads to a rank. */
static struct line *line_to(struct hth_peer_links *p, uint32_t rank)
{
    return p->line[rank].link != NULL ? &p->line[rank] : &p->line[0];
}

/* ---- sending ----------------------------------------------------------------
 */

static bool may_go(const struct hth_peer_msg *m)
{
    return m != NULL && (m->gate == NULL ||
                         (int32_t)(atomic_load(m->gate) - m->gate_at) >= 0);
}

static struct hth_peer_msg *pop(struct hth_peer_queue *q)
{
    struct hth_peer_msg *m = q->first;

    q->first = m->next;
    if (q->first == NULL)
        q->last = NULL;
    return m;
}

/* Other ranks' messages never wait behind rank 0's own: one of those may be
 * held by a gate that opens only when what is relayed has arrived. */
static struct hth_peer_msg *next_relayed(struct hth_peer_links *p,
                                         const struct line *line)
{
    for (uint32_t r = 0; r < p->ranks; r++)
        if (line == &p->line[r] && p->relayed[r].first != NULL)
            return pop(&p->relayed[r]);
    return NULL;
}

/* The next message for a line. What is meant to go behind goes when nothing
 * else waits for that rank. */
static struct hth_peer_msg *next_out(struct hth_peer_links *p,
                                     const struct line *line)
{
    struct hth_peer_msg *m = next_relayed(p, line);

    if (m != NULL)
        return m;
    for (uint32_t level = 0; level < 2; level++)
        for (uint32_t r = 0; r < p->ranks; r++) {
            struct hth_peer_queue *q = p->out[r];

            if (r == p->rank || line_to(p, r) != line)
                continue;
            if (level == 1 && q[0].first != NULL)
                continue;
            if (may_go(q[level].first))
                return pop(&q[level]);
        }
    return NULL;
}

/* A relayed message has its address already. */
static uint64_t wire_tag(const struct hth_peer_links *p,
                         const struct hth_peer_msg *m)
{
    if (m->tag >> MAGIC_SHIFT == TAG_MAGIC)
        return m->tag;
    return m->tag | (uint64_t)TAG_MAGIC << MAGIC_SHIFT |
           (uint64_t)(p->job & JOB_MASK) << JOB_SHIFT |
           (uint64_t)m->peer << TO_SHIFT | (uint64_t)p->rank << FROM_SHIFT;
}

static void sent(struct hth_peer_links *p, struct line *line)
{
    struct hth_peer_msg *m = line->sending;

    line->sending = NULL;
    if (m->tag >> MAGIC_SHIFT == TAG_MAGIC) {
        struct relay *r = (struct relay *)m;

        p->counters.relayed_bytes += m->n;
        r->line->relays--;
        r->line->stalled = false;
        free(r);
        return;
    }
    p->counters.sent_bytes += m->n;
    if (m->done != NULL)
        atomic_fetch_add(m->done, 1);
    pthread_cond_broadcast(&p->changed);
}

/* Give every idle line something to send. True when a line got something. */
static bool feed(struct hth_peer_links *p)
{
    bool fed = false;

    for (uint32_t r = 0; r < p->ranks; r++) {
        struct line *line = &p->line[r];

        if (line->link == NULL)
            continue;
        if (line->sending != NULL && hth_link_sent(line->link))
            sent(p, line);
        if (line->sending != NULL ||
            (line->sending = next_out(p, line)) == NULL)
            continue;
        fed = true;
        /* It fails only where the link has; moving finds that. */
        (void)!hth_link_post(line->link, wire_tag(p, line->sending),
                             line->sending->data, line->sending->n);
    }
    return fed;
}

/* ---- receiving --------------------------------------------------------------
 */

static struct line *line_of(struct hth_peer_links *p, struct hth_link_msg *m)
{
    for (uint32_t r = 0; r < p->ranks; r++)
        if (m == &p->line[r].msg)
            return &p->line[r];
    HTH_ASSERT(false);
    return NULL;
}

static int throw_away(struct line *line, struct hth_link_msg *m)
{
    m->data = line->bin;
    m->max = HTH_FRAME_BYTES_MAX;
    m->skip = true;
    line->getting = NULL;
    return HTH_OK;
}

/* For another rank: keep it until it is sent on. */
static int place_relay(struct hth_peer_links *p, struct line *line,
                       struct hth_link_msg *m)
{
    uint32_t to = field(m->tag, TO_SHIFT, RANK_MASK);
    struct relay *r;

    if (p->rank != 0 || to >= p->ranks || p->line[to].link == NULL ||
        &p->line[to] == line)
        return HTH_EPROTO;
    if (line->relays == RELAYS_MAX) {
        line->stalled = true;
        return HTH_EBUSY;
    }
    r = malloc(sizeof *r + p->message_max);
    if (r == NULL)
        return HTH_ENOMEM;
    *r = (struct relay){.m = {.peer = to, .tag = m->tag}, .line = line};
    r->m.data = r->data;
    line->relays++;
    line->getting = &r->m;
    m->data = r->data;
    m->max = p->message_max;
    return HTH_OK;
}

static int place_own(struct hth_peer_links *p, struct line *line,
                     struct hth_link_msg *m)
{
    uint32_t from = field(m->tag, FROM_SHIFT, RANK_MASK);
    struct hth_peer_msg *want;

    if (from >= p->ranks || from == p->rank || line_to(p, from) != line)
        return HTH_EPROTO;
    want = hth_peer_take(&p->in[from], m->tag & ~ADDRESS_MASK);
    if (want == NULL)
        return p->dropped ? throw_away(line, m) : HTH_EPROTO;
    line->getting = want;
    m->data = want->data;
    m->max = want->n;
    return HTH_OK;
}

/* Half of the numbers are "before now", the other half "after". */
static bool job_before(uint32_t a, uint32_t b)
{
    uint32_t ahead = (b - a) & JOB_MASK;

    return ahead != 0 && ahead <= JOB_MASK / 2;
}

/* The thread, from inside the link. */
static int place(void *ctx, struct hth_link_msg *m)
{
    struct hth_peer_links *p = ctx;
    struct line *line = line_of(p, m);
    uint32_t job = field(m->tag, JOB_SHIFT, JOB_MASK);
    int rc;

    if (m->tag >> MAGIC_SHIFT != TAG_MAGIC)
        return HTH_EPROTO;
    pthread_mutex_lock(&p->lock);
    if (job_before(job, p->job & JOB_MASK)) {
        rc = throw_away(line, m);
    } else if (job != (p->job & JOB_MASK) || !p->moving) {
        line->stalled = true;
        rc = HTH_EBUSY;
    } else if (field(m->tag, TO_SHIFT, RANK_MASK) != p->rank) {
        rc = place_relay(p, line, m);
    } else {
        rc = place_own(p, line, m);
    }
    pthread_mutex_unlock(&p->lock);
    return rc;
}

/* A message is complete. What follows it goes out, then it counts. */
static int got(struct hth_peer_links *p, struct line *line)
{
    struct hth_peer_msg *m = line->getting;

    line->getting = NULL;
    if (m == NULL)
        return HTH_OK;
    if (m->tag >> MAGIC_SHIFT == TAG_MAGIC) {
        m->n = line->msg.n;
        pthread_mutex_lock(&p->lock);
        hth_peer_put(&p->relayed[m->peer], m);
        pthread_mutex_unlock(&p->lock);
        return HTH_OK;
    }
    if (line->msg.n != m->n)
        return HTH_EPROTO;
    if (m->came != NULL)
        m->came(m->ctx, m);
    pthread_mutex_lock(&p->lock);
    p->counters.received_bytes += m->n;
    if (m->then != NULL)
        hth_peer_put(&p->out[m->then->peer][m->then->behind], m->then);
    if (m->done != NULL)
        atomic_fetch_add(m->done, 1);
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    return HTH_OK;
}

static void expect_any(struct hth_peer_links *p, struct line *line)
{
    if (!hth_link_received(line->link))
        return;
    line->msg.place = place;
    line->msg.ctx = p;
    (void)!hth_link_expect(line->link, &line->msg);
}

/* ---- the thread
 * -------------------------------------------------------------- */

static void fail(struct hth_peer_links *p, int status,
                 const struct hth_link *link)
{
    pthread_mutex_lock(&p->lock);
    if (p->err.status == HTH_OK) {
        if (hth_link_error(link)->status != HTH_OK)
            p->err = *hth_link_error(link);
        else
            hth_fail(&p->err, status,
                     "%s sent a message of another length than expected",
                     hth_link_peer(link)->name);
    }
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

/* One look at every line: 1 when anything moved, 0, or a status. */
static int move(struct hth_peer_links *p)
{
    int moved = 0;

    for (uint32_t r = 0; r < p->ranks; r++) {
        struct line *line = &p->line[r];
        int rc;

        if (line->link == NULL)
            continue;
        rc = hth_link_progress(line->link);
        if (rc > 0)
            moved = 1;
        if (rc >= 0 && hth_link_received(line->link)) {
            rc = got(p, line);
            if (rc == HTH_OK && !(r == 0 && p->over && p->rank != 0))
                expect_any(p, line);
            moved = 1;
        }
        if (rc < 0) {
            fail(p, rc, line->link);
            return rc;
        }
    }
    return moved;
}

#define SLEEP_MS 100u /* at most: a look at what a wake-up may have missed */

static void sleep_on(struct hth_peer_links *p)
{
    struct hth_link *wait[HTH_RANKS_MAX];
    uint64_t drained;

    for (uint32_t r = 0; r < p->ranks; r++)
        wait[r] = p->line[r].stalled && p->line[r].sending == NULL
                      ? NULL
                      : p->line[r].link;
    hth_link_sleep(wait, p->ranks, p->wake_fd, SLEEP_MS);
    (void)!read(p->wake_fd, &drained, sizeof drained);
}

/* Nothing is expected any more; a message that has begun to come is thrown
 * away, in the next job if need be. */
static void withdraw(struct hth_peer_links *p)
{
    for (uint32_t r = 0; r < p->ranks; r++) {
        struct line *line = &p->line[r];

        line->stalled = false;
        if (line->link == NULL || hth_link_unexpect(line->link))
            continue;
        if (line->getting != NULL &&
            line->getting->tag >> MAGIC_SHIFT == TAG_MAGIC)
            continue; /* somebody else's: it goes on in the next job */
        throw_away(line, &line->msg);
    }
}

static void work(struct hth_peer_links *p)
{
    bool go = true;

    for (uint32_t r = 0; r < p->ranks; r++)
        if (p->line[r].link != NULL)
            expect_any(p, &p->line[r]);
    while (go) {
        int rc;

        pthread_mutex_lock(&p->lock);
        feed(p);
        go = p->moving && p->err.status == HTH_OK;
        pthread_mutex_unlock(&p->lock);
        rc = go ? move(p) : 0;
        if (rc == 0 && go)
            sleep_on(p);
    }
    withdraw(p);
}

static void *links_main(void *arg)
{
    struct hth_peer_links *p = arg;

    pthread_mutex_lock(&p->lock);
    while (!p->stop) {
        if (!p->moving || p->err.status != HTH_OK) {
            p->resting = true;
            pthread_cond_broadcast(&p->changed);
            pthread_cond_wait(&p->changed, &p->lock);
            continue;
        }
        p->resting = false;
        pthread_mutex_unlock(&p->lock);
        work(p);
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- model/peers.h
 * ------------------------------------------------------------ */

static void links_send(void *ctx, struct hth_peer_msg *m)
{
    struct hth_peer_links *p = ctx;

    pthread_mutex_lock(&p->lock);
    hth_peer_put(&p->out[m->peer][m->behind], m);
    pthread_mutex_unlock(&p->lock);
    wake(p);
}

static void links_expect(void *ctx, struct hth_peer_msg *m)
{
    struct hth_peer_links *p = ctx;

    pthread_mutex_lock(&p->lock);
    hth_peer_put(&p->in[m->peer], m);
    pthread_mutex_unlock(&p->lock);
}

static int links_wait(void *ctx, const hth_peer_count *count, uint32_t least,
                      struct hth_err *err)
{
    struct hth_peer_links *p = ctx;
    int rc = HTH_OK;

    pthread_mutex_lock(&p->lock);
    while (!p->cancelled && p->err.status == HTH_OK &&
           (int32_t)(atomic_load(count) - least) < 0)
        pthread_cond_wait(&p->changed, &p->lock);
    if (p->err.status != HTH_OK) {
        rc = p->err.status;
        if (err != NULL)
            *err = p->err;
    } else if (p->cancelled) {
        rc = hth_fail(err, HTH_ECANCELLED, "the request was cancelled");
    }
    pthread_mutex_unlock(&p->lock);
    return rc;
}

static bool all_sent(const struct hth_peer_links *p)
{
    for (uint32_t r = 0; r < p->ranks; r++)
        if (p->line[r].sending != NULL &&
            p->line[r].sending->tag >> MAGIC_SHIFT != TAG_MAGIC)
            return false;
    return true;
}

static bool relayed(const struct hth_peer_msg *m)
{
    return m->tag >> MAGIC_SHIFT == TAG_MAGIC;
}

static void drop_from(struct hth_peer_queue *q, bool all)
{
    struct hth_peer_msg *m = q->first, *next;

    *q = (struct hth_peer_queue){0};
    for (; m != NULL; m = next) {
        next = m->next;
        if (m->stays && !all)
            hth_peer_put(q, m);
    }
}

/* Messages that rank 0 passes on are others' and stay. */
static void drop_own(struct hth_peer_links *p, bool all)
{
    for (uint32_t r = 0; r < p->ranks; r++) {
        drop_from(&p->out[r][0], all);
        drop_from(&p->out[r][1], all);
        drop_from(&p->in[r], all);
    }
}

/* While the thread rests: what lines hold of ours after a failure. */
static void clear_lines(struct hth_peer_links *p)
{
    for (uint32_t r = 0; r < p->ranks; r++) {
        struct line *line = &p->line[r];

        if (line->sending != NULL && !relayed(line->sending) &&
            p->err.status != HTH_OK)
            line->sending = NULL;
        if (line->getting != NULL && !relayed(line->getting))
            line->getting = NULL;
    }
}

static void stop_moving(struct hth_peer_links *p)
{
    p->moving = false;
    wake(p);
    while (!p->resting)
        pthread_cond_wait(&p->changed, &p->lock);
    clear_lines(p);
}

/* A message that has begun to go must go out whole, or the link is lost; one
 * that has begun to come is thrown away from here on, once the thread is not
 * inside it. */
static void links_drop(void *ctx)
{
    struct hth_peer_links *p = ctx;

    pthread_mutex_lock(&p->lock);
    p->cancelled = p->dropped = true;
    drop_own(p, false);
    wake(p);
    while (!p->resting && p->err.status == HTH_OK && !all_sent(p))
        pthread_cond_wait(&p->changed, &p->lock);
    stop_moving(p);
    p->moving = p->err.status == HTH_OK;
    p->resting = !p->moving;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

/* ---- life
 * --------------------------------------------------------------------- */

struct hth_peers *hth_peer_links_peers(struct hth_peer_links *p)
{
    return &p->peers;
}

static int open_lines(struct hth_peer_links *p,
                      const struct hth_peer_links_opts *o)
{
    for (uint32_t r = 0; r < o->ranks; r++) {
        p->line[r].link = r != o->rank ? o->links[r] : NULL;
        if (p->line[r].link != NULL &&
            (p->line[r].bin = malloc(HTH_FRAME_BYTES_MAX)) == NULL)
            return HTH_ENOMEM;
    }
    return HTH_OK;
}

int hth_peer_links_open(struct hth_peer_links **out,
                        const struct hth_peer_links_opts *o,
                        struct hth_err *err)
{
    struct hth_peer_links *p = calloc(1, sizeof *p);

    if (p == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for messages");
    p->rank = o->rank;
    p->ranks = o->ranks;
    p->peers = (struct hth_peers){.ctx = p,
                                  .rank = o->rank,
                                  .ranks = o->ranks,
                                  .send = links_send,
                                  .expect = links_expect,
                                  .wait = links_wait,
                                  .drop = links_drop};
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->changed, NULL);
    p->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (p->wake_fd >= 0 && open_lines(p, o) == HTH_OK)
        p->started = pthread_create(&p->thread, NULL, links_main, p) == 0;
    if (!p->started) {
        hth_peer_links_close(p);
        return hth_fail(err, HTH_ENOMEM, "cannot start a thread");
    }
    *out = p;
    return HTH_OK;
}

static void free_relays(struct hth_peer_links *p)
{
    for (uint32_t r = 0; r < p->ranks; r++) {
        struct hth_peer_msg *m;

        while (p->relayed[r].first != NULL)
            free(pop(&p->relayed[r]));
        m = p->line[r].sending;
        if (m != NULL && m->tag >> MAGIC_SHIFT == TAG_MAGIC)
            free(m);
        m = p->line[r].getting;
        if (m != NULL && m->tag >> MAGIC_SHIFT == TAG_MAGIC)
            free(m);
        free(p->line[r].bin);
    }
}

void hth_peer_links_close(struct hth_peer_links *p)
{
    if (p == NULL)
        return;
    if (p->started) {
        pthread_mutex_lock(&p->lock);
        p->stop = true;
        p->moving = false;
        pthread_cond_broadcast(&p->changed);
        pthread_mutex_unlock(&p->lock);
        wake(p);
        pthread_join(p->thread, NULL);
    }
    free_relays(p);
    if (p->wake_fd >= 0)
        close(p->wake_fd);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

void hth_peer_links_begin(struct hth_peer_links *p, uint32_t job,
                          size_t message_max)
{
    pthread_mutex_lock(&p->lock);
    HTH_ASSERT(!p->moving);
    p->job = job;
    p->message_max = message_max;
    p->cancelled = p->dropped = p->over = false;
    pthread_mutex_unlock(&p->lock);
}

void hth_peer_links_go(struct hth_peer_links *p)
{
    pthread_mutex_lock(&p->lock);
    p->moving = true;
    p->resting = p->err.status != HTH_OK;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    wake(p);
}

static void set_cancelled(struct hth_peer_links *p, bool cancelled)
{
    pthread_mutex_lock(&p->lock);
    p->cancelled = cancelled;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

void hth_peer_links_cancel(struct hth_peer_links *p)
{
    set_cancelled(p, true);
}

void hth_peer_links_resume(struct hth_peer_links *p)
{
    set_cancelled(p, false);
}

bool hth_peer_links_failed(struct hth_peer_links *p)
{
    bool failed;

    pthread_mutex_lock(&p->lock);
    failed = p->err.status != HTH_OK;
    pthread_mutex_unlock(&p->lock);
    return failed;
}

void hth_peer_links_over(struct hth_peer_links *p)
{
    pthread_mutex_lock(&p->lock);
    p->over = true;
    pthread_mutex_unlock(&p->lock);
}

int hth_peer_links_rest(struct hth_peer_links *p, struct hth_err *err)
{
    int rc;

    pthread_mutex_lock(&p->lock);
    stop_moving(p);
    drop_own(p, true);
    rc = p->err.status;
    if (rc != HTH_OK && err != NULL)
        *err = p->err;
    pthread_mutex_unlock(&p->lock);
    return rc;
}

void hth_peer_links_counters(struct hth_peer_links *p,
                             struct hth_peer_links_counters *out)
{
    pthread_mutex_lock(&p->lock);
    *out = p->counters;
    pthread_mutex_unlock(&p->lock);
}
