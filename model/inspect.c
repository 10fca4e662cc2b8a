/* inspect.c - a GGUF's directory as text and as JSON. Fails only by the
 * buffer's maximum. */
#include "model/inspect.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/pack.h"
#include "kernels/type.h"
#include "model/utf8.h"

/* ---- what both need ------------------------------------------------------ */

static uint64_t weights_of(const struct hth_tensor *t)
{
    uint64_t n = 1;

    for (uint32_t d = 0; d < t->dims; d++)
        n *= t->ne[d];
    return n;
}

/* Sums over the tensors of one type, or of all. */
struct total {
    uint32_t type;
    uint64_t tensors, weights, bytes;
};

#define TYPES_MAX                                              \
    32u /* supported types; more would be left out of the sums \
         */

struct totals {
    struct total of[TYPES_MAX];
    uint32_t count;
    struct total all;
};

static void add_tensor(struct total *t, const struct hth_tensor *tensor)
{
    t->tensors++;
    t->weights += weights_of(tensor);
    t->bytes += tensor->bytes;
}

static void sum_up(const struct hth_gguf *g, struct totals *sums)
{
    memset(sums, 0, sizeof *sums);
    for (size_t i = 0; i < hth_gguf_tensor_count(g); i++) {
        const struct hth_tensor *t = hth_gguf_tensor_at(g, i);
        uint32_t k = 0;

        while (k < sums->count && sums->of[k].type != t->type)
            k++;
        add_tensor(&sums->all, t);
        if (k == TYPES_MAX)
            continue;
        sums->of[k].type = t->type;
        add_tensor(&sums->of[k], t);
        if (k == sums->count)
            sums->count++;
    }
}

static const char *type_name(uint32_t type)
{
    return hth_type_info(type)->name; /* the reader admits no other */
}

/* Do rows of this type have a layout for fast kernels? 512 columns are whole
 * blocks of all types. */
static bool is_packed(uint32_t type)
{
    return hth_can_pack(type, 512);
}

static bool find_architecture(const struct hth_gguf *g, struct hth_str *out)
{
    return hth_gguf_string(g, "general.architecture", out, NULL) == 0;
}

/* Type of a key's elements: its own where it is no array. */
static uint32_t elements_of(const struct hth_gguf_kv *kv)
{
    return kv->type == HTH_GGUF_ARRAY ? kv->elem_type : kv->type;
}

static struct hth_str string_at(const struct hth_gguf_kv *kv, uint64_t i)
{
    if (kv->type == HTH_GGUF_ARRAY)
        return kv->strings[i];
    return (struct hth_str){(const char *)kv->data + 8, kv->bytes - 8};
}

/* The two ways of writing values. */
struct style {
    size_t max; /* bytes of a string that are shown */
    bool json;  /* escapes as JSON has them */
};

static const struct style g_text = {HTH_INSPECT_TEXT_BYTES, false};
static const struct style g_json = {HTH_INSPECT_JSON_BYTES, true};

static void put_special(double f, const struct style *style,
                        struct hth_buf *out)
{
    if (style->json)
        hth_put_printf(out, "null");
    else
        hth_put_printf(out, "%f", f); /* nan, inf, -inf */
}

/* Parsers of JSON refuse integers that are not 64 bits with a sign. */
static void put_u64(uint64_t v, const struct style *style, struct hth_buf *out)
{
    const char *quote = style->json && v > INT64_MAX ? "\"" : "";

    hth_put_printf(out, "%s%" PRIu64 "%s", quote, v, quote);
}

