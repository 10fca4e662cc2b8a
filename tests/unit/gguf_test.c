/* gguf_test.c - the GGUF reader and writer: golden files, typed access,
 * splits, round trips. What it refuses is in gguf_bad_test.c. */
#include "model/gguf.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "kernels/type.h"
#include "tests/unit/folder.h"
#include "tests/unit/gguf_image.h"
#include "tests/unit/support.h"

Test(gguf, small_image_reads)
{
    struct hth_buf b;
    struct hth_gguf *g;
    struct hth_err err;
    const struct hth_gguf_kv *kv;
    uint8_t *copy;

    hth_buf_init(&b, 1 << 20);
    image_small(&b);
    cr_assert_eq(image_open(&b, &g, &copy, &err), 0, "%s", err.text);
    cr_expect_eq(hth_gguf_version(g), 3);
    cr_expect_eq(hth_gguf_parts(g), 1);
    cr_expect_str_eq(hth_gguf_path(g), "");
    cr_expect_eq(hth_gguf_file_bytes(g), b.len);
    cr_expect_eq(hth_gguf_kv_count(g), 2);
    cr_expect_eq(hth_gguf_tensor_count(g), 2);
    kv = hth_gguf_find(g, "tokens");
    cr_assert(kv != NULL);
    cr_expect_eq(kv->count, 2);
    cr_expect_eq(kv->strings[1].n, 2);
    cr_expect(memcmp(kv->strings[1].p, "bc", 2) == 0);
    cr_expect(hth_gguf_find(g, "token") == NULL);
    cr_expect(hth_gguf_find(g, "tokens2") == NULL);
    cr_assert(hth_gguf_tensor(g, "second") != NULL);
    cr_expect_eq(hth_gguf_tensor(g, "second")->bytes, 32);
    cr_expect_eq(hth_gguf_tensor(g, "second")->ne[3], 1);
    cr_expect_eq((const uint8_t *)hth_gguf_tensor(g, "second")->data,
                 copy + b.len - 32);
    cr_expect(hth_gguf_tensor(g, "secon") == NULL);
    hth_gguf_close(g);
    free(copy);
    hth_buf_fini(&b);
}

/* ---- typed access ------------------------------------------------------ */

static void put_numbers(struct hth_buf *b)
{
    image_head(b, 0, 11);
    image_key(b, "u8", HTH_GGUF_U8);
    hth_put_u8(b, 200);
    image_key(b, "i8", HTH_GGUF_I8);
    hth_put_u8(b, 0xff);
    image_key(b, "i16", HTH_GGUF_I16);
    hth_put_u16(b, 0x8000);
    image_key(b, "i64", HTH_GGUF_I64);
    hth_put_u64(b, 77);
    image_key(b, "u64", HTH_GGUF_U64);
    hth_put_u64(b, UINT64_MAX);
    image_key(b, "f32", HTH_GGUF_F32);
    hth_put_f32(b, 0.5f);
    image_key(b, "f64", HTH_GGUF_F64);
    hth_put_f64(b, 1e6);
    image_key(b, "bool", HTH_GGUF_BOOL);
    hth_put_u8(b, 1);
    image_key(b, "text", HTH_GGUF_STRING);
    image_text(b, "hello");
    image_array(b, "i32s", HTH_GGUF_I32, 2);
    hth_put_u32(b, 5);
    hth_put_u32(b, 0xfffffff0u);
    image_array(b, "empty", HTH_GGUF_STRING, 0);
}

struct numbers {
    struct hth_buf b;
    struct hth_gguf *g;
    uint8_t *copy;
    struct hth_err err;
};

static void numbers_open(struct numbers *n)
{
    hth_buf_init(&n->b, 1 << 20);
    put_numbers(&n->b);
    cr_assert_eq(image_open(&n->b, &n->g, &n->copy, &n->err), 0, "%s",
                 n->err.text);
}

