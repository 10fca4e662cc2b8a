/* gguf_bad_test.c - what the GGUF reader refuses: every check by a file made
 * for it, then random damage to a good file. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/rng.h"
#include "kernels/type.h"
#include "tests/unit/gguf_image.h"
#include "tests/unit/support.h"

static void bad_empty(struct hth_buf *b)
{
    (void)b;
}

static void bad_magic(struct hth_buf *b)
{
    hth_put_bytes(b, "GGML", 4);
    image_zeros(b, 64, 64);
}

static void bad_lfs(struct hth_buf *b)
{
    hth_put_printf(b, "version https://git-lfs.github.com/spec/v1\noid sha256");
}

static void bad_header_cut(struct hth_buf *b)
{
    image_head(b, 0, 0);
    b->len--;
}

static void bad_version_1(struct hth_buf *b)
{
    image_small(b);
    b->data[4] = 1;
}

static void bad_version_4(struct hth_buf *b)
{
    image_small(b);
    b->data[4] = 4;
}

static void bad_endian(struct hth_buf *b)
{
    image_small(b);
    b->data[4] = 0;
    b->data[7] = 3;
}

static void bad_tensor_count(struct hth_buf *b)
{
    image_head(b, UINT64_MAX, 0);
}

static void bad_tensor_count_file(struct hth_buf *b)
{
    image_head(b, 60000, 0);
    image_zeros(b, 32, 64);
}

static void bad_key_count(struct hth_buf *b)
{
    image_head(b, 0, UINT64_MAX);
}

static void bad_key_count_file(struct hth_buf *b)
{
    image_head(b, 0, 60000);
    image_zeros(b, 32, 64);
}

/* The count passes the header's check because of what the key occupies. */
static void bad_tensor_count_left(struct hth_buf *b)
{
    image_head(b, 3, 1);
    image_key(b, "text", HTH_GGUF_STRING);
    image_text(b, "long enough to pass for the entries of three tensors, that "
                  "is for more than ninety-nine bytes in all");
}

static void bad_key_length(struct hth_buf *b)
{
    image_head(b, 0, 1);
    hth_put_u64(b, UINT64_MAX);
    image_zeros(b, 32, 32);
}

static void bad_key_empty(struct hth_buf *b)
{
    image_head(b, 0, 1);
    image_key_u32(b, "", 1);
    image_zeros(b, 32, 32);
}

static void bad_key_escape(struct hth_buf *b)
{
    image_head(b, 0, 1);
    image_key_u32(b, "a\033[2J", 1);
}

static void bad_key_type(struct hth_buf *b)
{
    image_head(b, 0, 1);
    image_key(b, "some.key", 13);
    hth_put_u64(b, 0);
}

static void bad_key_type_cut(struct hth_buf *b)
{
    image_head(b, 0, 1);
    image_text(b, "some.key.of.a.certain.length");
}

static void bad_scalar_cut(struct hth_buf *b)
{
    image_head(b, 0, 1);
    image_key(b, "some.key.x", HTH_GGUF_U64);
    hth_put_u32(b, 0);
}

static void bad_string_cut(struct hth_buf *b)
{
    image_head(b, 0, 1);
    image_key(b, "some.key", HTH_GGUF_STRING);
    hth_put_u64(b, 5);
    hth_put_u32(b, 0);
}

static void bad_string_length(struct hth_buf *b)
{
    image_head(b, 0, 1);
    image_key(b, "some.key", HTH_GGUF_STRING);
    hth_put_u64(b, UINT64_MAX - 4);
    hth_put_u64(b, 0);
}

static void bad_bool(struct hth_buf *b)
{
    image_head(b, 0, 1);
    image_key(b, "some.key.x", HTH_GGUF_BOOL);
    hth_put_u8(b, 2);
}

static void bad_duplicate_key(struct hth_buf *b)
{
    image_head(b, 0, 3);
    image_key_u32(b, "twice", 1);
    image_key_u32(b, "once", 1);
    image_key_u32(b, "twice", 1);
}

static void bad_nested(struct hth_buf *b)
{
    image_head(b, 0, 1);
    image_array(b, "some.key", HTH_GGUF_ARRAY, 1);
    hth_put_u64(b, 0);
}

static void bad_array_type(struct hth_buf *b)
{
    image_head(b, 0, 1);
    image_array(b, "some.key", 99, 1);
    hth_put_u64(b, 0);
}

