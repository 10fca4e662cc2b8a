/* fetch.c - a ring of chunk requests. Requests are made in shard order and
 * answers taken in the same order; a partial file is only ever appended to.
 * Any failure suspends the open partial files, which the next run resumes. */
#include "worker/fetch.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

#define BUSY_WAIT_MS 200u
#define HASH_TRIES 2u

/* One request under way, or one block boundary (length 0). */
struct flight {
    struct hth_uplink_slot slot;
    struct hth_store_part *part;
    uint32_t block;
    uint64_t offset;
    uint32_t length;
    bool last; /* of its block */
};

struct run {
    struct hth_fetch *f;
    struct flight ring[HTH_CHUNKS_IN_FLIGHT];
    uint32_t head, used; /* oldest, number under way */
    /* The block requests are being made for. */
    struct hth_store_part *part; /* NULL: take the next block */
    uint32_t block;
    uint64_t offset;
    struct hth_buf ask;
};

static bool stopped(const struct run *r)
{
    return atomic_load(r->f->stop);
}

static int send_chunk(struct run *r, struct flight *fl, struct hth_err *err)
{
    struct hth_msg m = {.type = HTH_MSG_CHUNK};

    memcpy(m.u.chunk.hash, r->f->keys[fl->block].hash, HTH_HASH_BYTES);
    m.u.chunk.offset = fl->offset;
    m.u.chunk.length = fl->length;
    hth_buf_reset(&r->ask);
    hth_msg_encode(&r->ask, &m);
    return hth_control_send(fl->slot.control, &r->ask, HTH_CLIENT_CALL_MS, err);
}

/* Begin the next block that is not here yet; r->part stays NULL at the end.
 * A block somebody else is receiving is waited for, bounded by stop. */
static int next_block(struct run *r, struct hth_err *err)
{
    struct hth_fetch *f = r->f;
    const struct hth_store_key *key;
    int status;

    while (r->block < f->count && !stopped(r)) {
        key = &f->keys[r->block];
        if (key->bytes == 0 || hth_store_has(f->store, key)) {
            atomic_fetch_add(&f->done_bytes, key->bytes);
            r->block++;
            continue;
        }
        status = hth_store_begin(f->store, key, &r->part, &r->offset, err);
        if (status != HTH_EBUSY) {
            if (status == HTH_OK)
                atomic_fetch_add(&f->done_bytes, r->offset);
            return status;
        }
        if (r->used > 0)
            return HTH_OK; /* first take what is under way */
        hth_sleep_ms(BUSY_WAIT_MS);
    }
    return stopped(r) ? hth_fail(err, HTH_ECANCELLED, "stopped") : HTH_OK;
}

/* Fill the ring. A partial file that is complete already (a crash between the
 * last byte and the rename) is committed without a request. */
static int fill(struct run *r, struct hth_err *err)
{
    struct flight *fl;
    uint64_t left;
    int status;

    while (r->used < HTH_CHUNKS_IN_FLIGHT) {
        if (r->part == NULL && (status = next_block(r, err)) != HTH_OK)
            return status;
        if (r->part == NULL)
            return HTH_OK;
        left = r->f->keys[r->block].bytes - r->offset;
        fl = &r->ring[(r->head + r->used) % HTH_CHUNKS_IN_FLIGHT];
        fl->part = r->part;
        fl->block = r->block;
        fl->offset = r->offset;
        fl->length = left < HTH_CHUNK_BYTES ? (uint32_t)left : HTH_CHUNK_BYTES;
        fl->last = fl->length == left;
        r->used++;
        r->offset += fl->length;
        if (fl->last) {
            r->part = NULL;
            r->block++;
        }
        if (fl->length > 0 && (status = send_chunk(r, fl, err)) != HTH_OK)
            return status;
    }
    return HTH_OK;
}

/* The answer to one chunk, asked for again as often as the coordinator is
 * away or does not know the connection. */
static int await(struct run *r, struct flight *fl, struct hth_blob *out,
                 struct hth_err *err)
{
    struct hth_blob body;
    struct hth_msg m;
    int status;

