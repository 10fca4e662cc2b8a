/* pair_proto.c - pairing's messages as bytes, and the arithmetic of its
 * proofs. Pure but for the memory scrypt takes. */
#include "net/pair_proto.h"

#include <mbedtls/sha256.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#define PAIR_MAGIC 0x52504c48u /* "HLPR" */
#define SCRYPT_MEMORY_MAX (160u << 20)

enum kind { KIND_HELLO = 1, KIND_CHALLENGE, KIND_PROOF, KIND_WELCOME };

static void put_head(struct hth_buf *b, enum kind kind)
{
    hth_put_u32(b, PAIR_MAGIC);
    hth_put_u8(b, (uint8_t)kind);
}

static bool get_head(struct hth_cursor *c, const void *p, size_t n,
                     enum kind kind)
{
    hth_cursor_init(c, p, n);
    return hth_get_u32(c) == PAIR_MAGIC && hth_get_u8(c) == (uint8_t)kind;
}

static void get_fixed(struct hth_cursor *c, uint8_t *dst, size_t n)
{
    const uint8_t *p = hth_get_bytes(c, n);

    if (p != NULL)
        memcpy(dst, p, n);
}

/* Length-prefixed bytes into dst[max]; returns how many. */
static size_t get_blob(struct hth_cursor *c, uint8_t *dst, size_t max)
{
    size_t n = 0;
    const char *p = hth_get_str(c, max, &n);

    if (p == NULL)
        return 0;
    memcpy(dst, p, n);
    return n;
}

/* ---- HELLO --------------------------------------------------------------- */

void hth__pair_hello_encode(const struct hth__pair_hello *m,
                            struct hth_buf *out)
{
    put_head(out, KIND_HELLO);
    hth_put_u16(out, m->version_min);
    hth_put_u16(out, m->version_max);
    hth_put_bytes(out, m->nonce, sizeof m->nonce);
    hth_put_str(out, (const char *)m->pubkey, m->pubkey_len);
    hth_put_cstr(out, m->name);
}

int hth__pair_hello_decode(struct hth__pair_hello *out, const void *p, size_t n)
{
    struct hth__pair_hello m = {.version_min = 0};
    struct hth_cursor c;

    if (!get_head(&c, p, n, KIND_HELLO))
        return HTH_EPROTO;
    m.version_min = hth_get_u16(&c);
    m.version_max = hth_get_u16(&c);
    if (c.failed || m.version_min == 0 || m.version_min > m.version_max)
        return HTH_EPROTO;
    if (m.version_min > HTH__PAIR_VERSION_MAX ||
        m.version_max < HTH__PAIR_VERSION_MIN)
        return HTH_EVERSION;
    get_fixed(&c, m.nonce, sizeof m.nonce);
    m.pubkey_len = get_blob(&c, m.pubkey, sizeof m.pubkey);
    hth_get_cstr(&c, m.name, sizeof m.name);
    if (!hth_cursor_done(&c) || m.pubkey_len == 0)
        return HTH_EPROTO;
    *out = m;
    return HTH_OK;
}

/* ---- CHALLENGE ----------------------------------------------------------- */

void hth__pair_challenge_encode(const struct hth__pair_challenge *m,
                                struct hth_buf *out)
{
    put_head(out, KIND_CHALLENGE);
    hth_put_u32(out, (uint32_t)m->status);
    hth_put_cstr(out, m->text);
    if (m->status != HTH_OK)
        return;
    hth_put_u16(out, m->version);
    hth_put_bytes(out, m->nonce, sizeof m->nonce);
    hth_put_bytes(out, m->salt, sizeof m->salt);
    hth_put_u8(out, m->scrypt_log2_n);
}

int hth__pair_challenge_decode(struct hth__pair_challenge *out, const void *p,
                               size_t n)
{
    struct hth__pair_challenge m = {.version = 0};
    struct hth_cursor c;

    if (!get_head(&c, p, n, KIND_CHALLENGE))
        return HTH_EPROTO;
    m.status = (int32_t)hth_get_u32(&c);
    hth_get_cstr(&c, m.text, sizeof m.text);
    if (m.status == HTH_OK) {
        m.version = hth_get_u16(&c);
        get_fixed(&c, m.nonce, sizeof m.nonce);
        get_fixed(&c, m.salt, sizeof m.salt);
        m.scrypt_log2_n = hth_get_u8(&c);
        if (m.version < HTH__PAIR_VERSION_MIN ||
            m.version > HTH__PAIR_VERSION_MAX ||
            m.scrypt_log2_n < HTH__SCRYPT_LOG2_N ||
            m.scrypt_log2_n > HTH__SCRYPT_LOG2_N_MAX)
            return HTH_EPROTO;
    }
    if (!hth_cursor_done(&c) || m.status > 0)
        return HTH_EPROTO;
    *out = m;
    return HTH_OK;
}

/* ---- PROOF --------------------------------------------------------------- */

