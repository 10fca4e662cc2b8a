/* engine_queue.c - which requests run: fair turns, priorities, deadlines, and
 * room in the KV cache.
 *
 * A request is given room for its prompt and a little more, not for all it
 * might generate: most stop early, and reserving whole contexts would let one
 * run at a time. One that outgrows its room gets more; where there is none,
 * the request that began last is put back into the queue with what it has
 * generated, and goes on from there later (what it computed stays in the
 * prefix cache as long as nobody needs the blocks). The one that began first
 * is never put back, so somebody always finishes. */
#include "base/clock.h"
#include "coordinator/engine_internal.h"

struct hth_task *hth_engine__head(struct hth_engine *e)
{
    struct hth_task *t;

    pthread_mutex_lock(&e->lock);
    t = e->tasks;
    pthread_mutex_unlock(&e->lock);
    return t;
}

struct hth_task *hth_engine__after(struct hth_engine *e, struct hth_task *t)
{
    struct hth_task *next;

    pthread_mutex_lock(&e->lock);
    next = t->next;
    pthread_mutex_unlock(&e->lock);
    return next;
}

/* ---- room -----------------------------------------------------------------
 */

uint32_t hth_engine__need(const struct hth_engine *e, const struct hth_task *t)
{
    uint32_t all = t->r.count + t->r.generate_max;
    uint32_t need = (t->pos > t->feed ? t->pos : t->feed) + e->o.room_ahead;

    need = need < all ? need : all;
    need += HTH_KV_BLOCK_POSITIONS - 1;
    return need - need % HTH_KV_BLOCK_POSITIONS;
}

static struct hth_task *youngest(struct hth_engine *e)
{
    struct hth_task *t, *last = NULL;

    for (t = hth_engine__head(e); t != NULL; t = hth_engine__after(e, t))
        if (t->running && (last == NULL || t->turn > last->turn))
            last = t;
    return last;
}

/* Back into the queue, in front of what has not begun. */
static void put_back(struct hth_engine *e, struct hth_task *t)
{
    hth_engine__leave(e, t);
    t->running = false;
    e->running--;
    t->feed = t->r.count + t->stats.generated_tokens;
    t->pos = 0;
    t->tag = -1;
    t->need = hth_engine__need(e, t);
    t->stats.put_back++;
}

/* Room for the next row of a request; false: it was put back itself. */
static bool make_room(struct hth_engine *e, struct hth_task *t)
{
    uint32_t max = hth_rank_session(e->rank)->kv_positions_max, more;
    struct hth_task *last;

    while (t->pos + 1 > t->need) {
        more = hth_engine__need(e, t) - t->need;
        last = youngest(e);
        if (e->positions_used + more <= max || e->running == 1) {
            t->need += more;
            e->positions_used += more;
            return true;
        }
        put_back(e, last);
        if (last == t)
            return false;
    }
    return true;
}

void hth_engine_queue(struct hth_engine *e, uint32_t *running,
                      uint32_t *waiting)
{
    pthread_mutex_lock(&e->lock);
    *running = atomic_load(&e->running);
    *waiting = e->task_count > *running ? e->task_count - *running : 0;
    pthread_mutex_unlock(&e->lock);
}

/* ---- turns ----------------------------------------------------------------
 */

static bool start_task(struct hth_engine *e, struct hth_task *t)
{
    const struct hth_forward_times *f =
        hth_forward_times(hth_rank_forward(e->rank));

    if (e->running >= e->o.parallel_max || !hth_engine__place(e, t))
        return false;
    t->running = true;
    t->turn = ++e->turns;
    e->running++;
    pthread_mutex_lock(&e->lock);
    hth_fair_begun(&e->fair, t->tag);
    pthread_mutex_unlock(&e->lock);
    if (t->started_ns != 0)
        return true;
    t->started_ns = hth_now_ns();
    t->compute0_ns = f->compute_ns;
    t->reduce0_ns = f->reduce_ns;
    hth_engine__traffic(e, &t->sent0, &t->received0);
    return true;
}

static bool goes_before(const struct hth_task *a, const struct hth_task *b)
{
    if (a->r.priority != b->r.priority)
        return a->r.priority > b->r.priority;
    return a->tag < b->tag || (!(b->tag < a->tag) && a->id < b->id);
}

static struct hth_task *next_waiting(struct hth_engine *e)
{
    struct hth_task *t, *best = NULL;

    for (t = hth_engine__head(e); t != NULL; t = hth_engine__after(e, t))
        if (!t->running && (best == NULL || goes_before(t, best)))
            best = t;
    return best;
}

/* One that came after the clock was read has waited for no time. */
static bool too_late(const struct hth_task *t, uint64_t now_ns)
{
    return t->r.deadline_ms > 0 && now_ns > t->submitted_ns &&
           now_ns - t->submitted_ns >= t->r.deadline_ms * 1000000ull;
}

