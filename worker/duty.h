/* duty.h - what a device does for its coordinator at the moment: fetch the
 * blocks of a shard, open the rank, link up, serve steps, link up again.
 *
 * Owns: one thread for that, the open rank, the link while it lives. Weights
 * stay in memory over lost links and over sessions that differ in their
 * number only. Threads: load, unload and close from one controlling thread;
 * report from any. load and unload wait for the former duty to stop: at most
 * one link handshake or one block. Failure: a duty that cannot go on says so
 * in its report and waits to be replaced. */
#ifndef HTH_WORKER_DUTY_H
#define HTH_WORKER_DUTY_H

#include <stdint.h>

#include "base/status.h"
#include "net/message.h"
#include "worker/store.h"
#include "worker/uplink.h"

struct hth_duty;

/* All borrowed for life. */
struct hth_duty_opts {
    struct hth_uplink *uplink;
    struct hth_store *store;
    uint64_t store_limit_bytes; /* of store */
    const struct hth_identity *identity;
    const char *host; /* of the coordinator's data port */
    const char *name; /* of this device */
    uint32_t threads;
    uint64_t memory_bytes;
    const char *kv_dir; /* NULL: contexts are not kept */
    /* The state changed; any thread, must not block. */
    void (*changed)(void *ctx);
    void *ctx;
};

HTH_MUST_CHECK int hth_duty_open(struct hth_duty **out,
                                 const struct hth_duty_opts *opts,
                                 struct hth_err *err);
void hth_duty_close(struct hth_duty *d); /* NULL is fine */

/* Take up a LOAD command; the same one again changes nothing. Errors:
 * HTH_EFORMAT (a malformed setup), HTH_ENOMEM; later ones are reported. */
HTH_MUST_CHECK int hth_duty_load(struct hth_duty *d,
                                 const struct hth_msg_command *cmd,
                                 struct hth_err *err);
/* Stop and give the memory back. */
void hth_duty_unload(struct hth_duty *d);

/* Fill a report; memory_bytes is left to the caller. */
void hth_duty_report(struct hth_duty *d, struct hth_msg_report *out);

#endif
