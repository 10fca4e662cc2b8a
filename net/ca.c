/* ca.c - the cluster's certificate authority: one P-256 key on the
 * coordinator. Whoever has ca.key can admit devices; it never leaves its
 * directory. Revocation is not here: the registry is asked at every link. */
#include <mbedtls/platform_util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/identity.h"
#include "net/statefile.h"
#include "net/x509.h"

struct hth_ca {
    char key_pem[HTH_PEM_MAX];
    char cert_pem[HTH_PEM_MAX];
    char subject[64]; /* "CN=Hearth cluster ABCD-..." */
};

/* The cluster's name is derived from the CA's key, like a device's id. */
static void name_ca(struct hth_ca *ca, mbedtls_pk_context *key)
{
    uint8_t der[HTH_PUBKEY_MAX];
    char id[HTH_DEVICE_ID_SIZE];

    hth__pubkey_id(der, hth__pubkey_der(key, der), id);
    snprintf(ca->subject, sizeof ca->subject, "CN=Hearth cluster %s", id);
}

static int make_cert(struct hth_ca *ca, mbedtls_pk_context *key,
                     struct hth_err *err)
{
    char serial[HTH_SERIAL_SIZE];
    struct hth__cert_spec spec = {.issuer_key = key,
                                  .subject_key = key,
                                  .issuer = ca->subject,
                                  .subject = ca->subject,
                                  .ca = true};

    return hth__cert_write(&spec, ca->cert_pem, serial, err);
}

/* Read dir/name, or call it missing by leaving dst empty. */
static int load(const char *dir, const char *name, char dst[HTH_PEM_MAX],
                struct hth_err *err)
{
    char path[HTH_PATH_BYTES_MAX];
    char *text;
    size_t n;
    int status = hth__path(path, dir, name, err);

    if (status == HTH_OK)
        status = hth__file_read(path, HTH_PEM_MAX, &text, &n, err);
    if (status == HTH_ENOTFOUND)
        return HTH_OK;
    if (status != HTH_OK)
        return status;
    memcpy(dst, text, n + 1);
    mbedtls_platform_zeroize(text, n);
    free(text);
    return HTH_OK;
}

static int save(const char *dir, const char *name, const char *text,
                mode_t mode, struct hth_err *err)
{
    char path[HTH_PATH_BYTES_MAX];
    struct hth__file f = {path, text, strlen(text), mode};
    int status = hth__path(path, dir, name, err);

    return status != HTH_OK ? status : hth__file_write(&f, err);
}

/* The certificate is stored once and never made again from the key: its
 * bytes are what every device has pinned. */
static int open_cert(struct hth_ca *ca, const char *dir, struct hth_err *err)
{
    mbedtls_pk_context key;
    int status = hth__key_parse(&key, ca->key_pem, err);

    if (status != HTH_OK)
        return hth_fail_prefix(err, status,
                               "%s/ca.key is damaged; restore it, or remove "
                               "ca.key and ca.crt and pair every device again",
                               dir);
    name_ca(ca, &key);
    status = load(dir, "cluster.crt", ca->cert_pem, err);
    if (status == HTH_OK && ca->cert_pem[0] == '\0') {
        status = make_cert(ca, &key, err);
        if (status == HTH_OK)
            status = save(dir, "cluster.crt", ca->cert_pem, 0644, err);
    }
    mbedtls_pk_free(&key);
    return status;
}

static int open_files(struct hth_ca *ca, const char *dir, struct hth_err *err)
{
    int status = load(dir, "ca.key", ca->key_pem, err);

    if (status != HTH_OK)
        return status;
    if (ca->key_pem[0] == '\0') {
        status = hth__key_generate(ca->key_pem, err);
        if (status == HTH_OK)
            status = save(dir, "ca.key", ca->key_pem, 0600, err);
        if (status != HTH_OK)
            return status;
    }
    return open_cert(ca, dir, err);
}

