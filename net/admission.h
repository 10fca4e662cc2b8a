/* admission.h - hello and prove: how a control connection gets a name.
 *
 * NNG does not show whose certificate opened a connection, so each one starts
 * with HELLO (certificate, nonce, abilities), CHALLENGE (nonce, coordinator's
 * id), PROVE (signature over both nonces and ids with the certificate's key),
 * WELCOME. Owns: those checks, on both sides. Does not: hold connections or
 * keep lists. Thread-safe: every call works on its arguments only. */
#ifndef HTH_NET_ADMISSION_H
#define HTH_NET_ADMISSION_H

#include "base/status.h"
#include "net/control.h"
#include "net/identity.h"
#include "net/link.h"
#include "net/message.h"

/* ---- the side that asks to come in -------------------------------------- */

/* Who asks, where and as what. Borrowed for the call. */
struct hth_admission_self {
    struct hth_control_slot *slot;
    const struct hth_identity *identity;
    const char *expect_id;       /* the coordinator's */
    struct hth_msg_hello *hello; /* sent as it is, but for protocol, nonce,
                                    device and certificate: filled in here */
};

/* Say hello and prove it over the slot's connection. Errors: HTH_EAUTH (not
 * the expected coordinator; revoked; refused), HTH_EVERSION, HTH_ETIMEDOUT,
 * HTH_EPROTO. */
HTH_MUST_CHECK int hth_admission_ask(const struct hth_admission_self *self,
                                     struct hth_msg_welcome *out,
                                     struct hth_err *err);

/* ---- the side that decides ----------------------------------------------- */

/* A connection between its hello and its proof. Plain data. */
struct hth_admission {
    struct hth_msg_hello hello; /* certificate points into pem */
    struct hth_msg_challenge challenge;
    char pem[HTH_PEM_MAX];
};

/* Whom to let in. All borrowed for the call. */
struct hth_admission_rule {
    const struct hth_identity *identity; /* the coordinator's */
    hth_allowed_fn allowed;              /* the registry's */
    void *allowed_ctx;
};

/* Take a hello and make the challenge. HTH_EVERSION says which side to
 * upgrade. */
HTH_MUST_CHECK int hth_admission_begin(struct hth_admission *a,
                                       const struct hth_admission_rule *rule,
                                       const struct hth_msg_hello *hello,
                                       struct hth_err *err);
/* Check certificate, registry and signature. HTH_EAUTH says which failed. */
HTH_MUST_CHECK int hth_admission_check(const struct hth_admission *a,
                                       const struct hth_admission_rule *rule,
                                       const struct hth_msg_prove *proof,
                                       struct hth_err *err);

#endif
