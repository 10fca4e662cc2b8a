/* admission.c - the signature that names a control connection. The signed
 * text holds both nonces (fresh on both sides: no replay) and both ids (no
 * relaying to another coordinator). Fails by status, HTH_EAUTH mostly. */
#include "net/admission.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define PROOF_TEXT_MAX 512u

static int fresh_nonce(uint8_t nonce[HTH_NONCE_BYTES], struct hth_err *err)
{
    if (getrandom(nonce, HTH_NONCE_BYTES, 0) != (ssize_t)HTH_NONCE_BYTES)
        return hth_fail(err, HTH_EIO, "no random numbers from the kernel");
    return HTH_OK;
}

static int check_challenge(const struct hth_msg_challenge *c,
                           const char *expect_id, struct hth_err *err)
{
    if (strcmp(c->server, expect_id) != 0)
        return hth_fail(err, HTH_EAUTH,
                        "the coordinator there is %s, paired was %s; pair "
                        "again with a code if that is intended",
                        c->server, expect_id);
    if (c->protocol < HTH_PROTOCOL_MIN || c->protocol > HTH_PROTOCOL_MAX)
        return hth_fail(err, HTH_EVERSION,
                        "the coordinator chose control protocol %u, this side "
                        "speaks %u to %u",
                        c->protocol, HTH_PROTOCOL_MIN, HTH_PROTOCOL_MAX);
    return HTH_OK;
}

static int sign(const struct hth_identity *identity,
                const struct hth_msg_hello *hello,
                const struct hth_msg_challenge *challenge, struct hth_sig *sig,
                struct hth_err *err)
{
    struct hth_buf text;
    int status;

    hth_buf_init(&text, PROOF_TEXT_MAX);
    hth_msg_proof_text(&text, hello, challenge);
    status = text.failed
                 ? hth_fail(err, HTH_ENOMEM, "hello: out of memory")
                 : hth_identity_sign(identity, text.data, text.len, sig, err);
    hth_buf_fini(&text);
    return status;
}

int hth_admission_ask(const struct hth_admission_self *self,
                      struct hth_msg_welcome *out, struct hth_err *err)
{
    const char *pem = hth_identity_cert_pem(self->identity);
    struct hth_msg_hello *hello = self->hello;
    struct hth_msg_challenge challenge;
    struct hth_msg ask = {.type = HTH_MSG_HELLO}, answer;
    struct hth_sig sig;
    int status;

    hello->protocol_min = HTH_PROTOCOL_MIN;
    hello->protocol_max = HTH_PROTOCOL_MAX;
    snprintf(hello->device, sizeof hello->device, "%s",
             hth_identity_id(self->identity));
    hello->certificate = (struct hth_blob){(const uint8_t *)pem, strlen(pem)};
    if ((status = fresh_nonce(hello->nonce, err)) != HTH_OK)
        return status;
    ask.u.hello = *hello;
    status = hth_control_ask(self->slot, &ask, HTH_MSG_CHALLENGE, &answer, err);
    if (status != HTH_OK)
        return status;
    challenge = answer.u.challenge;
    if ((status = check_challenge(&challenge, self->expect_id, err)) != 0 ||
        (status = sign(self->identity, hello, &challenge, &sig, err)) != 0)
        return status;
    ask = (struct hth_msg){.type = HTH_MSG_PROVE};
    ask.u.prove.signature = (struct hth_blob){sig.bytes, sig.len};
    status = hth_control_ask(self->slot, &ask, HTH_MSG_WELCOME, &answer, err);
    if (status == HTH_OK)
        *out = answer.u.welcome;
    return status;
}

