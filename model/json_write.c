/* json_write.c - JSON output. Bytes of the world (names, paths, tokens) are
 * never trusted to be text. */
#include "model/json_write.h"

#include <math.h>
#include <string.h>

#include "model/utf8.h"

static void put_plain(struct hth_buf *b, uint8_t c)
{
    switch (c) {
    case '"':
    case '\\':
        hth_put_u8(b, '\\');
        hth_put_u8(b, c);
        break;
    case '\n':
        hth_put_printf(b, "\\n");
        break;
    case '\t':
        hth_put_printf(b, "\\t");
        break;
    default:
        if (c < 0x20 || c == 0x7f)
            hth_put_printf(b, "\\u%04x", c);
        else
            hth_put_u8(b, c);
    }
}

void hth_json_string(struct hth_buf *b, const void *text, size_t n)
{
    const uint8_t *p = text;

    hth_put_u8(b, '"');
    while (n > 0) {
        size_t len = n;

        if (hth_utf8_scan(p, n, &len) != HTH_UTF8_VALID)
            hth_put_printf(b, "\xef\xbf\xbd");
        else if (len == 1)
            put_plain(b, *p);
        else
            hth_put_bytes(b, p, len);
        p += len;
        n -= len;
    }
    hth_put_u8(b, '"');
}

void hth_json_cstr(struct hth_buf *b, const char *text)
{
    hth_json_string(b, text, strlen(text));
}

void hth_json_number(struct hth_buf *b, double v)
{
    if (!isfinite(v))
        hth_put_printf(b, "null");
    else if (v == floor(v) && fabs(v) < 0x1p53)
        hth_put_printf(b, "%.0f", v);
    else
        hth_put_printf(b, "%.17g", v);
}

void hth_json_key(struct hth_buf *b, const char *key)
{
    if (b->len > 0 && strchr("{[", b->data[b->len - 1]) == NULL)
        hth_put_u8(b, ',');
    hth_json_cstr(b, key);
    hth_put_u8(b, ':');
}

void hth_json_field(struct hth_buf *b, const char *key, const char *text)
{
    hth_json_key(b, key);
    hth_json_cstr(b, text);
}

void hth_json_field_number(struct hth_buf *b, const char *key, double v)
{
    hth_json_key(b, key);
    hth_json_number(b, v);
}
