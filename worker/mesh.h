/* mesh.h - links between workers, so that what they exchange need not pass
 * rank 0.
 *
 * A worker listens on a port of its own; when the coordinator has said who has
 * which address, the rank with the higher number dials the lower one. Opening
 * is that of every data link: mutual TLS with the cluster's certificates, and
 * both sides check that the other is the device that was given the rank. A
 * pair that cannot reach each other goes by rank 0 (worker/peer_link.h).
 *
 * Threads: one, plus the listener's inside. Failure: no link, which is said in
 * the log and is no error. */
#ifndef HTH_WORKER_MESH_H
#define HTH_WORKER_MESH_H

#include <stdint.h>

#include "net/link.h"

struct hth_mesh;

struct hth_mesh_opts {
    const struct hth_identity *identity; /* borrowed for life */
    const char *name;                    /* borrowed for life */
    uint32_t rank;
};

/* Listen on any free port. */
HTH_MUST_CHECK int hth_mesh_open(struct hth_mesh **out,
                                 const struct hth_mesh_opts *opts,
                                 struct hth_err *err);
void hth_mesh_close(struct hth_mesh *m); /* closes its links; NULL is fine */
uint16_t hth_mesh_port(const struct hth_mesh *m);

struct hth_mesh_peer {
    char device[HTH_DEVICE_ID_SIZE]; /* "": none, do not link */
    char host[HTH_ADDRESS_MAX];
    uint16_t port;
};

/* Link with all ranks >= 1 that have a device: dial those below, wait for those
 * above, for HTH_MESH_MS at most. Returns the ranks there is a link to, as
 * bits. peers: [ranks]. */
#define HTH_MESH_MS 3000u
uint32_t hth_mesh_meet(struct hth_mesh *m, uint64_t meeting,
                       const struct hth_mesh_peer *peers, uint32_t ranks);
/* Keep links to these ranks only: those that the other side has, too. */
void hth_mesh_keep(struct hth_mesh *m, uint32_t ranks_bits);
/* The link to a rank; borrowed; NULL: none. */
struct hth_link *hth_mesh_link(struct hth_mesh *m, uint32_t rank);
/* From any thread: end all links. */
void hth_mesh_shutdown(struct hth_mesh *m);

#endif
