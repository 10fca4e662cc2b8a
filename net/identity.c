/* identity.c - a device's key and membership, and the files they live in.
 * Refuses to replace a key it cannot read: a new key is a new device. */
#include "net/identity.h"

#include <fcntl.h>
#include <jansson.h>
#include <mbedtls/platform_util.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/statefile.h"
#include "net/x509.h"

#define COORDINATOR_FILE_MAX 4096u

struct hth_identity {
    char dir[HTH_PATH_BYTES_MAX];
    char id[HTH_DEVICE_ID_SIZE];
    uint8_t pubkey[HTH_PUBKEY_MAX];
    size_t pubkey_len;
    char key_pem[HTH_PEM_MAX];
    char cert_pem[HTH_PEM_MAX]; /* "" while not paired */
    char ca_pem[HTH_PEM_MAX];
    struct hth_coordinator coordinator; /* id "" when there is none */
};

/* ---- files --------------------------------------------------------------- */

/* Read dir/name into dst; HTH_ENOTFOUND leaves err alone. */
static int load_pem(const char *dir, const char *name, char dst[HTH_PEM_MAX],
                    struct hth_err *err)
{
    char path[HTH_PATH_BYTES_MAX];
    char *text;
    size_t n;
    int status = hth__path(path, dir, name, err);

    if (status == HTH_OK)
        status = hth__file_read(path, HTH_PEM_MAX, &text, &n, err);
    if (status != HTH_OK)
        return status;
    memcpy(dst, text, n + 1);
    mbedtls_platform_zeroize(text, n);
    free(text);
    return HTH_OK;
}

static int save_text(const char *dir, const char *name, const char *text,
                     struct hth_err *err)
{
    char path[HTH_PATH_BYTES_MAX];
    size_t ext = strlen(name) > 4 ? strlen(name) - 4 : 0;
    struct hth__file f = {.path = path, .data = text, .n = strlen(text)};
    int status = hth__path(path, dir, name, err);

    f.mode = strcmp(name + ext, ".key") == 0 ? 0600 : 0644;
    return status != HTH_OK ? status : hth__file_write(&f, err);
}

static int remove_in(const char *dir, const char *name, struct hth_err *err)
{
    char path[HTH_PATH_BYTES_MAX];
    int status = hth__path(path, dir, name, err);

    return status != HTH_OK ? status : hth__file_remove(path, err);
}

/* ---- the key ------------------------------------------------------------- */

/* Read the private key of dir/name, or make and store it the first time. */
static int load_or_make_key(const char *dir, const char *name,
                            char pem[HTH_PEM_MAX], struct hth_err *err)
{
    int status = load_pem(dir, name, pem, err);

    if (status != HTH_ENOTFOUND)
        return status;
    status = hth__key_generate(pem, err);
    return status != HTH_OK ? status : save_text(dir, name, pem, err);
}

static int read_key(struct hth_identity *id, struct hth_err *err)
{
    mbedtls_pk_context pk;
    int status = load_or_make_key(id->dir, "device.key", id->key_pem, err);

    if (status != HTH_OK)
        return status;
    status = hth__key_parse(&pk, id->key_pem, err);
    if (status != HTH_OK)
        return hth_fail_prefix(err, status,
                               "%s/device.key is damaged; remove it to become "
                               "a new device, which must be paired again",
                               id->dir);
    id->pubkey_len = hth__pubkey_der(&pk, id->pubkey);
    mbedtls_pk_free(&pk);
    hth__pubkey_id(id->pubkey, id->pubkey_len, id->id);
    return HTH_OK;
}

/* ---- the coordinator file ------------------------------------------------ */

static bool json_text(const json_t *o, const char *key, char *dst, size_t size)
{
    const char *s = json_string_value(json_object_get(o, key));

    if (s == NULL || strlen(s) >= size)
        return false;
    memcpy(dst, s, strlen(s) + 1);
    return true;
}

