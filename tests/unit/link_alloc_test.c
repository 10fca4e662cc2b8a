/* link_alloc_test.c - nothing on the path of a step allocates: malloc and its
 * kin are replaced in this program and counted while a thread says so. Not
 * under AddressSanitizer, which replaces them itself. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "kernels/ops.h"
#include "net/frame.h"
#include "net/star.h"
#include "net_cluster.h"

#if defined(__SANITIZE_ADDRESS__) || !defined(__GLIBC__)
Test(alloc, nothing_is_allocated_while_running)
{
    cr_skip("needs glibc's malloc without a sanitizer");
}
#else
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);

static _Thread_local bool g_watch;
static atomic_uint g_count;

static void note(void)
{
    if (g_watch)
        atomic_fetch_add(&g_count, 1);
}

void *malloc(size_t n)
{
    note();
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    note();
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    note();
    return __libc_realloc(p, n);
}

struct pair {
    struct hth_star *root, *leaf;
    float *x;
};

static void *run_leaf(void *arg)
{
    struct pair *p = arg;
    float *x = p->x + 40000;

    g_watch = true;
    for (int i = 0; i < 12; i++)
        if (hth_star_all_reduce(p->leaf, x, 40000, (enum hth_wire)(i % 3)))
            break;
    g_watch = false;
    return NULL;
}

/* A rekey is inside: both directions start right before one. */
static void run(struct pair *p, struct hth_link *l[2])
{
    pthread_t t;

    for (int i = 0; i < 2; i++) {
        hth__seal_set_seq(l[i]->seal, HTH_REKEY_FRAMES - 2);
        hth__seal_set_seq(l[i]->open, HTH_REKEY_FRAMES - 2);
    }
    pthread_create(&t, NULL, run_leaf, p);
    g_watch = true;
    for (int i = 0; i < 12; i++) {
        int rc =
            hth_star_all_reduce(p->root, p->x, 40000, (enum hth_wire)(i % 3));

        g_watch = false;
        cr_assert_eq(rc, 0);
        g_watch = true;
    }
    g_watch = false;
    pthread_join(t, NULL);
}

Test(alloc, nothing_is_allocated_while_running)
{
    void *volatile one; /* or the compiler drops the pair of calls */
    static const uint32_t ciphers[] = {HTH_CIPHER_AES128_GCM,
                                       HTH_CIPHER_CHACHA20};

    cr_assert_eq(hth_isa_init(NULL), 0);
    for (int c = 0; c < 2; c++) {
        struct pair p = {.x = calloc(80000, sizeof(float))};
        struct hth_link *l[2];
        struct hth_star_opts o = {.ranks = 2, .links = &l[0]};

        tnet_raw_pair(ciphers[c], l);
        cr_assert_eq(hth_star_open(&p.root, &o, NULL), 0);
        o.rank = 1;
        o.links = &l[1];
        cr_assert_eq(hth_star_open(&p.leaf, &o, NULL), 0);
        run(&p, l);
        cr_assert_eq(atomic_load(&g_count), 0, "%u allocations",
                     atomic_load(&g_count));
        hth_star_close(p.root);
        hth_star_close(p.leaf);
        hth_link_close(l[0]);
        hth_link_close(l[1]);
        free(p.x);
    }
    g_watch = true;
    one = malloc(1);
    g_watch = false;
    free(one);
    cr_assert_eq(atomic_load(&g_count), 1, "the counting itself works");
}
#endif
