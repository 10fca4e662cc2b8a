/* utf8.c - the well-formed byte sequences of Unicode 15, table 3-7. */
#include "model/utf8.h"

/* What may follow a lead byte: how many bytes in all (0: it is no lead byte)
 * and the range of the second one, which is where overlong forms, surrogates
 * and the end of Unicode are excluded. */
struct lead {
    uint8_t bytes, low, high;
};

static struct lead lead_of(uint8_t c)
{
    if (c < 0xC2)
        return (struct lead){c < 0x80 ? 1 : 0, 0, 0};
    if (c < 0xE0)
        return (struct lead){2, 0x80, 0xBF};
    if (c < 0xF0)
        return (struct lead){3, c == 0xE0 ? 0xA0 : 0x80,
                             c == 0xED ? 0x9F : 0xBF};
    if (c < 0xF5)
        return (struct lead){4, c == 0xF0 ? 0x90 : 0x80,
                             c == 0xF4 ? 0x8F : 0xBF};
    return (struct lead){0, 0, 0};
}

enum hth_utf8 hth_utf8_scan(const uint8_t *p, size_t n, size_t *len)
{
    struct lead lead = lead_of(p[0]);
    size_t k;

    *len = 1;
    if (lead.bytes == 0)
        return HTH_UTF8_INVALID;
    for (k = 1; k < lead.bytes; k++) {
        *len = k;
        if (k == n)
            return HTH_UTF8_PARTIAL;
        if (p[k] < lead.low || p[k] > lead.high)
            return HTH_UTF8_INVALID;
        lead.low = 0x80;
        lead.high = 0xBF;
    }
    *len = lead.bytes;
    return HTH_UTF8_VALID;
}

size_t hth_utf8_valid(const uint8_t *p, size_t n)
{
    size_t at = 0, len;

    while (at < n && hth_utf8_scan(p + at, n - at, &len) == HTH_UTF8_VALID)
        at += len;
    return at;
}

uint32_t hth_utf8_decode(const uint8_t *p, size_t len)
{
    static const uint8_t lead_mask[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    uint32_t c = p[0] & lead_mask[len];
    size_t k;

    for (k = 1; k < len; k++)
        c = c << 6 | (p[k] & 0x3F);
    return c;
}

size_t hth_utf8_encode(uint32_t cp, uint8_t out[HTH_UTF8_CHAR_MAX])
{
    static const uint8_t lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    size_t n = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;

    for (size_t i = n - 1; i > 0; i--) {
        out[i] = (uint8_t)(0x80u | (cp & 0x3Fu));
        cp >>= 6;
    }
    out[0] = (uint8_t)(lead[n] | cp);
    return n;
}
