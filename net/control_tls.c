/* control_tls.c - TLS settings, addresses and error codes of control sockets.
 * Translates NNG's codes; fails by status. */
#include "net/control_tls.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"

static int translate(int rv)
{
    switch (rv) {
    case 0:
        return HTH_OK;
    case NNG_ENOMEM:
        return HTH_ENOMEM;
    case NNG_EINVAL:
    case NNG_EADDRINVAL:
        return HTH_EINVAL;
    case NNG_ETIMEDOUT:
        return HTH_ETIMEDOUT;
    case NNG_ECANCELED:
    case NNG_ECLOSED:
        return HTH_ECANCELLED;
    case NNG_EADDRINUSE:
        return HTH_EBUSY;
    case NNG_ECONNREFUSED:
    case NNG_EUNREACHABLE:
        return HTH_EUNREACHABLE;
    case NNG_EPEERAUTH:
    case NNG_ECRYPTO:
        return HTH_EAUTH;
    default:
        return HTH_EIO;
    }
}

int hth__control_fail(struct hth_err *err, int rv, const char *what)
{
    return hth_fail(err, translate(rv), "%s: %s", what, nng_strerror(rv));
}

int hth__control_tls(nng_tls_config **out, nng_tls_mode mode,
                     const struct hth_control_point *point, struct hth_err *err)
{
    const struct hth_identity *id = point->identity;
    nng_tls_config *cfg;
    int rv;

    *out = NULL;
    if (id == NULL)
        return HTH_OK;
    HTH_ASSERT(hth_identity_paired(id));
    if ((rv = nng_tls_config_alloc(&cfg, mode)) != 0)
        return hth__control_fail(err, rv, "control TLS");
    if ((rv = nng_tls_config_ca_chain(cfg, hth_identity_ca_pem(id), NULL)) ||
        (rv = nng_tls_config_own_cert(cfg, hth_identity_cert_pem(id),
                                      hth_identity_key_pem(id), NULL)) ||
        (rv = nng_tls_config_auth_mode(cfg, NNG_TLS_AUTH_MODE_REQUIRED)) ||
        (rv = nng_tls_config_version(cfg, NNG_TLS_1_2, NNG_TLS_1_2))) {
        nng_tls_config_free(cfg);
        return hth_fail(err, HTH_EFORMAT, "control TLS: certificate: %s",
                        nng_strerror(rv));
    }
    /* A device's id is its certificate's name: asking for it by name pins the
     * coordinator, so no other device of the cluster can play it. */
    if (mode == NNG_TLS_MODE_CLIENT)
        (void)nng_tls_config_server_name(cfg, point->expect_id);
    *out = cfg;
    return HTH_OK;
}

/* ---- closing ------------------------------------------------------------ */

/* Once the library has stuck, it stays so: its thread that takes closed things
 * apart waits for ever, and whatever is closed later waits for that thread. */
static atomic_bool stuck;

/* Shared by the closing thread and the one that waits for it; whoever is last
 * frees it. */
struct closer {
    nng_socket socket;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    bool done, abandoned;
};

static void closer_free(struct closer *c)
{
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static void *closer_main(void *arg)
{
    struct closer *c = arg;
    bool abandoned;

    nng_close(c->socket);
    pthread_mutex_lock(&c->lock);
    c->done = true;
    abandoned = c->abandoned;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
    if (abandoned)
        closer_free(c);
    return NULL;
}

static bool closer_wait(struct closer *c)
{
    struct timespec end;
    bool done;
    int rc = 0;

    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += HTH_CLOSE_MS / 1000;
    pthread_mutex_lock(&c->lock);
    while (!c->done && rc != ETIMEDOUT && !atomic_load(&stuck))
        rc = pthread_cond_timedwait(&c->changed, &c->lock, &end);
    done = c->done;
    c->abandoned = !done;
    pthread_mutex_unlock(&c->lock);
    return done;
}

bool hth_control_stuck(void)
{
    return atomic_load(&stuck);
}

bool hth__control_close(nng_socket socket)
{
    struct closer *c = calloc(1, sizeof *c);
    pthread_t thread;

    if (c == NULL)
        return nng_close(socket) == 0;
    c->socket = socket;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    if (pthread_create(&thread, NULL, closer_main, c) != 0) {
        closer_free(c);
        return nng_close(socket) == 0;
    }
    if (!closer_wait(c)) {
        pthread_detach(thread);
        atomic_store(&stuck, true);
        hth_log(HTH_LOG_INFO, "CONTROL-UNCLOSED",
                "a control socket does not close; left to the end of the "
                "process");
        return false;
    }
    pthread_join(thread, NULL);
    closer_free(c);
    return true;
}

int hth_control_tls_url(char *dst, size_t size, const char *host, uint16_t port)
{
    bool v6;
    int n;

    if (host == NULL)
        host = "";
    v6 = strchr(host, ':') != NULL && host[0] != '[';
    n = snprintf(dst, size, "tls+tcp://%s%s%s:%u", v6 ? "[" : "", host,
                 v6 ? "]" : "", port);
    return n > 0 && (size_t)n < size ? HTH_OK : HTH_EINVAL;
}
