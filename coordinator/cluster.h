/* cluster.h - the coordinator: one model held over a set of devices.
 *
 * Owns: the listeners (data and pairing port, control port, local socket),
 * the membership of devices, the session (plan, weights sent, links, engine)
 * and the queue of requests. A loop thread of its own owns that state; the
 * calls below may come from any thread unless they say otherwise.
 * Refuses: to die of a device or a client. A lost device ends the requests in
 * flight with one sentence each, and the session is formed again.
 * Clients, in this process too, talk through coordinator/client.h with
 * hth_cluster_url(). */
#ifndef HTH_COORDINATOR_CLUSTER_H
#define HTH_COORDINATOR_CLUSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"
#include "base/limits.h"
#include "base/status.h"

#define HTH_PORT_DEFAULT 47470u

struct hth_cluster;

/* The HTTP service (coordinator/api.h). Texts are borrowed for the cluster's
 * life. */
struct hth_cluster_http {
    const char *bind; /* NULL: 127.0.0.1 */
    uint16_t port;    /* 0: any free one, see hth_cluster_http_port() */
    const char *tls_cert_path, *tls_key_path; /* both, or none */
    const char *const *keys;                  /* [key_count] */
    uint32_t key_count;
    const char *const *origins; /* [origin_count] */
    uint32_t origin_count;
    uint32_t timeout_ms; /* of one request; 0: none */
    const char *alias;   /* the model's name for clients; NULL: the file's */
    bool any_model;
};

struct hth_cluster_opts {
    const char *model_path;
    const char *kv_dir;    /* contexts on disk; borrowed for life; NULL: none */
    const char *bind;      /* address to listen on; NULL: every address */
    uint16_t port;         /* data and pairing; control is port + 1.
                              0: a free pair, see hth_cluster_port() */
    bool offline;          /* no network at all, rank 0 alone: shares "1" */
    uint32_t threads;      /* 0: one per usable core */
    uint64_t memory_bytes; /* weights and KV of rank 0; 0: what is free */
    bool no_compute;       /* rank 0 gets no share (with automatic shares) */
    double shares[HTH_RANKS_MAX]; /* [share_count], rank 0 first */
    uint32_t share_count;         /* 0: automatic */
    uint32_t wire;                /* enum hth_wire (net/star.h) */
    uint32_t prefill; /* enum hth_prefill_mode (scheduler/spread.h) */
    uint32_t kv_type; /* HTH_F16, HTH_F32 or HTH_Q8_0 */
    uint32_t ctx;     /* positions of one sequence; 0: the model's, bounded */
    uint32_t parallel_max; /* requests that run at a time; 0: all there can */
    uint32_t waiting_max;  /* beside them, before clients are told to come
                              back later; 0: HTH_REQUESTS_MAX */
    const char *state_dir; /* certificates, devices, order, socket; made 0700
                              if missing. NULL only when offline */
    const char *store_dir; /* where weights that do not fit are kept for
                              streaming; NULL: they must fit */
    const char *name;      /* this device's name; NULL: the host name */
    uint32_t wait_ms;      /* how long a request waits for devices; 0: 60 s */
    uint32_t grace_ms;     /* how long a lost device is waited for before
                              automatic shares do without it; 0: 10 s */
    /* LoRA adapters (docs/lora.md). */
    const char *const *loras; /* [lora_count] "[NAME=]FILE[:SCALE]" */
    uint32_t lora_count;
    const char *lora_dir; /* may be loaded from by request; NULL: none may */
    uint32_t loras_max;   /* 0: HTH_LORAS_MAX */
    uint64_t lora_bytes;  /* set aside on each device; 0: as much as `loras`
                             take, or 256 MiB with lora_dir */
    const char *profile_path; /* worker/profile.h, borrowed for the opening;
                                 NULL: the machine is measured */
    bool progress;            /* lines about transfers on stderr */
    const struct hth_cluster_http *http; /* copied; NULL: no HTTP */
};

/* Open the model, listen, start. Returns when clients can connect, which is
 * before devices have joined. On 0 *out is the caller's (hth_cluster_close).
 * Blocks for the reading of the GGUF's directory only. Errors: those of
 * hth_gguf_open(), HTH_EBUSY (port, or the state directory in use), HTH_EIO,
 * HTH_EUSAGE. */
HTH_MUST_CHECK int hth_cluster_open(struct hth_cluster **out,
                                    const struct hth_cluster_opts *opts,
                                    struct hth_err *err);

/* Tell workers, end requests with a sentence, stop every thread. Returns
 * within about a second. NULL is fine. */
void hth_cluster_close(struct hth_cluster *c);

/* Wait until the session is ready. HTH_ETIMEDOUT: the text says for which
 * devices it waits and why; other codes: the session cannot be formed at all
 * (does not fit, cannot read). timeout_ms 0 only looks. */
HTH_MUST_CHECK int hth_cluster_wait_ready(struct hth_cluster *c,
                                          uint32_t timeout_ms,
                                          struct hth_err *err);

uint16_t hth_cluster_http_port(const struct hth_cluster *c); /* 0: none */
uint16_t hth_cluster_port(const struct hth_cluster *c);   /* 0 when offline */
const char *hth_cluster_url(const struct hth_cluster *c); /* for client.h */

struct hth_cluster_code {
    char code[16]; /* XXXX-XXXX */
    char host[64]; /* an address of this machine workers can reach */
    uint16_t port;
    uint32_t expires_s; /* from now */
};
/* A new single-use pairing code. HTH_EUNSUPPORTED when offline. */
HTH_MUST_CHECK int hth_cluster_pair_code(struct hth_cluster *c,
                                         struct hth_cluster_code *out,
                                         struct hth_err *err);

/* Append what `serve` prints first: version, model, shape, addresses. Lines,
 * no colours. */
void hth_cluster_describe(struct hth_cluster *c, struct hth_buf *out);

/* Why the session ended for good, if it did (HTH_OK otherwise): for serve's
 * exit code. Lost devices are no reason. */
int hth_cluster_failed(struct hth_cluster *c, struct hth_err *err);

/* One row of logits at a time, in order: position, [vocab] f32, borrowed for
 * the call. Runs on the engine's thread; nonzero stops and is returned. */
typedef int (*hth_logits_sink)(void *ctx, uint32_t position,
                               const float *logits, uint32_t vocab);

struct hth_logits_opts {
    const uint32_t *tokens; /* [count], borrowed for the call */
    uint32_t count;
    uint32_t first; /* rows before this position are not delivered */
    hth_logits_sink sink;
    void *ctx;
};
/* Run tokens as one sequence from position 0 and deliver the logits of every
 * position >= first. Blocks until done; the session must be ready
 * (hth_cluster_wait_ready). Errors: HTH_EPEER with the device's name,
 * HTH_EINVAL (a token outside of the vocabulary), HTH_ELIMIT (longer than
 * ctx). */
HTH_MUST_CHECK int hth_cluster_logits(struct hth_cluster *c,
                                      const struct hth_logits_opts *opts,
                                      struct hth_err *err);

#endif