static void numbers_close(struct numbers *n)
{
    hth_gguf_close(n->g);
    free(n->copy);
    hth_buf_fini(&n->b);
}

Test(gguf, typed_scalars)
{
    struct numbers n;
    struct hth_str text;
    uint32_t u = 9;
    float f = 9;
    bool yes = false;

    numbers_open(&n);
    cr_expect(hth_gguf_u32(n.g, "u8", &u, NULL) == 0 && u == 200);
    cr_expect(hth_gguf_u32(n.g, "i64", &u, NULL) == 0 && u == 77);
    cr_expect_eq(hth_gguf_u32(n.g, "i8", &u, &n.err), HTH_EFORMAT);
    cr_expect(strstr(n.err.text, "i8 is -1") != NULL, "%s", n.err.text);
    cr_expect_eq(hth_gguf_u32(n.g, "u64", &u, &n.err), HTH_EFORMAT);
    cr_expect_eq(hth_gguf_u32(n.g, "text", &u, &n.err), HTH_EFORMAT);
    cr_expect_eq(hth_gguf_u32(n.g, "f32", &u, &n.err), HTH_EFORMAT);
    cr_expect_eq(hth_gguf_u32(n.g, "bool", &u, &n.err), HTH_EFORMAT);
    cr_expect_eq(hth_gguf_u32(n.g, "none", &u, &n.err), HTH_ENOTFOUND);
    cr_expect(strstr(n.err.text, "none") != NULL);
    cr_expect_eq(u, 77, "outputs are untouched on error");
    cr_expect(hth_gguf_f32(n.g, "f32", &f, NULL) == 0 && f == 0.5f);
    cr_expect(hth_gguf_f32(n.g, "f64", &f, NULL) == 0 && f == 1e6f);
    cr_expect_eq(hth_gguf_f32(n.g, "u8", &f, &n.err), HTH_EFORMAT);
    cr_expect_eq(hth_gguf_f32(n.g, "none", &f, &n.err), HTH_ENOTFOUND);
    cr_expect(hth_gguf_bool(n.g, "bool", &yes, NULL) == 0 && yes);
    cr_expect_eq(hth_gguf_bool(n.g, "u8", &yes, &n.err), HTH_EFORMAT);
    cr_expect_eq(hth_gguf_bool(n.g, "none", &yes, &n.err), HTH_ENOTFOUND);
    cr_expect(hth_gguf_string(n.g, "text", &text, NULL) == 0 && text.n == 5 &&
              memcmp(text.p, "hello", 5) == 0);
    cr_expect_eq(hth_gguf_string(n.g, "i32s", &text, &n.err), HTH_EFORMAT);
    cr_expect_eq(hth_gguf_string(n.g, "none", &text, &n.err), HTH_ENOTFOUND);
    numbers_close(&n);
}

Test(gguf, array_elements)
{
    struct numbers n;
    int64_t i = 9;
    double f = 9;

    numbers_open(&n);
    cr_expect(hth_gguf_array_i64(hth_gguf_find(n.g, "i32s"), 1, &i) == 0 &&
              i == -16);
    cr_expect(hth_gguf_array_f64(hth_gguf_find(n.g, "i32s"), 1, &f) == 0 &&
              f == -16.0);
    cr_expect_eq(hth_gguf_array_i64(hth_gguf_find(n.g, "i32s"), 2, &i),
                 HTH_EINVAL);
    cr_expect(hth_gguf_array_i64(hth_gguf_find(n.g, "i16"), 0, &i) == 0 &&
              i == -32768);
    cr_expect_eq(hth_gguf_array_i64(hth_gguf_find(n.g, "i16"), 1, &i),
                 HTH_EINVAL);
    cr_expect_eq(hth_gguf_array_i64(hth_gguf_find(n.g, "u64"), 0, &i),
                 HTH_EFORMAT);
    cr_expect_eq(hth_gguf_array_i64(hth_gguf_find(n.g, "f64"), 0, &i),
                 HTH_EFORMAT);
    cr_expect_eq(hth_gguf_array_i64(hth_gguf_find(n.g, "text"), 0, &i),
                 HTH_EFORMAT);
    cr_expect_eq(hth_gguf_array_f64(hth_gguf_find(n.g, "empty"), 0, &f),
                 HTH_EINVAL);
    cr_expect(hth_gguf_array_f64(hth_gguf_find(n.g, "f64"), 0, &f) == 0 &&
              f == 1e6);
    cr_expect(hth_gguf_array_f64(hth_gguf_find(n.g, "u64"), 0, &f) == 0 &&
              f > 1.8e19);
    cr_expect_eq(i, -32768);
    cr_expect_str_eq(hth_gguf_type_name(HTH_GGUF_F64), "f64");
    cr_expect_str_eq(hth_gguf_type_name(HTH_GGUF_STRING), "string");
    cr_expect_str_eq(hth_gguf_type_name(13), "?");
    numbers_close(&n);
}

