/* x509.c - keys and certificates by mbedTLS 2.28. Peers' bytes only ever reach
 * its parsers with an explicit length, and what comes out is checked again:
 * the curve, the number of certificates, the name against the key. */
#include "net/x509.h"

#include <mbedtls/ecp.h>
#include <mbedtls/error.h>
#include <mbedtls/oid.h>
#include <mbedtls/platform_util.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>

#define SERIAL_BYTES 16u
/* A board without a clock thinks it is 1970. */
#define VALID_FROM "19700101000000"
#define VALID_TO "20691231235959"

int hth__rng(void *ctx, unsigned char *out, size_t n)
{
    (void)ctx;
    return RAND_bytes(out, (int)n) == 1 ? 0 : MBEDTLS_ERR_ECP_RANDOM_FAILED;
}

int hth__mbed_fail(struct hth_err *err, int status, int code, const char *what)
{
    char text[160];

    mbedtls_strerror(code, text, sizeof text);
    return hth_fail(err, status, "%s: %s (-0x%04x)", what, text,
                    (unsigned)-code);
}

/* ---- keys ---------------------------------------------------------------- */

int hth__key_generate(char pem[HTH_PEM_MAX], struct hth_err *err)
{
    mbedtls_pk_context pk;
    int rc;

    mbedtls_pk_init(&pk);
    rc = mbedtls_pk_setup(&pk, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
    if (rc == 0)
        rc = mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(pk),
                                 hth__rng, NULL);
    if (rc == 0)
        rc = mbedtls_pk_write_key_pem(&pk, (unsigned char *)pem, HTH_PEM_MAX);
    mbedtls_pk_free(&pk);
    if (rc != 0)
        return hth__mbed_fail(err, HTH_EINTERNAL, rc, "make a key");
    return HTH_OK;
}

static bool is_p256(const mbedtls_pk_context *pk)
{
    return mbedtls_pk_get_type(pk) == MBEDTLS_PK_ECKEY &&
           mbedtls_pk_ec(*pk)->grp.id == MBEDTLS_ECP_DP_SECP256R1;
}

static int finish_parse(mbedtls_pk_context *pk, int rc, const char *what,
                        struct hth_err *err)
{
    if (rc == 0 && is_p256(pk))
        return HTH_OK;
    mbedtls_pk_free(pk);
    if (rc != 0)
        return hth__mbed_fail(err, HTH_EFORMAT, rc, what);
    return hth_fail(err, HTH_EFORMAT, "%s: not a P-256 key", what);
}

int hth__key_parse(mbedtls_pk_context *pk, const char *pem, struct hth_err *err)
{
    int rc;

    mbedtls_pk_init(pk);
    rc = mbedtls_pk_parse_key(pk, (const unsigned char *)pem, strlen(pem) + 1,
                              NULL, 0);
    return finish_parse(pk, rc, "read the private key", err);
}

int hth__pubkey_parse(mbedtls_pk_context *pk, const uint8_t *der, size_t n,
                      struct hth_err *err)
{
    unsigned char copy[HTH_PUBKEY_MAX];
    unsigned char *p = copy;
    int rc;

    mbedtls_pk_init(pk);
    if (n > sizeof copy)
        return hth_fail(err, HTH_EFORMAT, "public key of %zu bytes", n);
    memcpy(copy, der, n);
    rc = mbedtls_pk_parse_subpubkey(&p, copy + n, pk);
    return finish_parse(pk, rc, "read the public key", err);
}

size_t hth__pubkey_der(mbedtls_pk_context *pk, uint8_t out[HTH_PUBKEY_MAX])
{
    /* mbedTLS writes from the end of the buffer backwards. */
    uint8_t tail[HTH_PUBKEY_MAX];
    int n = mbedtls_pk_write_pubkey_der(pk, tail, sizeof tail);

    if (n <= 0)
        return 0;
    memcpy(out, tail + sizeof tail - (size_t)n, (size_t)n);
    return (size_t)n;
}

/* RFC 4648 base32 of the first 10 bytes, in groups of four. */
void hth__pubkey_id(const uint8_t *der, size_t n, char out[HTH_DEVICE_ID_SIZE])
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    uint8_t hash[SHA256_DIGEST_LENGTH];
    size_t at = 0;

    SHA256(der, n, hash);
    for (unsigned i = 0; i < 16; i++) {
        unsigned bit = i * 5;
        unsigned two = (unsigned)hash[bit / 8] << 8 | hash[bit / 8 + 1];

        if (i > 0 && i % 4 == 0)
            out[at++] = '-';
        out[at++] = letters[two >> (11 - bit % 8) & 31];
    }
    out[at] = '\0';
}

