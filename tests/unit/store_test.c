/* store_test.c - a store that is interrupted, damaged, shared and full. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "worker/store.h"

#define N 100000u

static char dir[] = "/tmp/hearth-store-XXXXXX";

static void set_up(void)
{
    cr_assert_not_null(mkdtemp(dir));
}

static void tear_down(void)
{
    char cmd[128];

    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    cr_assert_eq(system(cmd), 0);
}

TestSuite(store, .init = set_up, .fini = tear_down);

static struct hth_store *open_store(uint64_t limit_bytes, bool verify)
{
    struct hth_store_opts o = {dir, limit_bytes, verify};
    struct hth_store *s;
    struct hth_err err;

    cr_assert_eq(hth_store_open(&s, &o, &err), HTH_OK, "%s", err.text);
    return s;
}

static void make_block(uint64_t seed, uint8_t *data, struct hth_store_key *key)
{
    struct hth_hash *h;
    struct hth_rng rng;
    uint32_t i;

    hth_rng_init(&rng, seed);
    for (i = 0; i < N; i++)
        data[i] = (uint8_t)hth_rng_u64(&rng);
    cr_assert_eq(hth_hash_open(&h), HTH_OK);
    hth_hash_update(h, data, N);
    hth_hash_finish(h, key->hash);
    hth_hash_close(h);
    key->bytes = N;
}

static void put(struct hth_store *s, const struct hth_store_key *key,
                const uint8_t *data)
{
    struct hth_store_part *p;
    struct hth_err err;
    uint64_t have;

    cr_assert_eq(hth_store_begin(s, key, &p, &have, &err), HTH_OK, "%s",
                 err.text);
    cr_assert_eq(hth_store_append(p, data + have, N - have, &err), HTH_OK);
    cr_assert_eq(hth_store_commit(p, &err), HTH_OK, "%s", err.text);
}

static void block_path(const struct hth_store_key *key, char path[256])
{
    char hex[HTH_HASH_HEX_SIZE];

    hth_hash_hex(key->hash, hex);
    snprintf(path, 256, "%s/blocks/%.2s/%s", dir, hex, hex);
}

Test(store, put_and_read)
{
    static uint8_t data[N], back[N];
    struct hth_store *s = open_store(0, false);
    struct hth_store_key key;

    make_block(1, data, &key);
    cr_assert(!hth_store_has(s, &key));
    cr_assert_eq(hth_store_read(s, &key, back, NULL), HTH_ENOTFOUND);
    put(s, &key, data);
    cr_assert(hth_store_has(s, &key));
    cr_assert_eq(hth_store_read(s, &key, back, NULL), HTH_OK);
    cr_assert_eq(memcmp(data, back, N), 0);
    cr_assert_eq(hth_store_bytes(s), N);
    hth_store_close(s);
    s = open_store(0, false);
    cr_assert(hth_store_has(s, &key), "survives a restart");
    hth_store_close(s);
}

/* A process killed in mid-transfer; the next one goes on where it stopped. */
Test(store, resumes_after_kill)
{
    static uint8_t data[N], back[N];
    struct hth_store_key key;
    struct hth_store_part *p;
    struct hth_store *s;
    uint64_t have;
    int wait_status;
    pid_t pid;

    make_block(2, data, &key);
    pid = fork();
    if (pid == 0) {
        s = open_store(0, false);
        if (hth_store_begin(s, &key, &p, &have, NULL) != HTH_OK ||
            hth_store_append(p, data, 40000, NULL) != HTH_OK)
            _exit(1);
        _exit(0);
    }
    cr_assert_eq(waitpid(pid, &wait_status, 0), pid);
    cr_assert_eq(wait_status, 0);
    s = open_store(0, false);
    cr_assert(!hth_store_has(s, &key));
    cr_assert_eq(hth_store_begin(s, &key, &p, &have, NULL), HTH_OK);
    cr_assert_eq(have, 40000);
    cr_assert_eq(hth_store_append(p, data + have, N - have, NULL), HTH_OK);
    cr_assert_eq(hth_store_commit(p, NULL), HTH_OK);
    cr_assert_eq(hth_store_read(s, &key, back, NULL), HTH_OK);
    cr_assert_eq(memcmp(data, back, N), 0);
    hth_store_close(s);
}

