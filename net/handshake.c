/* handshake.c - TLS, then hellos (a link) or pairing messages (a new device).
 *
 * A client with a certificate is heard before it is refused, so that it can be
 * told why in a sentence: foreign, revoked, wrong version, not admitted. */
#include "net/handshake.h"

#include <mbedtls/platform_util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/hello.h"
#include "net/link_internal.h"
#include "net/pair_proto.h"
#include "net/socket.h"
#include "net/x509.h"

enum step {
    STEP_TLS,
    STEP_FLUSH_HELLO, /* client */
    STEP_GET_HELLO,
    STEP_FLUSH_REPLY, /* server */
    STEP_GET_PAIRING, /* server, client without certificate */
    STEP_FLUSH_PAIRING,
    STEP_DONE,
    STEP_PAIRED
};

struct hth__shake {
    int fd; /* -1 once a link has it */
    struct hth__shake_opts opts;
    enum step step;
    struct hth__tls *tls;
    struct hth_link_peer peer;
    struct hth__hello ours;
    struct hth__hello theirs;
    struct hth_err refusal; /* server: why not, once the reply is out */
    struct hth__pair_server *pair;
    int pair_result;
};

/* ---- life ---------------------------------------------------------------- */

static int fill_hello(struct hth__hello *h, const struct hth_link_opts *o)
{
    *h = (struct hth__hello){
        .version_min = o->version_min ? o->version_min : HTH__LINK_VERSION_MIN,
        .version_max = o->version_max ? o->version_max : HTH__LINK_VERSION_MAX,
        .ciphers = hth_cipher_set(),
        .rank = o->rank,
        .session = o->session};
    hth_name_clean(h->name, o->name != NULL ? o->name : "");
    return hth__rng(NULL, h->key.key, sizeof h->key.key) == 0 &&
                   hth__rng(NULL, h->key.salt, sizeof h->key.salt) == 0
               ? HTH_OK
               : HTH_EINTERNAL;
}

static int prepare(struct hth__shake *s, struct hth_err *err)
{
    int status = hth__socket_setup(s->fd, err);

    if (status != HTH_OK)
        return status;
    hth__peer_address(s->fd, s->peer.address);
    if (fill_hello(&s->ours, &s->opts.link) != HTH_OK)
        return hth_fail(err, HTH_EINTERNAL, "no random numbers");
    return hth__tls_open(&s->tls, s->fd,
                         s->opts.server ? HTH__TLS_SERVER : HTH__TLS_MEMBER,
                         s->opts.link.identity, err);
}

int hth__shake_open(struct hth__shake **out, const struct hth__shake_opts *opts,
                    struct hth_err *err)
{
    struct hth__shake *s = calloc(1, sizeof *s);
    int status;

    if (s == NULL) {
        close(opts->fd);
        return hth_fail(err, HTH_ENOMEM, "handshake: out of memory");
    }
    s->fd = opts->fd;
    s->opts = *opts;
    status = prepare(s, err);
    if (status != HTH_OK) {
        hth__shake_close(s);
        return status;
    }
    *out = s;
    return HTH_OK;
}

void hth__shake_close(struct hth__shake *s)
{
    if (s == NULL)
        return;
    hth__tls_close(s->tls);
    hth__pair_server_close(s->pair);
    if (s->fd >= 0)
        close(s->fd);
    mbedtls_platform_zeroize(s, sizeof *s);
    free(s);
}

int hth__shake_fd(const struct hth__shake *s)
{
    return s->fd;
}

/* ---- who is there -------------------------------------------------------- */

/* The certificate's checks that TLS does not make: is it the device we want,
 * and does it still belong? */
static int check_peer(struct hth__shake *s, struct hth_err *err)
{
    const struct hth_link_opts *o = &s->opts.link;
    struct hth_cert cert;
    int status = hth__tls_peer(s->tls, &cert, err);

    if (status != HTH_OK)
        return status == HTH_ENOTFOUND
                   ? hth_fail(err, HTH_EAUTH,
                              "it sent no certificate: pair "
                              "it first")
                   : status;
    memcpy(s->peer.id, cert.id, sizeof cert.id);
    s->peer.coordinator = cert.coordinator;
    if (o->expect_id != NULL && strcmp(o->expect_id, cert.id) != 0)
        return hth_fail(err, HTH_EAUTH, "it is device %s, not %s", cert.id,
                        o->expect_id);
    if (o->allowed != NULL && !o->allowed(o->allowed_ctx, cert.id))
        return hth_fail(err, HTH_EAUTH,
                        "device %s was revoked or is unknown: pair it again",
                        cert.id);
    return HTH_OK;
}

static void name_peer(struct hth__shake *s)
{
    hth_name_clean(s->peer.name, s->theirs.name);
    s->peer.rank = s->theirs.rank;
    s->peer.session = s->theirs.session;
}