Test(gguf, version_2_and_wide_alignment)
{
    struct hth_buf b;
    struct hth_gguf *g;
    struct hth_err err;
    uint8_t *copy;

    hth_buf_init(&b, 1 << 20);
    image_head(&b, 2, 1);
    b.data[4] = 2;
    image_key_u32(&b, "general.alignment", 256);
    image_row(&b, "b", HTH_F32, 8, 256);
    image_row(&b, "a", HTH_F32, 8, 0);
    image_zeros(&b, 256, 288);
    cr_assert_eq(image_open(&b, &g, &copy, &err), 0, "%s", err.text);
    cr_expect_eq(hth_gguf_version(g), 2);
    cr_expect_eq(hth_gguf_tensor(g, "a")->offset, 256);
    cr_expect_eq(hth_gguf_tensor(g, "b")->offset, 512);
    cr_expect_str_eq(hth_gguf_tensor_at(g, 0)->name, "b");
    hth_gguf_close(g);
    free(copy);
    hth_buf_fini(&b);
}

/* ---- golden files ----------------------------------------------------- */

/* Its path into path, or the test is skipped. */
static void golden_file(char *path, size_t size, const char *name)
{
    if (golden_dir() == NULL)
        cr_skip_test("no golden files (set HEARTH_GOLDEN)");
    snprintf(path, size, "%s", golden_path(name, ".gguf"));
}

Test(gguf, golden_shapes)
{
    char path[4096];
    const struct hth_tensor *t;
    struct hth_gguf *g;
    struct hth_err err;
    uint32_t v;
    float eps;

    golden_file(path, sizeof path, "llama-k-Q4_K");
    cr_assert_eq(hth_gguf_open(&g, path, &err), 0, "%s", err.text);
    cr_expect_str_eq(hth_gguf_path(g), path);
    cr_expect_eq(hth_gguf_tensor_count(g), 20);
    cr_expect(hth_gguf_u32(g, "llama.feed_forward_length", &v, &err) == 0);
    cr_expect_eq(v, 768);
    cr_expect_eq(
        hth_gguf_f32(g, "llama.attention.layer_norm_rms_epsilon", &eps, &err),
        0);
    cr_expect(eps > 0 && eps < 1e-3f);
    t = hth_gguf_tensor(g, "blk.0.ffn_down.weight");
    cr_assert(t != NULL);
    cr_expect_eq(t->dims, 2);
    cr_expect_eq(t->ne[0], 768);
    cr_expect_eq(t->bytes, hth_row_bytes(t->type, t->ne[0]) * t->ne[1]);
    cr_expect_eq(t->offset % 32, 0);
    cr_expect_eq(hth_gguf_find(g, "tokenizer.ggml.tokens")->count, 2048);
    hth_gguf_close(g);
}

/* ---- files: writing, splits, reading ----------------------------------- */

static struct hth_err g_err; /* of the test that runs; one process each */