static bool json_port(const json_t *o, const char *key, uint16_t *out)
{
    json_int_t v = json_integer_value(json_object_get(o, key));

    if (v < 1 || v > UINT16_MAX)
        return false;
    *out = (uint16_t)v;
    return true;
}

static bool parse_coordinator(const char *text, struct hth_coordinator *c)
{
    json_t *o = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    bool ok = json_text(o, "id", c->id, sizeof c->id) &&
              hth_device_id_valid(c->id) &&
              json_text(o, "name", c->name, sizeof c->name) &&
              json_text(o, "host", c->host, sizeof c->host) &&
              json_port(o, "control_port", &c->control_port) &&
              json_port(o, "data_port", &c->data_port);

    json_decref(o);
    return ok;
}

static int load_coordinator(struct hth_identity *id, struct hth_err *err)
{
    struct hth_coordinator c = {.control_port = 0};
    char path[HTH_PATH_BYTES_MAX];
    char *text;
    size_t n;
    bool ok;
    int status = hth__path(path, id->dir, "coordinator.json", err);

    if (status == HTH_OK)
        status = hth__file_read(path, COORDINATOR_FILE_MAX, &text, &n, err);
    if (status == HTH_ENOTFOUND)
        return HTH_OK;
    if (status != HTH_OK)
        return status;
    ok = parse_coordinator(text, &c);
    free(text);
    if (!ok)
        return hth_fail(err, HTH_EFORMAT,
                        "%s is damaged; remove it and pair this device again",
                        path);
    id->coordinator = c;
    return HTH_OK;
}

static int save_coordinator(const char *dir, const struct hth_coordinator *c,
                            struct hth_err *err)
{
    json_t *o = json_pack("{ss ss ss si si}", "id", c->id, "name", c->name,
                          "host", c->host, "control_port", (int)c->control_port,
                          "data_port", (int)c->data_port);
    char *text = o != NULL ? json_dumps(o, JSON_INDENT(2)) : NULL;
    int status = text != NULL ? save_text(dir, "coordinator.json", text, err)
                              : hth_fail(err, HTH_EINVAL,
                                         "the coordinator's name or host is "
                                         "not UTF-8");

    free(text);
    json_decref(o);
    return status;
}

/* ---- membership ---------------------------------------------------------- */

/* Does cert belong to this key and this CA? */
static int check_own(const struct hth_identity *id, const char *cert_pem,
                     const char *ca_pem, struct hth_err *err)
{
    struct hth_cert cert;
    int status =
        hth_cert_check(&cert, cert_pem, strlen(cert_pem) + 1, ca_pem, err);

    if (status == HTH_OK && strcmp(cert.id, id->id) != 0)
        status = hth_fail(err, HTH_EAUTH,
                          "the certificate is for %s, this device is %s",
                          cert.id, id->id);
    return status;
}

/* A key alone is a fresh device; one of the two certificates without the
 * other is an installation cut short, which counts as not paired. */
static int load_membership(struct hth_identity *id, struct hth_err *err)
{
    int cert = load_pem(id->dir, "device.crt", id->cert_pem, err);
    int ca =
        cert == HTH_OK ? load_pem(id->dir, "ca.crt", id->ca_pem, err) : cert;
    int status;

    if (ca != HTH_OK) {
        id->cert_pem[0] = id->ca_pem[0] = '\0';
        return ca == HTH_ENOTFOUND ? HTH_OK : ca;
    }
    status = check_own(id, id->cert_pem, id->ca_pem, err);
    if (status != HTH_OK)
        return hth_fail_prefix(err, HTH_EFORMAT,
                               "%s/device.crt does not fit; remove it and "
                               "pair this device again",
                               id->dir);
    return load_coordinator(id, err);
}

static int load_all(struct hth_identity *id, const char *dir,
                    struct hth_err *err)
{
    int n = snprintf(id->dir, sizeof id->dir, "%s", dir);
    int status;
    int lock;