/* ---- writing certificates ------------------------------------------------ */

/* Positive and never zero, as RFC 5280 wants serials. */
static int make_serial(mbedtls_mpi *mpi, char text[HTH_SERIAL_SIZE])
{
    uint8_t raw[SERIAL_BYTES];
    int rc = hth__rng(NULL, raw, sizeof raw);

    if (rc != 0)
        return rc;
    raw[0] = (uint8_t)((raw[0] & 0x7f) | 0x40);
    for (size_t i = 0; i < sizeof raw; i++)
        snprintf(text + 2 * i, 3, "%02x", raw[i]);
    return mbedtls_mpi_read_binary(mpi, raw, sizeof raw);
}

static int fill_cert(mbedtls_x509write_cert *w,
                     const struct hth__cert_spec *spec)
{
    unsigned usage = spec->ca ? MBEDTLS_X509_KU_KEY_CERT_SIGN
                              : MBEDTLS_X509_KU_DIGITAL_SIGNATURE;
    int rc;

    mbedtls_x509write_crt_set_md_alg(w, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_version(w, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_subject_key(w, spec->subject_key);
    mbedtls_x509write_crt_set_issuer_key(w, spec->issuer_key);
    rc = mbedtls_x509write_crt_set_subject_name(w, spec->subject);
    if (rc == 0)
        rc = mbedtls_x509write_crt_set_issuer_name(w, spec->issuer);
    if (rc == 0)
        rc = mbedtls_x509write_crt_set_validity(w, VALID_FROM, VALID_TO);
    if (rc == 0)
        rc = mbedtls_x509write_crt_set_basic_constraints(w, spec->ca,
                                                         spec->ca ? 0 : -1);
    if (rc == 0)
        rc = mbedtls_x509write_crt_set_key_usage(w, usage);
    return rc;
}

int hth__cert_write(const struct hth__cert_spec *spec, char pem[HTH_PEM_MAX],
                    char serial[HTH_SERIAL_SIZE], struct hth_err *err)
{
    mbedtls_x509write_cert w;
    mbedtls_mpi number;
    int rc;

    mbedtls_x509write_crt_init(&w);
    mbedtls_mpi_init(&number);
    rc = make_serial(&number, serial);
    if (rc == 0)
        rc = mbedtls_x509write_crt_set_serial(&w, &number);
    if (rc == 0)
        rc = fill_cert(&w, spec);
    if (rc == 0)
        rc = mbedtls_x509write_crt_pem(&w, (unsigned char *)pem, HTH_PEM_MAX,
                                       hth__rng, NULL);
    mbedtls_mpi_free(&number);
    mbedtls_x509write_crt_free(&w);
    if (rc != 0)
        return hth__mbed_fail(err, HTH_EINTERNAL, rc, "write a certificate");
    return HTH_OK;
}

/* ---- reading certificates ------------------------------------------------ */

int hth__cert_parse(mbedtls_x509_crt *crt, const void *data, size_t n,
                    struct hth_err *err)
{
    int rc;

    mbedtls_x509_crt_init(crt);
    if (n == 0 || n > HTH_PEM_MAX)
        return hth_fail(err, HTH_EFORMAT, "certificate of %zu bytes", n);
    rc = mbedtls_x509_crt_parse(crt, data, n);
    if (rc == 0 && crt->next == NULL)
        return HTH_OK;
    mbedtls_x509_crt_free(crt);
    if (rc < 0)
        return hth__mbed_fail(err, HTH_EFORMAT, rc, "read the certificate");
    return hth_fail(err, HTH_EFORMAT, "one certificate was expected");
}

/* The value of the one attribute of a name, as text; false when it is
 * missing, there twice, empty or too long. */
static bool name_part(const mbedtls_x509_name *name, const char *oid,
                      size_t oid_len, char *out, size_t size)
{
    unsigned found = 0;

    for (; name != NULL; name = name->next) {
        if (name->oid.len != oid_len || memcmp(name->oid.p, oid, oid_len) != 0)
            continue;
        if (name->val.len == 0 || name->val.len >= size)
            return false;
        memcpy(out, name->val.p, name->val.len);
        out[name->val.len] = '\0';
        found++;
    }
    return found == 1;
}

static bool serial_text(const mbedtls_x509_buf *serial,
                        char out[HTH_SERIAL_SIZE])
{
    if (serial->len != SERIAL_BYTES)
        return false;
    for (size_t i = 0; i < SERIAL_BYTES; i++)
        snprintf(out + 2 * i, 3, "%02x", serial->p[i]);
    return true;
}

int hth__cert_read(struct hth_cert *out, mbedtls_x509_crt *crt,
                   struct hth_err *err)
{
    struct hth_cert c = {.coordinator = false};
    char cn[HTH_DEVICE_ID_SIZE];
    char role[16];

    if (!is_p256(&crt->pk))
        return hth_fail(err, HTH_EAUTH, "certificate without a P-256 key");
    c.pubkey_len = hth__pubkey_der(&crt->pk, c.pubkey);
    hth__pubkey_id(c.pubkey, c.pubkey_len, c.id);
    if (!name_part(&crt->subject, MBEDTLS_OID_AT_CN,
                   MBEDTLS_OID_SIZE(MBEDTLS_OID_AT_CN), cn, sizeof cn) ||
        strcmp(cn, c.id) != 0)
        return hth_fail(err, HTH_EAUTH,
                        "certificate's name is not the id of its key, %s",
                        c.id);
    if (!name_part(&crt->subject, MBEDTLS_OID_AT_ORG_UNIT,
                   MBEDTLS_OID_SIZE(MBEDTLS_OID_AT_ORG_UNIT), role,
                   sizeof role) ||
        !serial_text(&crt->serial, c.serial))
        return hth_fail(err, HTH_EAUTH, "certificate of %s lacks a role", c.id);
    c.coordinator = strcmp(role, "coordinator") == 0;
    *out = c;
    return HTH_OK;
}

static int verify_by(mbedtls_x509_crt *crt, const char *ca_pem,
                     struct hth_err *err)
{
    mbedtls_x509_crt ca;
    uint32_t flags = 0;
    int status = hth__cert_parse(&ca, ca_pem, strlen(ca_pem) + 1, err);
    int rc;

    if (status != HTH_OK)
        return status;
    rc = mbedtls_x509_crt_verify(crt, &ca, NULL, NULL, &flags, NULL, NULL);
    mbedtls_x509_crt_free(&ca);
    if (rc != 0)
        return hth_fail(err, HTH_EAUTH,
                        "the certificate was not signed by this cluster's CA "
                        "(check 0x%x): pair the device again",
                        (unsigned)flags);
    return HTH_OK;
}

int hth_cert_check(struct hth_cert *out, const void *cert, size_t n,
                   const char *ca_pem, struct hth_err *err)
{
    mbedtls_x509_crt crt;
    int status = hth__cert_parse(&crt, cert, n, err);

    if (status != HTH_OK)
        return status;
    status = verify_by(&crt, ca_pem, err);
    if (status == HTH_OK)
        status = hth__cert_read(out, &crt, err);
    mbedtls_x509_crt_free(&crt);
    return status;
}

int hth_cert_verify(const struct hth_cert *cert, const void *msg, size_t n,
                    const struct hth_sig *sig, struct hth_err *err)
{
    mbedtls_pk_context pk;
    uint8_t hash[SHA256_DIGEST_LENGTH];
    int status = hth__pubkey_parse(&pk, cert->pubkey, cert->pubkey_len, err);
    int rc;

    if (status != HTH_OK)
        return status;
    SHA256(msg, n, hash);
    rc = sig->len <= sizeof sig->bytes
             ? mbedtls_pk_verify(&pk, MBEDTLS_MD_SHA256, hash, sizeof hash,
                                 sig->bytes, sig->len)
             : MBEDTLS_ERR_PK_SIG_LEN_MISMATCH;
    mbedtls_pk_free(&pk);
    if (rc != 0)
        return hth__mbed_fail(err, HTH_EAUTH, rc, "the signature is wrong");
    return HTH_OK;
}

int hth_pubkey_id(const uint8_t *der, size_t n, char out[HTH_DEVICE_ID_SIZE],
                  struct hth_err *err)
{
    mbedtls_pk_context pk;
    uint8_t canonical[HTH_PUBKEY_MAX];
    int status = hth__pubkey_parse(&pk, der, n, err);
    size_t len;

    if (status != HTH_OK)
        return status;
    len = hth__pubkey_der(&pk, canonical);
    mbedtls_pk_free(&pk);
    if (len == 0)
        return hth_fail(err, HTH_EFORMAT, "public key is too long");
    hth__pubkey_id(canonical, len, out);
    return HTH_OK;
}