/* JSON gets all digits of a float, a reader those that matter. */
static void put_number(const struct hth_gguf_kv *kv, uint64_t i,
                       const struct style *style, struct hth_buf *out)
{
    uint32_t type = elements_of(kv);
    int64_t v = 0;
    double f = 0;

    if (type == HTH_GGUF_F32 || type == HTH_GGUF_F64) {
        if (hth_gguf_array_f64(kv, i, &f) != 0 || !isfinite(f))
            put_special(f, style, out);
        else
            hth_put_printf(out, "%.*g",
                           style->json ? (type == HTH_GGUF_F32 ? 9 : 17) : 6,
                           f);
    } else if (type == HTH_GGUF_U64) {
        put_u64(hth_load_u64(kv->data + 8 * i), style, out);
    } else if (hth_gguf_array_i64(kv, i, &v) == 0 && type == HTH_GGUF_BOOL) {
        hth_put_printf(out, "%s", v != 0 ? "true" : "false");
    } else {
        hth_put_printf(out, "%" PRId64, v);
    }
}

static void put_character(const uint8_t *p, size_t n, const struct style *style,
                          struct hth_buf *out)
{
    uint32_t c = hth_utf8_decode(p, n);

    if (c == '"' || c == '\\')
        hth_put_printf(out, "\\%c", (int)c);
    else if (c == '\n')
        hth_put_printf(out, "\\n");
    else if (c < 0x20 || (c >= 0x7f && c < 0xa0))
        hth_put_printf(out, style->json ? "\\u%04x" : "\\x%02x", c);
    else
        hth_put_bytes(out, p, n);
}

/* One byte that is part of no character. */
static void put_odd(uint8_t byte, const struct style *style,
                    struct hth_buf *out)
{
    if (style->json)
        hth_put_printf(out, "\xef\xbf\xbd"); /* U+FFFD */
    else
        hth_put_printf(out, "\\x%02x", byte);
}

static void put_string(struct hth_str s, const struct style *style,
                       struct hth_buf *out)
{
    const uint8_t *p = (const uint8_t *)s.p;
    size_t n = s.n <= style->max ? s.n : style->max;
    size_t at = 0, len;

    hth_put_u8(out, '"');
    while (at < n) {
        if (hth_utf8_scan(p + at, s.n - at, &len) == HTH_UTF8_VALID) {
            put_character(p + at, len, style, out);
            at += len;
        } else {
            put_odd(p[at++], style, out);
        }
    }
    if (s.n > style->max)
        hth_put_printf(out, "...");
    hth_put_u8(out, '"');
}

static void put_element(const struct hth_gguf_kv *kv, uint64_t i,
                        const struct style *style, struct hth_buf *out)
{
    if (elements_of(kv) == HTH_GGUF_STRING)
        put_string(string_at(kv, i), style, out);
    else
        put_number(kv, i, style, out);
}

/* "a, b, c": as many elements as are shown. */
static void put_elements(const struct hth_gguf_kv *kv,
                         const struct style *style, struct hth_buf *out)
{
    uint64_t n =
        kv->count < HTH_INSPECT_ELEMENTS ? kv->count : HTH_INSPECT_ELEMENTS;

    for (uint64_t i = 0; i < n; i++) {
        if (i > 0)
            hth_put_printf(out, ", ");
        put_element(kv, i, style, out);
    }
}

/* ---- text ---------------------------------------------------------------- */

static void text_key(const struct hth_gguf_kv *kv, struct hth_buf *out)
{
    char type[48];

    if (kv->type == HTH_GGUF_ARRAY)
        snprintf(type, sizeof type, "%s[%" PRIu64 "]",
                 hth_gguf_type_name(kv->elem_type), kv->count);
    else
        snprintf(type, sizeof type, "%s", hth_gguf_type_name(kv->type));
    hth_put_printf(out, "  %-40.*s %-14s ", (int)kv->key.n, kv->key.p, type);
    put_elements(kv, &g_text, out);
    hth_put_printf(out, "%s\n",
                   kv->count > HTH_INSPECT_ELEMENTS ? ", ..." : "");
}

static void text_tensor(const struct hth_gguf *g, const struct hth_tensor *t,
                        struct hth_buf *out)
{
    char shape[96];
    int n = 0;