static bool end_if_over(struct hth_engine *e, struct hth_task *t,
                        uint64_t now_ns)
{
    struct hth_err err;
    int status;

    if (atomic_load(&t->cancelled))
        status = hth_fail(&err, HTH_ECANCELLED, "the request was cancelled");
    else if (too_late(t, now_ns))
        status = hth_fail(&err, HTH_ETIMEDOUT,
                          "the request was not done within its %u s",
                          (t->r.deadline_ms + 999) / 1000);
    else
        return false;
    hth_engine__end_task(e, t, status, &err);
    return true;
}

/* Whoever is next by turn waits until there is room for it, and others wait
 * behind it: a large request is not overtaken for ever by small ones. */
void hth_engine__admit(struct hth_engine *e)
{
    uint64_t now_ns = hth_now_ns();
    struct hth_task *t, *next;

    for (t = hth_engine__head(e); t != NULL; t = next) {
        next = hth_engine__after(e, t);
        (void)end_if_over(e, t, now_ns);
    }
    for (t = hth_engine__head(e); t != NULL; t = hth_engine__after(e, t))
        if (t->running && t->pos >= t->feed)
            (void)make_room(e, t);
    do
        t = next_waiting(e);
    while (t != NULL && start_task(e, t));
}

/* ---- prompts' share of a step ---------------------------------------------
 */

static bool reads_prompt(const struct hth_task *t)
{
    return t->running && t->pos < t->feed;
}

static uint32_t rest(const struct hth_task *t)
{
    return t->feed - t->pos;
}

/* Rows for the prompts that are long (more than long_min to go), or for the
 * others: each as much, what is left to those that came first. Of similar
 * prompts none is hurried, for where one is answered the others are read at
 * the pace of that. Returns what remains of rows. */
static uint32_t deal(struct hth_engine *e, uint32_t long_min, bool long_ones,
                     uint32_t rows)
{
    uint32_t prompts = 0, each, n;
    struct hth_task *t;

    for (t = hth_engine__head(e); t != NULL; t = hth_engine__after(e, t))
        prompts += reads_prompt(t) && (rest(t) > long_min) == long_ones;
    each = prompts > 0 ? rows / prompts : 0;
    for (uint32_t pass = 0; pass < 2; pass++)
        for (t = hth_engine__head(e); t != NULL; t = hth_engine__after(e, t)) {
            if (!reads_prompt(t) || (rest(t) > long_min) != long_ones)
                continue;
            n = rest(t) - t->allot;
            n = pass == 0 && n > each ? each : n;
            n = n < rows ? n : rows;
            t->allot += n;
            rows -= n;
        }
    return rows;
}

/* The prompts of a step. Those with more than long_min rows to go are long. */
struct waiting {
    uint32_t prompts, rows, short_rows, long_min;
};

static struct waiting look(struct hth_engine *e)
{
    uint32_t least = UINT32_MAX;
    struct waiting w = {0};
    struct hth_task *t;

    for (t = hth_engine__head(e); t != NULL; t = hth_engine__after(e, t)) {
        t->allot = 0;
        if (!reads_prompt(t))
            continue;
        w.prompts++;
        w.rows += rest(t);
        least = rest(t) < least ? rest(t) : least;
    }
    least = least < HTH_PACE_BURST_ROWS / 4 ? HTH_PACE_BURST_ROWS / 4 : least;
    w.long_min = least < UINT32_MAX / 4 ? 4 * least : UINT32_MAX;
    for (t = hth_engine__head(e); t != NULL; t = hth_engine__after(e, t))
        if (reads_prompt(t) && rest(t) <= w.long_min)
            w.short_rows += rest(t);
    return w;
}

/* Rows of the prompts in this step, dealt out: short ones first, which delays
 * a long one little; but at every HTH_LONG_EVERY-th deal the long ones, so
 * that a stream of short ones does not keep them for ever. Beside others a
 * long prompt fills a step up to a burst only, for they get their first tokens
 * at the step's end. Where others decode the pace is asked for the short ones'
 * rows alone: they need not save up for a chunk of the size that suits a long
 * prompt. */
void hth_engine__allot(struct hth_engine *e, uint32_t decodes)
{
    uint32_t room = hth_rank_session(e->rank)->rows_max - e->step.rows, rows;
    bool long_first = (e->deals + 1) % HTH_LONG_EVERY == 0;
    struct waiting w = look(e);

    if (w.prompts > 1 && room > HTH_PACE_BURST_ROWS)
        room = HTH_PACE_BURST_ROWS;
    rows =
        decodes > 0 && w.short_rows > 0 && !long_first ? w.short_rows : w.rows;
    rows = hth_pace_rows(&e->pace, decodes, rows < room ? rows : room);
    if (rows == 0)
        return;
    e->deals++;
    rows = deal(e, w.long_min, long_first, rows);
    (void)deal(e, w.long_min, !long_first, rows);
}
