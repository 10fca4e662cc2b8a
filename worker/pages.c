/* pages.c - mmap, memfd. A mapping that fails leaves nothing behind. */
#include "worker/pages.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void count_up(struct hth_pages *p, uint64_t bytes)
{
    uint64_t now = atomic_fetch_add(&p->bytes, bytes) + bytes;
    uint64_t peak = atomic_load(&p->peak_bytes);

    while (now > peak &&
           !atomic_compare_exchange_weak(&p->peak_bytes, &peak, now))
        ;
}

void *hth_pages_alloc(struct hth_pages *p, uint64_t bytes)
{
    void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (data == MAP_FAILED)
        return NULL;
#ifdef MADV_HUGEPAGE
    (void)madvise(data, bytes, MADV_HUGEPAGE);
#endif
    count_up(p, bytes);
    return data;
}

void hth_pages_free(struct hth_pages *p, void *data, uint64_t bytes)
{
    if (data == NULL)
        return;
    (void)munmap(data, bytes);
    atomic_fetch_sub(&p->bytes, bytes);
}

/* Map the memory behind fd twice in a row, over a reserved stretch of
 * addresses. */
static uint8_t *map_twice(int fd, uint64_t bytes)
{
    uint8_t *at =
        mmap(NULL, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED)
        return NULL;
    for (int i = 0; i < 2; i++)
        if (mmap(at + (uint64_t)i * bytes, bytes, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
            (void)munmap(at, 2 * bytes);
            return NULL;
        }
    return at;
}

int hth_ring_open(struct hth_ring *r, struct hth_pages *p, uint64_t bytes,
                  struct hth_err *err)
{
    int fd;

    bytes = hth_page_up(bytes);
    fd = memfd_create("hearth-window", MFD_CLOEXEC);
    *r = (struct hth_ring){.bytes = bytes};
    if (fd >= 0 && ftruncate(fd, (off_t)bytes) == 0)
        r->data = map_twice(fd, bytes);
    if (r->data == NULL) {
        int status =
            hth_fail(err, HTH_ENOMEM, "no memory for a window of %llu MiB: %s",
                     (unsigned long long)(bytes >> 20), strerror(errno));
        if (fd >= 0)
            close(fd);
        return status;
    }
    close(fd);
    count_up(p, bytes);
    return HTH_OK;
}

void hth_ring_close(struct hth_ring *r, struct hth_pages *p)
{
    if (r->data == NULL)
        return;
    (void)munmap(r->data, 2 * r->bytes);
    atomic_fetch_sub(&p->bytes, r->bytes);
    *r = (struct hth_ring){0};
}

uint8_t *hth_ring_at(const struct hth_ring *r, uint64_t at)
{
    return r->data + at % r->bytes;
}

/* How much of [at, at + n) lies behind the ring's end, in whole pages. */
static uint64_t beyond_end(const struct hth_ring *r, uint64_t at, uint64_t n)
{
    uint64_t end = at % r->bytes + n;

    return end > r->bytes ? hth_page_up(end - r->bytes) : 0;
}

/* Unmapping pages of shared memory keeps what is in them. */
void hth_ring_enter(const struct hth_ring *r, uint64_t at, uint64_t n)
{
    uint64_t more = beyond_end(r, at, n);

    if (more > 0)
        (void)madvise(r->data, more, MADV_DONTNEED);
}

void hth_ring_leave(const struct hth_ring *r, uint64_t at, uint64_t n)
{
    uint64_t more = beyond_end(r, at, n);

    if (more > 0)
        (void)madvise(r->data + r->bytes, more, MADV_DONTNEED);
}
