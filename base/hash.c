/* hash.c - SHA-256 over libcrypto's EVP interface. A failing EVP call here
 * means a broken libcrypto, not bad input: that is asserted. */
#include "base/hash.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct hth_hash {
    EVP_MD_CTX *ctx;
};

static void begin(struct hth_hash *h)
{
    int ok = EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL);

    HTH_ASSERT(ok == 1);
}

int hth_hash_open(struct hth_hash **out)
{
    struct hth_hash *h = calloc(1, sizeof *h);

    if (h == NULL)
        return HTH_ENOMEM;
    h->ctx = EVP_MD_CTX_new();
    if (h->ctx == NULL) {
        free(h);
        return HTH_ENOMEM;
    }
    begin(h);
    *out = h;
    return HTH_OK;
}

void hth_hash_update(struct hth_hash *h, const void *p, size_t n)
{
    int ok = EVP_DigestUpdate(h->ctx, p, n);

    HTH_ASSERT(ok == 1);
}

void hth_hash_finish(struct hth_hash *h, uint8_t out[HTH_HASH_BYTES])
{
    unsigned n = 0;
    int ok = EVP_DigestFinal_ex(h->ctx, out, &n);

    HTH_ASSERT(ok == 1 && n == HTH_HASH_BYTES);
    begin(h);
}

void hth_hash_close(struct hth_hash *h)
{
    if (h == NULL)
        return;
    EVP_MD_CTX_free(h->ctx);
    free(h);
}

void hth_hash_hex(const uint8_t hash[HTH_HASH_BYTES],
                  char out[HTH_HASH_HEX_SIZE])
{
    for (size_t i = 0; i < HTH_HASH_BYTES; i++)
        snprintf(out + 2 * i, 3, "%02x", hash[i]);
}

static int nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

int hth_hash_parse_hex(const char *text, uint8_t out[HTH_HASH_BYTES])
{
    uint8_t raw[HTH_HASH_BYTES];

    if (strlen(text) != 2 * HTH_HASH_BYTES)
        return HTH_EFORMAT;
    for (size_t i = 0; i < HTH_HASH_BYTES; i++) {
        int hi = nibble(text[2 * i]);
        int lo = nibble(text[2 * i + 1]);

        if (hi < 0 || lo < 0)
            return HTH_EFORMAT;
        raw[i] = (uint8_t)(hi << 4 | lo);
    }
    memcpy(out, raw, sizeof raw);
    return HTH_OK;
}
