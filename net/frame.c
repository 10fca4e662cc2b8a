/* frame.c - frame headers and their sealing by libcrypto. Two contexts stay
 * open for the life of a direction; per frame only the nonce changes. What a
 * peer sends can only produce a status; a libcrypto call that fails while
 * sealing is our own bug and asserted. */
#include "net/frame.h"

#include <mbedtls/md.h>
#include <mbedtls/platform_util.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "net/link_internal.h"

#if defined(__aarch64__)
#include <sys/auxv.h>
#ifndef HWCAP_AES
#define HWCAP_AES (1u << 3)
#endif
#endif

#define NONCE_BYTES 12u

/* ---- header -------------------------------------------------------------- */

void hth_frame_encode(const struct hth_frame *f,
                      uint8_t out[HTH_FRAME_HEADER_BYTES])
{
    hth_store_u16(out, HTH_FRAME_MAGIC);
    out[2] = HTH_FRAME_VERSION;
    out[3] = f->kind;
    hth_store_u32(out + 4, f->len);
    hth_store_u64(out + 8, f->seq);
    hth_store_u64(out + 16, f->tag);
}

int hth_frame_decode(const uint8_t in[HTH_FRAME_HEADER_BYTES],
                     struct hth_frame *out, struct hth_err *err)
{
    struct hth_frame f = {.kind = in[3],
                          .len = hth_load_u32(in + 4),
                          .seq = hth_load_u64(in + 8),
                          .tag = hth_load_u64(in + 16)};
    uint8_t kind = f.kind & (uint8_t)~HTH_FRAME_LAST;

    if (hth_load_u16(in) != HTH_FRAME_MAGIC)
        return hth_fail(err, HTH_EPROTO, "no frame where one should begin");
    if (in[2] != HTH_FRAME_VERSION)
        return hth_fail(err, HTH_EVERSION,
                        "frame of version %u, this build has %u", in[2],
                        HTH_FRAME_VERSION);
    if (kind != HTH_FRAME_DATA && kind != HTH_FRAME_ABORT)
        return hth_fail(err, HTH_EPROTO, "frame of unknown kind %u", kind);
    if (f.len > HTH_FRAME_BYTES_MAX)
        return hth_fail(err, HTH_EPROTO, "frame of %u bytes, limit is %u",
                        f.len, HTH_FRAME_BYTES_MAX);
    *out = f;
    return HTH_OK;
}

/* ---- ciphers ------------------------------------------------------------- */

static bool cpu_has_aes(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
    return (getauxval(AT_HWCAP) & HWCAP_AES) != 0;
#else
    return false;
#endif
}

uint32_t hth_cipher_set(void)
{
    return cpu_has_aes() ? HTH_CIPHERS_ALL : HTH_CIPHER_CHACHA20;
}

uint32_t hth_cipher_pick(uint32_t ours, uint32_t theirs)
{
    static const uint32_t best_first[] = {
        HTH_CIPHER_AES128_GCM, HTH_CIPHER_AES256_GCM, HTH_CIPHER_CHACHA20};

    for (size_t i = 0; i < sizeof best_first / sizeof best_first[0]; i++)
        if (best_first[i] & ours & theirs)
            return best_first[i];
    return 0;
}

const char *hth_cipher_name(uint32_t cipher)
{
    switch (cipher) {
    case HTH_CIPHER_AES128_GCM:
        return "AES-128-GCM";
    case HTH_CIPHER_AES256_GCM:
        return "AES-256-GCM";
    case HTH_CIPHER_CHACHA20:
        return "ChaCha20-Poly1305";
    default:
        return "none";
    }
}

/* EVP's name of a cipher, which is the one people know, and how much of the
 * 32 key bytes it takes. */
static const char *evp_name(uint32_t cipher, size_t *key_bytes)
{
    *key_bytes = cipher == HTH_CIPHER_AES128_GCM ? 16 : HTH_KEY_BYTES;
    if (hth_cipher_pick(cipher, HTH_CIPHERS_ALL) != cipher || cipher == 0)
        return NULL;
    return hth_cipher_name(cipher);
}

/* ---- sealing ------------------------------------------------------------- */

struct hth_seal {
    EVP_CIPHER_CTX *ctx; /* NULL: plain, see link_internal.h */
    EVP_CIPHER *cipher;
    mbedtls_md_context_t hmac; /* for rekeying, allocated once */
    size_t key_bytes;
    uint64_t seq;
    bool sealing;
    uint8_t salt[HTH_SALT_BYTES];
    uint8_t key[HTH_KEY_BYTES];
};

static int open_cipher(struct hth_seal *s, const char *name)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

    s->ctx = ctx;
    s->cipher = EVP_CIPHER_fetch(NULL, name, NULL);
    if (ctx == NULL || s->cipher == NULL)
        return HTH_ENOMEM;
    if (EVP_CipherInit_ex2(ctx, s->cipher, s->key, NULL, s->sealing, NULL) != 1)
        return HTH_EINTERNAL;
    return HTH_OK;
}

int hth_seal_open(struct hth_seal **out, uint32_t cipher,
                  const struct hth_seal_key *key, bool sealing)
{
    size_t key_bytes;
    const char *name = evp_name(cipher, &key_bytes);
    struct hth_seal *s;
    int status;

    if (name == NULL)
        return HTH_EINVAL;
    s = calloc(1, sizeof *s);
    if (s == NULL)
        return HTH_ENOMEM;
    s->sealing = sealing;
    s->key_bytes = key_bytes;
    memcpy(s->key, key->key, key_bytes);
    memcpy(s->salt, key->salt, HTH_SALT_BYTES);
    mbedtls_md_init(&s->hmac);
    status = open_cipher(s, name);
    if (status == HTH_OK &&
        mbedtls_md_setup(&s->hmac, mbedtls_md_info_from_type(MBEDTLS_MD_SHA256),
                         1) != 0)
        status = HTH_ENOMEM;
    if (status != HTH_OK) {
        hth_seal_close(s);
        return status;
    }
    *out = s;
    return HTH_OK;
}

