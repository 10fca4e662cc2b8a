/* utf8_test.c - characters, beginnings of characters and strays. */
#include <criterion/criterion.h>
#include <string.h>

#include "model/utf8.h"

static void check(const char *bytes, size_t n, enum hth_utf8 want, size_t len)
{
    size_t got = 99;

    cr_assert_eq(hth_utf8_scan((const uint8_t *)bytes, n, &got), want);
    cr_assert_eq(got, len, "%zu instead of %zu", got, len);
}

#define SCAN(bytes, want, len) check(bytes, sizeof(bytes) - 1, want, len)

Test(utf8, characters)
{
    SCAN("a", HTH_UTF8_VALID, 1);
    SCAN("\x7F\xFF", HTH_UTF8_VALID, 1);
    SCAN("\xC2\x80", HTH_UTF8_VALID, 2);
    SCAN("\xDF\xBF"
         "a",
         HTH_UTF8_VALID, 2);
    SCAN("\xE0\xA0\x80", HTH_UTF8_VALID, 3);
    SCAN("\xED\x9F\xBF", HTH_UTF8_VALID, 3);
    SCAN("\xEE\x80\x80", HTH_UTF8_VALID, 3);
    SCAN("\xF0\x90\x80\x80", HTH_UTF8_VALID, 4);
    SCAN("\xF4\x8F\xBF\xBF", HTH_UTF8_VALID, 4);
}

Test(utf8, beginnings)
{
    SCAN("\xC2", HTH_UTF8_PARTIAL, 1);
    SCAN("\xE0\xA0", HTH_UTF8_PARTIAL, 2);
    SCAN("\xF0\x90\x80", HTH_UTF8_PARTIAL, 3);
    SCAN("\xF4", HTH_UTF8_PARTIAL, 1);
}

/* Overlong forms, surrogates, beyond U+10FFFF, and a lead byte that another
 * character cuts off. */
Test(utf8, strays)
{
    SCAN("\x80", HTH_UTF8_INVALID, 1);
    SCAN("\xC0\x80", HTH_UTF8_INVALID, 1);
    SCAN("\xC1\xBF", HTH_UTF8_INVALID, 1);
    SCAN("\xE0\x9F\xBF", HTH_UTF8_INVALID, 1);
    SCAN("\xED\xA0\x80", HTH_UTF8_INVALID, 1);
    SCAN("\xF0\x8F\xBF\xBF", HTH_UTF8_INVALID, 1);
    SCAN("\xF4\x90\x80\x80", HTH_UTF8_INVALID, 1);
    SCAN("\xF5\x80\x80\x80", HTH_UTF8_INVALID, 1);
    SCAN("\xFF", HTH_UTF8_INVALID, 1);
    SCAN("\xE2\x82"
         "a",
         HTH_UTF8_INVALID, 2);
    SCAN("\xF0\x9F\x98"
         "\xC3\xBC",
         HTH_UTF8_INVALID, 3);
}

/* Every code point there is, and what of a text is whole. */
Test(utf8, decodes_what_it_calls_valid)
{
    uint8_t p[4];
    uint32_t c;
    size_t len;

    for (c = 0x800; c < 0x10000; c++) {
        p[0] = (uint8_t)(0xE0 | c >> 12);
        p[1] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
        p[2] = (uint8_t)(0x80 | (c & 0x3F));
        if (c >= 0xD800 && c < 0xE000) {
            cr_assert_eq(hth_utf8_scan(p, 3, &len), HTH_UTF8_INVALID);
            continue;
        }
        cr_assert_eq(hth_utf8_scan(p, 3, &len), HTH_UTF8_VALID);
        cr_assert_eq(hth_utf8_decode(p, len), c);
    }
    cr_assert_eq(hth_utf8_decode((const uint8_t *)"\xF4\x8F\xBF\xBF", 4),
                 0x10FFFF);
    cr_assert_eq(hth_utf8_decode((const uint8_t *)"\xC3\xBC", 2), 0xFC);
    cr_assert_eq(hth_utf8_valid((const uint8_t *)"a\xC3\xBC\xE2\x82", 5), 3);
    cr_assert_eq(hth_utf8_valid((const uint8_t *)"\x80", 1), 0);
    cr_assert_eq(hth_utf8_valid(NULL, 0), 0);
}
