/* chat_python.c - calls written as Python, as LFM2 does:
 * [f(city="Oslo", days=[1, 2], unit=None), g()]. Only literals are values;
 * nothing is computed. What is not understood is no call. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "model/chat_internal.h"
#include "model/utf8.h"

#define DEPTH_MAX 32u
#define NUMBER_BYTES_MAX 64u

struct reader {
    const char *p, *end;
    unsigned depth;
};

static void skip_space(struct reader *r)
{
    while (r->p < r->end && isspace((unsigned char)*r->p))
        r->p++;
}

/* Is c next, behind white space; then move behind it. */
static bool take(struct reader *r, char c)
{
    skip_space(r);
    if (r->p >= r->end || *r->p != c)
        return false;
    r->p++;
    return true;
}

static size_t name_length(const struct reader *r)
{
    size_t n = 0;

    while (r->p + n < r->end &&
           (isalnum((unsigned char)r->p[n]) || r->p[n] == '_' ||
            r->p[n] == '.' || r->p[n] == '-'))
        n++;
    return n;
}

/* ---- strings --------------------------------------------------------------
 */

/* digits hexadecimal ones as a character. */
static bool put_code(struct reader *r, unsigned digits, struct hth_buf *out)
{
    uint8_t bytes[HTH_UTF8_CHAR_MAX];
    char text[9] = "";
    uint32_t cp;

    if ((size_t)(r->end - r->p) < digits)
        return false;
    memcpy(text, r->p, digits);
    if (strspn(text, "0123456789abcdefABCDEF") != digits)
        return false;
    cp = (uint32_t)strtoul(text, NULL, 16);
    if (cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000))
        return false;
    hth_put_bytes(out, bytes, hth_utf8_encode(cp, bytes));
    r->p += digits;
    return true;
}

/* Behind a backslash. One that Python does not know stays as it is. */
static bool put_escape(struct reader *r, struct hth_buf *out)
{
    static const char letters[] = "ntr\\'\"abfv0",
                      values[] = "\n\t\r\\'\"\a\b\f\v";
    const char *hit;
    char c;

    if (r->p >= r->end)
        return false;
    c = *r->p++;
    if (c == 'x' || c == 'u' || c == 'U')
        return put_code(r, c == 'x' ? 2 : c == 'u' ? 4 : 8, out);
    hit = c == '\0' ? NULL : strchr(letters, c);
    if (c == '\n')
        return true;
    if (hit == NULL)
        hth_put_u8(out, '\\');
    hth_put_u8(out, (uint8_t)(hit != NULL ? values[hit - letters] : c));
    return true;
}

static json_t *string(struct reader *r)
{
    char quote = *r->p++;
    struct hth_buf text;
    json_t *v = NULL;
    bool ok = true;

    hth_buf_init(&text, HTH_TOOL_CALL_BYTES_MAX);
    while (ok && r->p < r->end && *r->p != quote) {
        if (*r->p == '\\') {
            r->p++;
            ok = put_escape(r, &text);
        } else {
            hth_put_u8(&text, (uint8_t)*r->p++);
        }
    }
    if (ok && r->p < r->end && !text.failed) {
        r->p++;
        v = json_stringn(hth_buf_cstr(&text), text.len);
    }
    hth_buf_fini(&text);
    return v;
}

/* ---- numbers and names ----------------------------------------------------
 */

static json_t *number(struct reader *r)
{
    char text[NUMBER_BYTES_MAX + 1];
    size_t n = 0;

    if (*r->p == '+')
        r->p++;
    for (; r->p < r->end && n < NUMBER_BYTES_MAX; r->p++) {
        if (*r->p == '_')
            continue;
        if (!isdigit((unsigned char)*r->p) &&
            (*r->p == '\0' || strchr("+-.eE", *r->p) == NULL))
            break;
        text[n++] = *r->p;
    }
    /* JSON's rules for numbers are close enough, and strict. */
    return json_loadb(text, n, JSON_DECODE_ANY, NULL);
}

static json_t *constant(struct reader *r)
{
    static const struct {
        const char *name;
        int what;
    } all[] = {{"True", 1}, {"False", 0}, {"None", -1},
               {"true", 1}, {"false", 0}, {"null", -1}};
    size_t n = name_length(r);

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strlen(all[i].name) == n && memcmp(all[i].name, r->p, n) == 0) {
            r->p += n;
            return all[i].what < 0 ? json_null() : json_boolean(all[i].what);
        }
    return NULL;
}

/* ---- values ---------------------------------------------------------------
 */

static json_t *value(struct reader *r);

static json_t *list(struct reader *r, char close)
{
    json_t *all = json_array();

    r->p++;
    while (!take(r, close)) {
        json_t *v = value(r);

        if (v == NULL || json_array_append_new(all, v) != 0 ||
            (!take(r, ',') && (r->p >= r->end || *r->p != close))) {
            json_decref(all);
            return NULL;
        }
    }
    return all;
}

static json_t *dict(struct reader *r)
{
    json_t *all = json_object();

    r->p++;
    while (!take(r, '}')) {
        json_t *key = value(r);
        json_t *v = json_is_string(key) && take(r, ':') ? value(r) : NULL;
        bool ok =
            v != NULL && json_object_setn_new(all, json_string_value(key),
                                              json_string_length(key), v) == 0;

        json_decref(key);
        if (!ok || (!take(r, ',') && (r->p >= r->end || *r->p != '}'))) {
            json_decref(all);
            return NULL;
        }
    }
    return all;
}

/* NULL: no literal. */
static json_t *value(struct reader *r)
{
    json_t *v = NULL;

    skip_space(r);
    if (r->p >= r->end || r->depth == DEPTH_MAX)
        return NULL;
    r->depth++;
    if (*r->p == '"' || *r->p == '\'')
        v = string(r);
    else if (*r->p == '[')
        v = list(r, ']');
    else if (*r->p == '(')
        v = list(r, ')');
    else if (*r->p == '{')
        v = dict(r);
    else if (isdigit((unsigned char)*r->p) || *r->p == '-' || *r->p == '+')
        v = number(r);
    else
        v = constant(r);
    r->depth--;
    return v;
}

/* ---- calls ----------------------------------------------------------------
 */

/* name=value, ... ) */
static json_t *arguments(struct reader *r)
{
    json_t *all = json_object();

    while (!take(r, ')')) {
        const char *key;
        size_t n;
        json_t *v;

        skip_space(r);
        key = r->p;
        n = name_length(r);
        r->p += n;
        v = n > 0 && take(r, '=') ? value(r) : NULL;
        if (v == NULL || json_object_setn_new(all, key, n, v) != 0 ||
            (!take(r, ',') && (r->p >= r->end || *r->p != ')'))) {
            json_decref(all);
            return NULL;
        }
    }
    return all;
}

bool hth_chat__next_python(struct hth_str body, size_t *at,
                           struct hth_chat__call *out)
{
    struct reader r = {.depth = 0};
    const char *name;
    json_t *args;
    size_t n;

    if (*at >= body.n)
        return false;
    r.p = body.p + *at;
    r.end = body.p + body.n;
    while (r.p < r.end && *r.p != '\0' && strchr(" \n\r\t[],;", *r.p) != NULL)
        r.p++;
    name = r.p;
    n = name_length(&r);
    r.p += n;
    if (n == 0 || !take(&r, '('))
        return false;
    args = arguments(&r);
    if (args == NULL)
        return false;
    out->name = strndup(name, n);
    out->arguments = json_dumps(args, JSON_COMPACT);
    json_decref(args);
    *at = (size_t)(r.p - body.p);
    return out->name != NULL && out->arguments != NULL;
}