static void put_keys(struct hth_gguf_writer *w)
{
    static const struct hth_str words[] = {{"one", 3}, {"", 0}, {"t\0o", 3}};
    static const int32_t ints[] = {-1, 2, 3};
    static const float floats[] = {0.25f, -1e9f};

    hth_gguf_put_string(w, "text", "some text");
    hth_gguf_put_u32(w, "number", 4000000000u);
    hth_gguf_put_f32(w, "real", 1.5f);
    hth_gguf_put_bool(w, "yes", true);
    hth_gguf_put_strings(w, "words", words, 3);
    hth_gguf_put_i32s(w, "ints", ints, 3);
    hth_gguf_put_f32s(w, "floats", floats, 2);
}

static void check_keys(const struct hth_gguf *g)
{
    struct hth_str s;
    uint32_t u;
    float f;
    bool yes;
    int64_t i;
    double d;

    cr_expect_eq(hth_gguf_kv_count(g), 7);
    cr_expect(hth_gguf_string(g, "text", &s, NULL) == 0 && s.n == 9);
    cr_expect(hth_gguf_u32(g, "number", &u, NULL) == 0 && u == 4000000000u);
    cr_expect(hth_gguf_f32(g, "real", &f, NULL) == 0 && f == 1.5f);
    cr_expect(hth_gguf_bool(g, "yes", &yes, NULL) == 0 && yes);
    s = hth_gguf_find(g, "words")->strings[2];
    cr_expect(s.n == 3 && memcmp(s.p, "t\0o", 3) == 0);
    cr_expect(hth_gguf_array_i64(hth_gguf_find(g, "ints"), 0, &i) == 0 &&
              i == -1);
    cr_expect(hth_gguf_array_f64(hth_gguf_find(g, "floats"), 1, &d) == 0 &&
              d == (double)-1e9f);
}

/* Data goes in by pieces that respect no tensor's end. */
Test(gguf, writer_round_trip)
{
    static const uint64_t odd[] = {3, 5}, q8[] = {64, 2, 2};
    struct folder f;
    struct hth_gguf_writer *w;
    struct hth_gguf *g;
    uint8_t data[60 + 272], back[272];

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + 1);
    folder_init(&f);
    folder_path(&f, "out.gguf");
    cr_assert_eq(hth_gguf_create(&w, f.path, &g_err), 0, "%s", g_err.text);
    put_keys(w);
    hth_gguf_put_tensor(w, "odd", HTH_F32, 2, odd);
    hth_gguf_put_tensor(w, "q8", HTH_Q8_0, 3, q8);
    for (size_t at = 0; at < sizeof data; at += 83)
        cr_assert_eq(hth_gguf_put_data(w, data + at, 83, &g_err), 0);
    cr_expect(access(f.path, F_OK) != 0, "complete files only");
    cr_assert_eq(hth_gguf_finish(w, &g_err), 0, "%s", g_err.text);
    cr_assert_eq(hth_gguf_open(&g, f.path, &g_err), 0, "%s", g_err.text);
    check_keys(g);
    cr_assert_eq(hth_gguf_tensor_count(g), 2);
    cr_expect(memcmp(hth_gguf_tensor(g, "odd")->data, data, 60) == 0);
    cr_expect_eq(hth_gguf_tensor(g, "q8")->bytes, 272);
    cr_assert_eq(hth_gguf_read(g, hth_gguf_tensor(g, "q8"),
                               (struct hth_read){2, back, 270}, &g_err),
                 0);
    cr_expect(memcmp(back, data + 62, 270) == 0);
    cr_expect_eq(hth_gguf_read(g, hth_gguf_tensor(g, "q8"),
                               (struct hth_read){2, back, 271}, &g_err),
                 HTH_EINVAL);
    hth_gguf_close(g);
    folder_fini(&f);
}