static void bad_array_cut(struct hth_buf *b)
{
    image_head(b, 0, 1);
    image_array(b, "some.key", HTH_GGUF_F64, 3);
    hth_put_u64(b, 0);
}

static void bad_array_head_cut(struct hth_buf *b)
{
    image_head(b, 0, 1);
    image_array(b, "some.key", HTH_GGUF_F64, 3);
    b->len -= 4;
}

static void bad_array_count(struct hth_buf *b)
{
    image_head(b, 0, 1);
    image_array(b, "some.key", HTH_GGUF_U8, UINT64_MAX / 2);
}

static void bad_strings_cut(struct hth_buf *b)
{
    image_head(b, 0, 1);
    image_array(b, "some.key", HTH_GGUF_STRING, 2);
    image_text(b, "abcdefgh");
    hth_put_u32(b, 0);
}

static void bad_strings_count(struct hth_buf *b)
{
    image_head(b, 0, 1);
    image_array(b, "some.key", HTH_GGUF_STRING, 100000);
    image_text(b, "abc");
}

static void bad_strings_limit(struct hth_buf *b)
{
    image_head(b, 0, 1);
    image_array(b, "some.key", HTH_GGUF_STRING, HTH_GGUF_STRINGS_MAX + 1);
}

static void put_aligned(struct hth_buf *b, uint32_t align)
{
    image_head(b, 0, 1);
    image_key_u32(b, "general.alignment", align);
}

static void bad_align_zero(struct hth_buf *b)
{
    put_aligned(b, 0);
}

static void bad_align_odd(struct hth_buf *b)
{
    put_aligned(b, 24);
}

static void bad_align_small(struct hth_buf *b)
{
    put_aligned(b, 4);
}

static void bad_align_large(struct hth_buf *b)
{
    put_aligned(b, 1u << 20);
}

static void bad_align_text(struct hth_buf *b)
{
    image_head(b, 0, 1);
    image_key(b, "general.alignment", HTH_GGUF_STRING);
    image_text(b, "32");
}

static void bad_no_dims(struct hth_buf *b)
{
    image_head(b, 1, 0);
    image_text(b, "some.weight");
    hth_put_u32(b, 0);
    image_zeros(b, 32, 64);
}

static void bad_five_dims(struct hth_buf *b)
{
    image_head(b, 1, 0);
    image_text(b, "some.weight");
    hth_put_u32(b, 5);
    image_zeros(b, 32, 64);
}

static void bad_zero_size(struct hth_buf *b)
{
    image_head(b, 1, 0);
    image_row(b, "some.weight", HTH_F32, 0, 0);
    image_zeros(b, 32, 64);
}

static void put_cube(struct hth_buf *b, uint64_t each)
{
    image_head(b, 1, 0);
    image_text(b, "some.weight");
    hth_put_u32(b, 3);
    for (int i = 0; i < 3; i++)
        hth_put_u64(b, each);
    hth_put_u32(b, HTH_F32);
    hth_put_u64(b, 0);
    image_zeros(b, 32, 64);
}

/* 2^22 * 2^22 * 2^22 * 4 is 2^68: wraps to 2^4 if nobody looks. */
static void bad_overflow(struct hth_buf *b)
{
    put_cube(b, 1u << 22);
}

static void bad_too_large(struct hth_buf *b)
{
    put_cube(b, 1u << 12);
}

static void bad_type(struct hth_buf *b)
{
    image_head(b, 1, 0);
    image_row(b, "some.weight", 16, 256, 0);
    image_zeros(b, 32, 256);
}

static void bad_type_unknown(struct hth_buf *b)
{
    image_head(b, 1, 0);
    image_row(b, "some.weight", 77, 256, 0);
    image_zeros(b, 32, 256);
}

static void bad_block(struct hth_buf *b)
{
    image_head(b, 1, 0);
    image_row(b, "some.weight", HTH_Q8_0, 33, 0);
    image_zeros(b, 32, 256);
}

static void bad_offset_align(struct hth_buf *b)
{
    image_head(b, 1, 0);
    image_row(b, "some.weight", HTH_F32, 8, 4);
    image_zeros(b, 32, 256);
}

static void bad_offset(struct hth_buf *b)
{
    image_head(b, 1, 0);
    image_row(b, "some.weight", HTH_F32, 8, UINT64_MAX - 31);
    image_zeros(b, 32, 256);
}

static void bad_tensor_end(struct hth_buf *b)
{
    image_head(b, 1, 0);
    image_row(b, "some.weight", HTH_F32, 9, 32);
    image_zeros(b, 32, 64);
}