void hth__pair_proof_encode(const struct hth__pair_proof *m,
                            struct hth_buf *out)
{
    put_head(out, KIND_PROOF);
    hth_put_bytes(out, m->mac, sizeof m->mac);
    hth_put_str(out, (const char *)m->sig.bytes, m->sig.len);
}

int hth__pair_proof_decode(struct hth__pair_proof *out, const void *p, size_t n)
{
    struct hth__pair_proof m = {.mac = {0}};
    struct hth_cursor c;

    if (!get_head(&c, p, n, KIND_PROOF))
        return HTH_EPROTO;
    get_fixed(&c, m.mac, sizeof m.mac);
    m.sig.len = get_blob(&c, m.sig.bytes, sizeof m.sig.bytes);
    if (!hth_cursor_done(&c) || m.sig.len == 0)
        return HTH_EPROTO;
    *out = m;
    return HTH_OK;
}

/* ---- WELCOME ------------------------------------------------------------- */

void hth__pair_welcome_encode(const struct hth__pair_welcome *m,
                              struct hth_buf *out)
{
    put_head(out, KIND_WELCOME);
    hth_put_u32(out, (uint32_t)m->status);
    hth_put_cstr(out, m->text);
    if (m->status != HTH_OK)
        return;
    hth_put_bytes(out, m->mac, sizeof m->mac);
    hth_put_cstr(out, m->cert_pem);
    hth_put_cstr(out, m->ca_pem);
    hth_put_cstr(out, m->name);
    hth_put_u16(out, m->control_port);
    hth_put_u16(out, m->data_port);
}

int hth__pair_welcome_decode(struct hth__pair_welcome *out, const void *p,
                             size_t n)
{
    struct hth__pair_welcome m = {.status = 0};
    struct hth_cursor c;

    if (!get_head(&c, p, n, KIND_WELCOME))
        return HTH_EPROTO;
    m.status = (int32_t)hth_get_u32(&c);
    hth_get_cstr(&c, m.text, sizeof m.text);
    if (m.status == HTH_OK) {
        get_fixed(&c, m.mac, sizeof m.mac);
        hth_get_cstr(&c, m.cert_pem, sizeof m.cert_pem);
        hth_get_cstr(&c, m.ca_pem, sizeof m.ca_pem);
        hth_get_cstr(&c, m.name, sizeof m.name);
        m.control_port = hth_get_u16(&c);
        m.data_port = hth_get_u16(&c);
        if (m.control_port == 0 || m.data_port == 0)
            return HTH_EPROTO;
    }
    if (!hth_cursor_done(&c) || m.status > 0)
        return HTH_EPROTO;
    *out = m;
    return HTH_OK;
}

/* ---- proofs -------------------------------------------------------------- */

/* mbedTLS's software SHA-256 cannot fail. */
static void hash_part(mbedtls_sha256_context *ctx, const void *p, size_t n)
{
    uint8_t len[8];

    hth_store_u64(len, n);
    (void)mbedtls_sha256_update_ret(ctx, len, sizeof len);
    (void)mbedtls_sha256_update_ret(ctx, p, n);
}

void hth__pair_transcript(const uint8_t server_fingerprint[32],
                          struct hth__bytes hello, struct hth__bytes challenge,
                          uint8_t out[32])
{
    static const char label[] = "hearth pairing 1";
    mbedtls_sha256_context ctx;

    mbedtls_sha256_init(&ctx);
    (void)mbedtls_sha256_starts_ret(&ctx, 0);
    hash_part(&ctx, label, sizeof label - 1);
    hash_part(&ctx, server_fingerprint, 32);
    hash_part(&ctx, hello.p, hello.n);
    hash_part(&ctx, challenge.p, challenge.n);
    (void)mbedtls_sha256_finish_ret(&ctx, out);
    mbedtls_sha256_free(&ctx);
}

void hth__pair_mac(const uint8_t key[32], enum hth__pair_role role,
                   const uint8_t transcript[32],
                   uint8_t out[HTH__PAIR_MAC_BYTES])
{
    uint8_t msg[16 + 32] = {0};
    unsigned n = HTH__PAIR_MAC_BYTES;
    const unsigned char *r;

    memcpy(msg, role == HTH__PAIR_DEVICE ? "device" : "coordinator",
           role == HTH__PAIR_DEVICE ? 6 : 11);
    memcpy(msg + 16, transcript, 32);
    r = HMAC(EVP_sha256(), key, 32, msg, sizeof msg, out, &n);
    HTH_ASSERT(r != NULL && n == HTH__PAIR_MAC_BYTES);
}

int hth__pair_stretch(const char code[HTH_CODE_SIZE],
                      const uint8_t salt[HTH__PAIR_SALT_BYTES], uint8_t log2_n,
                      uint8_t out[32])
{
    HTH_ASSERT(log2_n <= HTH__SCRYPT_LOG2_N_MAX);
    return EVP_PBE_scrypt(code, strlen(code), salt, HTH__PAIR_SALT_BYTES,
                          (uint64_t)1 << log2_n, HTH__SCRYPT_R, 1,
                          SCRYPT_MEMORY_MAX, out, 32) == 1
               ? HTH_OK
               : HTH_ENOMEM;
}