/* What a writer refuses, it says at finish, and no file is left. */
static void expect_refused(struct hth_gguf_writer *w, struct folder *f,
                           int status, const char *says)
{
    cr_expect_eq(hth_gguf_finish(w, &g_err), status, "%s", g_err.text);
    cr_expect(strstr(g_err.text, says) != NULL, "%s", g_err.text);
    cr_expect(access(f->path, F_OK) != 0);
    cr_expect_eq(folder_count(f), 0);
}

static struct hth_gguf_writer *start_writer(struct folder *f)
{
    struct hth_gguf_writer *w;

    cr_assert_eq(hth_gguf_create(&w, folder_path(f, "out.gguf"), &g_err), 0);
    return w;
}

Test(gguf, writer_refusals)
{
    static const uint64_t ne[] = {4, 1}, odd[] = {33, 1}, none[] = {4, 0};
    static const uint64_t huge[] = {1u << 31, 1u << 31, 1u << 31};
    struct hth_gguf_writer *w;
    struct folder f;

    folder_init(&f);
    w = start_writer(&f);
    hth_gguf_put_u32(w, "key", 1);
    hth_gguf_put_bool(w, "key", true);
    hth_gguf_put_bool(w, "other", true);
    expect_refused(w, &f, HTH_EEXIST, "key is put twice");
    w = start_writer(&f);
    hth_gguf_put_tensor(w, "a", HTH_F32, 1, ne);
    hth_gguf_put_tensor(w, "a", HTH_F32, 1, ne);
    expect_refused(w, &f, HTH_EEXIST, "a is put twice");
    w = start_writer(&f);
    hth_gguf_put_tensor(w, "a", HTH_Q8_0, 1, odd);
    expect_refused(w, &f, HTH_EINVAL, "tensor a");
    w = start_writer(&f);
    hth_gguf_put_tensor(w, "a", HTH_F32, 2, none);
    expect_refused(w, &f, HTH_EINVAL, "tensor a");
    w = start_writer(&f);
    hth_gguf_put_tensor(w, "a", HTH_F32, 3, huge);
    expect_refused(w, &f, HTH_EINVAL, "tensor a");
    w = start_writer(&f);
    hth_gguf_put_tensor(w, "a", HTH_F32, 1, ne);
    cr_expect_eq(hth_gguf_put_data(w, ne, 12, &g_err), 0);
    expect_refused(w, &f, HTH_EINVAL, "0 of 1");
    w = start_writer(&f);
    hth_gguf_put_tensor(w, "a", HTH_F32, 1, ne);
    cr_expect_eq(hth_gguf_put_data(w, huge, 17, &g_err), HTH_EINVAL);
    cr_expect(strstr(g_err.text, "1 bytes more") != NULL, "%s", g_err.text);
    expect_refused(w, &f, HTH_EINVAL, "more than its tensors");
    cr_expect_eq(hth_gguf_create(&w, folder_path(&f, "no/x.gguf"), &g_err),
                 HTH_EIO);
    folder_fini(&f);
}

Test(gguf, writer_names_and_shapes)
{
    static const uint64_t ne[] = {4, 1, 1, 1, 1};
    char name[HTH_GGUF_NAME_BYTES_MAX + 2];
    struct hth_gguf_writer *w;
    struct folder f;

    folder_init(&f);
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    w = start_writer(&f);
    hth_gguf_put_tensor(w, name, HTH_F32, 1, ne);
    hth_gguf_put_u32(w, "ignored.after.a.failure", 1);
    expect_refused(w, &f, HTH_EINVAL, "name has 65 bytes");
    w = start_writer(&f);
    hth_gguf_put_u32(w, "", 1);
    hth_gguf_put_tensor(w, name, HTH_F32, 1, ne);
    expect_refused(w, &f, HTH_EINVAL, "a key's name has 0 bytes");
    w = start_writer(&f);
    hth_gguf_put_tensor(w, "no.dims", HTH_F32, 0, ne);
    expect_refused(w, &f, HTH_EINVAL, "no.dims");
    w = start_writer(&f);
    hth_gguf_put_tensor(w, "five.dims", HTH_F32, 5, ne);
    expect_refused(w, &f, HTH_EINVAL, "five.dims");
    w = start_writer(&f);
    hth_gguf_abandon(w);
    hth_gguf_abandon(NULL);
    cr_expect_eq(folder_count(&f), 0);
    folder_fini(&f);
}