static void bad_data_missing(struct hth_buf *b)
{
    image_head(b, 1, 0);
    image_row(b, "w", HTH_F32, 1, 0);
    cr_assert(b->len % 32 != 0);
}

static void bad_overlap(struct hth_buf *b)
{
    image_head(b, 2, 0);
    image_row(b, "some.weight", HTH_F32, 9, 0);
    image_row(b, "other.weight", HTH_F32, 8, 32);
    image_zeros(b, 32, 64);
}

static void bad_duplicate_tensor(struct hth_buf *b)
{
    image_head(b, 2, 0);
    image_row(b, "some.weight", HTH_F32, 8, 0);
    image_row(b, "some.weight", HTH_F32, 8, 32);
    image_zeros(b, 32, 64);
}

static void bad_tensor_name_long(struct hth_buf *b)
{
    image_head(b, 1, 0);
    image_row(b,
              "a.name.that.is.longer.than.the.sixty.four.bytes.that.the."
              "specification.allows",
              HTH_F32, 8, 0);
    image_zeros(b, 32, 64);
}

static void bad_tensor_name_nul(struct hth_buf *b)
{
    image_head(b, 1, 0);
    image_row(b, "some?weight", HTH_F32, 8, 0);
    b->data[24 + 8 + 4] = 0;
    image_zeros(b, 32, 64);
}

/* The name fits, and nothing follows it. */
static void bad_tensor_name_only(struct hth_buf *b)
{
    image_head(b, 1, 0);
    image_text(b, "a.name.of.more.than.twenty.bytes");
}

static void bad_tensor_cut(struct hth_buf *b)
{
    image_head(b, 1, 0);
    image_row(b, "some.weight", HTH_F32, 8, 0);
    b->len -= 8;
}

static void bad_split(struct hth_buf *b)
{
    image_head(b, 0, 1);
    image_key_u32(b, "split.count", 2);
}

struct bad_case {
    const char *name;
    void (*make)(struct hth_buf *b);
    int status;
    const char *says; /* must be part of the error's text */
};

