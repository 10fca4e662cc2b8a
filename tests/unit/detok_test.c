/* detok_test.c - text that comes in token by token never shows half a
 * character and is the same text in the end. */
#include <criterion/criterion.h>
#include <string.h>

#include "base/limits.h"
#include "base/rng.h"
#include "model/utf8.h"
#include "tests/unit/tokenizer_make.h"

static struct hth_tokenizer *open_bytes(const char *model)
{
    struct make m;
    struct hth_tokenizer *t;

    make_bytes(&m, model);
    if (strcmp(model, "gpt2") == 0)
        make_token(&m, "<|im_end|>", 3, 0);
    make_token(&m, "<tool>", 4, 0);
    t = make_open(&m);
    make_free(&m);
    return t;
}

/* The whole text, strays replaced, in the plainest way. */
static void replaced(const uint8_t *p, size_t n, struct hth_buf *out)
{
    size_t at, len;

    for (at = 0; at < n; at += len) {
        if (hth_utf8_scan(p + at, n - at, &len) == HTH_UTF8_VALID)
            hth_put_bytes(out, p + at, len);
        else
            hth_put_bytes(out, "\xEF\xBF\xBD", 3);
    }
}

static void stream(const struct hth_tokenizer *t, const struct hth_tokens *v,
                   bool at_start, struct hth_buf *out)
{
    struct hth_detok d;
    size_t i, before;

    hth_detok_init(&d, at_start);
    for (i = 0; i < v->count; i++) {
        before = out->len;
        hth_detok_push(&d, t, v->ids[i], true, out);
        if (out->len > before)
            cr_assert_eq(hth_utf8_valid(out->data + before, out->len - before),
                         out->len - before, "half a character came out");
        cr_assert_leq(d.held_count, 3);
    }
    hth_detok_finish(&d, out);
}

static void check_stream(const struct hth_tokenizer *t, const char *text,
                         size_t n)
{
    struct hth_tokens v = make_encode(t, text, n, false);
    struct hth_buf want, got;

    hth_buf_init(&want, 1 << 20);
    hth_buf_init(&got, 1 << 20);
    replaced((const uint8_t *)text, n, &want);
    stream(t, &v, true, &got);
    cr_assert_eq(got.len, want.len);
    cr_assert(want.len == 0 || memcmp(got.data, want.data, got.len) == 0);
    hth_buf_fini(&want);
    hth_buf_fini(&got);
    hth_tokens_fini(&v);
}

Test(detok, streaming_equals_whole)
{
    struct hth_tokenizer *t = open_bytes("gpt2");
    struct hth_rng rng;
    char text[512];
    int i;

    hth_rng_init(&rng, 11);
    for (i = 0; i < 2000; i++)
        check_stream(t, text, make_text(&rng, text, sizeof text));
    /* The example of Unicode 15, table 3-8. */
    check_stream(t, "\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64", 13);
    check_stream(t, "\xF0\x9F\x98", 3);
    hth_tokenizer_close(t);
}

static void check_bytes(const char *bytes, size_t n, const char *want)
{
    struct hth_tokenizer *t = open_bytes("gpt2");
    struct hth_tokens v = make_encode(t, bytes, n, false);
    struct hth_buf got;

    hth_buf_init(&got, 4096);
    stream(t, &v, true, &got);
    cr_assert_str_eq(hth_buf_cstr(&got), want);
    hth_buf_fini(&got);
    hth_tokens_fini(&v);
    hth_tokenizer_close(t);
}

Test(detok, strays_become_replacement_characters)
{
    check_bytes("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64", 13,
                "a\uFFFD\uFFFD\uFFFD"
                "b\uFFFD"
                "c\uFFFD\uFFFD"
                "d");
    check_bytes("ok\xE2\x82", 4, "ok\uFFFD");
}

static void check_text(const struct hth_tokenizer *t, const uint32_t *ids,
                       size_t n, bool special, bool at_start, const char *want)
{
    struct hth_detok d;
    struct hth_buf out;
    size_t i;

    hth_buf_init(&out, 4096);
    hth_detok_init(&d, at_start);
    for (i = 0; i < n; i++)
        hth_detok_push(&d, t, ids[i], special, &out);
    hth_detok_finish(&d, &out);
    cr_assert_str_eq(hth_buf_cstr(&out), want);
    hth_buf_fini(&out);
}

/* Byte tokens make up one character; the space in front of a text goes, but
 * only once and only at the start. */
Test(detok, sentencepiece)
{
    struct make m;
    struct hth_tokenizer *t;
    const uint32_t umlaut[] = {3 + 0xC3, 3 + 0xBC};
    uint32_t hi, ids[4];

    make_bytes(&m, "llama");
    hi = make_token(&m, "\xE2\x96\x81hi", 1, -1);
    t = make_open(&m);
    make_free(&m);
    check_text(t, umlaut, 2, false, true, "\xC3\xBC");
    check_text(t, umlaut, 1, false, true, "\uFFFD");
    ids[0] = 1;
    ids[1] = ids[2] = hi;
    ids[3] = 2;
    check_text(t, ids + 1, 2, false, true, "hi hi");
    check_text(t, ids + 1, 2, false, false, " hi hi");
    check_text(t, ids, 4, false, true, "hi hi");
    check_text(t, ids, 4, true, true, "<s> hi hi</s>");
    hth_tokenizer_close(t);
}

Test(detok, special_tokens_show_only_where_asked)
{
    struct hth_tokenizer *t = open_bytes("gpt2");
    const uint32_t ids[] = {'a', 256, 257, 'b', 5000};
    char piece[4] = "xyz";

    check_text(t, ids, 5, false, true, "a<tool>b");
    check_text(t, ids, 5, true, true, "a<|im_end|><tool>b");
    cr_assert_eq(hth_token_bytes(t, 256, false, piece, 4), 0);
    cr_assert_eq(hth_token_bytes(t, 256, true, piece, 3), 3);
    cr_assert_eq(memcmp(piece, "<|i", 3), 0);
    cr_assert_eq(hth_token_bytes(t, 5000, true, piece, 3), 0);
    hth_tokenizer_close(t);
}
