/* gguf_oom_test.c - each allocation of the GGUF reader, the writer and synth
 * fails in turn: an error comes back, nothing leaks, no file is left.
 *
 * Replaces malloc for this binary by glibc's own entry points, which the
 * sanitizers do not allow: under them the tests are skipped. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "kernels/type.h"
#include "model/gguf.h"
#include "model/synth.h"
#include "tests/unit/folder.h"
#include "tests/unit/gguf_image.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define __SANITIZE_ADDRESS__ 1 /* as GCC says it */
#endif
#endif

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define CAN_REPLACE 1
#else
#define CAN_REPLACE 0
#endif

static _Thread_local long g_until_failure = -1; /* allocations; -1: never */
static _Thread_local long g_live;               /* blocks of this thread */

#if CAN_REPLACE
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t each);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);

static bool fails(void)
{
    return g_until_failure >= 0 && g_until_failure-- == 0;
}

void *malloc(size_t n)
{
    void *p = fails() ? NULL : __libc_malloc(n);

    g_live += p != NULL;
    return p;
}

void *calloc(size_t n, size_t each)
{
    void *p = fails() ? NULL : __libc_calloc(n, each);

    g_live += p != NULL;
    return p;
}

void *realloc(void *old, size_t n)
{
    void *p = fails() ? NULL : __libc_realloc(old, n);

    g_live += old == NULL && p != NULL;
    return p;
}

void free(void *p)
{
    g_live -= p != NULL;
    __libc_free(p);
}
#endif

/* Run fn with its first, second... allocation failing, until it makes fewer.
 * Some failures do no harm (a libc that can do without a buffer). */
static void sweep(int (*fn)(const void *ctx, struct hth_err *err),
                  const void *ctx, long least)
{
    long n = 0;
    bool failed;
    int rc;

    if (!CAN_REPLACE)
        cr_skip_test("malloc cannot be replaced in this build");
    do {
        struct hth_err err = {0};
        long before = g_live;

        g_until_failure = n++;
        rc = fn(ctx, &err);
        failed = g_until_failure < 0;
        g_until_failure = -1;
        cr_assert_eq(g_live, before, "failure %ld leaks %ld blocks", n,
                     g_live - before);
        cr_assert(rc == 0 || err.text[0] != '\0', "failure %ld: no text", n);
        cr_assert(rc == 0 || rc == HTH_ENOMEM || rc == HTH_ELIMIT ||
                      rc == HTH_EIO,
                  "failure %ld: %d", n, rc);
    } while (failed && n < 1000);
    cr_assert_eq(rc, 0);
    cr_expect(n > least, "%ld allocations only", n);
}

static int open_image_bytes(const void *ctx, struct hth_err *err)
{
    const struct hth_buf *image = ctx;
    struct hth_gguf *g;
    int rc = hth_gguf_open_memory(&g, image->data, image->len, err);

    if (rc == 0)
        hth_gguf_close(g);
    return rc;
}

Test(gguf_oom, reader)
{
    struct hth_buf image;

    hth_buf_init(&image, 1 << 20);
    image_small(&image);
    sweep(open_image_bytes, &image, 7);
    hth_buf_fini(&image);
}

static int open_path(const void *ctx, struct hth_err *err)
{
    struct hth_gguf *g;
    int rc = hth_gguf_open(&g, ctx, err);

    if (rc == 0)
        hth_gguf_close(g);
    return rc;
}

static int write_part(const char *path, uint32_t no, struct hth_err *err)
{
    static const uint64_t ne[] = {4};
    static const float data[] = {1, 2, 3, 4};
    struct hth_gguf_writer *w;
    int rc = hth_gguf_create(&w, path, err);

    if (rc != 0)
        return rc;
    hth_gguf_put_u32(w, "split.no", no);
    hth_gguf_put_u32(w, "split.count", 2);
    hth_gguf_put_tensor(w, no == 0 ? "a" : "b", HTH_F32, 1, ne);
    rc = hth_gguf_put_data(w, data, sizeof data, err);
    if (rc == 0)
        return hth_gguf_finish(w, err);
    hth_gguf_abandon(w);
    return rc;
}

static int write_first(const void *ctx, struct hth_err *err)
{
    return write_part(ctx, 0, err);
}

Test(gguf_oom, writer_then_split)
{
    struct folder f;
    struct hth_err err;

    folder_init(&f);
    sweep(write_first, folder_path(&f, "m-00001-of-00002.gguf"), 8);
    folder_path(&f, "m-00002-of-00002.gguf");
    cr_assert_eq(write_part(f.path, 1, &err), 0, "%s", err.text);
    sweep(open_path, folder_path(&f, "m-00001-of-00002.gguf"), 14);
    cr_expect_eq(folder_count(&f), 2, "something else was left");
    folder_fini(&f);
}

static int write_synth(const void *ctx, struct hth_err *err)
{
    struct hth_synth_opts opts = {
        .shape = "d=1024,layers=1,heads=4,ff=32,vocab=1100", .type = "Q8_0"};

    return hth_synth_write(&opts, ctx, err);
}

Test(gguf_oom, synth)
{
    struct folder f;

    folder_init(&f);
    sweep(write_synth, folder_path(&f, "m.gguf"), 20);
    cr_expect_eq(folder_count(&f), 1, "something else was left");
    folder_fini(&f);
}
