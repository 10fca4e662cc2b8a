/* pairing.c - the coordinator's codes: made, counted, used up. Codes
 * themselves are forgotten as soon as they are shown; what is kept is their
 * stretched form, which is all that a proof needs. */
#include "net/pairing.h"

#include <mbedtls/platform_util.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "net/pair_proto.h"
#include "net/x509.h"

/* Digits and letters without 0, 1, I and O. */
static const char letters[] = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ";
_Static_assert(sizeof letters == 33, "5 bits a letter");

struct code {
    bool valid;
    uint64_t expires_ms;
    uint32_t tries;
    uint8_t key[32];
};

struct hth_pairing {
    struct hth_pairing_opts opts;
    pthread_mutex_t lock; /* guards everything below */
    struct code codes[HTH_CODES_MAX];
    uint8_t salt[HTH__PAIR_SALT_BYTES];
    int64_t clock_shift_ms;
    uint64_t window_ms; /* start of the minute wrong tries are counted in */
    uint32_t window_tries;
};

int hth_pairing_open(struct hth_pairing **out,
                     const struct hth_pairing_opts *opts, struct hth_err *err)
{
    struct hth_pairing *p = calloc(1, sizeof *p);

    if (p == NULL)
        return hth_fail(err, HTH_ENOMEM, "pairing: out of memory");
    p->opts = *opts;
    if (hth__rng(NULL, p->salt, sizeof p->salt) != 0) {
        free(p);
        return hth_fail(err, HTH_EINTERNAL, "pairing: no random numbers");
    }
    pthread_mutex_init(&p->lock, NULL);
    *out = p;
    return HTH_OK;
}

void hth_pairing_close(struct hth_pairing *p)
{
    if (p == NULL)
        return;
    pthread_mutex_destroy(&p->lock);
    mbedtls_platform_zeroize(p, sizeof *p);
    free(p);
}

const struct hth_pairing_opts *hth__pairing_opts(const struct hth_pairing *p)
{
    return &p->opts;
}

void hth__pairing_shift_clock(struct hth_pairing *p, int64_t ms)
{
    pthread_mutex_lock(&p->lock);
    p->clock_shift_ms += ms;
    pthread_mutex_unlock(&p->lock);
}

/* ---- under the lock ------------------------------------------------------ */

static uint64_t now_ms(const struct hth_pairing *p)
{
    return hth_now_ms() + (uint64_t)p->clock_shift_ms;
}

static void kill_code(struct code *c)
{
    mbedtls_platform_zeroize(c, sizeof *c);
}

/* Forget what has expired; how many remain. */
static uint32_t sweep(struct hth_pairing *p)
{
    uint64_t now = now_ms(p);
    uint32_t n = 0;

    for (size_t i = 0; i < HTH_CODES_MAX; i++) {
        if (p->codes[i].valid && now >= p->codes[i].expires_ms)
            kill_code(&p->codes[i]);
        n += p->codes[i].valid;
    }
    return n;
}

/* ---- making codes -------------------------------------------------------- */

/* 32 letters divide a byte's values evenly, so masking is not biased. */
static int make_code(char out[HTH_CODE_SIZE])
{
    uint8_t raw[8];
    size_t at = 0;

    if (hth__rng(NULL, raw, sizeof raw) != 0)
        return HTH_EINTERNAL;
    for (size_t i = 0; i < sizeof raw; i++) {
        if (i == 4)
            out[at++] = '-';
        out[at++] = letters[raw[i] & 31];
    }
    out[at] = '\0';
    mbedtls_platform_zeroize(raw, sizeof raw);
    return HTH_OK;
}

static int keep_code(struct hth_pairing *p, const uint8_t key[32],
                     uint32_t life_s, struct hth_err *err)
{
    struct code *free_one = NULL;

    sweep(p);
    for (size_t i = 0; i < HTH_CODES_MAX && free_one == NULL; i++)
        if (!p->codes[i].valid)
            free_one = &p->codes[i];
    if (free_one == NULL)
        return hth_fail(err, HTH_ELIMIT,
                        "%u pairing codes are waiting to be used: use one, or "
                        "let them expire",
                        HTH_CODES_MAX);
    free_one->valid = true;
    free_one->tries = 0;
    free_one->expires_ms = now_ms(p) + (uint64_t)life_s * 1000u;
    memcpy(free_one->key, key, 32);
    return HTH_OK;
}

/* The stretching is done outside of the lock: proofs need not wait for it. The
 * salt is fixed for the life of the object. */
