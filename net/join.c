/* join.c - the joining device's side of pairing: blocking, under one
 * deadline. Nothing is stored before the coordinator has proved that it knows
 * the code in this very TLS session. */
#include <mbedtls/platform_util.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/pair_proto.h"
#include "net/socket.h"
#include "net/tls.h"
#include "net/x509.h"

struct join {
    const struct hth_join_opts *opts;
    char code[HTH_CODE_SIZE];
    uint64_t deadline_ms;
    int fd;
    struct hth__tls *tls;
    struct hth_buf hello; /* as sent */
    uint8_t key[32];
    uint8_t transcript[32];
    struct hth__pair_welcome welcome;
};

/* ---- talking ------------------------------------------------------------- */

static int handshake(struct join *j, struct hth_err *err)
{
    int rc;

    while ((rc = hth__tls_handshake(j->tls, err)) > 0) {
        int status = hth__fd_wait(j->fd, rc, j->deadline_ms, err);

        if (status != HTH_OK)
            return status;
    }
    return rc;
}

static int tell(struct join *j, const struct hth_buf *b, struct hth_err *err)
{
    int rc = b->failed ? hth_fail(err, HTH_ENOMEM, "pairing: out of memory")
                       : hth__tls_put(j->tls, b->data, b->len, err);

    while (rc == HTH_OK && (rc = hth__tls_flush(j->tls, err)) > 0)
        rc = hth__fd_wait(j->fd, rc, j->deadline_ms, err);
    return rc;
}

static int hear(struct join *j, struct hth__bytes *msg, struct hth_err *err)
{
    const uint8_t *p;
    int rc;

    while ((rc = hth__tls_get(j->tls, HTH_PAIRING_BYTES_MAX, &p, &msg->n,
                              err)) > 0) {
        int status = hth__fd_wait(j->fd, rc, j->deadline_ms, err);

        if (status != HTH_OK)
            return status;
    }
    msg->p = p;
    return rc;
}

/* ---- the steps ----------------------------------------------------------- */

static int send_hello(struct join *j, struct hth_err *err)
{
    struct hth__pair_hello h = {.version_min = HTH__PAIR_VERSION_MIN,
                                .version_max = HTH__PAIR_VERSION_MAX};

    if (hth__rng(NULL, h.nonce, sizeof h.nonce) != 0)
        return hth_fail(err, HTH_EINTERNAL, "no random numbers");
    h.pubkey_len = hth_identity_pubkey(j->opts->identity, h.pubkey);
    hth_name_clean(h.name, j->opts->name != NULL ? j->opts->name : "");
    hth__pair_hello_encode(&h, &j->hello);
    return tell(j, &j->hello, err);
}

/* Stretch the code with the coordinator's salt; bind everything said so far to
 * the certificate this session really has. */
static int take_challenge(struct join *j, struct hth_err *err)
{
    struct hth__pair_challenge c;
    struct hth__bytes hello = {j->hello.data, j->hello.len};
    struct hth__bytes msg;
    uint8_t fingerprint[32];
    int status = hear(j, &msg, err);

    if (status == HTH_OK &&
        hth__pair_challenge_decode(&c, msg.p, msg.n) != HTH_OK)
        status = hth_fail(err, HTH_EPROTO,
                          "it does not answer like a Hearth coordinator that "
                          "can pair");
    if (status != HTH_OK)
        return status;
    if (c.status != HTH_OK)
        return hth_fail(err, c.status, "%s", c.text);
    status = hth__tls_peer_fingerprint(j->tls, fingerprint, err);
    if (status != HTH_OK)
        return status;
    hth__pair_transcript(fingerprint, hello, msg, j->transcript);
    status = hth__pair_stretch(j->code, c.salt, c.scrypt_log2_n, j->key);
    if (status != HTH_OK)
        return hth_fail(err, status,
                        "pairing needs 32 MiB of memory for a moment");
    return HTH_OK;
}

static int send_proof(struct join *j, struct hth_err *err)
{
    struct hth__pair_proof p;
    struct hth_buf b;
    int status = hth_identity_sign(j->opts->identity, j->transcript,
                                   sizeof j->transcript, &p.sig, err);

    if (status != HTH_OK)
        return status;
    hth__pair_mac(j->key, HTH__PAIR_DEVICE, j->transcript, p.mac);
    hth_buf_init(&b, HTH_PAIRING_BYTES_MAX);
    hth__pair_proof_encode(&p, &b);
    status = tell(j, &b, err);
    hth_buf_fini(&b);
    return status;
}

