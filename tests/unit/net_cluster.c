/* net_cluster.c - see net_cluster.h. */
#include "net_cluster.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

const char *tnet_path(const struct tnet *t, const char *name)
{
    static char path[256];

    snprintf(path, sizeof path, "%s/%s", t->dir, name);
    return path;
}

void tnet_remove_tree(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;

    if (d == NULL)
        return;
    while ((e = readdir(d)) != NULL) {
        char path[512];
        struct stat st;

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
            tnet_remove_tree(path);
        else
            unlink(path);
    }
    closedir(d);
    rmdir(dir);
}

static void enroll_device(struct tnet *t, unsigned i)
{
    struct hth_device d = {.paired_ms = i};
    struct hth_issued issued;
    struct hth_membership m = {.cert_pem = issued.cert_pem,
                               .ca_pem = hth_ca_pem(t->ca)};
    uint8_t pub[HTH_PUBKEY_MAX];
    size_t n = hth_identity_pubkey(t->id[i], pub);

    cr_assert_eq(hth_ca_sign(t->ca, pub, n, &issued, NULL), 0);
    cr_assert_eq(hth_identity_install(t->id[i], &m, NULL), 0);
    snprintf(d.id, sizeof d.id, "%s", issued.id);
    snprintf(d.serial, sizeof d.serial, "%s", issued.serial);
    snprintf(d.name, sizeof d.name, "device%u", i);
    cr_assert_eq(hth_registry_put(t->registry, &d, NULL), 0);
}

void tnet_open(struct tnet *t, unsigned count)
{
    struct hth_err err = {0};

    memset(t, 0, sizeof *t);
    t->count = count;
    snprintf(t->dir, sizeof t->dir, "/tmp/hearth-net-XXXXXX");
    cr_assert_not_null(mkdtemp(t->dir));
    cr_assert_eq(hth_ca_open(&t->ca, tnet_path(t, "d0"), &err), 0, "%s",
                 err.text);
    cr_assert_eq(
        hth_registry_open(&t->registry, tnet_path(t, "devices.json"), &err), 0);
    for (unsigned i = 0; i < count; i++) {
        char name[16];

        snprintf(name, sizeof name, "d%u", i);
        cr_assert_eq(hth_identity_open(&t->id[i], tnet_path(t, name), &err), 0,
                     "%s", err.text);
        if (i == 0)
            cr_assert_eq(hth_ca_enroll(t->ca, t->id[0], &err), 0);
        else
            enroll_device(t, i);
    }
}

void tnet_close(struct tnet *t)
{
    for (unsigned i = 0; i < t->count; i++)
        hth_identity_close(t->id[i]);
    hth_registry_close(t->registry);
    hth_ca_close(t->ca);
    tnet_remove_tree(t->dir);
}

static void *open_side(void *arg)
{
    struct tnet_side *s = arg;

    s->link = NULL;
    s->status = hth_link_open_fd(&s->link, s->fd, s->server, &s->opts, &s->err);
    return NULL;
}

void tnet_shake(struct tnet_side side[2])
{
    pthread_t thread;
    int fds[2];

    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    for (int i = 0; i < 2; i++) {
        side[i].fd = fds[i];
        side[i].server = i == 1;
        memset(&side[i].err, 0, sizeof side[i].err);
    }
    pthread_create(&thread, NULL, open_side, &side[1]);
    open_side(&side[0]);
    pthread_join(thread, NULL);
}

void tnet_link(const struct tnet *t, unsigned a, unsigned b,
               struct hth_link *link[2])
{
    struct tnet_side s[2] = {
        {.opts = {.identity = t->id[a], .name = "left", .rank = a}},
        {.opts = {.identity = t->id[b], .name = "right", .rank = b}}};

    tnet_shake(s);
    cr_assert_eq(s[0].status, 0, "%s", s[0].err.text);
    cr_assert_eq(s[1].status, 0, "%s", s[1].err.text);
    link[0] = s[0].link;
    link[1] = s[1].link;
}

void tnet_raw_keys(struct hth_seal_key key[2])
{
    for (unsigned k = 0; k < 2; k++) {
        for (unsigned i = 0; i < HTH_KEY_BYTES; i++)
            key[k].key[i] = (uint8_t)(i * 7 + k * 100 + 1);
        for (unsigned i = 0; i < HTH_SALT_BYTES; i++)
            key[k].salt[i] = (uint8_t)(i + k * 50);
    }
}

struct hth_link *tnet_raw(int fd, uint32_t cipher, bool mirror)
{
    struct hth_seal_key key[2];
    struct hth__link_start s = {.fd = fd, .cipher = cipher};
    struct hth_link *l = NULL;

    tnet_raw_keys(key);
    s.send_key = key[mirror];
    s.recv_key = key[!mirror];
    snprintf(s.peer.name, sizeof s.peer.name, "desk");
    snprintf(s.peer.address, sizeof s.peer.address, "here");
    cr_assert_eq(hth__link_create(&l, &s, NULL), 0);
    return l;
}

void tnet_raw_pair(uint32_t cipher, struct hth_link *link[2])
{
    int fds[2];

    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    link[0] = tnet_raw(fds[0], cipher, false);
    link[1] = tnet_raw(fds[1], cipher, true);
}