    for (uint32_t d = 0; d < t->dims; d++)
        n += snprintf(shape + n, sizeof shape - (size_t)n, "%s%" PRIu64,
                      d > 0 ? " x " : "", t->ne[d]);
    hth_put_printf(out, "  %-40s %-6s %-24s %12" PRIu64 " bytes", t->name,
                   type_name(t->type), shape, t->bytes);
    if (hth_gguf_parts(g) > 1)
        hth_put_printf(out, ", file %" PRIu32, t->part + 1);
    hth_put_printf(out, "\n");
}

static void text_files(const struct hth_gguf *g, struct hth_buf *out)
{
    hth_put_printf(out, "files:\n");
    for (uint32_t i = 0; i < hth_gguf_parts(g); i++) {
        const char *path = hth_gguf_part_path(g, i);

        hth_put_printf(out, "  %s: %" PRIu64 " bytes\n",
                       path[0] != '\0' ? path : "(memory)",
                       hth_gguf_part_bytes(g, i));
    }
}

static void text_total(const char *name, const struct total *t,
                       const char *note, struct hth_buf *out)
{
    double bits = 8.0 * (double)t->bytes / (double)t->weights;

    hth_put_printf(out,
                   "  %-6s %6" PRIu64 " tensors %14" PRIu64
                   " weights %14" PRIu64 " bytes %6.2f bits each%s\n",
                   name, t->tensors, t->weights, t->bytes, bits, note);
}

static void text_head(const struct hth_gguf *g, struct hth_buf *out)
{
    struct hth_str arch;

    hth_put_printf(out, "GGUF version %" PRIu32 ", ", hth_gguf_version(g));
    if (find_architecture(g, &arch)) {
        hth_put_printf(out, "architecture ");
        put_string(arch, &g_text, out);
    } else {
        hth_put_printf(out, "no architecture");
    }
    hth_put_printf(
        out, ", %zu keys, %zu tensors, %" PRIu64 " bytes in %" PRIu32 " %s\n",
        hth_gguf_kv_count(g), hth_gguf_tensor_count(g), hth_gguf_file_bytes(g),
        hth_gguf_parts(g), hth_gguf_parts(g) == 1 ? "file" : "files");
}

void hth_inspect_text(const struct hth_gguf *g, struct hth_buf *out)
{
    struct totals sums;

    sum_up(g, &sums);
    text_head(g, out);
    text_files(g, out);
    hth_put_printf(out, "keys:\n");
    for (size_t i = 0; i < hth_gguf_kv_count(g); i++)
        text_key(hth_gguf_kv_at(g, i), out);
    if (sums.count == 0)
        return;
    hth_put_printf(out, "tensors:\n");
    for (size_t i = 0; i < hth_gguf_tensor_count(g); i++)
        text_tensor(g, hth_gguf_tensor_at(g, i), out);
    hth_put_printf(out, "types:\n");
    for (uint32_t i = 0; i < sums.count; i++)
        text_total(type_name(sums.of[i].type), &sums.of[i],
                   is_packed(sums.of[i].type)
                       ? ", packed layout"
                       : ", no packed layout: matrices are slower",
                   out);
    text_total("all", &sums.all, "", out);
}

/* ---- JSON ---------------------------------------------------------------- */

/* "name": "text"; both are C strings. */
static void json_text(const char *name, const char *text, struct hth_buf *out)
{
    hth_put_printf(out, "\"%s\": ", name);
    put_string((struct hth_str){text, strlen(text)}, &g_json, out);
}

static void json_files(const struct hth_gguf *g, struct hth_buf *out)
{
    hth_put_printf(out, "\"files\": [");
    for (uint32_t i = 0; i < hth_gguf_parts(g); i++) {
        hth_put_printf(out, "%s{", i > 0 ? ", " : "");
        json_text("path", hth_gguf_part_path(g, i), out);
        hth_put_printf(out, ", \"bytes\": %" PRIu64 "}",
                       hth_gguf_part_bytes(g, i));
    }
    hth_put_printf(out, "]");
}

