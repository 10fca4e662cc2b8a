/* inspect_test.c - `hearth inspect`'s text and JSON: what they say, and that
 * hostile names and values come out harmless and valid. */
#include "model/inspect.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/type.h"
#include "tests/unit/gguf_image.h"
#include "tests/unit/support.h"

struct subject {
    struct hth_buf image, text, json;
    struct hth_gguf *g;
    uint8_t *copy;
};

/* Values that are easy to write wrongly. */
static void put_odd_keys(struct hth_buf *b)
{
    image_key(b, "odd.text", HTH_GGUF_STRING);
    image_text(b, "a\033[2J\"\\\n\xff\xc3\xa9\xc2\x9b");
    image_key(b, "odd.nan", HTH_GGUF_F32);
    hth_put_f32(b, NAN);
    image_key(b, "odd.inf", HTH_GGUF_F64);
    hth_put_f64(b, -INFINITY);
    image_key(b, "odd.u64", HTH_GGUF_U64);
    hth_put_u64(b, UINT64_MAX);
    image_key(b, "odd.i8", HTH_GGUF_I8);
    hth_put_u8(b, 0x80);
    image_key(b, "odd.yes", HTH_GGUF_BOOL);
    hth_put_u8(b, 1);
    image_key(b, "odd.real", HTH_GGUF_F32);
    hth_put_f32(b, 1e-5f);
    image_array(b, "odd.none", HTH_GGUF_STRING, 0);
    image_array(b, "odd.many", HTH_GGUF_U16, 1000);
    for (uint16_t i = 0; i < 1000; i++)
        hth_put_u16(b, i);
}

static void subject_init(struct subject *s)
{
    struct hth_err err;

    hth_buf_init(&s->image, 1 << 20);
    hth_buf_init(&s->text, 1 << 20);
    hth_buf_init(&s->json, 1 << 20);
    image_head(&s->image, 2, 10);
    image_key(&s->image, "general.architecture", HTH_GGUF_STRING);
    image_text(&s->image, "llama");
    put_odd_keys(&s->image);
    image_row(&s->image, "one", HTH_F32, 8, 0);
    image_row(&s->image, "two", HTH_Q8_0, 64, 32);
    image_zeros(&s->image, 32, 100);
    cr_assert_eq(image_open(&s->image, &s->g, &s->copy, &err), 0, "%s",
                 err.text);
    hth_inspect_text(s->g, &s->text);
    hth_inspect_json(s->g, &s->json);
}

static void subject_fini(struct subject *s)
{
    hth_gguf_close(s->g);
    free(s->copy);
    hth_buf_fini(&s->image);
    hth_buf_fini(&s->text);
    hth_buf_fini(&s->json);
}

Test(inspect, text_says_it_all)
{
    static const char *const parts[] = {
        "GGUF version 3, architecture \"llama\", 10 keys, 2 tensors",
        "(memory)",
        "\"a\\x1b[2J\\\"\\\\\\n\\xff\xc3\xa9\\x9b\"",
        "odd.u64",
        " 18446744073709551615\n",
        " -128\n",
        " true\n",
        " 1e-05\n",
        " -inf\n",
        "nan\n",
        "string[0]",
        "u16[1000]      0, 1, 2, 3, 4, 5, ...\n",
        "Q8_0   64                                 68 bytes",
        "8.50 bits each, packed layout\n",
        "32.00 bits each, no packed layout: matrices are slower\n",
    };
    struct subject s;
    const char *text;

    subject_init(&s);
    text = hth_buf_cstr(&s.text);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        cr_expect(strstr(text, parts[i]) != NULL, "no \"%s\" in:\n%s", parts[i],
                  text);
    for (const char *p = text; *p != '\0'; p++)
        cr_assert((unsigned char)*p >= 0x20 || *p == '\n');
    subject_fini(&s);
}