static int queue(struct hth__shake *s, struct hth_err *err)
{
    struct hth_buf b;
    int status;

    hth_buf_init(&b, HTH_HELLO_BYTES_MAX);
    hth__hello_encode(&s->ours, &b);
    status = b.failed ? hth_fail(err, HTH_ENOMEM, "hello: out of memory")
                      : hth__tls_put(s->tls, b.data, b.len, err);
    if (b.data != NULL)
        mbedtls_platform_zeroize(b.data, b.len);
    hth_buf_fini(&b);
    return status;
}

/* ---- client -------------------------------------------------------------- */

static int client_hello(struct hth__shake *s, struct hth_err *err)
{
    int status = check_peer(s, err);

    if (status == HTH_OK)
        status = queue(s, err);
    s->step = STEP_FLUSH_HELLO;
    return status;
}

/* The server's answer: a refusal in its own words, or what it has chosen,
 * which must be one of the things we offered. */
static int client_check(struct hth__shake *s, const uint8_t *msg, size_t n,
                        struct hth_err *err)
{
    int status = hth__hello_decode(&s->theirs, msg, n, &s->ours, err);

    if (status != HTH_OK)
        return status;
    if (s->theirs.status != HTH_OK)
        return hth_fail(err, s->theirs.status, "it refused this device: %s",
                        s->theirs.text);
    if (s->theirs.version < s->ours.version_min ||
        s->theirs.version > s->ours.version_max ||
        hth_cipher_pick(s->theirs.ciphers, HTH_CIPHERS_ALL) !=
            s->theirs.ciphers ||
        s->theirs.ciphers == 0)
        return hth_fail(err, HTH_EPROTO, "it chose what was not offered");
    name_peer(s);
    s->ours.ciphers = s->theirs.ciphers;
    s->step = STEP_DONE;
    return HTH_OK;
}

/* ---- server -------------------------------------------------------------- */

static int server_judge(struct hth__shake *s, const uint8_t *msg, size_t n,
                        struct hth_err *why)
{
    const struct hth_link_opts *o = &s->opts.link;
    int status = check_peer(s, why);

    if (status == HTH_OK)
        status = hth__hello_decode(&s->theirs, msg, n, &s->ours, why);
    if (status != HTH_OK)
        return status;
    if (s->theirs.status != HTH_OK)
        return hth_fail(why, HTH_EPROTO, "its hello is a refusal");
    name_peer(s);
    s->ours.version = s->ours.version_max < s->theirs.version_max
                          ? s->ours.version_max
                          : s->theirs.version_max;
    s->ours.ciphers = hth_cipher_pick(s->ours.ciphers, s->theirs.ciphers);
    if (s->ours.ciphers == 0) /* every build can do this one */
        s->ours.ciphers = HTH_CIPHER_CHACHA20;
    return o->admit != NULL ? o->admit(o->admit_ctx, &s->peer, why) : HTH_OK;
}

/* A refusal is an answer too: the client gets the sentence, then both ends
 * fail. */
static int server_answer(struct hth__shake *s, const uint8_t *msg, size_t n,
                         struct hth_err *err)
{
    struct hth_err why = {.status = HTH_OK};
    int status = server_judge(s, msg, n, &why);

    if (status != HTH_OK) {
        if (why.status == HTH_OK)
            hth_fail(&why, status, "%s", hth_status_text(status));
        s->refusal = why;
        s->ours.status = status;
        snprintf(s->ours.text, sizeof s->ours.text, "%.*s",
                 (int)sizeof s->ours.text - 1, why.text);
    }
    s->step = STEP_FLUSH_REPLY;
    return queue(s, err);
}

static int server_start(struct hth__shake *s, struct hth_err *err)
{
    uint8_t fingerprint[32];
    size_t n;

    s->step = STEP_GET_HELLO;
    if (hth__tls_peer_der(s->tls, &n) != NULL || s->opts.pairing == NULL)
        return HTH_OK;
    hth__tls_own_fingerprint(s->tls, fingerprint);
    s->step = STEP_GET_PAIRING;
    if (hth__pair_server_open(&s->pair, s->opts.pairing, fingerprint) != HTH_OK)
        return hth_fail(err, HTH_ENOMEM, "pairing: out of memory");
    return HTH_OK;
}

static int server_pair(struct hth__shake *s, const uint8_t *msg, size_t n,
                       struct hth_err *err)
{
    struct hth_buf reply;
    int status;

    hth_buf_init(&reply, HTH_PAIRING_BYTES_MAX);
    s->pair_result =
        hth__pair_server_input(s->pair, msg, n, &reply, &s->refusal);
    s->step = STEP_FLUSH_PAIRING;
    status = reply.failed ? hth_fail(err, HTH_ENOMEM, "pairing: out of memory")
                          : hth__tls_put(s->tls, reply.data, reply.len, err);
    hth_buf_fini(&reply);
    return status;
}

static int pair_next(struct hth__shake *s, struct hth_err *err)
{
    if (s->pair_result < 0)
        return hth_fail(err, s->pair_result, "pairing: %.380s",
                        s->refusal.text);
    s->step = s->pair_result > 0 ? STEP_PAIRED : STEP_GET_PAIRING;
    return HTH_OK;
}