    if (n < 0 || (size_t)n >= sizeof id->dir)
        return hth_fail(err, HTH_ELIMIT, "path is too long: %.100s...", dir);
    status = hth__dir_make(dir, err);
    if (status != HTH_OK)
        return status;
    lock = hth__dir_lock(dir, err);
    if (lock < 0)
        return lock;
    status = read_key(id, err);
    if (status == HTH_OK)
        status = load_membership(id, err);
    close(lock);
    return status;
}

int hth_identity_open(struct hth_identity **out, const char *dir,
                      struct hth_err *err)
{
    struct hth_identity *id = calloc(1, sizeof *id);
    int status;

    if (id == NULL)
        return hth_fail(err, HTH_ENOMEM, "open identity: out of memory");
    status = load_all(id, dir, err);
    if (status != HTH_OK) {
        hth_identity_close(id);
        return status;
    }
    *out = id;
    return HTH_OK;
}

void hth_identity_close(struct hth_identity *id)
{
    if (id == NULL)
        return;
    mbedtls_platform_zeroize(id->key_pem, sizeof id->key_pem);
    free(id);
}

/* The CA goes last: until it is there, the device counts as not paired. */
static int store(const struct hth_identity *id, const struct hth_membership *m,
                 struct hth_err *err)
{
    int status = remove_in(id->dir, "ca.crt", err);

    if (status == HTH_OK && m->coordinator.id[0] != '\0')
        status = save_coordinator(id->dir, &m->coordinator, err);
    if (status == HTH_OK && m->coordinator.id[0] == '\0')
        status = remove_in(id->dir, "coordinator.json", err);
    if (status == HTH_OK)
        status = save_text(id->dir, "device.crt", m->cert_pem, err);
    if (status == HTH_OK)
        status = save_text(id->dir, "ca.crt", m->ca_pem, err);
    return status;
}

int hth_identity_install(struct hth_identity *id,
                         const struct hth_membership *m, struct hth_err *err)
{
    int status;
    int lock;

    if (strlen(m->cert_pem) >= HTH_PEM_MAX || strlen(m->ca_pem) >= HTH_PEM_MAX)
        return hth_fail(err, HTH_EFORMAT, "certificate is too long");
    status = check_own(id, m->cert_pem, m->ca_pem, err);
    if (status != HTH_OK)
        return status;
    lock = hth__dir_lock(id->dir, err);
    if (lock < 0)
        return lock;
    status = store(id, m, err);
    close(lock);
    if (status != HTH_OK)
        return status;
    memcpy(id->cert_pem, m->cert_pem, strlen(m->cert_pem) + 1);
    memcpy(id->ca_pem, m->ca_pem, strlen(m->ca_pem) + 1);
    id->coordinator = m->coordinator;
    return HTH_OK;
}

int hth_identity_forget(struct hth_identity *id, struct hth_err *err)
{
    int status = remove_in(id->dir, "ca.crt", err);

    if (status == HTH_OK)
        status = remove_in(id->dir, "device.crt", err);
    if (status == HTH_OK)
        status = remove_in(id->dir, "coordinator.json", err);
    if (status != HTH_OK)
        return status;
    id->cert_pem[0] = id->ca_pem[0] = id->coordinator.id[0] = '\0';
    return HTH_OK;
}

/* ---- looking ------------------------------------------------------------- */

const char *hth_identity_id(const struct hth_identity *id)
{
    return id->id;
}

bool hth_identity_paired(const struct hth_identity *id)
{
    return id->ca_pem[0] != '\0';
}

const char *hth_identity_key_pem(const struct hth_identity *id)
{
    return id->key_pem;
}

const char *hth_identity_cert_pem(const struct hth_identity *id)
{
    return hth_identity_paired(id) ? id->cert_pem : NULL;
}

const char *hth_identity_ca_pem(const struct hth_identity *id)
{
    return hth_identity_paired(id) ? id->ca_pem : NULL;
}

