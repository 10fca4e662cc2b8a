/* daemon.h - `hearth worker`: a device that lends its cores and memory.
 *
 * Joins by code once (the certificate then lives in state_dir), connects to
 * the coordinator's control port and stays: fetches the blocks of its slices
 * into the store, runs its rank's steps, reports, and reconnects with backoff
 * whenever the coordinator is away, so start order does not matter.
 * Refuses: to send or keep anything but its own slices.
 * Ends only by the stop flag, a refusal (HTH_EAUTH, HTH_EVERSION) or a local
 * fault (store not writable). */
#ifndef HTH_WORKER_DAEMON_H
#define HTH_WORKER_DAEMON_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct hth_worker_opts {
    const char *host;           /* coordinator's address or name */
    uint16_t port;              /* data and pairing port; control is port + 1 */
    const char *code;           /* pairing code; NULL once paired */
    const char *name;           /* NULL: the host name */
    uint32_t threads;           /* 0: one per usable core */
    uint64_t memory_bytes;      /* weights and KV; 0: what is free */
    const char *store_dir;      /* made if missing; may be shared by workers */
    uint64_t store_limit_bytes; /* 0: no limit */
    bool verify_store;          /* hash every block again before use */
    const char *kv_dir;         /* contexts on disk; NULL: none */
    const char *state_dir;      /* key and certificate; made 0700 if missing */
    const char *profile_path;   /* worker/profile.h; NULL: measured at start */
};

/* Run until *stop is nonzero (looked at every 100 ms at least; may be set by
 * a signal handler). Blocks the calling thread and uses more of its own.
 * HTH_OK: stopped. HTH_EAUTH: wrong code, revoked, replaced by another
 * process with the same identity (text says which). HTH_EVERSION: text says
 * which side to upgrade. HTH_EUNREACHABLE: only when a code was given and
 * pairing could not reach the coordinator for HTH_JOIN_PATIENCE_MS. */
HTH_MUST_CHECK int hth_worker_run(const struct hth_worker_opts *opts,
                                  const volatile sig_atomic_t *stop,
                                  struct hth_err *err);

#endif
