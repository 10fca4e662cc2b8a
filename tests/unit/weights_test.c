/* weights_test.c - manifests and chunks of the bundled model; remembered
 * speeds; the socket's place. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "coordinator/local_socket.h"
#include "coordinator/speeds.h"
#include "coordinator/weights.h"
#include "kernels/type.h"

#define MODEL "models/tale-q8_0.gguf"

static char dir[] = "/tmp/hearth-weights-XXXXXX";
static struct hth_gguf *gguf;
static struct hth_spec spec;
static struct hth_plan plan;
static atomic_bool stop;

static void set_up(void)
{
    static const double shares[] = {1, 2, 3};
    struct hth_shape shape;
    struct hth_err err;

    cr_assert_not_null(mkdtemp(dir));
    cr_assert_eq(hth_gguf_open(&gguf, MODEL, &err), HTH_OK, "%s", err.text);
    cr_assert_eq(hth_spec_read(&spec, gguf, &err), HTH_OK, "%s", err.text);
    hth_spec_shape(&spec, HTH_F16, &shape);
    cr_assert_eq(hth_plan_make(&shape, shares, 3, &plan, &err), HTH_OK);
}

static void tear_down(void)
{
    char cmd[128];

    hth_gguf_close(gguf);
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    cr_assert_eq(system(cmd), 0);
}

TestSuite(weights, .init = set_up, .fini = tear_down);

static struct hth_weights *open_weights(void)
{
    struct hth_weights_opts o = {gguf, &spec, dir, &stop};
    struct hth_weights *w;
    struct hth_err err;

    cr_assert_eq(hth_weights_open(&w, &o, &err), HTH_OK);
    cr_assert_eq(hth_weights_prepare(w, &plan, &err), HTH_OK, "%s", err.text);
    return w;
}

static void manifest(struct hth_weights *w, uint32_t rank,
                     struct hth_msg_command *out, struct hth_buf *b)
{
    hth_buf_init(b, HTH_BLOCKS_MAX * HTH_MSG_BLOCK_BYTES);
    hth_weights_manifest(w, rank, b);
    cr_assert(!b->failed);
    out->blocks = (struct hth_blob){b->data, b->len};
    cr_assert_eq(hth_msg_blocks(out), 2 * spec.layers + 1);
}

/* What a worker does: every block in chunks, then its hash. */
static void fetch_and_check(struct hth_weights *w, uint32_t rank,
                            const struct hth_msg_block *block)
{
    struct hth_msg_chunk chunk = {.length = 1};
    uint8_t *data = malloc(block->bytes), got[HTH_HASH_BYTES];
    uint64_t at, left;
    struct hth_hash *h;

    memcpy(chunk.hash, block->hash, sizeof chunk.hash);
    for (at = 0; at < block->bytes; at += chunk.length) {
        left = block->bytes - at;
        chunk.offset = at;
        chunk.length = left < 60001 ? (uint32_t)left : 60001;
        cr_assert_eq(hth_weights_read(w, rank, &chunk, data + at, NULL),
                     HTH_OK);
    }
    cr_assert_eq(hth_hash_open(&h), HTH_OK);
    hth_hash_update(h, data, block->bytes);
    hth_hash_finish(h, got);
    hth_hash_close(h);
    cr_assert_eq(memcmp(got, block->hash, sizeof got), 0);
    free(data);
}

Test(weights, chunks_make_up_the_blocks)
{
    struct hth_weights *w = open_weights();
    struct hth_msg_command list = {0};
    struct hth_msg_block block;
    struct hth_buf b;
    uint64_t sum;
    uint32_t rank, i;

    for (rank = 1; rank < 3; rank++) {
        manifest(w, rank, &list, &b);
        for (sum = 0, i = 0; i < hth_msg_blocks(&list); i++) {
            hth_msg_block_at(&list, i, &block);
            sum += block.bytes;
            if (block.bytes > 0)
                fetch_and_check(w, rank, &block);
        }
        cr_assert_eq(sum, hth_shard_bytes(&spec, &plan, rank));
        hth_buf_fini(&b);
    }
    hth_weights_close(w);
}

Test(weights, only_ones_own_slices)
{
    struct hth_weights *w = open_weights();
    struct hth_msg_command list = {0};
    struct hth_msg_chunk chunk = {.length = 16};
    struct hth_msg_block block;
    struct hth_buf b;
    uint8_t data[16];

    manifest(w, 1, &list, &b);
    hth_msg_block_at(&list, 0, &block);
    memcpy(chunk.hash, block.hash, sizeof chunk.hash);
    cr_assert_eq(hth_weights_read(w, 1, &chunk, data, NULL), HTH_OK);
    cr_assert_eq(hth_weights_read(w, 2, &chunk, data, NULL), HTH_ENOTFOUND);
    chunk.offset = block.bytes - 15;
    cr_assert_eq(hth_weights_read(w, 1, &chunk, data, NULL), HTH_EINVAL);
    chunk.offset = UINT64_MAX;
    cr_assert_eq(hth_weights_read(w, 1, &chunk, data, NULL), HTH_EINVAL);
    chunk.hash[0] ^= 1;
    cr_assert_eq(hth_weights_read(w, 1, &chunk, data, NULL), HTH_ENOTFOUND);
    hth_buf_fini(&b);
    hth_weights_close(w);
}