static const struct bad_case bad_cases[] = {
    {"empty", bad_empty, HTH_EFORMAT, "header"},
    {"magic", bad_magic, HTH_EFORMAT, "no GGUF file"},
    {"lfs", bad_lfs, HTH_EFORMAT, "Git LFS"},
    {"header cut", bad_header_cut, HTH_EFORMAT, "header"},
    {"version 1", bad_version_1, HTH_EUNSUPPORTED, "version 1"},
    {"version 4", bad_version_4, HTH_EUNSUPPORTED, "version 4"},
    {"big-endian", bad_endian, HTH_EUNSUPPORTED, "big-endian"},
    {"tensor count", bad_tensor_count, HTH_ELIMIT, "tensors"},
    {"tensors over file", bad_tensor_count_file, HTH_EFORMAT, "tensors"},
    {"tensors over rest", bad_tensor_count_left, HTH_EFORMAT, "tensors"},
    {"key count", bad_key_count, HTH_ELIMIT, "keys"},
    {"keys over file", bad_key_count_file, HTH_EFORMAT, "keys"},
    {"key length", bad_key_length, HTH_EFORMAT, "key 1 of 1"},
    {"key empty", bad_key_empty, HTH_EFORMAT, "name of key 1"},
    {"key escape", bad_key_escape, HTH_EFORMAT, "name of key 1"},
    {"key type", bad_key_type, HTH_EFORMAT, "some.key has the unknown"},
    {"key type cut", bad_key_type_cut, HTH_EFORMAT, "of.a.certain"},
    {"scalar cut", bad_scalar_cut, HTH_EFORMAT, "some.key.x"},
    {"string cut", bad_string_cut, HTH_EFORMAT, "some.key"},
    {"string length", bad_string_length, HTH_EFORMAT, "some.key"},
    {"bool", bad_bool, HTH_EFORMAT, "bool of value 2"},
    {"duplicate key", bad_duplicate_key, HTH_EFORMAT, "twice appears twice"},
    {"nested", bad_nested, HTH_EUNSUPPORTED, "array of arrays"},
    {"array type", bad_array_type, HTH_EFORMAT, "unknown type 99"},
    {"array cut", bad_array_cut, HTH_EFORMAT, "some.key"},
    {"array head cut", bad_array_head_cut, HTH_EFORMAT, "some.key"},
    {"array count", bad_array_count, HTH_ELIMIT, "some.key"},
    {"strings cut", bad_strings_cut, HTH_EFORMAT, "some.key"},
    {"strings count", bad_strings_count, HTH_EFORMAT, "some.key"},
    {"strings limit", bad_strings_limit, HTH_ELIMIT, "some.key"},
    {"align 0", bad_align_zero, HTH_EFORMAT, "general.alignment is 0"},
    {"align 24", bad_align_odd, HTH_EFORMAT, "general.alignment is 24"},
    {"align 4", bad_align_small, HTH_EFORMAT, "general.alignment is 4"},
    {"align large", bad_align_large, HTH_EFORMAT, "1048576"},
    {"align text", bad_align_text, HTH_EFORMAT, "type string"},
    {"0 dims", bad_no_dims, HTH_EFORMAT, "some.weight has 0 dimensions"},
    {"5 dims", bad_five_dims, HTH_EFORMAT, "some.weight has 5 dimensions"},
    {"zero size", bad_zero_size, HTH_EFORMAT, "some.weight is empty"},
    {"overflow", bad_overflow, HTH_EFORMAT, "some.weight claims"},
    {"too large", bad_too_large, HTH_EFORMAT, "some.weight claims"},
    {"type 16", bad_type, HTH_EUNSUPPORTED, "16 (IQ2_XXS)"},
    {"type 77", bad_type_unknown, HTH_EUNSUPPORTED, "supported are F32"},
    {"block", bad_block, HTH_EFORMAT, "not whole Q8_0 blocks of 32"},
    {"offset align", bad_offset_align, HTH_EFORMAT, "alignment 32"},
    {"offset", bad_offset, HTH_EFORMAT, "some.weight (32 bytes"},
    {"tensor end", bad_tensor_end, HTH_EFORMAT, "some.weight (36 bytes"},
    {"data missing", bad_data_missing, HTH_EFORMAT, "tensor data"},
    {"overlap", bad_overlap, HTH_EFORMAT, "some.weight and other.weight"},
    {"duplicate tensor", bad_duplicate_tensor, HTH_EFORMAT, "appears twice"},
    {"tensor name long", bad_tensor_name_long, HTH_EFORMAT, "tensor 1 of 1"},
    {"tensor name NUL", bad_tensor_name_nul, HTH_EFORMAT, "not printable"},
    {"tensor name only", bad_tensor_name_only, HTH_EFORMAT,
     "twenty.bytes goes"},
    {"tensor cut", bad_tensor_cut, HTH_EFORMAT, "some.weight"},
    {"split", bad_split, HTH_EUNSUPPORTED, "one of 2 parts"},
};

Test(gguf_bad, malformed_images_are_refused_by_name)
{
    for (size_t i = 0; i < sizeof bad_cases / sizeof bad_cases[0]; i++) {
        const struct bad_case *c = &bad_cases[i];
        struct hth_gguf *g = NULL;
        struct hth_err err = {0};
        struct hth_buf b;
        uint8_t *copy;
        int rc;

        hth_buf_init(&b, 1 << 20);
        c->make(&b);
        rc = image_open(&b, &g, &copy, &err);
        cr_expect_eq(rc, c->status, "%s: %d %s", c->name, rc, err.text);
        cr_expect(strstr(err.text, c->says) != NULL, "%s: \"%s\" lacks \"%s\"",
                  c->name, err.text, c->says);
        cr_expect(g == NULL, "%s", c->name);
        cr_expect_eq(hth_gguf_open_memory(&g, copy, b.len, NULL), c->status,
                     "%s without err", c->name);
        free(copy);
        hth_buf_fini(&b);
    }
}

/* Every prefix of a small file is refused: nothing in it is optional. */
Test(gguf_bad, every_prefix_is_refused)
{
    struct hth_buf b;
    struct hth_gguf *g;
    struct hth_err err;

    hth_buf_init(&b, 1 << 20);
    image_small(&b);
    for (size_t n = 0; n < b.len; n++) {
        uint8_t *copy = malloc(n > 0 ? n : 1);

        memcpy(copy, b.data, n);
        cr_expect_eq(hth_gguf_open_memory(&g, copy, n, &err), HTH_EFORMAT,
                     "prefix of %zu bytes", n);
        free(copy);
    }
    hth_buf_fini(&b);
}

/* ---- random damage ---------------------------------------------------- */