static json_t *key_of(json_t *root, const char *name)
{
    json_t *each;
    size_t i;

    json_array_foreach(json_object_get(root, "keys"), i, each)
    {
        if (strcmp(json_string_value(json_object_get(each, "key")), name) == 0)
            return each;
    }
    cr_assert_fail("no key %s", name);
    return NULL;
}

Test(inspect, json_parses_and_agrees)
{
    struct subject s;
    json_error_t why;
    json_t *root, *each;

    subject_init(&s);
    root = json_loads(hth_buf_cstr(&s.json), 0, &why);
    cr_assert(root != NULL, "%s:\n%s", why.text, hth_buf_cstr(&s.json));
    cr_expect_eq(json_integer_value(json_object_get(root, "version")), 3);
    cr_expect_eq(json_integer_value(json_object_get(root, "weights")), 72);
    cr_expect_str_eq(
        json_string_value(json_object_get(key_of(root, "odd.text"), "value")),
        "a\033[2J\"\\\n\xef\xbf\xbd\xc3\xa9\xc2\x9b");
    cr_expect(json_is_null(json_object_get(key_of(root, "odd.nan"), "value")));
    cr_expect(json_is_null(json_object_get(key_of(root, "odd.inf"), "value")));
    cr_expect(json_is_true(json_object_get(key_of(root, "odd.yes"), "value")));
    cr_expect_str_eq(
        json_string_value(json_object_get(key_of(root, "odd.u64"), "value")),
        "18446744073709551615");
    cr_expect_eq((float)json_real_value(
                     json_object_get(key_of(root, "odd.real"), "value")),
                 1e-5f);
    each = key_of(root, "odd.many");
    cr_expect_eq(json_integer_value(json_object_get(each, "count")), 1000);
    cr_expect_eq(json_array_size(json_object_get(each, "first")), 6);
    each = json_array_get(json_object_get(root, "tensors"), 1);
    cr_expect_eq(json_integer_value(json_object_get(each, "offset")),
                 (json_int_t)hth_gguf_tensor(s.g, "two")->offset);
    cr_expect_eq(
        json_integer_value(json_array_get(json_object_get(each, "shape"), 0)),
        64);
    json_decref(root);
    subject_fini(&s);
}

/* A long value must not make a long description. */
Test(inspect, long_strings_are_cut)
{
    struct hth_buf image, out;
    struct hth_gguf *g;
    struct hth_err err;
    uint8_t *copy;
    json_t *root;

    hth_buf_init(&image, 1 << 20);
    hth_buf_init(&out, 1 << 20);
    image_head(&image, 0, 1);
    image_key(&image, "long", HTH_GGUF_STRING);
    hth_put_u64(&image, 300000);
    for (int i = 0; i < 300000; i++)
        hth_put_u8(&image, 'x');
    cr_assert_eq(image_open(&image, &g, &copy, &err), 0, "%s", err.text);
    hth_inspect_text(g, &out);
    cr_expect(out.len < 300, "%zu bytes", out.len);
    cr_expect(strstr(hth_buf_cstr(&out), "no architecture") != NULL);
    cr_expect(strstr(hth_buf_cstr(&out), "xxx...\"\n") != NULL);
    hth_buf_reset(&out);
    hth_inspect_json(g, &out);
    cr_expect(out.len < 66000, "%zu bytes", out.len);
    root = json_loads(hth_buf_cstr(&out), 0, NULL);
    cr_expect(json_is_null(json_object_get(root, "architecture")));
    json_decref(root);
    hth_gguf_close(g);
    free(copy);
    hth_buf_fini(&image);
    hth_buf_fini(&out);
}

Test(inspect, full_buffer_fails)
{
    struct subject s;
    struct hth_buf small;

    subject_init(&s);
    hth_buf_init(&small, 100);
    hth_inspect_json(s.g, &small);
    cr_expect(small.failed);
    hth_buf_fini(&small);
    subject_fini(&s);
}
