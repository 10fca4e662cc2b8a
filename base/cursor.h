/* cursor.h - reading and writing little-endian bytes with a bound.
 *
 * struct hth_cursor reads from borrowed memory. Every read checks the bound;
 * the first failure sticks (`failed`), later reads return zeros, so a parser
 * reads a whole record and checks once. struct hth_buf appends to heap memory
 * that can never grow past its stated maximum; its first failure sticks too.
 * Not thread-safe; no I/O. */
#ifndef HTH_BASE_CURSOR_H
#define HTH_BASE_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct hth_cursor {
    const uint8_t *base; /* borrowed */
    size_t size;         /* bytes */
    size_t pos;          /* bytes consumed; never beyond size */
    bool failed;
};

void hth_cursor_init(struct hth_cursor *c, const void *base, size_t size);
size_t hth_cursor_left(const struct hth_cursor *c);
uint8_t hth_get_u8(struct hth_cursor *c);
uint16_t hth_get_u16(struct hth_cursor *c);
uint32_t hth_get_u32(struct hth_cursor *c);
uint64_t hth_get_u64(struct hth_cursor *c);
float hth_get_f32(struct hth_cursor *c);
double hth_get_f64(struct hth_cursor *c);
/* Pointer to the next n bytes inside the borrowed memory, or NULL. */
const uint8_t *hth_get_bytes(struct hth_cursor *c, size_t n);
/* A u32 length, then that many bytes, at most max; *out borrowed. */
const char *hth_get_str(struct hth_cursor *c, size_t max, size_t *len);
/* The same into dst[dst_size], NUL-terminated; embedded NULs fail. */
void hth_get_cstr(struct hth_cursor *c, char *dst, size_t dst_size);
/* True when nothing failed and nothing is left over. */
bool hth_cursor_done(const struct hth_cursor *c);

struct hth_buf {
    uint8_t *data; /* owned; NULL while empty */
    size_t len;
    size_t cap;
    size_t max; /* never exceeded */
    bool failed;
};

void hth_buf_init(struct hth_buf *b, size_t max_bytes);
void hth_buf_fini(struct hth_buf *b);  /* fine on a zeroed one */
void hth_buf_reset(struct hth_buf *b); /* keeps the memory */
void hth_put_u8(struct hth_buf *b, uint8_t v);
void hth_put_u16(struct hth_buf *b, uint16_t v);
void hth_put_u32(struct hth_buf *b, uint32_t v);
void hth_put_u64(struct hth_buf *b, uint64_t v);
void hth_put_f32(struct hth_buf *b, float v);
void hth_put_f64(struct hth_buf *b, double v);
void hth_put_bytes(struct hth_buf *b, const void *p, size_t n);
void hth_put_str(struct hth_buf *b, const char *p, size_t n); /* u32 + n */
void hth_put_cstr(struct hth_buf *b, const char *s);          /* u32 + text */
void hth_put_printf(struct hth_buf *b, const char *fmt, ...)
    HTH_PRINTF(2, 3); /* text without NUL */
/* Make sure data[len] is a NUL (not counted) and return data; "" when empty
 * or failed. */
const char *hth_buf_cstr(struct hth_buf *b);

/* Field-by-field stores for fixed headers. */
static inline void hth_store_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}
static inline void hth_store_u32(uint8_t *p, uint32_t v)
{
    hth_store_u16(p, (uint16_t)v);
    hth_store_u16(p + 2, (uint16_t)(v >> 16));
}
static inline void hth_store_u64(uint8_t *p, uint64_t v)
{
    hth_store_u32(p, (uint32_t)v);
    hth_store_u32(p + 4, (uint32_t)(v >> 32));
}
static inline uint16_t hth_load_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | (uint16_t)(p[1] << 8));
}
static inline uint32_t hth_load_u32(const uint8_t *p)
{
    return hth_load_u16(p) | (uint32_t)hth_load_u16(p + 2) << 16;
}
static inline uint64_t hth_load_u64(const uint8_t *p)
{
    return hth_load_u32(p) | (uint64_t)hth_load_u32(p + 4) << 32;
}

#endif
