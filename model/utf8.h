/* utf8.h - telling characters from stray bytes, per RFC 3629: no overlong
 * forms, no surrogates, nothing above U+10FFFF. Pure functions, thread-safe,
 * never fail. */
#ifndef HTH_MODEL_UTF8_H
#define HTH_MODEL_UTF8_H

#include <stddef.h>
#include <stdint.h>

#define HTH_UTF8_CHAR_MAX 4u

enum hth_utf8 {
    HTH_UTF8_VALID,   /* *len bytes are one character */
    HTH_UTF8_PARTIAL, /* all n bytes are the beginning of a character */
    HTH_UTF8_INVALID  /* the first *len bytes cannot be part of one */
};

/* Look at the beginning of p[n], n > 0. For INVALID, *len is the longest
 * beginning that could have become a character, at least 1: what one U+FFFD
 * stands for (Unicode 15, section 3.9, substitution of maximal subparts). */
enum hth_utf8 hth_utf8_scan(const uint8_t *p, size_t n, size_t *len);

/* Bytes at the beginning of p[n] that are whole characters. */
size_t hth_utf8_valid(const uint8_t *p, size_t n);

/* The code point of a character that scan called VALID with this len. */
uint32_t hth_utf8_decode(const uint8_t *p, size_t len);

/* The bytes of a code point up to U+10FFFF; returns how many. */
size_t hth_utf8_encode(uint32_t cp, uint8_t out[HTH_UTF8_CHAR_MAX]);

#endif
