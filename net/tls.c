/* tls.c - mutual TLS 1.2 by mbedTLS 2.28: ECDHE on P-256 with ECDSA
 * certificates and AEAD suites only. Each session parses its own key and
 * certificates (see x509.h). The TLS library's errors end here as sentences. */
#include "net/tls.h"

#include <errno.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <openssl/sha.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "net/x509.h"

struct hth__tls {
    int fd;
    enum hth__tls_mode mode;
    mbedtls_ssl_context ssl;
    mbedtls_ssl_config conf;
    mbedtls_x509_crt own;
    mbedtls_x509_crt ca;
    mbedtls_pk_context key;
    struct hth_buf out; /* queued, with length prefix */
    size_t out_at;
    uint8_t *in; /* the message being collected */
    size_t in_have;
    uint8_t in_head[4];
    size_t in_head_have;
};

/* ---- the socket ---------------------------------------------------------- */

static int bio_send(void *ctx, const unsigned char *p, size_t n)
{
    struct hth__tls *t = ctx;
    ssize_t r = send(t->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (r >= 0)
        return (int)r;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return MBEDTLS_ERR_SSL_WANT_WRITE;
    return MBEDTLS_ERR_NET_CONN_RESET;
}

static int bio_recv(void *ctx, unsigned char *p, size_t n)
{
    struct hth__tls *t = ctx;
    ssize_t r = recv(t->fd, p, n, MSG_DONTWAIT);

    if (r >= 0)
        return (int)r;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return MBEDTLS_ERR_SSL_WANT_READ;
    return MBEDTLS_ERR_NET_CONN_RESET;
}

int hth__fd_wait(int fd, int want, uint64_t deadline_ms, struct hth_err *err)
{
    struct pollfd p = {.fd = fd,
                       .events = want == HTH__WANT_READ ? POLLIN : POLLOUT};

    for (;;) {
        uint64_t now = hth_now_ms();
        int r;

        if (now >= deadline_ms)
            return hth_fail(err, HTH_ETIMEDOUT, "no answer in time");
        r = poll(&p, 1, hth__poll_ms(deadline_ms - now));
        if (r > 0)
            return HTH_OK;
        if (r < 0 && errno != EINTR)
            return hth_fail(err, HTH_EIO, "poll: %s", strerror(errno));
    }
}

/* ---- setting up ---------------------------------------------------------- */

static const int suites[] = {
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, 0};

static const mbedtls_ecp_group_id curves[] = {MBEDTLS_ECP_DP_SECP256R1,
                                              MBEDTLS_ECP_DP_NONE};

static int load_identity(struct hth__tls *t, const struct hth_identity *id,
                         struct hth_err *err)
{
    const char *cert = hth_identity_cert_pem(id);
    const char *ca = hth_identity_ca_pem(id);
    int status;

    if (cert == NULL || ca == NULL)
        return hth_fail(err, HTH_EAUTH,
                        "this device is not paired with a cluster: pair it "
                        "with a code first");
    status = hth__cert_parse(&t->own, cert, strlen(cert) + 1, err);
    if (status == HTH_OK)
        status = hth__cert_parse(&t->ca, ca, strlen(ca) + 1, err);
    if (status == HTH_OK)
        status = hth__key_parse(&t->key, hth_identity_key_pem(id), err);
    if (status != HTH_OK)
        return status;
    mbedtls_ssl_conf_ca_chain(&t->conf, &t->ca, NULL);
    if (mbedtls_ssl_conf_own_cert(&t->conf, &t->own, &t->key) != 0)
        return hth_fail(err, HTH_ENOMEM, "set up TLS: out of memory");
    return HTH_OK;
}

/* A server asks for a certificate but lets clients without one in: they may
 * pair and nothing else, which hth__tls_peer()'s caller sees to. */
static int auth_mode(enum hth__tls_mode mode)
{
    switch (mode) {
    case HTH__TLS_SERVER:
        return MBEDTLS_SSL_VERIFY_OPTIONAL;
    case HTH__TLS_MEMBER:
        return MBEDTLS_SSL_VERIFY_REQUIRED;
    default:
        return MBEDTLS_SSL_VERIFY_NONE;
    }
}

static int configure(struct hth__tls *t, struct hth_err *err)
{
    int end = t->mode == HTH__TLS_SERVER ? MBEDTLS_SSL_IS_SERVER
                                         : MBEDTLS_SSL_IS_CLIENT;
    int rc =
        mbedtls_ssl_config_defaults(&t->conf, end, MBEDTLS_SSL_TRANSPORT_STREAM,
                                    MBEDTLS_SSL_PRESET_DEFAULT);

    if (rc != 0)
        return hth__mbed_fail(err, HTH_EINTERNAL, rc, "set up TLS");
    mbedtls_ssl_conf_min_version(&t->conf, MBEDTLS_SSL_MAJOR_VERSION_3,
                                 MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_ciphersuites(&t->conf, suites);
    mbedtls_ssl_conf_curves(&t->conf, curves);
    mbedtls_ssl_conf_authmode(&t->conf, auth_mode(t->mode));
    mbedtls_ssl_conf_rng(&t->conf, hth__rng, NULL);
    if (end == MBEDTLS_SSL_IS_CLIENT)
        mbedtls_ssl_conf_session_tickets(&t->conf,
                                         MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
    return HTH_OK;
}

static int setup(struct hth__tls *t, const struct hth_identity *identity,
                 struct hth_err *err)
{
    int status = configure(t, err);
    int rc;

    if (status == HTH_OK && t->mode != HTH__TLS_STRANGER)
        status = load_identity(t, identity, err);
    if (status != HTH_OK)
        return status;
    rc = mbedtls_ssl_setup(&t->ssl, &t->conf);
    if (rc != 0)
        return hth__mbed_fail(err, HTH_ENOMEM, rc, "set up TLS");
    mbedtls_ssl_set_bio(&t->ssl, t, bio_send, bio_recv, NULL);
    return HTH_OK;
}

int hth__tls_open(struct hth__tls **out, int fd, enum hth__tls_mode mode,
                  const struct hth_identity *identity, struct hth_err *err)
{
    struct hth__tls *t = calloc(1, sizeof *t);
    int status;

    if (t == NULL)
        return hth_fail(err, HTH_ENOMEM, "set up TLS: out of memory");
    t->fd = fd;
    t->mode = mode;
    mbedtls_ssl_init(&t->ssl);
    mbedtls_ssl_config_init(&t->conf);
    mbedtls_x509_crt_init(&t->own);
    mbedtls_x509_crt_init(&t->ca);
    mbedtls_pk_init(&t->key);
    hth_buf_init(&t->out, HTH_PAIRING_BYTES_MAX + 4);
    status = setup(t, identity, err);
    if (status != HTH_OK) {
        hth__tls_close(t);
        return status;
    }
    *out = t;
    return HTH_OK;
}

void hth__tls_close(struct hth__tls *t)
{
    if (t == NULL)
        return;
    mbedtls_ssl_free(&t->ssl);
    mbedtls_ssl_config_free(&t->conf);
    mbedtls_x509_crt_free(&t->own);
    mbedtls_x509_crt_free(&t->ca);
    mbedtls_pk_free(&t->key);
    hth_buf_fini(&t->out);
    free(t->in);
    free(t);
}

/* ---- handshake ----------------------------------------------------------- */

/* What mbedTLS's code means to people: a lost connection, a refusal, a
 * stranger talking something else, or anything else by its own name. */
static int tls_fail(struct hth__tls *t, int rc, const char *what,
                    struct hth_err *err)
{
    switch (rc) {
    case MBEDTLS_ERR_SSL_WANT_READ:
        return HTH__WANT_READ;
    case MBEDTLS_ERR_SSL_WANT_WRITE:
        return HTH__WANT_WRITE;
    case 0:
    case MBEDTLS_ERR_SSL_CONN_EOF:
    case MBEDTLS_ERR_NET_CONN_RESET:
    case MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY:
        return hth_fail(err, HTH_EPEER, "%s: the other end hung up", what);
    case MBEDTLS_ERR_X509_CERT_VERIFY_FAILED:
        return hth_fail(err, HTH_EAUTH,
                        "%s: the other end is not of this cluster (check "
                        "0x%x): pair this device with it",
                        what, (unsigned)mbedtls_ssl_get_verify_result(&t->ssl));
    case MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE:
        return hth_fail(err, HTH_EAUTH,
                        "%s: the other end refused this device's certificate "
                        "or cipher",
                        what);
    case MBEDTLS_ERR_SSL_ALLOC_FAILED:
    case MBEDTLS_ERR_X509_ALLOC_FAILED:
        return hth_fail(err, HTH_ENOMEM, "%s: out of memory", what);
    default:
        return hth__mbed_fail(err, HTH_EPROTO, rc, what);
    }
}

int hth__tls_handshake(struct hth__tls *t, struct hth_err *err)
{
    int rc = mbedtls_ssl_handshake(&t->ssl);

    return rc == 0 ? HTH_OK : tls_fail(t, rc, "TLS handshake", err);
}

int hth__tls_peer(struct hth__tls *t, struct hth_cert *out, struct hth_err *err)
{
    const mbedtls_x509_crt *crt = mbedtls_ssl_get_peer_cert(&t->ssl);
    uint32_t flags = mbedtls_ssl_get_verify_result(&t->ssl);
    mbedtls_x509_crt copy;
    int status;

    if (crt == NULL)
        return HTH_ENOTFOUND;
    if (flags != 0)
        return hth_fail(err, HTH_EAUTH,
                        "the device's certificate was not signed by this "
                        "cluster's CA (check 0x%x): pair it again",
                        (unsigned)flags);
    status = hth__cert_parse(&copy, crt->raw.p, crt->raw.len, err);
    if (status != HTH_OK)
        return status;
    status = hth__cert_read(out, &copy, err);
    mbedtls_x509_crt_free(&copy);
    return status;
}

const uint8_t *hth__tls_peer_der(struct hth__tls *t, size_t *n)
{
    const mbedtls_x509_crt *crt = mbedtls_ssl_get_peer_cert(&t->ssl);

    *n = crt != NULL ? crt->raw.len : 0;
    return crt != NULL ? crt->raw.p : NULL;
}

int hth__tls_peer_fingerprint(struct hth__tls *t, uint8_t out[32],
                              struct hth_err *err)
{
    size_t n;
    const uint8_t *der = hth__tls_peer_der(t, &n);

    if (der == NULL)
        return hth_fail(err, HTH_EPROTO, "the other end has no certificate");
    SHA256(der, n, out);
    return HTH_OK;
}

void hth__tls_own_fingerprint(struct hth__tls *t, uint8_t out[32])
{
    SHA256(t->own.raw.p, t->own.raw.len, out);
}

/* ---- messages ------------------------------------------------------------ */

int hth__tls_put(struct hth__tls *t, const void *msg, size_t n,
                 struct hth_err *err)
{
    hth_buf_reset(&t->out);
    t->out_at = 0;
    hth_put_str(&t->out, msg, n);
    if (t->out.failed)
        return hth_fail(err, HTH_ENOMEM, "message of %zu bytes: too long", n);
    return HTH_OK;
}

int hth__tls_flush(struct hth__tls *t, struct hth_err *err)
{
    while (t->out_at < t->out.len) {
        int rc = mbedtls_ssl_write(&t->ssl, t->out.data + t->out_at,
                                   t->out.len - t->out_at);

        if (rc <= 0)
            return tls_fail(t, rc, "TLS send", err);
        t->out_at += (size_t)rc;
    }
    return HTH_OK;
}

/* Read towards dst[n]; *have grows. 0 when full. */
static int fill(struct hth__tls *t, uint8_t *dst, size_t n, size_t *have,
                struct hth_err *err)
{
    while (*have < n) {
        int rc = mbedtls_ssl_read(&t->ssl, dst + *have, n - *have);

        if (rc <= 0)
            return tls_fail(t, rc, "TLS receive", err);
        *have += (size_t)rc;
    }
    return HTH_OK;
}

int hth__tls_get(struct hth__tls *t, size_t max, const uint8_t **msg, size_t *n,
                 struct hth_err *err)
{
    int rc = fill(t, t->in_head, sizeof t->in_head, &t->in_head_have, err);
    uint32_t len;

    if (rc != HTH_OK)
        return rc;
    len = hth_load_u32(t->in_head);
    if (len > max)
        return hth_fail(err, HTH_EPROTO, "message of %u bytes, limit is %zu",
                        len, max);
    if (t->in_have == 0) {
        free(t->in);
        t->in = malloc(len > 0 ? len : 1);
        if (t->in == NULL)
            return hth_fail(err, HTH_ENOMEM, "TLS receive: out of memory");
    }
    rc = fill(t, t->in, len, &t->in_have, err);
    if (rc != HTH_OK)
        return rc;
    t->in_have = 0;
    t->in_head_have = 0;
    *msg = t->in;
    *n = len;
    return HTH_OK;
}