/* The second preparation reads manifests, not the model; damaged ones and
 * forgotten ones are made again, and are the same. */
Test(weights, manifests_are_cached)
{
    struct hth_weights *w = open_weights();
    struct hth_msg_command list = {0}, again = {0};
    char cmd[128];
    struct hth_buf b, c;

    manifest(w, 2, &list, &b);
    hth_weights_close(w);
    atomic_store(&stop, true); /* hashing would be refused */
    w = open_weights();
    manifest(w, 2, &again, &c);
    cr_assert_eq(b.len, c.len);
    cr_assert_eq(memcmp(b.data, c.data, b.len), 0);
    hth_buf_fini(&c);
    hth_weights_close(w);
    atomic_store(&stop, false);
    snprintf(cmd, sizeof cmd,
             "for f in %s/manifests/*; do printf x | dd of=$f bs=1 seek=50 "
             "conv=notrunc 2>/dev/null; done",
             dir);
    cr_assert_eq(system(cmd), 0);
    w = open_weights();
    manifest(w, 2, &again, &c);
    cr_assert_eq(memcmp(b.data, c.data, b.len), 0, "made again");
    hth_weights_forget(w);
    hth_buf_fini(&c);
    hth_buf_fini(&b);
    hth_weights_close(w);
    snprintf(cmd, sizeof cmd, "test -z \"$(ls %s/manifests)\"", dir);
    cr_assert_eq(system(cmd), 0, "forgotten");
}

Test(weights, hashing_can_be_stopped)
{
    struct hth_weights_opts o = {gguf, &spec, NULL, &stop};
    struct hth_weights *w;
    struct hth_err err;

    atomic_store(&stop, true);
    cr_assert_eq(hth_weights_open(&w, &o, &err), HTH_OK);
    cr_assert_eq(hth_weights_prepare(w, &plan, &err), HTH_ECANCELLED);
    hth_weights_close(w);
    atomic_store(&stop, false);
}

/* ---- speeds and the socket ------------------------------------------------
 */

Test(weights, speeds_do_not_wobble)
{
    cr_assert_float_eq(hth_speed_kept(dir, "A", 4, 10e9), 10e9, 1);
    cr_assert_float_eq(hth_speed_kept(dir, "A", 4, 13e9), 10e9, 1);
    cr_assert_float_eq(hth_speed_kept(dir, "B", 4, 13e9), 13e9, 1);
    cr_assert_float_eq(hth_speed_kept(dir, "A", 2, 6e9), 6e9, 1, "threads");
    cr_assert_float_eq(hth_speed_kept(dir, "A", 2, 20e9), 20e9, 1, "upgrade");
    cr_assert_float_eq(hth_speed_kept(dir, "A", 2, 19e9), 20e9, 1);
    cr_assert_float_eq(hth_speed_kept(NULL, "A", 2, 1e9), 1e9, 1);
}

Test(weights, sockets_are_found)
{
    char url[HTH_LOCAL_URL_MAX], found[HTH_LOCAL_URL_MAX];
    struct hth_err err;
    struct stat st;
    FILE *f;
    int fd, other;

    cr_assert_eq(hth_local_find(dir, found, &err), HTH_EUNREACHABLE);
    cr_assert_not_null(strstr(err.text, "hearth serve"));
    cr_assert_eq(hth_local_make(dir, url, &fd, &err), HTH_OK, "%s", err.text);
    cr_assert_eq(hth_local_make(dir, url, &other, &err), HTH_EBUSY);
    f = fopen(url + 6, "w"); /* no socket: not taken for one */
    cr_assert_not_null(f);
    fclose(f);
    cr_assert_eq(hth_local_find(dir, found, &err), HTH_EUNREACHABLE);
    hth_local_remove(url, fd);
    cr_assert_neq(stat(url + 6, &st), 0);
}

/* A state directory too deep for a socket's name gets one under /tmp. */
Test(weights, long_paths_have_a_detour)
{
    char deep[512], url[HTH_LOCAL_URL_MAX];
    struct hth_err err;
    int fd;

    snprintf(deep, sizeof deep, "%s/%0120d", dir, 7);
    cr_assert_eq(mkdir(deep, 0700), 0);
    cr_assert_eq(hth_local_make(deep, url, &fd, &err), HTH_OK, "%s", err.text);
    cr_assert_eq(strncmp(url, "ipc:///tmp/hearth-", 18), 0, "%s", url);
    hth_local_remove(url, fd);
    *strrchr(url, '/') = '\0';
    cr_assert_neq(access(url + 6, F_OK), 0, "its directory is gone again");
}
