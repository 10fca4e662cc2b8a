/* pair_server.c - one pairing as the coordinator sees it: two messages in, two
 * out, no socket. Whatever comes, there is an answer to send; only a device
 * that has proved the code is told anything of worth. */
#include <mbedtls/platform_util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "net/pair_proto.h"
#include "net/x509.h"

#define HELLO_BYTES_MAX 512u
#define CHALLENGE_BYTES_MAX 1024u

struct hth__pair_server {
    struct hth_pairing *pairing;
    uint8_t fingerprint[32];
    bool challenged; /* HELLO came; PROOF is next */
    struct hth__pair_hello hello;
    char device_id[HTH_DEVICE_ID_SIZE];
    uint8_t transcript[32];
};

int hth__pair_server_open(struct hth__pair_server **out, struct hth_pairing *p,
                          const uint8_t fingerprint[32])
{
    struct hth__pair_server *s = calloc(1, sizeof *s);

    if (s == NULL)
        return HTH_ENOMEM;
    s->pairing = p;
    memcpy(s->fingerprint, fingerprint, 32);
    *out = s;
    return HTH_OK;
}

void hth__pair_server_close(struct hth__pair_server *s)
{
    free(s);
}

/* ---- HELLO in, CHALLENGE out --------------------------------------------- */

/* Everything that can be known to be wrong before a code is asked for. */
static int judge_hello(struct hth__pair_server *s, const void *msg, size_t n,
                       struct hth_err *err)
{
    const struct hth_pairing_opts *o = hth__pairing_opts(s->pairing);
    int status = n <= HELLO_BYTES_MAX
                     ? hth__pair_hello_decode(&s->hello, msg, n)
                     : HTH_EPROTO;

    if (status == HTH_EVERSION)
        return hth_fail(err, status,
                        "pairing versions %u to %u are spoken here, the "
                        "device speaks others: bring both to the same version "
                        "of Hearth",
                        HTH__PAIR_VERSION_MIN, HTH__PAIR_VERSION_MAX);
    if (status != HTH_OK)
        return hth_fail(err, status, "that was no pairing hello of Hearth's");
    status =
        hth_pubkey_id(s->hello.pubkey, s->hello.pubkey_len, s->device_id, err);
    if (status != HTH_OK)
        return status;
    if (strcmp(s->device_id, hth_identity_id(o->identity)) == 0)
        return hth_fail(err, HTH_EINVAL,
                        "this is the coordinator's own identity: give the "
                        "worker a state directory of its own");
    if (hth_pairing_active(s->pairing) == 0)
        return hth_fail(err, HTH_EAUTH,
                        "no pairing code is valid now: make one on the "
                        "coordinator");
    return HTH_OK;
}

static int on_hello(struct hth__pair_server *s, struct hth__bytes msg,
                    struct hth_buf *reply, struct hth_err *err)
{
    struct hth__pair_challenge c = {.version = HTH__PAIR_VERSION_MAX,
                                    .scrypt_log2_n = HTH__SCRYPT_LOG2_N};
    struct hth_err why = {.status = HTH_OK};
    struct hth__bytes sent;

    c.status = judge_hello(s, msg.p, msg.n, &why);
    if (c.status == HTH_OK && hth__rng(NULL, c.nonce, sizeof c.nonce) != 0)
        c.status = hth_fail(&why, HTH_EINTERNAL, "no random numbers");
    if (c.status != HTH_OK)
        snprintf(c.text, sizeof c.text, "%.*s", (int)sizeof c.text - 1,
                 why.text);
    hth__pairing_salt(s->pairing, c.salt);
    hth__pair_challenge_encode(&c, reply);
    if (c.status != HTH_OK || reply->failed)
        return hth_fail(err, reply->failed ? HTH_ENOMEM : c.status, "%s",
                        why.text);
    sent = (struct hth__bytes){reply->data, reply->len};
    hth__pair_transcript(s->fingerprint, msg, sent, s->transcript);
    s->challenged = true;
    return HTH_OK;
}

/* ---- PROOF in, WELCOME out ----------------------------------------------- */

/* The signature first: who cannot show the key does not get to try codes. */
static int judge_proof(struct hth__pair_server *s, struct hth__bytes msg,
                       uint8_t key[32], struct hth_err *err)
{
    struct hth__pair_proof proof;
    struct hth_cert device = {.pubkey_len = s->hello.pubkey_len};
    int status = hth__pair_proof_decode(&proof, msg.p, msg.n);

    if (status != HTH_OK)
        return hth_fail(err, status, "that was no pairing proof of Hearth's");
    memcpy(device.pubkey, s->hello.pubkey, s->hello.pubkey_len);
    status = hth_cert_verify(&device, s->transcript, sizeof s->transcript,
                             &proof.sig, err);
    if (status != HTH_OK)
        return status;
    return hth__pairing_redeem(s->pairing, s->transcript, proof.mac, key, err);
}

/* Sign, list, tell. The certificate is worthless until the registry has it. */
static int admit(struct hth__pair_server *s, struct hth__pair_welcome *w,
                 struct hth_err *err)
{
    const struct hth_pairing_opts *o = hth__pairing_opts(s->pairing);
    struct hth_device d = {.paired_ms = hth_wall_ms()};
    struct hth_issued issued;
    int status =
        hth_ca_sign(o->ca, s->hello.pubkey, s->hello.pubkey_len, &issued, err);

    if (status != HTH_OK)
        return status;
    memcpy(d.id, issued.id, sizeof d.id);
    memcpy(d.serial, issued.serial, sizeof d.serial);
    hth_name_clean(d.name, s->hello.name);
    status = hth_registry_put(o->registry, &d, err);
    if (status != HTH_OK)
        return status;
    memcpy(w->cert_pem, issued.cert_pem, sizeof w->cert_pem);
    snprintf(w->ca_pem, sizeof w->ca_pem, "%s", hth_ca_pem(o->ca));
    hth_name_clean(w->name, o->name != NULL ? o->name : "");
    w->control_port = o->control_port;
    w->data_port = o->data_port;
    hth_log(HTH_LOG_NOTICE, "PAIRED", "device=%s: %s is now a member", d.id,
            d.name);
    if (o->on_paired != NULL)
        o->on_paired(o->on_paired_ctx, &d);
    return HTH_OK;
}

static int on_proof(struct hth__pair_server *s, struct hth__bytes msg,
                    struct hth_buf *reply, struct hth_err *err)
{
    struct hth__pair_welcome *w = calloc(1, sizeof *w);
    struct hth_err why = {.status = HTH_OK};
    uint8_t key[32];
    int status;

    if (w == NULL) {
        reply->failed = true;
        return hth_fail(err, HTH_ENOMEM, "pairing: out of memory");
    }
    status = judge_proof(s, msg, key, &why);
    if (status == HTH_OK) {
        hth__pair_mac(key, HTH__PAIR_COORDINATOR, s->transcript, w->mac);
        mbedtls_platform_zeroize(key, sizeof key);
        status = admit(s, w, &why);
    }
    w->status = status;
    if (status != HTH_OK)
        snprintf(w->text, sizeof w->text, "%.*s", (int)sizeof w->text - 1,
                 why.text);
    hth__pair_welcome_encode(w, reply);
    free(w);
    return status == HTH_OK ? 1 : hth_fail(err, status, "%s", why.text);
}

int hth__pair_server_input(struct hth__pair_server *s, const void *msg,
                           size_t n, struct hth_buf *reply, struct hth_err *err)
{
    struct hth__bytes m = {msg, n};

    return s->challenged ? on_proof(s, m, reply, err)
                         : on_hello(s, m, reply, err);
}
