/* x509.h - the corner of mbedTLS that makes and reads keys and certificates.
 * Internal to net/: the only place, with tls.c, that knows mbedTLS 2.28's
 * names. Contexts of mbedTLS are parsed anew for each use and never shared:
 * its elliptic-curve code caches tables inside a key while signing, so a shared
 * key would be a data race. Thread-safe. */
#ifndef HTH_NET_X509_H
#define HTH_NET_X509_H

#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>

#include "net/identity.h"

/* Random bytes from libcrypto in the form mbedTLS asks for; ctx is unused.
 * 0 or an mbedTLS error. */
int hth__rng(void *ctx, unsigned char *out, size_t n);

/* Turn an mbedTLS code into "what: its text (-0x1234)" and a status. */
int hth__mbed_fail(struct hth_err *err, int status, int code, const char *what);

/* A new P-256 key. */
HTH_MUST_CHECK int hth__key_generate(char pem[HTH_PEM_MAX],
                                     struct hth_err *err);
/* Parse a private key; on error *pk is freed. It must be P-256. */
HTH_MUST_CHECK int hth__key_parse(mbedtls_pk_context *pk, const char *pem,
                                  struct hth_err *err);
/* Parse a peer's DER public key; on error *pk is freed. */
HTH_MUST_CHECK int hth__pubkey_parse(mbedtls_pk_context *pk, const uint8_t *der,
                                     size_t n, struct hth_err *err);
/* The canonical DER of a key's public half; 0 when it does not fit. */
size_t hth__pubkey_der(mbedtls_pk_context *pk, uint8_t out[HTH_PUBKEY_MAX]);
/* The id of canonical DER. */
void hth__pubkey_id(const uint8_t *der, size_t n, char out[HTH_DEVICE_ID_SIZE]);

struct hth__cert_spec {
    mbedtls_pk_context *issuer_key;
    mbedtls_pk_context *subject_key; /* public half is enough */
    const char *issuer;              /* "CN=...,OU=..." */
    const char *subject;
    bool ca;
};
/* A certificate with a random serial (hex in serial). */
HTH_MUST_CHECK int hth__cert_write(const struct hth__cert_spec *spec,
                                   char pem[HTH_PEM_MAX],
                                   char serial[HTH_SERIAL_SIZE],
                                   struct hth_err *err);
/* What a parsed and verified leaf says; its CN must be the id of its key. */
HTH_MUST_CHECK int hth__cert_read(struct hth_cert *out, mbedtls_x509_crt *crt,
                                  struct hth_err *err);
/* Parse exactly one certificate; on error *crt is freed. PEM includes its NUL
 * in n. */
HTH_MUST_CHECK int hth__cert_parse(mbedtls_x509_crt *crt, const void *data,
                                   size_t n, struct hth_err *err);
/* hth_ca_sign() with a role: OU is "device" or "coordinator". */
HTH_MUST_CHECK int hth__ca_sign_as(const struct hth_ca *ca,
                                   mbedtls_pk_context *subject,
                                   const char *role, struct hth_issued *out,
                                   struct hth_err *err);

#endif