Test(store, wrong_bytes_are_thrown_away)
{
    static uint8_t data[N];
    struct hth_store *s = open_store(0, false);
    struct hth_store_key key;
    struct hth_store_part *p;
    struct hth_err err;
    uint64_t have;

    make_block(3, data, &key);
    data[500] ^= 1;
    cr_assert_eq(hth_store_begin(s, &key, &p, &have, NULL), HTH_OK);
    cr_assert_eq(hth_store_append(p, data, N, NULL), HTH_OK);
    cr_assert_eq(hth_store_append(p, data, 1, NULL), HTH_EOVERFLOW);
    cr_assert_eq(hth_store_commit(p, &err), HTH_EHASH);
    cr_assert(!hth_store_has(s, &key));
    cr_assert_eq(hth_store_begin(s, &key, &p, &have, NULL), HTH_OK);
    cr_assert_eq(have, 0, "nothing of it is kept");
    hth_store_suspend(p);
    hth_store_close(s);
}

static void damage(const struct hth_store_key *key, bool hide)
{
    struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {0}};
    struct stat st;
    char path[256];
    int fd;

    block_path(key, path);
    fd = open(path, O_RDWR);
    cr_assert_geq(fd, 0);
    cr_assert_eq(fstat(fd, &st), 0);
    cr_assert_eq(pwrite(fd, "x", 1, 77), 1);
    t[1] = st.st_mtim;
    if (hide)
        cr_assert_eq(futimens(fd, t), 0);
    close(fd);
}

/* Ordinary damage shows in the time; a store told to verify finds even that
 * which a dying disk does without telling. */
Test(store, damage_is_found)
{
    static uint8_t data[N], back[N];
    struct hth_store *s = open_store(0, false);
    struct hth_store_key key;

    make_block(4, data, &key);
    data[77] = 'y';
    cr_assert_neq(data[77], 'x');
    make_block(4, data, &key);
    put(s, &key, data);
    damage(&key, false);
    cr_assert_eq(hth_store_read(s, &key, back, NULL), HTH_ENOTFOUND);
    cr_assert(!hth_store_has(s, &key));
    put(s, &key, data);
    damage(&key, true);
    cr_assert(hth_store_has(s, &key), "the time was put back: not noticed");
    hth_store_close(s);
    s = open_store(0, true);
    cr_assert(!hth_store_has(s, &key));
    put(s, &key, data);
    cr_assert(hth_store_has(s, &key));
    hth_store_close(s);
}

Test(store, touched_but_whole_blocks_stay)
{
    static uint8_t data[N];
    struct hth_store *s = open_store(0, false);
    struct hth_store_key key;
    struct stat a, b;
    char path[256];

    make_block(5, data, &key);
    put(s, &key, data);
    block_path(&key, path);
    cr_assert_eq(stat(path, &a), 0);
    cr_assert_eq(utimensat(AT_FDCWD, path, NULL, 0), 0);
    cr_assert(hth_store_has(s, &key));
    cr_assert_eq(stat(path, &b), 0);
    cr_assert_eq(a.st_mtim.tv_sec, b.st_mtim.tv_sec, "stamped again");
    cr_assert_eq(truncate(path, N - 1), 0);
    cr_assert(!hth_store_has(s, &key));
    hth_store_close(s);
}