/* Read everything a directory leads to, so that ASan sees a bad pointer. */
static uint64_t touch(const struct hth_gguf *g)
{
    uint64_t sum = 0;
    uint8_t tail[16];

    for (size_t i = 0; i < hth_gguf_kv_count(g); i++) {
        const struct hth_gguf_kv *kv = hth_gguf_kv_at(g, i);
        int64_t v;
        double f;

        for (size_t k = 0; k < kv->bytes; k++)
            sum += kv->data[k];
        for (uint64_t k = 0; kv->strings != NULL && k < kv->count; k++)
            sum += kv->strings[k].n > 0 ? (uint8_t)kv->strings[k].p[0] : 1;
        if (kv->count > 0 &&
            hth_gguf_array_i64(kv, kv->count - 1, &v) == HTH_EINVAL)
            sum++;
        if (kv->count > 0 && hth_gguf_array_f64(kv, 0, &f) == HTH_EINVAL)
            sum++;
    }
    for (size_t i = 0; i < hth_gguf_tensor_count(g); i++) {
        const struct hth_tensor *t = hth_gguf_tensor_at(g, i);
        uint64_t n = t->bytes < sizeof tail ? t->bytes : sizeof tail;

        for (uint64_t k = 0; k < t->bytes; k++)
            sum += ((const uint8_t *)t->data)[k];
        cr_assert_eq(
            hth_gguf_read(g, t, (struct hth_read){t->bytes - n, tail, n}, NULL),
            0);
        cr_assert(hth_gguf_tensor(g, t->name) == t);
    }
    return sum;
}

struct damage {
    uint8_t *whole; /* owned */
    size_t size;
    size_t head; /* bytes in front of the tensor data */
    struct hth_rng rng;
};

static void damage_init(struct damage *d, const char *name)
{
    struct hth_gguf *g;

    if (golden_dir() == NULL)
        cr_skip_test("no golden files (set HEARTH_GOLDEN)");
    d->whole = read_file(golden_path(name, ".gguf"), &d->size);
    cr_assert(d->whole != NULL);
    cr_assert_eq(hth_gguf_open_memory(&g, d->whole, d->size, NULL), 0);
    d->head = hth_gguf_tensor_at(g, 0)->offset;
    hth_gguf_close(g);
    hth_rng_init(&d->rng, 20);
}

Test(gguf_bad, random_truncations)
{
    struct damage d;

    damage_init(&d, "llama-gqa-Q4_0");
    for (int i = 0; i < 100; i++) {
        size_t bound = i % 2 == 0 ? d.head : d.size;
        size_t n = (size_t)(hth_rng_u64(&d.rng) % bound);
        uint8_t *cut = malloc(n > 0 ? n : 1);
        struct hth_gguf *g = NULL;
        struct hth_err err;
        int rc;

        memcpy(cut, d.whole, n);
        rc = hth_gguf_open_memory(&g, cut, n, &err);
        /* Only the padding of the last tensor can be spared. */
        cr_expect(rc == HTH_EFORMAT || n + 32 > d.size, "%zu bytes: %d", n, rc);
        hth_gguf_close(g);
        free(cut);
    }
    free(d.whole);
}

/* Nine in ten flips hit the directory: a flip in the weights is only another
 * number. Half of the flips set a whole byte, which reaches counts and
 * lengths that one bit does not. */
Test(gguf_bad, random_byte_flips)
{
    struct damage d;
    uint8_t *work;
    int opened = 0;

    damage_init(&d, "llama-gqa-Q4_0");
    work = malloc(d.size);
    for (int i = 0; i < 1000; i++) {
        size_t bound = i % 10 != 0 ? d.head : d.size;
        size_t at = (size_t)(hth_rng_u64(&d.rng) % bound);
        uint64_t r = hth_rng_u64(&d.rng);
        struct hth_gguf *g = NULL;
        struct hth_err err = {0};
        int rc;

        memcpy(work, d.whole, d.size);
        work[at] = i % 2 == 0 ? (uint8_t)r : (uint8_t)(work[at] ^ 1u << r % 8);
        rc = hth_gguf_open_memory(&g, work, d.size, &err);
        cr_expect(rc == 0 || err.text[0] != '\0', "byte %zu: no sentence", at);
        if (rc == 0 && touch(g) > 0)
            opened++;
        hth_gguf_close(g);
    }
    cr_expect(opened > 100 && opened < 1000, "%d of 1000 opened", opened);
    free(work);
    free(d.whole);
}
