/* wrap_test.c - answers broken between words: the same lines however the text
 * is cut, and nothing but spaces lost. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "cli/wrap.h"

/* text in pieces of `piece` bytes. */
static void wrap(const char *text, unsigned width, size_t piece,
                 struct hth_buf *out)
{
    struct hth_wrap w = {.column = 0};
    size_t n = strlen(text);

    hth_buf_init(out, 65536);
    for (size_t i = 0; i < n; i += piece)
        hth_wrap_push(&w, width, (const uint8_t *)text + i,
                      piece < n - i ? piece : n - i, out);
    hth_wrap_finish(&w, width, out);
}

Test(wrap, lines)
{
    static const struct {
        const char *text, *want;
        unsigned width;
    } cases[] = {
        {"the quick brown fox", "the quick\nbrown fox", 10},
        {"the quick brown fox", "the quick brown fox", 0},
        {"the quick brown fox", "the quick brown fox", 19},
        {"aaaa bbbb", "aaaa bbbb", 9},
        {"aaaa bbbb", "aaaa\nbbbb", 8},
        {"one\n\n two  three ", "one\n\n two  three ", 20},
        /* Characters count, not bytes. */
        {"\xc3\xa4\xc3\xa4\xc3\xa4 \xc3\xb6\xc3\xb6",
         "\xc3\xa4\xc3\xa4\xc3\xa4 \xc3\xb6\xc3\xb6", 6},
        {"ab \xe6\x97\xa5\xe6\x9c\xac", "ab\n\xe6\x97\xa5\xe6\x9c\xac", 6},
        /* A word longer than a line, and what follows it. */
        {"x abcdefghijkl yy zz", "x abcdefghijkl\nyy zz", 8},
        /* Code. */
        {"a b c\n```c\nint main(void) { }\n```\na b c d",
         "a b c\n```c\nint main(void) { }\n```\na b c\nd", 6},
        {"    int main(void)\nab cd ef", "    int main(void)\nab cd\nef", 6},
        {"\tint main(void)", "\tint main(void)", 6},
        {"use `a b` or ``` now", "use `a b`\nor ``` now", 10},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t piece = 1; piece <= 24; piece++) {
            struct hth_buf out;

            wrap(cases[i].text, cases[i].width, piece, &out);
            cr_assert(
                eq(str, (char *)hth_buf_cstr(&out), (char *)cases[i].want));
            hth_buf_fini(&out);
        }
}

/* Whatever comes: breaks take the place of spaces and of nothing else. */
Test(wrap, keeps_all_but_spaces)
{
    char text[3001];
    uint32_t seed = 1;

    for (unsigned round = 0; round < 300; round++) {
        struct hth_buf out;
        size_t n = 0, at = 0;

        for (; n < sizeof text - 1; n++) {
            static const char some[] = "aaaa`` \t\n\xc3\xa4\xe6\xff";

            seed = seed * 1664525u + 1013904223u;
            text[n] = round % 3 == 0 && n > 9
                          ? 'w'
                          : some[(seed >> 16) % (sizeof some - 1)];
        }
        text[n] = '\0';
        wrap(text, 1 + round % 40, 1 + round % 7, &out);
        for (size_t i = 0; i < out.len; i++) {
            char c = (char)out.data[i];

            while (c == '\n' && text[at] == ' ')
                at++;
            if (c == '\n' && text[at] != '\n' && at > 0 && text[at - 1] == ' ')
                continue;
            cr_assert(eq(chr, c, text[at]), "round %u at %zu", round, at);
            at++;
        }
        cr_assert(eq(sz, at, n));
        hth_buf_fini(&out);
    }
}