Test(store, evicts_least_recently_used)
{
    static uint8_t data[4][N];
    struct hth_store *s = open_store(3 * N, false);
    struct hth_store_key key[4];
    struct hth_err err;
    uint32_t i;

    for (i = 0; i < 3; i++) {
        make_block(10 + i, data[i], &key[i]);
        cr_assert_eq(hth_store_make_room(s, N, &err), HTH_OK);
        put(s, &key[i], data[i]);
        hth_sleep_ms(20);
    }
    cr_assert(hth_store_has(s, &key[0]), "used: now the newest");
    make_block(13, data[3], &key[3]);
    cr_assert_eq(hth_store_make_room(s, N, &err), HTH_OK);
    put(s, &key[3], data[3]);
    cr_assert(hth_store_has(s, &key[0]));
    cr_assert(!hth_store_has(s, &key[1]));
    cr_assert(hth_store_has(s, &key[2]));
    cr_assert_leq(hth_store_bytes(s), 3 * N);
    hth_store_close(s);
}

/* What a session uses stays, also when another process wants room. */
Test(store, pinned_blocks_stay)
{
    static uint8_t data[2][N];
    struct hth_store *a = open_store(2 * N, false);
    struct hth_store *b = open_store(2 * N, false);
    struct hth_store_key key[2];
    struct hth_err err;
    uint32_t i;

    for (i = 0; i < 2; i++) {
        make_block(20 + i, data[i], &key[i]);
        put(a, &key[i], data[i]);
    }
    cr_assert_eq(hth_store_pin(a, key, 2, &err), HTH_OK);
    cr_assert_eq(hth_store_make_room(b, N, &err), HTH_ELIMIT);
    cr_assert_not_null(strstr(err.text, "300000"), "%s", err.text);
    cr_assert_eq(hth_store_pin(a, key, 1, &err), HTH_OK);
    cr_assert_eq(hth_store_make_room(b, N, &err), HTH_OK);
    cr_assert(hth_store_has(a, &key[0]));
    cr_assert(!hth_store_has(a, &key[1]));
    hth_store_close(a);
    cr_assert_eq(hth_store_make_room(b, 2 * N, &err), HTH_OK,
                 "closing drops the pins");
    hth_store_close(b);
}

Test(store, one_writer_per_block)
{
    static uint8_t data[N];
    struct hth_store *a = open_store(0, false), *b = open_store(0, false);
    struct hth_store_part *p, *q;
    struct hth_store_key key;
    uint64_t have;

    make_block(30, data, &key);
    cr_assert_eq(hth_store_begin(a, &key, &p, &have, NULL), HTH_OK);
    cr_assert_eq(hth_store_begin(b, &key, &q, &have, NULL), HTH_EBUSY);
    cr_assert_eq(hth_store_append(p, data, N, NULL), HTH_OK);
    cr_assert_eq(hth_store_commit(p, NULL), HTH_OK);
    cr_assert(hth_store_has(b, &key));
    hth_store_close(a);
    hth_store_close(b);
}

Test(store, an_odd_partial_file_is_no_trouble)
{
    static uint8_t data[N];
    struct hth_store *s = open_store(0, false);
    char hex[HTH_HASH_HEX_SIZE], path[256];
    struct hth_store_key key;
    struct hth_store_part *p;
    uint64_t have;
    int fd;

    make_block(40, data, &key);
    hth_hash_hex(key.hash, hex);
    snprintf(path, sizeof path, "%s/partial/%s", dir, hex);
    fd = open(path, O_RDWR | O_CREAT, 0600);
    cr_assert_eq(ftruncate(fd, N + 5), 0);
    close(fd);
    cr_assert_eq(hth_store_begin(s, &key, &p, &have, NULL), HTH_OK);
    cr_assert_eq(have, 0);
    hth_store_suspend(p);
    hth_store_close(s);
}

Test(store, unusable_directory_is_a_sentence)
{
    struct hth_store_opts o = {"/proc/no/such/place", 0, false};
    struct hth_store *s;
    struct hth_err err;

    cr_assert_eq(hth_store_open(&s, &o, &err), HTH_EIO);
    cr_assert_not_null(strstr(err.text, "/proc/no"));
}
