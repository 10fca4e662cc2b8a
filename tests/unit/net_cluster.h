/* net_cluster.h - for tests: a CA, a coordinator and devices in a temporary
 * directory, and links between them. Everything asserts on failure. */
#ifndef HTH_TESTS_NET_CLUSTER_H
#define HTH_TESTS_NET_CLUSTER_H

#include "net/identity.h"
#include "net/link.h"
#include "net/link_internal.h"
#include "net/registry.h"

#define TNET_MAX 6u

struct tnet {
    char dir[64];
    struct hth_ca *ca;
    struct hth_registry *registry;     /* the devices, not the coordinator */
    struct hth_identity *id[TNET_MAX]; /* [0] is the coordinator's */
    unsigned count;
};

void tnet_open(struct tnet *t, unsigned count);
void tnet_close(struct tnet *t); /* removes the directory */
/* Path of a file in the directory; one static buffer. */
const char *tnet_path(const struct tnet *t, const char *name);
void tnet_remove_tree(const char *dir);

/* One side of an opening, on a thread of its own. */
struct tnet_side {
    struct hth_link_opts opts;
    int fd;
    bool server;
    struct hth_link *link;
    int status;
    struct hth_err err;
};
/* Run both sides over a socket pair; never asserts. */
void tnet_shake(struct tnet_side side[2]);
/* Links between device a (client, link[0]) and b (server, link[1]). */
void tnet_link(const struct tnet *t, unsigned a, unsigned b,
               struct hth_link *link[2]);
/* A link over fds with known keys and no handshake; cipher 0: plain. */
struct hth_link *tnet_raw(int fd, uint32_t cipher, bool mirror);
void tnet_raw_pair(uint32_t cipher, struct hth_link *link[2]);
/* The keys tnet_raw() uses: [0] what mirror == false sends with. */
void tnet_raw_keys(struct hth_seal_key key[2]);

#endif