void hth_seal_close(struct hth_seal *s)
{
    if (s == NULL)
        return;
    EVP_CIPHER_CTX_free(s->ctx);
    EVP_CIPHER_free(s->cipher);
    mbedtls_md_free(&s->hmac);
    mbedtls_platform_zeroize(s, sizeof *s);
    free(s);
}

/* mbedtls_md_free() is fine with the zeroed context here. */
int hth__seal_open_plain(struct hth_seal **out, bool sealing)
{
    struct hth_seal *s = calloc(1, sizeof *s);

    if (s == NULL)
        return HTH_ENOMEM;
    s->sealing = sealing;
    *out = s;
    return HTH_OK;
}

void hth__seal_set_seq(struct hth_seal *s, uint64_t seq)
{
    s->seq = seq;
}

uint64_t hth_seal_seq(const struct hth_seal *s)
{
    return s->seq;
}

/* The next key: the first block of HKDF-Expand, T(1) = HMAC(key, info || 1),
 * which is 32 bytes and so enough for every cipher here. */
static void rekey(struct hth_seal *s)
{
    static const unsigned char info[] = "hearth rekey\x01";
    uint8_t next[32];
    int rc = mbedtls_md_hmac_starts(&s->hmac, s->key, s->key_bytes);

    if (rc == 0)
        rc = mbedtls_md_hmac_update(&s->hmac, info, sizeof info - 1);
    if (rc == 0)
        rc = mbedtls_md_hmac_finish(&s->hmac, next);
    HTH_ASSERT(rc == 0);
    memcpy(s->key, next, s->key_bytes);
    mbedtls_platform_zeroize(next, sizeof next);
    rc = EVP_CipherInit_ex2(s->ctx, NULL, s->key, NULL, s->sealing, NULL);
    HTH_ASSERT(rc == 1);
}

/* Set the nonce of the frame at hand and feed its header as associated data;
 * both directions do exactly this. */
static bool begin(struct hth_seal *s, const uint8_t *header)
{
    uint8_t nonce[NONCE_BYTES];
    int n;

    if (s->seq != 0 && s->seq % HTH_REKEY_FRAMES == 0)
        rekey(s);
    memcpy(nonce, s->salt, HTH_SALT_BYTES);
    hth_store_u64(nonce + HTH_SALT_BYTES, s->seq);
    return EVP_CipherInit_ex2(s->ctx, NULL, NULL, nonce, s->sealing, NULL) ==
               1 &&
           EVP_CipherUpdate(s->ctx, NULL, &n, header,
                            (int)HTH_FRAME_HEADER_BYTES) == 1;
}

static void copy_plain(void *dst, const void *src, size_t n)
{
    if (n > 0)
        memcpy(dst, src, n);
}

void hth_seal_frame(struct hth_seal *s, struct hth_frame *f, const void *src,
                    uint8_t *out)
{
    uint8_t *body = out + HTH_FRAME_HEADER_BYTES;
    int n = 0;
    bool ok;

    HTH_ASSERT(f->len <= HTH_FRAME_BYTES_MAX && s->sealing);
    f->seq = s->seq;
    hth_frame_encode(f, out);
    if (s->ctx == NULL) {
        copy_plain(body, src, f->len);
        memset(body + f->len, 0, HTH_FRAME_TAG_BYTES);
        s->seq++;
        return;
    }
    ok = begin(s, out) &&
         (f->len == 0 ||
          EVP_EncryptUpdate(s->ctx, body, &n, src, (int)f->len) == 1) &&
         EVP_EncryptFinal_ex(s->ctx, body + f->len, &n) == 1 &&
         EVP_CIPHER_CTX_ctrl(s->ctx, EVP_CTRL_AEAD_GET_TAG,
                             (int)HTH_FRAME_TAG_BYTES, body + f->len) == 1;
    HTH_ASSERT(ok);
    s->seq++;
}

int hth_seal_open_frame(struct hth_seal *s, const struct hth_frame *f,
                        const uint8_t *header, const uint8_t *body, void *dst)
{
    uint8_t rest[HTH_FRAME_TAG_BYTES];
    int n = 0;
    bool ok;

    if (f->seq != s->seq)
        return HTH_EPROTO;
    if (s->ctx == NULL) {
        copy_plain(dst, body, f->len);
        s->seq++;
        return HTH_OK;
    }
    /* The ctrl call takes a non-const pointer but only reads the tag. */
    memcpy(rest, body + f->len, sizeof rest);
    ok = begin(s, header) &&
         (f->len == 0 ||
          EVP_DecryptUpdate(s->ctx, dst, &n, body, (int)f->len) == 1) &&
         EVP_CIPHER_CTX_ctrl(s->ctx, EVP_CTRL_AEAD_SET_TAG,
                             (int)HTH_FRAME_TAG_BYTES, rest) == 1 &&
         EVP_DecryptFinal_ex(s->ctx, rest, &n) == 1;
    if (!ok)
        return HTH_EAUTH;
    s->seq++;
    return HTH_OK;
}