/* A vocabulary alone: keys, no tensor, no data. */
Test(gguf, writer_without_tensors)
{
    struct hth_gguf_writer *w;
    struct hth_gguf *g;
    struct folder f;

    folder_init(&f);
    w = start_writer(&f);
    put_keys(w);
    cr_assert_eq(hth_gguf_finish(w, &g_err), 0, "%s", g_err.text);
    cr_assert_eq(hth_gguf_open(&g, f.path, &g_err), 0, "%s", g_err.text);
    check_keys(g);
    cr_expect_eq(hth_gguf_tensor_count(g), 0);
    hth_gguf_close(g);
    hth_gguf_close(NULL);
    folder_fini(&f);
}

Test(gguf, copies_are_the_same_file)
{
    char path[4096];
    struct hth_gguf_writer *w;
    struct folder f;
    struct hth_gguf *g;
    uint8_t *a, *b;
    size_t a_size, b_size;

    golden_file(path, sizeof path, "qwen3moe-Q8_0");
    folder_init(&f);
    cr_assert_eq(hth_gguf_open(&g, path, &g_err), 0, "%s", g_err.text);
    w = start_writer(&f);
    for (size_t i = 0; i < hth_gguf_kv_count(g); i++)
        hth_gguf_put_copy(w, hth_gguf_kv_at(g, i));
    for (size_t i = 0; i < hth_gguf_tensor_count(g); i++) {
        const struct hth_tensor *t = hth_gguf_tensor_at(g, i);

        hth_gguf_put_tensor(w, t->name, t->type, t->dims, t->ne);
    }
    for (size_t i = 0; i < hth_gguf_tensor_count(g); i++) {
        const struct hth_tensor *t = hth_gguf_tensor_at(g, i);

        cr_assert_eq(hth_gguf_put_data(w, t->data, t->bytes, &g_err), 0);
    }
    cr_assert_eq(hth_gguf_finish(w, &g_err), 0, "%s", g_err.text);
    a = read_file(path, &a_size);
    b = read_file(f.path, &b_size);
    cr_assert(a != NULL && b != NULL);
    cr_expect(a_size == b_size && memcmp(a, b, a_size) == 0);
    free(a);
    free(b);
    hth_gguf_close(g);
    folder_fini(&f);
}

/* ---- splits ------------------------------------------------------------ */

struct split {
    int no; /* split.no and split.count as the file claims them; -1: absent */
    int count;
    int total;          /* split.tensors.count; -1: absent */
    const char *tensor; /* its only one */
};

static void write_part(struct folder *f, const char *name, struct split s)
{
    static const uint64_t ne[] = {4};
    static const float data[] = {1, 2, 3, 4};
    struct hth_gguf_writer *w;

    cr_assert_eq(hth_gguf_create(&w, folder_path(f, name), &g_err), 0);
    if (s.no >= 0)
        hth_gguf_put_u32(w, "split.no", (uint32_t)s.no);
    if (s.count >= 0)
        hth_gguf_put_u32(w, "split.count", (uint32_t)s.count);
    if (s.total >= 0)
        hth_gguf_put_u32(w, "split.tensors.count", (uint32_t)s.total);
    hth_gguf_put_tensor(w, s.tensor, HTH_F32, 1, ne);
    cr_assert_eq(hth_gguf_put_data(w, data, sizeof data, &g_err), 0);
    cr_assert_eq(hth_gguf_finish(w, &g_err), 0, "%s", g_err.text);
}