    for (;;) {
        if (stopped(r))
            return hth_fail(err, HTH_ECANCELLED, "stopped");
        status = hth_control_wait(fl->slot.control, &body, err);
        if (status == HTH_OK)
            status = hth_msg_decode(&m, body.p, body.n, err);
        if (status == HTH_OK && m.type == HTH_MSG_DATA &&
            m.u.data.bytes.n == fl->length) {
            *out = m.u.data.bytes;
            return HTH_OK;
        }
        if (status == HTH_OK && m.type == HTH_MSG_ERROR)
            return hth_fail(err, m.u.error.status, "%s", m.u.error.text);
        if (status == HTH_OK && m.type == HTH_MSG_WHO)
            status = hth_uplink_hello(r->f->uplink, err);
        else if (status == HTH_OK)
            return hth_fail(err, HTH_EPROTO, "a chunk was answered by %s",
                            hth_msg_type_text(m.type));
        if (status != HTH_OK && status != HTH_ETIMEDOUT)
            return status;
        if ((status = send_chunk(r, fl, err)) != HTH_OK)
            return status;
    }
}

/* Take the oldest answer and put it into the store. */
static int take(struct run *r, struct hth_err *err)
{
    struct flight *fl = &r->ring[r->head];
    struct hth_blob data = {0};
    int status;

    if (fl->length > 0 && (status = await(r, fl, &data, err)) != HTH_OK)
        return status;
    if (data.n > 0 &&
        (status = hth_store_append(fl->part, data.p, data.n, err)) != HTH_OK)
        return status;
    atomic_fetch_add(&r->f->done_bytes, data.n);
    atomic_fetch_add(&r->f->fetched_bytes, data.n);
    r->head = (r->head + 1) % HTH_CHUNKS_IN_FLIGHT;
    r->used--;
    if (!fl->last)
        return HTH_OK;
    status = hth_store_commit(fl->part, err);
    if (status != HTH_OK)
        hth_fail_prefix(err, status, "block %u of %u", fl->block + 1,
                        r->f->count);
    return status;
}

/* Each open part once: several flights may share one, and the one requests
 * are being made for may have none under way. */
static void suspend_parts(struct run *r)
{
    struct hth_store_part *last = NULL;
    struct flight *fl;
    uint32_t i;

    for (i = 0; i < r->used; i++) {
        fl = &r->ring[(r->head + i) % HTH_CHUNKS_IN_FLIGHT];
        if (fl->part != last)
            hth_store_suspend(fl->part);
        last = fl->part;
    }
    if (r->part != last)
        hth_store_suspend(r->part);
}

static int run_once(struct hth_fetch *f, struct hth_err *err)
{
    struct run *r = calloc(1, sizeof *r);
    int status = HTH_OK;
    uint32_t i;

    if (r == NULL)
        return hth_fail(err, HTH_ENOMEM, "fetch: out of memory");
    r->f = f;
    hth_buf_init(&r->ask, 4096);
    atomic_store(&f->done_bytes, 0);
    for (i = 0; i < HTH_CHUNKS_IN_FLIGHT && status == HTH_OK; i++)
        status = hth_uplink_slot_init(&r->ring[i].slot, f->uplink, err);
    while (status == HTH_OK) {
        status = fill(r, err);
        if (status != HTH_OK ||
            (r->used == 0 && r->part == NULL && r->block == f->count))
            break;
        if (r->used > 0)
            status = take(r, err);
    }
    suspend_parts(r);
    for (i = 0; i < HTH_CHUNKS_IN_FLIGHT; i++)
        hth_uplink_slot_fini(&r->ring[i].slot);
    hth_buf_fini(&r->ask);
    free(r);
    return status;
}

/* Pin first, so that making room spares what is here already; then count what
 * is missing. */
static int prepare(struct hth_fetch *f, struct hth_err *err)
{
    uint64_t total = 0, missing = 0;
    uint32_t i;
    int status;

    for (i = 0; i < f->count; i++) {
        total += f->keys[i].bytes;
        if (f->keys[i].bytes > 0 && !hth_store_has(f->store, &f->keys[i]))
            missing += f->keys[i].bytes;
    }
    atomic_store(&f->total_bytes, total);
    if ((status = hth_store_pin(f->store, f->keys, f->count, err)) != HTH_OK)
        return status;
    return missing > 0 ? hth_store_make_room(f->store, missing, err) : HTH_OK;
}

int hth_fetch_run(struct hth_fetch *f, struct hth_err *err)
{
    uint32_t tries;
    int status;

    if ((status = prepare(f, err)) != HTH_OK)
        return status;
    for (tries = 1;; tries++) {
        status = run_once(f, err);
        if (status != HTH_EHASH || tries == HASH_TRIES)
            return status;
        hth_log(HTH_LOG_WARN, "FETCH-AGAIN", "%s; asking once more",
                err != NULL ? err->text : "a block was wrong");
    }
}
