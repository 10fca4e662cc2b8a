/* pairing.h - how a device becomes a member: a short code proves, inside a TLS
 * session, that both ends were meant by the same person.
 *
 * The code has 8 letters of a 32-letter alphabet (40 bits), is shown as
 * XXXX-XXXX, works once, for HTH_CODE_LIFE_S, and dies after
 * HTH_CODE_TRIES_MAX wrong tries. Both sides prove they know it by
 * HMAC-SHA256 under scrypt(code) over this session: nonces, the server's
 * certificate as each side sees it, the device's public key. The server proves
 * nothing before the device has. See docs/pairing.md for what an attacker can
 * and cannot do.
 *
 * Threads: struct hth_pairing is thread-safe. */
#ifndef HTH_NET_PAIRING_H
#define HTH_NET_PAIRING_H

#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"
#include "net/identity.h"
#include "net/registry.h"

#define HTH_CODE_SIZE 10u /* "XXXX-XXXX" and the NUL */

struct hth_pairing;

/* All borrowed for the life of the pairing. */
struct hth_pairing_opts {
    const struct hth_ca *ca;
    const struct hth_identity *identity; /* the coordinator's, enrolled */
    struct hth_registry *registry;       /* new devices are put here */
    const char *name;                    /* of the coordinator, for people */
    uint16_t control_port;               /* told to new devices */
    uint16_t data_port;
    /* A device was paired and is in the registry; any thread; may be NULL. */
    void (*on_paired)(void *ctx, const struct hth_device *device);
    void *on_paired_ctx;
};

HTH_MUST_CHECK int hth_pairing_open(struct hth_pairing **out,
                                    const struct hth_pairing_opts *opts,
                                    struct hth_err *err);
void hth_pairing_close(struct hth_pairing *p); /* NULL is fine */

/* Make a new code. life_s 0: HTH_CODE_LIFE_S. Takes some 0.1 s of CPU (the
 * stretching). HTH_ELIMIT when HTH_CODES_MAX are valid already. */
HTH_MUST_CHECK int hth_pairing_issue(struct hth_pairing *p, uint32_t life_s,
                                     char out[HTH_CODE_SIZE],
                                     struct hth_err *err);
/* Make every outstanding code invalid. */
void hth_pairing_cancel(struct hth_pairing *p);
/* Codes that would still be accepted. */
uint32_t hth_pairing_active(struct hth_pairing *p);

/* The letters of a code as typed (any case, dashes and spaces anywhere) in the
 * form they are shown. HTH_EINVAL with a sentence on anything else. */
HTH_MUST_CHECK int hth_code_normalise(const char *typed,
                                      char out[HTH_CODE_SIZE],
                                      struct hth_err *err);

/* ---- the joining device -------------------------------------------------- */

struct hth_join_opts {
    struct hth_identity *identity; /* gets the certificate */
    const char *host;
    uint16_t port; /* the coordinator's data port */
    const char *code;
    const char *name;    /* of this device */
    uint32_t timeout_ms; /* 0: HTH_PAIRING_MS */
};
/* Connect, pair, store certificate, CA and coordinator in the identity.
 * Blocks up to timeout_ms. Errors: HTH_EUNREACHABLE, HTH_ETIMEDOUT, HTH_EAUTH
 * (wrong, used or expired code; or the other end does not know it: an
 * impostor), HTH_EBUSY (too many tries, says how long to wait), HTH_EVERSION,
 * HTH_EPROTO, HTH_EIO. */
HTH_MUST_CHECK int hth_pairing_join(const struct hth_join_opts *opts,
                                    struct hth_err *err);

#endif
