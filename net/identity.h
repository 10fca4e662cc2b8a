/* identity.h - who a device is: its key, its certificate, the cluster's CA.
 *
 * Every device owns a P-256 key. Its id is derived from the public key, never
 * chosen: the first 80 bits of SHA-256 over the DER SubjectPublicKeyInfo
 * (RFC 5280), in base32 (RFC 4648), as "ABCD-EFGH-IJKL-MNOP". Pairing gives it
 * a certificate signed by the cluster's own CA, whose subject is
 * "CN=<device id>, OU=<device|coordinator>". The CN being the id, a TLS client
 * pins its peer by asking for that id as the host name.
 *
 * Files live in a directory of the caller's (created, mode 0700): device.key
 * (0600), device.crt, ca.crt, coordinator.json; for a CA ca.key (0600) and
 * cluster.crt (one directory may hold both). All are written to a temporary
 * name, synced and renamed.
 * Certificates are valid from 1970 to 2069, so that a board without a
 * clock is not locked out; revocation is the registry's business, not time's.
 *
 * Threads: an identity and a CA are immutable but for _install(), _forget();
 * everything else may be called from any thread at the same time. */
#ifndef HTH_NET_IDENTITY_H
#define HTH_NET_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"

#define HTH_DEVICE_ID_SIZE 20u /* 16 letters, 3 dashes, the NUL */
#define HTH_SERIAL_SIZE 33u    /* 16 bytes in hex, the NUL */

struct hth_identity;
struct hth_ca;

/* Where a paired worker finds its coordinator, and whom to expect there. */
struct hth_coordinator {
    char id[HTH_DEVICE_ID_SIZE];
    char name[HTH_NAME_MAX];
    char host[HTH_HOST_MAX]; /* as the user gave it at pairing */
    uint16_t control_port;
    uint16_t data_port;
};

/* What pairing hands to a device. All text is NUL-terminated and borrowed. */
struct hth_membership {
    const char *cert_pem;
    const char *ca_pem;
    struct hth_coordinator coordinator;
};

/* Open the identity in dir; the first time, make the directory and the key.
 * Errors: HTH_EIO (path in the text), HTH_EFORMAT (a file is damaged: the
 * text says which one to remove and what that costs), HTH_ENOMEM. */
HTH_MUST_CHECK int hth_identity_open(struct hth_identity **out, const char *dir,
                                     struct hth_err *err);
void hth_identity_close(struct hth_identity *id); /* NULL is fine */

const char *hth_identity_id(const struct hth_identity *id);
/* True when a certificate and a CA are there (and fit the key). */
bool hth_identity_paired(const struct hth_identity *id);
/* PEM, NUL-terminated, borrowed; the last two are NULL while not paired. */
const char *hth_identity_key_pem(const struct hth_identity *id);
const char *hth_identity_cert_pem(const struct hth_identity *id);
const char *hth_identity_ca_pem(const struct hth_identity *id);
/* NULL while not paired and on the coordinator itself. */
const struct hth_coordinator *
hth_identity_coordinator(const struct hth_identity *id);
/* DER SubjectPublicKeyInfo; returns its length, at most HTH_PUBKEY_MAX. */
size_t hth_identity_pubkey(const struct hth_identity *id,
                           uint8_t out[HTH_PUBKEY_MAX]);

/* Check that the certificate is for this key, names this device and is signed
 * by the CA in m, then store both. Errors: HTH_EAUTH, HTH_EFORMAT, HTH_EIO.
 * No other call on id may run at the same time. */
HTH_MUST_CHECK int hth_identity_install(struct hth_identity *id,
                                        const struct hth_membership *m,
                                        struct hth_err *err);
/* Leave the cluster: remove certificate, CA and coordinator; the key (and so
 * the id) stays. */
HTH_MUST_CHECK int hth_identity_forget(struct hth_identity *id,
                                       struct hth_err *err);

/* ECDSA (SHA-256) over msg with the device's key; sig is DER. */
struct hth_sig {
    uint8_t bytes[HTH_SIG_MAX];
    size_t len;
};
HTH_MUST_CHECK int hth_identity_sign(const struct hth_identity *id,
                                     const void *msg, size_t n,
                                     struct hth_sig *out, struct hth_err *err);

/* ---- certificates of others -------------------------------------------- */

struct hth_cert {
    char id[HTH_DEVICE_ID_SIZE];    /* derived from the key, equals the CN */
    char serial[HTH_SERIAL_SIZE];   /* lower-case hex */
    bool coordinator;               /* may act as the cluster's coordinator */
    uint8_t pubkey[HTH_PUBKEY_MAX]; /* DER SubjectPublicKeyInfo */
    size_t pubkey_len;
};

/* Parse one certificate (PEM with its NUL counted in n, or DER) from a peer
 * and check that ca_pem signed it and that its CN is the id of its key. Never
 * trusts a byte. Errors: HTH_EAUTH (foreign or forged), HTH_EFORMAT. */
HTH_MUST_CHECK int hth_cert_check(struct hth_cert *out, const void *cert,
                                  size_t n, const char *ca_pem,
                                  struct hth_err *err);
/* Did the key of cert make sig over msg? HTH_EAUTH if not. */
HTH_MUST_CHECK int hth_cert_verify(const struct hth_cert *cert, const void *msg,
                                   size_t n, const struct hth_sig *sig,
                                   struct hth_err *err);
/* The id of a DER public key; HTH_EFORMAT unless it is a valid P-256 key. */
HTH_MUST_CHECK int hth_pubkey_id(const uint8_t *der, size_t n,
                                 char out[HTH_DEVICE_ID_SIZE],
                                 struct hth_err *err);
/* Is text of the form of a device id? */
bool hth_device_id_valid(const char *text);
/* Copy a device name someone else chose: printable UTF-8 only, everything
 * else becomes '?', cut to fit; an empty one becomes "unnamed". */
void hth_name_clean(char out[HTH_NAME_MAX], const char *name);

/* ---- the CA (coordinator only) ------------------------------------------ */

/* Open the CA in dir; the first time, make it. Errors as identity_open. */
HTH_MUST_CHECK int hth_ca_open(struct hth_ca **out, const char *dir,
                               struct hth_err *err);
void hth_ca_close(struct hth_ca *ca); /* NULL is fine */
const char *hth_ca_pem(const struct hth_ca *ca);

struct hth_issued {
    char id[HTH_DEVICE_ID_SIZE];
    char serial[HTH_SERIAL_SIZE];
    char cert_pem[HTH_PEM_MAX];
};
/* Sign a device certificate for a DER public key that came from a peer.
 * Errors: HTH_EFORMAT (no P-256 key), HTH_EINTERNAL. */
HTH_MUST_CHECK int hth_ca_sign(const struct hth_ca *ca, const uint8_t *pubkey,
                               size_t n, struct hth_issued *out,
                               struct hth_err *err);
/* Give the coordinator's own identity its certificate, unless it has one of
 * this CA already. */
HTH_MUST_CHECK int hth_ca_enroll(const struct hth_ca *ca,
                                 struct hth_identity *id, struct hth_err *err);

#endif
