/* wire.c - numbers as they travel: f32, f16, or blocks of 32 int8 under one
 * f16 scale. All numbers in little-endian; a big-endian build would have to
 * swap in the f32 and f16 paths, and does not compile until it does. */
#include <math.h>
#include <string.h>
#include <strings.h>

#include "base/cursor.h"
#include "kernels/ops.h"
#include "kernels/type.h"
#include "net/star.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "see above");

#define Q8_NUMBERS 32u
#define Q8_BYTES 34u
#define F16_LARGEST 65504.0f
#define F16_NAN 0x7e00u

const char *hth_wire_name(enum hth_wire wire)
{
    switch (wire) {
    case HTH_WIRE_F32:
        return "f32";
    case HTH_WIRE_F16:
        return "f16";
    case HTH_WIRE_Q8:
        return "q8";
    }
    return "unknown";
}

int hth_wire_parse(const char *text, enum hth_wire *out)
{
    static const enum hth_wire all[] = {HTH_WIRE_F32, HTH_WIRE_F16,
                                        HTH_WIRE_Q8};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (strcasecmp(text, hth_wire_name(all[i])) == 0) {
            *out = all[i];
            return HTH_OK;
        }
    }
    return HTH_EINVAL;
}

size_t hth_wire_bytes(enum hth_wire wire, size_t n)
{
    switch (wire) {
    case HTH_WIRE_F32:
        return n * 4;
    case HTH_WIRE_F16:
        return n * 2;
    case HTH_WIRE_Q8:
        return (n + Q8_NUMBERS - 1) / Q8_NUMBERS * Q8_BYTES;
    }
    return 0;
}

/* ---- q8 ------------------------------------------------------------------ */

/* The largest magnitude. Floats without their sign order like integers, NaN
 * above infinity above all others, and a maximum of integers vectorises where
 * one of floats may not. */
static float magnitude(const float *src)
{
    int32_t most = 0;
    float out;

    for (unsigned i = 0; i < Q8_NUMBERS; i++) {
        int32_t bits;

        memcpy(&bits, src + i, sizeof bits);
        bits &= 0x7fffffff;
        most = bits > most ? bits : most;
    }
    memcpy(&out, &most, sizeof out);
    return out;
}

/* Round to nearest even by adding and taking away 1.5 * 2^23: the fraction
 * falls off the mantissa. Vectorises without SSE4. |v| is below 2^22. */
static int32_t nearest(float v)
{
    float shifted = v + 12582912.0f;
    int32_t bits;

    memcpy(&bits, &shifted, sizeof bits);
    return bits - 0x4b400000;
}

/* q = round(x * inverse), kept within int8 after rounding: the scale may have
 * been rounded down. */
static void q8_round(const float *src, float inverse, int8_t *q)
{
    for (unsigned i = 0; i < Q8_NUMBERS; i++) {
        int32_t v = nearest(src[i] * inverse);

        v = v > 127 ? 127 : v;
        v = v < -127 ? -127 : v;
        q[i] = (int8_t)v;
    }
}

/* Blocks whose scale a half cannot hold: everything at its largest. */
static void q8_huge(const float *src, uint8_t *dst)
{
    float cut[Q8_NUMBERS];
    float limit = F16_LARGEST * 127.0f;

    for (unsigned i = 0; i < Q8_NUMBERS; i++)
        cut[i] = fmaxf(fminf(src[i], limit), -limit);
    hth_store_u16(dst, hth_f32_to_f16(F16_LARGEST));
    q8_round(cut, 1.0f / F16_LARGEST, (int8_t *)(dst + 2));
}

/* The scale is used as it will be read back, so that its own rounding is not
 * an error of the numbers. An infinity or NaN in a block makes the whole block
 * NaN: visible, not hidden. */
static void q8_block_encode(const float *src, uint8_t *dst)
{
    float most = magnitude(src);
    uint16_t half;
    float d;

    if (!isfinite(most)) {
        hth_store_u16(dst, F16_NAN);
        memset(dst + 2, 1, Q8_NUMBERS);
        return;
    }
    if (most > F16_LARGEST * 127.0f) {
        q8_huge(src, dst);
        return;
    }
    half = hth_f32_to_f16(most / 127.0f);
    d = hth_f16_to_f32(half);
    hth_store_u16(dst, half);
    q8_round(src, d > 0.0f ? 1.0f / d : 0.0f, (int8_t *)(dst + 2));
}

static void q8_block_decode(const uint8_t *src, float *dst)
{
    float d = hth_f16_to_f32(hth_load_u16(src));
    const int8_t *q = (const int8_t *)(src + 2);

    for (unsigned i = 0; i < Q8_NUMBERS; i++)
        dst[i] = d * (float)q[i];
}

static void q8_encode(const float *src, uint8_t *dst, size_t n)
{
    float last[Q8_NUMBERS] = {0};

    for (; n >= Q8_NUMBERS; n -= Q8_NUMBERS) {
        q8_block_encode(src, dst);
        src += Q8_NUMBERS;
        dst += Q8_BYTES;
    }
    if (n > 0) {
        memcpy(last, src, n * sizeof *src);
        q8_block_encode(last, dst);
    }
}

static void q8_decode(const uint8_t *src, float *dst, size_t n)
{
    float last[Q8_NUMBERS];

    for (; n >= Q8_NUMBERS; n -= Q8_NUMBERS) {
        q8_block_decode(src, dst);
        src += Q8_BYTES;
        dst += Q8_NUMBERS;
    }
    if (n > 0) {
        q8_block_decode(src, last);
        memcpy(dst, last, n * sizeof *dst);
    }
}

/* ---- all ----------------------------------------------------------------- */

void hth_wire_encode(enum hth_wire wire, const float *src, void *dst, size_t n)
{
    if (wire == HTH_WIRE_F32)
        memcpy(dst, src, n * sizeof *src);
    else if (wire == HTH_WIRE_F16)
        hth_f32_to_f16_row(src, dst, n);
    else
        q8_encode(src, dst, n);
}

void hth_wire_decode(enum hth_wire wire, const void *src, float *dst, size_t n)
{
    if (wire == HTH_WIRE_F32)
        memcpy(dst, src, n * sizeof *dst);
    else if (wire == HTH_WIRE_F16)
        hth_f16_to_f32_row(src, dst, n);
    else
        q8_decode(src, dst, n);
}