#define PART_1 "m-00001-of-00003.gguf"
#define PART_2 "m-00002-of-00003.gguf"
#define PART_3 "m-00003-of-00003.gguf"

static void write_three(struct folder *f)
{
    folder_init(f);
    write_part(f, PART_1, (struct split){0, 3, 3, "a"});
    write_part(f, PART_2, (struct split){1, 3, -1, "b"});
    write_part(f, PART_3, (struct split){2, 3, -1, "c"});
}

Test(gguf, split_opens_as_one)
{
    struct folder f;
    struct hth_gguf *g;
    float data[4];

    write_three(&f);
    cr_assert_eq(hth_gguf_open(&g, folder_path(&f, PART_1), &g_err), 0, "%s",
                 g_err.text);
    cr_expect_eq(hth_gguf_parts(g), 3);
    cr_assert_eq(hth_gguf_tensor_count(g), 3);
    cr_expect_eq(hth_gguf_tensor(g, "c")->part, 2);
    cr_expect_str_eq(hth_gguf_tensor_at(g, 1)->name, "b");
    cr_expect_str_eq(hth_gguf_part_path(g, 2), folder_path(&f, PART_3));
    cr_expect_eq(hth_gguf_file_bytes(g), hth_gguf_part_bytes(g, 0) +
                                             hth_gguf_part_bytes(g, 1) +
                                             hth_gguf_part_bytes(g, 2));
    cr_assert_eq(hth_gguf_read(g, hth_gguf_tensor(g, "b"),
                               (struct hth_read){0, data, 16}, &g_err),
                 0);
    cr_expect_eq(data[2], 3.0f);
    /* Cut short while open: an error with the file's name, no signal. */
    cr_assert_eq(truncate(folder_path(&f, PART_2), 16), 0);
    cr_expect_eq(hth_gguf_read(g, hth_gguf_tensor(g, "b"),
                               (struct hth_read){0, data, 16}, &g_err),
                 HTH_EIO);
    cr_expect(strstr(g_err.text, PART_2) != NULL, "%s", g_err.text);
    hth_gguf_close(g);
    folder_fini(&f);
}

/* Replace one part of three and see the sentence. */
static void expect_bad_part(const char *file, struct split s, int status,
                            const char *says)
{
    struct folder f;
    struct hth_gguf *g;

    write_three(&f);
    if (s.tensor == NULL)
        cr_assert_eq(unlink(folder_path(&f, file)), 0);
    else
        write_part(&f, file, s);
    cr_expect_eq(hth_gguf_open(&g, folder_path(&f, PART_1), &g_err), status);
    cr_expect(strstr(g_err.text, says) != NULL, "%s", g_err.text);
    folder_fini(&f);
}

Test(gguf, split_refusals)
{
    expect_bad_part(PART_2, (struct split){0}, HTH_EIO, "part 2 of 3");
    expect_bad_part(PART_2, (struct split){1, 4, -1, "b"}, HTH_EFORMAT,
                    "split of 4 parts, not 3");
    expect_bad_part(PART_3, (struct split){1, 3, -1, "c"}, HTH_EFORMAT,
                    "holds part 2 of the split where part 3");
    expect_bad_part(PART_3, (struct split){-1, -1, -1, "c"}, HTH_EFORMAT,
                    "split of 1 parts, not 3");
    expect_bad_part(PART_3, (struct split){2, 3, -1, "a"}, HTH_EFORMAT,
                    "tensor a appears in parts 1 and 3");
    expect_bad_part(PART_1, (struct split){0, 3, 4, "a"}, HTH_EFORMAT,
                    "hold 3 tensors, split.tensors.count says 4");
    expect_bad_part(PART_1, (struct split){0, 2, 3, "a"}, HTH_EFORMAT,
                    "is one of 2 parts; name them");
    expect_bad_part(PART_1, (struct split){0, 300, 3, "a"}, HTH_ELIMIT,
                    "300 parts");
    expect_bad_part(PART_1, (struct split){-1, -1, -1, "a"}, HTH_EFORMAT,
                    "named as one of 3 parts");
    expect_bad_part(PART_1, (struct split){1, 3, 3, "a"}, HTH_EFORMAT,
                    "is part 2 of 3; open part 1");
}