static int choose_protocol(const struct hth_msg_hello *h, uint32_t *out,
                           struct hth_err *err)
{
    if (h->protocol_max < HTH_PROTOCOL_MIN)
        return hth_fail(err, HTH_EVERSION,
                        "%s speaks control protocol %u at most, the "
                        "coordinator %u at least: upgrade hearth on %s",
                        h->name, h->protocol_max, HTH_PROTOCOL_MIN, h->name);
    if (h->protocol_min > HTH_PROTOCOL_MAX)
        return hth_fail(err, HTH_EVERSION,
                        "%s speaks control protocol %u at least, the "
                        "coordinator %u at most: upgrade hearth on the "
                        "coordinator",
                        h->name, h->protocol_min, HTH_PROTOCOL_MAX);
    *out =
        h->protocol_max < HTH_PROTOCOL_MAX ? h->protocol_max : HTH_PROTOCOL_MAX;
    return HTH_OK;
}

int hth_admission_begin(struct hth_admission *a,
                        const struct hth_admission_rule *rule,
                        const struct hth_msg_hello *hello, struct hth_err *err)
{
    uint32_t protocol;
    int status;

    if ((status = choose_protocol(hello, &protocol, err)) != HTH_OK)
        return status;
    if (hello->certificate.n + 1 > sizeof a->pem ||
        (hello->role != HTH_PEER_WORKER && hello->role != HTH_PEER_CLIENT))
        return hth_fail(err, HTH_EFORMAT, "malformed hello from %s",
                        hello->name);
    memset(a, 0, sizeof *a);
    if ((status = fresh_nonce(a->challenge.nonce, err)) != HTH_OK)
        return status;
    a->hello = *hello;
    if (hello->certificate.n > 0)
        memcpy(a->pem, hello->certificate.p, hello->certificate.n);
    a->hello.certificate =
        (struct hth_blob){(const uint8_t *)a->pem, hello->certificate.n};
    a->challenge.protocol = protocol;
    snprintf(a->challenge.server, sizeof a->challenge.server, "%s",
             hth_identity_id(rule->identity));
    return HTH_OK;
}

static int check_signature(const struct hth_admission *a,
                           const struct hth_cert *cert,
                           const struct hth_msg_prove *proof,
                           struct hth_err *err)
{
    struct hth_buf text;
    struct hth_sig sig;
    int status;

    if (proof->signature.n > sizeof sig.bytes)
        return hth_fail(err, HTH_EFORMAT, "signature too long");
    sig.len = proof->signature.n;
    if (sig.len > 0)
        memcpy(sig.bytes, proof->signature.p, sig.len);
    hth_buf_init(&text, PROOF_TEXT_MAX);
    hth_msg_proof_text(&text, &a->hello, &a->challenge);
    status = text.failed
                 ? hth_fail(err, HTH_ENOMEM, "hello: out of memory")
                 : hth_cert_verify(cert, text.data, text.len, &sig, err);
    hth_buf_fini(&text);
    return status;
}

int hth_admission_check(const struct hth_admission *a,
                        const struct hth_admission_rule *rule,
                        const struct hth_msg_prove *proof, struct hth_err *err)
{
    struct hth_cert cert;
    int status;

    status = hth_cert_check(&cert, a->pem, a->hello.certificate.n + 1,
                            hth_identity_ca_pem(rule->identity), err);
    if (status != HTH_OK)
        return hth_fail_prefix(err, HTH_EAUTH, "certificate of %s",
                               a->hello.name);
    if (strcmp(cert.id, a->hello.device) != 0)
        return hth_fail(err, HTH_EAUTH,
                        "%s claims to be %s but has the "
                        "certificate of %s",
                        a->hello.name, a->hello.device, cert.id);
    if ((status = check_signature(a, &cert, proof, err)) != HTH_OK)
        return hth_fail_prefix(err, HTH_EAUTH, "proof of %s", a->hello.name);
    if (rule->allowed != NULL && !rule->allowed(rule->allowed_ctx, cert.id))
        return hth_fail(err, HTH_EAUTH,
                        "%s (%s) is revoked or not in this cluster; pair it "
                        "again with a new code (hearth pair)",
                        a->hello.name, cert.id);
    return HTH_OK;
}