const struct hth_coordinator *
hth_identity_coordinator(const struct hth_identity *id)
{
    return id->coordinator.id[0] != '\0' ? &id->coordinator : NULL;
}

size_t hth_identity_pubkey(const struct hth_identity *id,
                           uint8_t out[HTH_PUBKEY_MAX])
{
    memcpy(out, id->pubkey, id->pubkey_len);
    return id->pubkey_len;
}

int hth_identity_sign(const struct hth_identity *id, const void *msg, size_t n,
                      struct hth_sig *out, struct hth_err *err)
{
    mbedtls_pk_context pk;
    uint8_t hash[SHA256_DIGEST_LENGTH];
    uint8_t sig[MBEDTLS_PK_SIGNATURE_MAX_SIZE];
    size_t len = 0;
    int status = hth__key_parse(&pk, id->key_pem, err);
    int rc;

    if (status != HTH_OK)
        return status;
    SHA256(msg, n, hash);
    rc = mbedtls_pk_sign(&pk, MBEDTLS_MD_SHA256, hash, sizeof hash, sig, &len,
                         hth__rng, NULL);
    mbedtls_pk_free(&pk);
    if (rc != 0 || len > sizeof out->bytes)
        return hth__mbed_fail(err, HTH_EINTERNAL, rc, "sign");
    memcpy(out->bytes, sig, len);
    out->len = len;
    return HTH_OK;
}

bool hth_device_id_valid(const char *text)
{
    for (unsigned i = 0; i < HTH_DEVICE_ID_SIZE - 1; i++) {
        char c = text[i];
        bool letter = (c >= 'A' && c <= 'Z') || (c >= '2' && c <= '7');

        if (i % 5 == 4 ? c != '-' : !letter)
            return false;
    }
    return text[HTH_DEVICE_ID_SIZE - 1] == '\0';
}

/* Bytes of the UTF-8 character at s (RFC 3629: shortest form, no surrogates,
 * no C1 controls), or 0 if it is none that should be printed. */
static size_t printable(const unsigned char *s)
{
    if (s[0] < 0x80)
        return s[0] >= 0x20 && s[0] != 0x7f;
    if (s[0] >= 0xc2 && s[0] <= 0xdf)
        return (s[1] & 0xc0) == 0x80 && !(s[0] == 0xc2 && s[1] < 0xa0) ? 2 : 0;
    if ((s[0] & 0xf0) == 0xe0) {
        bool bad = (s[0] == 0xe0 && s[1] < 0xa0) ||
                   (s[0] == 0xed && s[1] >= 0xa0) ||
                   (s[0] == 0xe2 && s[1] == 0x80 && s[2] >= 0xa8 &&
                    s[2] <= 0xae); /* line separators, bidi overrides */

        return !bad && (s[1] & 0xc0) == 0x80 && (s[2] & 0xc0) == 0x80 ? 3 : 0;
    }
    if (s[0] >= 0xf0 && s[0] <= 0xf4) {
        bool bad =
            (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] >= 0x90);

        return !bad && (s[1] & 0xc0) == 0x80 && (s[2] & 0xc0) == 0x80 &&
                       (s[3] & 0xc0) == 0x80
                   ? 4
                   : 0;
    }
    return 0;
}

void hth_name_clean(char out[HTH_NAME_MAX], const char *name)
{
    const unsigned char *s = (const unsigned char *)name;
    char clean[HTH_NAME_MAX];
    size_t n = 0;

    while (*s != '\0') {
        size_t len = printable(s);

        if (n + (len > 0 ? len : 1) >= sizeof clean)
            break;
        if (len == 0) {
            clean[n++] = '?';
            s++;
            continue;
        }
        memcpy(clean + n, s, len);
        n += len;
        s += len;
    }
    clean[n] = '\0';
    snprintf(out, HTH_NAME_MAX, "%s", n > 0 ? clean : "unnamed");
}