Test(gguf, split_names)
{
    struct folder f;
    struct hth_gguf *g;

    folder_init(&f);
    write_part(&f, "plain.gguf", (struct split){0, 2, 2, "a"});
    cr_expect_eq(hth_gguf_open(&g, f.path, &g_err), HTH_EFORMAT);
    cr_expect(strstr(g_err.text, "NAME-00001-of-00002.gguf") != NULL);
    write_part(&f, "merged.gguf", (struct split){0, 0, 1, "a"});
    cr_assert_eq(hth_gguf_open(&g, f.path, &g_err), 0, "%s", g_err.text);
    hth_gguf_close(g);
    write_part(&f, "m-00001-of-00001.gguf", (struct split){0, 1, 1, "a"});
    cr_assert_eq(hth_gguf_open(&g, f.path, &g_err), 0, "%s", g_err.text);
    hth_gguf_close(g);
    write_part(&f, "-00001-of-00001.gguf", (struct split){-1, -1, -1, "a"});
    cr_assert_eq(hth_gguf_open(&g, f.path, &g_err), 0, "%s", g_err.text);
    hth_gguf_close(g);
    write_part(&f, "m-0000x-of-00002.gguf", (struct split){-1, -1, -1, "a"});
    cr_assert_eq(hth_gguf_open(&g, f.path, &g_err), 0, "%s", g_err.text);
    hth_gguf_close(g);
    write_part(&f, "a", (struct split){-1, -1, -1, "a"});
    cr_assert_eq(chdir(f.dir), 0);
    cr_assert_eq(hth_gguf_open(&g, "a", &g_err), 0, "%s", g_err.text);
    hth_gguf_close(g);
    folder_fini(&f);
}

/* Descriptors of this process. */
static int count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    cr_assert(dir != NULL);
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

Test(gguf, what_cannot_be_opened)
{
    char path[300];
    struct folder f;
    struct hth_gguf *g;
    int before = count_fds();

    folder_init(&f);
    memset(path, 'x', sizeof path);
    memcpy(path + sizeof path - 9, "end.gguf", 9);
    cr_expect_eq(hth_gguf_open(&g, path, &g_err), HTH_EIO);
    cr_expect(strncmp(g_err.text, "open ...xxx", 11) == 0, "%s", g_err.text);
    cr_expect(strstr(g_err.text, "end.gguf: ") != NULL, "%s", g_err.text);
    fclose(fopen(folder_path(&f, "empty.gguf"), "we"));
    cr_expect_eq(hth_gguf_open(&g, f.path, &g_err), HTH_EFORMAT);
    cr_expect(strstr(g_err.text, "is empty") != NULL, "%s", g_err.text);
    cr_assert_eq(mkfifo(folder_path(&f, "fifo.gguf"), 0600), 0);
    cr_expect_eq(hth_gguf_open(&g, f.path, &g_err), HTH_EIO);
    cr_expect_eq(hth_gguf_open(&g, f.dir, &g_err), HTH_EIO);
    cr_expect(strstr(g_err.text, "no regular file") != NULL);
    cr_expect_eq(hth_gguf_open(&g, folder_path(&f, "absent"), &g_err), HTH_EIO);
    cr_expect(strstr(g_err.text, "open ") != NULL &&
              strstr(g_err.text, "absent: No such file") != NULL);
    write_part(&f, "m.gguf", (struct split){-1, -1, -1, "a"});
    cr_assert_eq(hth_gguf_open(&g, f.path, &g_err), 0);
    cr_expect_eq(count_fds(), before + 1);
    hth_gguf_close(g);
    cr_expect_eq(count_fds(), before, "descriptors are closed");
    folder_fini(&f);
}