static int take_welcome(struct join *j, struct hth_err *err)
{
    uint8_t want[HTH__PAIR_MAC_BYTES];
    struct hth__bytes msg;
    int status = hear(j, &msg, err);

    if (status == HTH_OK &&
        hth__pair_welcome_decode(&j->welcome, msg.p, msg.n) != HTH_OK)
        status = hth_fail(err, HTH_EPROTO, "its last message is malformed");
    if (status != HTH_OK)
        return status;
    if (j->welcome.status != HTH_OK)
        return hth_fail(err, j->welcome.status, "%s", j->welcome.text);
    hth__pair_mac(j->key, HTH__PAIR_COORDINATOR, j->transcript, want);
    if (CRYPTO_memcmp(want, j->welcome.mac, sizeof want) != 0)
        return hth_fail(err, HTH_EAUTH,
                        "it does not know the code: something on the network "
                        "pretends to be the coordinator; nothing was stored");
    return HTH_OK;
}

/* The certificate of this session must be the coordinator's under the CA we
 * are about to trust; then keep everything. */
static int keep(struct join *j, struct hth_err *err)
{
    struct hth_membership m = {.cert_pem = j->welcome.cert_pem,
                               .ca_pem = j->welcome.ca_pem};
    struct hth_cert server;
    size_t n;
    const uint8_t *der = hth__tls_peer_der(j->tls, &n);
    int status = hth_cert_check(&server, der, n, m.ca_pem, err);

    if (status == HTH_OK && !server.coordinator)
        status = hth_fail(err, HTH_EAUTH, "it is no coordinator");
    if (status != HTH_OK)
        return status;
    memcpy(m.coordinator.id, server.id, sizeof server.id);
    hth_name_clean(m.coordinator.name, j->welcome.name);
    snprintf(m.coordinator.host, sizeof m.coordinator.host, "%s",
             j->opts->host);
    m.coordinator.control_port = j->welcome.control_port;
    m.coordinator.data_port = j->welcome.data_port;
    return hth_identity_install(j->opts->identity, &m, err);
}

static int run(struct join *j, struct hth_err *err)
{
    int status = hth__tls_open(&j->tls, j->fd, HTH__TLS_STRANGER, NULL, err);

    if (status == HTH_OK)
        status = handshake(j, err);
    if (status == HTH_OK)
        status = send_hello(j, err);
    if (status == HTH_OK)
        status = take_challenge(j, err);
    if (status == HTH_OK)
        status = send_proof(j, err);
    if (status == HTH_OK)
        status = take_welcome(j, err);
    return status == HTH_OK ? keep(j, err) : status;
}

int hth_pairing_join(const struct hth_join_opts *opts, struct hth_err *err)
{
    struct join *j = calloc(1, sizeof *j);
    int status;

    if (j == NULL)
        return hth_fail(err, HTH_ENOMEM, "pairing: out of memory");
    j->opts = opts;
    j->deadline_ms = hth_now_ms() +
                     (opts->timeout_ms > 0 ? opts->timeout_ms : HTH_PAIRING_MS);
    hth_buf_init(&j->hello, HTH_PAIRING_BYTES_MAX);
    j->fd = -1;
    status = strlen(opts->host) < HTH_HOST_MAX
                 ? hth_code_normalise(opts->code, j->code, err)
                 : hth_fail(err, HTH_EINVAL, "the host name is too long");
    if (status == HTH_OK) {
        j->fd = hth__dial(opts->host, opts->port, j->deadline_ms, err);
        status = j->fd < 0 ? j->fd : run(j, err);
        if (j->fd >= 0 && status != HTH_OK)
            hth_fail_prefix(err, status, "pairing with %s port %u", opts->host,
                            opts->port);
    }
    hth__tls_close(j->tls);
    if (j->fd >= 0)
        close(j->fd);
    hth_buf_fini(&j->hello);
    mbedtls_platform_zeroize(j, sizeof *j);
    free(j);
    return status;
}