int hth_pairing_issue(struct hth_pairing *p, uint32_t life_s,
                      char out[HTH_CODE_SIZE], struct hth_err *err)
{
    char code[HTH_CODE_SIZE];
    uint8_t key[32];
    int status = make_code(code);

    if (status == HTH_OK)
        status = hth__pair_stretch(code, p->salt, HTH__SCRYPT_LOG2_N, key);
    if (status != HTH_OK)
        return hth_fail(err, status, "make a pairing code: %s",
                        hth_status_text(status));
    pthread_mutex_lock(&p->lock);
    status = keep_code(p, key, life_s > 0 ? life_s : HTH_CODE_LIFE_S, err);
    pthread_mutex_unlock(&p->lock);
    mbedtls_platform_zeroize(key, sizeof key);
    if (status == HTH_OK)
        memcpy(out, code, sizeof code);
    mbedtls_platform_zeroize(code, sizeof code);
    return status;
}

void hth_pairing_cancel(struct hth_pairing *p)
{
    pthread_mutex_lock(&p->lock);
    for (size_t i = 0; i < HTH_CODES_MAX; i++)
        kill_code(&p->codes[i]);
    pthread_mutex_unlock(&p->lock);
}

uint32_t hth_pairing_active(struct hth_pairing *p)
{
    uint32_t n;

    pthread_mutex_lock(&p->lock);
    n = sweep(p);
    pthread_mutex_unlock(&p->lock);
    return n;
}

/* ---- using codes --------------------------------------------------------- */

void hth__pairing_salt(struct hth_pairing *p, uint8_t out[HTH__PAIR_SALT_BYTES])
{
    memcpy(out, p->salt, sizeof p->salt);
}

/* Wrong tries of everybody together, per minute. */
static bool too_many(struct hth_pairing *p)
{
    uint64_t now = now_ms(p);

    if (now - p->window_ms >= 60000u) {
        p->window_ms = now;
        p->window_tries = 0;
    }
    return p->window_tries >= HTH_PAIR_TRIES_PER_MIN;
}

/* A wrong proof does not say which code was meant, so every code pays. */
static void count_wrong(struct hth_pairing *p)
{
    p->window_tries++;
    for (size_t i = 0; i < HTH_CODES_MAX; i++)
        if (p->codes[i].valid && ++p->codes[i].tries >= HTH_CODE_TRIES_MAX)
            kill_code(&p->codes[i]);
}

static struct code *match(struct hth_pairing *p, const uint8_t transcript[32],
                          const uint8_t mac[HTH__PAIR_MAC_BYTES])
{
    struct code *found = NULL;

    for (size_t i = 0; i < HTH_CODES_MAX; i++) {
        uint8_t want[HTH__PAIR_MAC_BYTES];

        if (!p->codes[i].valid)
            continue;
        hth__pair_mac(p->codes[i].key, HTH__PAIR_DEVICE, transcript, want);
        if (CRYPTO_memcmp(want, mac, sizeof want) == 0)
            found = &p->codes[i];
    }
    return found;
}

int hth__pairing_redeem(struct hth_pairing *p, const uint8_t transcript[32],
                        const uint8_t mac[HTH__PAIR_MAC_BYTES], uint8_t key[32],
                        struct hth_err *err)
{
    struct code *c;
    int status = HTH_OK;

    pthread_mutex_lock(&p->lock);
    sweep(p);
    if (too_many(p)) {
        status = hth_fail(err, HTH_EBUSY,
                          "too many wrong codes were tried: wait a minute");
    } else if ((c = match(p, transcript, mac)) != NULL) {
        memcpy(key, c->key, 32);
        kill_code(c);
    } else {
        count_wrong(p);
        status = hth_fail(err, HTH_EAUTH,
                          "the code is wrong, used or expired: check it, or "
                          "make a new one on the coordinator");
    }
    pthread_mutex_unlock(&p->lock);
    return status;
}

/* ---- codes as people type them ------------------------------------------- */

int hth_code_normalise(const char *typed, char out[HTH_CODE_SIZE],
                       struct hth_err *err)
{
    char code[HTH_CODE_SIZE];
    size_t n = 0;
    size_t at = 0;

    for (const char *s = typed; *s != '\0'; s++) {
        char c = *s >= 'a' && *s <= 'z' ? (char)(*s - 'a' + 'A') : *s;

        if (c == '-' || c == ' ')
            continue;
        if (n == 8 || strchr(letters, c) == NULL)
            return hth_fail(err, HTH_EINVAL,
                            "a pairing code has 8 of the characters %s, like "
                            "4F7K-9QPX",
                            letters);
        if (n++ == 4)
            code[at++] = '-';
        code[at++] = c;
    }
    if (n != 8)
        return hth_fail(err, HTH_EINVAL,
                        "a pairing code has 8 characters, this one %zu", n);
    code[at] = '\0';
    memcpy(out, code, sizeof code);
    return HTH_OK;
}