/* ---- the steps ----------------------------------------------------------- */

static int after_flush(struct hth__shake *s, struct hth_err *err)
{
    if (s->step == STEP_FLUSH_PAIRING)
        return pair_next(s, err);
    if (s->step == STEP_FLUSH_HELLO) {
        s->step = STEP_GET_HELLO;
        return HTH_OK;
    }
    if (s->refusal.status != HTH_OK)
        return hth_fail(err, s->refusal.status, "refused: %.380s",
                        s->refusal.text);
    s->step = STEP_DONE;
    return HTH_OK;
}

static int after_message(struct hth__shake *s, struct hth_err *err)
{
    bool pairing = s->step == STEP_GET_PAIRING;
    const uint8_t *msg;
    size_t n;
    int rc = hth__tls_get(s->tls,
                          pairing ? HTH_PAIRING_BYTES_MAX : HTH_HELLO_BYTES_MAX,
                          &msg, &n, err);

    if (rc != HTH_OK)
        return rc;
    if (pairing)
        return server_pair(s, msg, n, err);
    return s->opts.server ? server_answer(s, msg, n, err)
                          : client_check(s, msg, n, err);
}

static int run_step(struct hth__shake *s, struct hth_err *err)
{
    int rc;

    switch (s->step) {
    case STEP_TLS:
        rc = hth__tls_handshake(s->tls, err);
        if (rc != HTH_OK)
            return rc;
        return s->opts.server ? server_start(s, err) : client_hello(s, err);
    case STEP_FLUSH_HELLO:
    case STEP_FLUSH_REPLY:
    case STEP_FLUSH_PAIRING:
        rc = hth__tls_flush(s->tls, err);
        return rc != HTH_OK ? rc : after_flush(s, err);
    case STEP_GET_HELLO:
    case STEP_GET_PAIRING:
        return after_message(s, err);
    default:
        return HTH_OK;
    }
}

int hth__shake_run(struct hth__shake *s, struct hth_err *err)
{
    int rc = HTH_OK;

    while (rc == HTH_OK && s->step != STEP_DONE && s->step != STEP_PAIRED)
        rc = run_step(s, err);
    if (rc < 0)
        return hth_fail_prefix(err, rc, "%s%s%s", s->peer.address,
                               s->peer.id[0] != '\0' ? " " : "", s->peer.id);
    if (rc > 0)
        return rc;
    return s->step == STEP_PAIRED ? HTH__PAIRED : HTH_OK;
}

int hth__shake_finish(struct hth__shake *s, struct hth_link **out,
                      struct hth_err *err)
{
    struct hth__link_start start = {.fd = s->fd,
                                    .peer = s->peer,
                                    .cipher = s->ours.ciphers,
                                    .spin_us_max = s->opts.link.spin_us_max,
                                    .send_key = s->ours.key,
                                    .recv_key = s->theirs.key};
    int status;

    s->fd = -1;
    status = hth__link_create(out, &start, err);
    mbedtls_platform_zeroize(&start, sizeof start);
    return status;
}

/* ---- blocking forms ------------------------------------------------------ */

static int run_until(struct hth__shake *s, uint64_t deadline_ms,
                     struct hth_err *err)
{
    for (;;) {
        int rc = hth__shake_run(s, err);
        int status;

        if (rc != HTH__WANT_READ && rc != HTH__WANT_WRITE)
            return rc;
        status = hth__fd_wait(s->fd, rc, deadline_ms, err);
        if (status != HTH_OK)
            return hth_fail_prefix(err, status, "handshake with %s",
                                   s->peer.address);
    }
}

static uint64_t deadline_of(const struct hth_link_opts *opts)
{
    return hth_now_ms() +
           (opts->handshake_ms > 0 ? opts->handshake_ms : HTH_HANDSHAKE_MS);
}

static int open_until(struct hth_link **out, const struct hth__shake_opts *opts,
                      uint64_t deadline_ms, struct hth_err *err)
{
    struct hth__shake *s;
    int status = hth__shake_open(&s, opts, err);

    if (status != HTH_OK)
        return status;
    status = run_until(s, deadline_ms, err);
    if (status == HTH_OK)
        status = hth__shake_finish(s, out, err);
    hth__shake_close(s);
    return status;
}

int hth_link_open_fd(struct hth_link **out, int fd, bool server,
                     const struct hth_link_opts *opts, struct hth_err *err)
{
    struct hth__shake_opts o = {.fd = fd, .server = server, .link = *opts};

    return open_until(out, &o, deadline_of(opts), err);
}

int hth_link_connect(struct hth_link **out, const char *host, uint16_t port,
                     const struct hth_link_opts *opts, struct hth_err *err)
{
    struct hth__shake_opts o = {.link = *opts};
    uint64_t deadline_ms = deadline_of(opts);

    o.fd = hth__dial(host, port, deadline_ms, err);
    return o.fd < 0 ? o.fd : open_until(out, &o, deadline_ms, err);
}
