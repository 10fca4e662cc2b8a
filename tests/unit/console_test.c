/* console_test.c - the page in the program is the one of the source, its
 * policy names the hashes of its own script and style, and QR paths paint the
 * modules that the library computed. */
#include <criterion/criterion.h>
#include <qrencode.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/limits.h"
#include "coordinator/console.h"

/* What stands between two tags, which are there exactly once. */
static const char *between(const char *text, const char *open,
                           const char *close, size_t *n)
{
    const char *from = strstr(text, open), *to;

    cr_assert_not_null(from, "no %s", open);
    from += strlen(open);
    to = strstr(from, close);
    cr_assert_not_null(to, "no %s", close);
    cr_assert_null(strstr(from, open), "%s twice", open);
    *n = (size_t)(to - from);
    return from;
}

static void base64(const uint8_t *p, size_t n, char *out)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16;

        v |= i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0;
        v |= i + 2 < n ? p[i + 2] : 0;
        *out++ = digits[v >> 18];
        *out++ = digits[v >> 12 & 63];
        *out++ = i + 1 < n ? digits[v >> 6 & 63] : '=';
        *out++ = i + 2 < n ? digits[v & 63] : '=';
    }
    *out = '\0';
}

static void policy_allows(const char *part, const char *text, size_t n)
{
    uint8_t hash[HTH_HASH_BYTES];
    char b64[64], want[96];
    struct hth_hash *h;

    cr_assert_eq(hth_hash_open(&h), HTH_OK);
    hth_hash_update(h, text, n);
    hth_hash_finish(h, hash);
    hth_hash_close(h);
    base64(hash, sizeof hash, b64);
    snprintf(want, sizeof want, "%s 'sha256-%s'", part, b64);
    cr_assert_not_null(strstr(hth_console()->policy, want), "no %s in %s", want,
                       hth_console()->policy);
}

static char *page_text(void)
{
    const struct hth_console *c = hth_console();
    char *text = calloc(1, c->bytes + 1);

    cr_assert_not_null(text);
    memcpy(text, c->page, c->bytes);
    return text;
}

Test(console, policy_is_of_this_page)
{
    char *text = page_text();
    size_t n;
    const char *p = between(text, "<script>", "</script>", &n);

    policy_allows("script-src", p, n);
    p = between(text, "<style>", "</style>", &n);
    policy_allows("style-src", p, n);
    free(text);
}

/* Nothing is loaded from elsewhere: the only addresses are name spaces. */
Test(console, page_needs_nobody_else)
{
    char *text = page_text();

    for (char *p = text; (p = strstr(p, "://")) != NULL; p++)
        cr_assert_eq(strncmp(p, "://www.w3.org/2000/svg", 22), 0,
                     "an address: %.40s", p);
    cr_assert_null(strstr(text, "innerHTML"));
    cr_assert_null(strstr(text, " src="));
    free(text);
}

/* Paint a path "Mx yhNv1h-Nz..." into modules. */
static void paint(const char *path, uint32_t size, unsigned char *dark)
{
    while (*path != '\0') {
        int x, y, n, back, used = 0;

        cr_assert_eq(
            sscanf(path, "M%d %dh%dv1h-%dz%n", &x, &y, &n, &back, &used), 4);
        cr_assert(used > 0 && n == back);
        cr_assert(x >= 0 && y >= 0 && x + n <= (int)size && y < (int)size);
        for (int i = 0; i < n; i++)
            dark[(size_t)y * size + (size_t)(x + i)]++;
        path += used;
    }
}

Test(console, qr_path_paints_the_code)
{
    static const char line[] =
        "hearth worker --join 192.168.1.10:47470 --code 4F7K-9QPX";
    QRcode *qr = QRcode_encodeString8bit(line, 0, QR_ECLEVEL_M);
    struct hth_buf path;
    struct hth_err err;
    unsigned char *dark;
    uint32_t size;

    hth_buf_init(&path, 1u << 20);
    cr_assert_eq(hth_qr_path(line, &path, &size, &err), HTH_OK);
    cr_assert_eq((int)size, qr->width);
    dark = calloc(size, size);
    cr_assert_not_null(dark);
    paint(hth_buf_cstr(&path), size, dark);
    for (uint32_t i = 0; i < size * size; i++)
        cr_assert_eq(dark[i], qr->data[i] & 1, "module %u", i);
    free(dark);
    hth_buf_fini(&path);
    QRcode_free(qr);
}

Test(console, qr_refuses_what_is_too_long)
{
    char text[HTH_QR_BYTES_MAX + 2];
    struct hth_buf path;
    struct hth_err err;
    uint32_t size;

    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    hth_buf_init(&path, 1u << 20);
    cr_assert_eq(hth_qr_path(text, &path, &size, &err), HTH_ELIMIT);
    text[HTH_QR_BYTES_MAX] = '\0';
    cr_assert_eq(hth_qr_path(text, &path, &size, &err), HTH_OK);
    hth_buf_fini(&path);
}