static int check_ca(const struct hth_ca *ca, const char *dir,
                    struct hth_err *err)
{
    mbedtls_x509_crt crt;
    int status =
        hth__cert_parse(&crt, ca->cert_pem, strlen(ca->cert_pem) + 1, err);

    if (status != HTH_OK)
        return hth_fail_prefix(err, status, "%s/cluster.crt is damaged", dir);
    mbedtls_x509_crt_free(&crt);
    return HTH_OK;
}

int hth_ca_open(struct hth_ca **out, const char *dir, struct hth_err *err)
{
    struct hth_ca *ca;
    int status = hth__dir_make(dir, err);
    int lock;

    if (status != HTH_OK)
        return status;
    lock = hth__dir_lock(dir, err);
    if (lock < 0)
        return lock;
    ca = calloc(1, sizeof *ca);
    status = ca == NULL ? hth_fail(err, HTH_ENOMEM, "open CA: out of memory")
                        : open_files(ca, dir, err);
    close(lock);
    if (status == HTH_OK)
        status = check_ca(ca, dir, err);
    if (status != HTH_OK) {
        hth_ca_close(ca);
        return status;
    }
    *out = ca;
    return HTH_OK;
}

void hth_ca_close(struct hth_ca *ca)
{
    if (ca == NULL)
        return;
    mbedtls_platform_zeroize(ca->key_pem, sizeof ca->key_pem);
    free(ca);
}

const char *hth_ca_pem(const struct hth_ca *ca)
{
    return ca->cert_pem;
}

int hth__ca_sign_as(const struct hth_ca *ca, mbedtls_pk_context *subject,
                    const char *role, struct hth_issued *out,
                    struct hth_err *err)
{
    mbedtls_pk_context key;
    uint8_t der[HTH_PUBKEY_MAX];
    char name[64];
    struct hth__cert_spec spec = {.issuer_key = &key,
                                  .subject_key = subject,
                                  .issuer = ca->subject,
                                  .subject = name};
    int status = hth__key_parse(&key, ca->key_pem, err);

    if (status != HTH_OK)
        return status;
    hth__pubkey_id(der, hth__pubkey_der(subject, der), out->id);
    snprintf(name, sizeof name, "CN=%s,OU=%s", out->id, role);
    status = hth__cert_write(&spec, out->cert_pem, out->serial, err);
    mbedtls_pk_free(&key);
    return status;
}

int hth_ca_sign(const struct hth_ca *ca, const uint8_t *pubkey, size_t n,
                struct hth_issued *out, struct hth_err *err)
{
    mbedtls_pk_context subject;
    int status = hth__pubkey_parse(&subject, pubkey, n, err);

    if (status != HTH_OK)
        return status;
    status = hth__ca_sign_as(ca, &subject, "device", out, err);
    mbedtls_pk_free(&subject);
    return status;
}

static bool enrolled(const struct hth_ca *ca, const struct hth_identity *id)
{
    struct hth_cert cert;
    const char *pem = hth_identity_cert_pem(id);

    return pem != NULL &&
           hth_cert_check(&cert, pem, strlen(pem) + 1, ca->cert_pem, NULL) ==
               HTH_OK &&
           cert.coordinator;
}

int hth_ca_enroll(const struct hth_ca *ca, struct hth_identity *id,
                  struct hth_err *err)
{
    struct hth_issued issued;
    struct hth_membership m = {.cert_pem = issued.cert_pem,
                               .ca_pem = ca->cert_pem};
    mbedtls_pk_context key;
    int status;

    if (enrolled(ca, id))
        return HTH_OK;
    status = hth__key_parse(&key, hth_identity_key_pem(id), err);
    if (status != HTH_OK)
        return status;
    status = hth__ca_sign_as(ca, &key, "coordinator", &issued, err);
    mbedtls_pk_free(&key);
    return status != HTH_OK ? status : hth_identity_install(id, &m, err);
}