static void json_key(const struct hth_gguf_kv *kv, struct hth_buf *out)
{
    hth_put_printf(out, "{\"key\": ");
    put_string(kv->key, &g_json, out);
    hth_put_printf(out, ", \"type\": \"%s\", ", hth_gguf_type_name(kv->type));
    if (kv->type != HTH_GGUF_ARRAY) {
        hth_put_printf(out, "\"value\": ");
        put_element(kv, 0, &g_json, out);
        hth_put_printf(out, "}");
        return;
    }
    hth_put_printf(out,
                   "\"elements\": \"%s\", \"count\": %" PRIu64 ", \"first\": [",
                   hth_gguf_type_name(kv->elem_type), kv->count);
    put_elements(kv, &g_json, out);
    hth_put_printf(out, "]}");
}

static void json_keys(const struct hth_gguf *g, struct hth_buf *out)
{
    hth_put_printf(out, "\"keys\": [");
    for (size_t i = 0; i < hth_gguf_kv_count(g); i++) {
        hth_put_printf(out, "%s", i > 0 ? ", " : "");
        json_key(hth_gguf_kv_at(g, i), out);
    }
    hth_put_printf(out, "]");
}

static void json_tensor(const struct hth_tensor *t, struct hth_buf *out)
{
    hth_put_printf(out, "{");
    json_text("name", t->name, out);
    hth_put_printf(out, ", \"type\": \"%s\", \"shape\": [", type_name(t->type));
    for (uint32_t d = 0; d < t->dims; d++)
        hth_put_printf(out, "%s%" PRIu64, d > 0 ? ", " : "", t->ne[d]);
    hth_put_printf(out,
                   "], \"bytes\": %" PRIu64 ", \"file\": %" PRIu32
                   ", \"offset\": %" PRIu64 "}",
                   t->bytes, t->part, t->offset);
}

static void json_tensors(const struct hth_gguf *g, struct hth_buf *out)
{
    hth_put_printf(out, "\"tensors\": [");
    for (size_t i = 0; i < hth_gguf_tensor_count(g); i++) {
        hth_put_printf(out, "%s", i > 0 ? ", " : "");
        json_tensor(hth_gguf_tensor_at(g, i), out);
    }
    hth_put_printf(out, "]");
}

static void json_types(const struct totals *sums, struct hth_buf *out)
{
    hth_put_printf(out, "\"types\": [");
    for (uint32_t i = 0; i < sums->count; i++) {
        const struct total *t = &sums->of[i];

        hth_put_printf(out,
                       "%s{\"type\": \"%s\", \"tensors\": %" PRIu64
                       ", \"weights\": %" PRIu64 ", \"bytes\": %" PRIu64
                       ", \"packed\": %s}",
                       i > 0 ? ", " : "", type_name(t->type), t->tensors,
                       t->weights, t->bytes,
                       is_packed(t->type) ? "true" : "false");
    }
    hth_put_printf(out, "]");
}

void hth_inspect_json(const struct hth_gguf *g, struct hth_buf *out)
{
    struct totals sums;
    struct hth_str arch;

    sum_up(g, &sums);
    hth_put_printf(out, "{\"version\": %" PRIu32 ", \"architecture\": ",
                   hth_gguf_version(g));
    if (find_architecture(g, &arch))
        put_string(arch, &g_json, out);
    else
        hth_put_printf(out, "null");
    hth_put_printf(out, ", \"bytes\": %" PRIu64 ", \"weights\": %" PRIu64 ", ",
                   hth_gguf_file_bytes(g), sums.all.weights);
    json_files(g, out);
    hth_put_printf(out, ", ");
    json_keys(g, out);
    hth_put_printf(out, ", ");
    json_tensors(g, out);
    hth_put_printf(out, ", ");
    json_types(&sums, out);
    hth_put_printf(out, "}");
}
