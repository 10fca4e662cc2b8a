/* cursor.c - bounded little-endian reading and writing. The only failures are
 * "past the end" and "past the maximum", both sticky. */
#include "base/cursor.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void hth_cursor_init(struct hth_cursor *c, const void *base, size_t size)
{
    *c = (struct hth_cursor){.base = base, .size = size};
}

size_t hth_cursor_left(const struct hth_cursor *c)
{
    return c->failed ? 0 : c->size - c->pos;
}

const uint8_t *hth_get_bytes(struct hth_cursor *c, size_t n)
{
    const uint8_t *p;

    if (c->failed || n > c->size - c->pos) {
        c->failed = true;
        return NULL;
    }
    p = c->base + c->pos;
    c->pos += n;
    return p;
}

uint8_t hth_get_u8(struct hth_cursor *c)
{
    const uint8_t *p = hth_get_bytes(c, 1);

    return p != NULL ? p[0] : 0;
}

uint16_t hth_get_u16(struct hth_cursor *c)
{
    const uint8_t *p = hth_get_bytes(c, 2);

    return p != NULL ? hth_load_u16(p) : 0;
}

uint32_t hth_get_u32(struct hth_cursor *c)
{
    const uint8_t *p = hth_get_bytes(c, 4);

    return p != NULL ? hth_load_u32(p) : 0;
}

uint64_t hth_get_u64(struct hth_cursor *c)
{
    const uint8_t *p = hth_get_bytes(c, 8);

    return p != NULL ? hth_load_u64(p) : 0;
}

float hth_get_f32(struct hth_cursor *c)
{
    uint32_t bits = hth_get_u32(c);
    float v;

    memcpy(&v, &bits, sizeof v);
    return v;
}

double hth_get_f64(struct hth_cursor *c)
{
    uint64_t bits = hth_get_u64(c);
    double v;

    memcpy(&v, &bits, sizeof v);
    return v;
}

const char *hth_get_str(struct hth_cursor *c, size_t max, size_t *len)
{
    uint32_t n = hth_get_u32(c);

    if (n > max)
        c->failed = true;
    *len = c->failed ? 0 : n;
    return (const char *)hth_get_bytes(c, *len);
}

void hth_get_cstr(struct hth_cursor *c, char *dst, size_t dst_size)
{
    size_t n;
    const char *p = hth_get_str(c, dst_size - 1, &n);

    dst[0] = '\0';
    if (p == NULL)
        return;
    if (memchr(p, '\0', n) != NULL) {
        c->failed = true;
        return;
    }
    memcpy(dst, p, n);
    dst[n] = '\0';
}

bool hth_cursor_done(const struct hth_cursor *c)
{
    return !c->failed && c->pos == c->size;
}

void hth_buf_init(struct hth_buf *b, size_t max_bytes)
{
    *b = (struct hth_buf){.max = max_bytes};
}

void hth_buf_fini(struct hth_buf *b)
{
    free(b->data);
    *b = (struct hth_buf){.max = b->max};
}

void hth_buf_reset(struct hth_buf *b)
{
    b->len = 0;
    b->failed = false;
}

/* Room for n more bytes and a NUL; growth doubles so appends stay linear. */
static bool reserve(struct hth_buf *b, size_t n)
{
    size_t want, cap;
    uint8_t *p;

    if (b->failed || n > b->max || b->len > b->max - n) {
        b->failed = true;
        return false;
    }
    want = b->len + n + 1;
    if (want <= b->cap)
        return true;
    cap = b->cap < 64 ? 64 : b->cap;
    while (cap < want)
        cap *= 2;
    p = realloc(b->data, cap);
    if (p == NULL) {
        b->failed = true;
        return false;
    }
    b->data = p;
    b->cap = cap;
    return true;
}

void hth_put_bytes(struct hth_buf *b, const void *p, size_t n)
{
    if (!reserve(b, n))
        return;
    if (n > 0)
        memcpy(b->data + b->len, p, n);
    b->len += n;
}

void hth_put_u8(struct hth_buf *b, uint8_t v)
{
    hth_put_bytes(b, &v, 1);
}

void hth_put_u16(struct hth_buf *b, uint16_t v)
{
    uint8_t raw[2];

    hth_store_u16(raw, v);
    hth_put_bytes(b, raw, sizeof raw);
}

void hth_put_u32(struct hth_buf *b, uint32_t v)
{
    uint8_t raw[4];

    hth_store_u32(raw, v);
    hth_put_bytes(b, raw, sizeof raw);
}

void hth_put_u64(struct hth_buf *b, uint64_t v)
{
    uint8_t raw[8];

    hth_store_u64(raw, v);
    hth_put_bytes(b, raw, sizeof raw);
}

void hth_put_f32(struct hth_buf *b, float v)
{
    uint32_t bits;

    memcpy(&bits, &v, sizeof bits);
    hth_put_u32(b, bits);
}

void hth_put_f64(struct hth_buf *b, double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof bits);
    hth_put_u64(b, bits);
}

void hth_put_str(struct hth_buf *b, const char *p, size_t n)
{
    if (n > UINT32_MAX) {
        b->failed = true;
        return;
    }
    hth_put_u32(b, (uint32_t)n);
    hth_put_bytes(b, p, n);
}

void hth_put_cstr(struct hth_buf *b, const char *s)
{
    hth_put_str(b, s, strlen(s));
}

void hth_put_printf(struct hth_buf *b, const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !reserve(b, (size_t)n))
        return;
    va_start(ap, fmt);
    vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
}

const char *hth_buf_cstr(struct hth_buf *b)
{
    if (b->failed || !reserve(b, 0))
        return "";
    b->data[b->len] = '\0';
    return (const char *)b->data;
}
