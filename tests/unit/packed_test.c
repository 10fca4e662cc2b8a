/* packed_test.c - a file of pieces: what was written is read or refused. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <signal.h>
#include <unistd.h>

#include "folder.h"
#include "worker/packed.h"

#define PIECES 3u

static const uint64_t g_bytes[PIECES] = {4096 * 300, 0, 4096};
static struct folder g_folder;
static uint8_t *g_data[PIECES];

static void setup(void)
{
    folder_init(&g_folder);
    for (uint32_t i = 0; i < PIECES; i++) {
        g_data[i] = aligned_alloc(4096, g_bytes[i] + 4096);
        for (uint64_t k = 0; k < g_bytes[i]; k++)
            g_data[i][k] = (uint8_t)(k * (i + 3) >> 3);
    }
}

static void teardown(void)
{
    for (uint32_t i = 0; i < PIECES; i++)
        free(g_data[i]);
    folder_fini(&g_folder);
}

TestSuite(packed, .init = setup, .fini = teardown, .timeout = 60);

static struct hth_packed_opts opts(void)
{
    return (struct hth_packed_opts){.dir = g_folder.dir,
                                    .key = {1, 2, 3},
                                    .layout = 7,
                                    .pieces = PIECES,
                                    .piece_bytes = g_bytes};
}

static struct hth_packed *open_it(const struct hth_packed_opts *o)
{
    struct hth_packed *p;
    struct hth_err err;

    cr_assert_eq(hth_packed_open(&p, o, &err), 0, "%s", err.text);
    return p;
}

static void write_all(struct hth_packed *p)
{
    struct hth_err err;

    for (uint32_t i = PIECES; i-- > 0;)
        if (g_bytes[i] > 0)
            cr_assert_eq(hth_packed_write(p, i, g_data[i], &err), 0, "%s",
                         err.text);
}

static int read_piece(struct hth_packed *p, uint32_t piece, struct hth_err *err)
{
    uint8_t *got = aligned_alloc(4096, g_bytes[piece]);
    int rc = 0;

    memset(got, 0xee, g_bytes[piece]);
    for (uint32_t c = 0; rc == 0 && c < hth_packed_chunks(p, piece); c++)
        rc = hth_packed_read(p, piece, c, got, err);
    if (rc == 0)
        cr_assert_eq(memcmp(got, g_data[piece], g_bytes[piece]), 0);
    free(got);
    return rc;
}

Test(packed, what_is_written_is_read)
{
    struct hth_packed_opts o = opts();
    struct hth_packed *p = open_it(&o);
    struct hth_err err;

    cr_assert_not(hth_packed_has(p, 0));
    cr_assert_eq(hth_packed_write(p, 0, g_data[0], &err), 0, "%s", err.text);
    cr_assert(hth_packed_has(p, 0));
    cr_assert_not(hth_packed_has(p, 2));
    cr_assert_eq(read_piece(p, 0, &err), 0, "%s", err.text);
    cr_assert_not(hth_packed_whole(p));
    cr_assert_eq(hth_packed_write(p, 2, g_data[2], &err), 0, "%s", err.text);
    cr_assert(hth_packed_whole(p));
    hth_packed_close(p);
    p = open_it(&o);
    cr_assert(hth_packed_whole(p));
    cr_assert_eq(read_piece(p, 0, &err), 0, "%s", err.text);
    cr_assert_eq(read_piece(p, 2, &err), 0, "%s", err.text);
    hth_packed_close(p);
}

/* Half a file leaves nothing behind. */
Test(packed, unfinished_files_go)
{
    struct hth_packed_opts o = opts();
    struct hth_packed *p = open_it(&o);
    struct hth_err err;
    char line[256];
    FILE *ls;

    cr_assert_eq(hth_packed_write(p, 0, g_data[0], &err), 0, "%s", err.text);
    hth_packed_close(p);
    snprintf(line, sizeof line, "ls -A %s", g_folder.dir);
    ls = popen(line, "r");
    cr_assert_null(fgets(line, sizeof line, ls), "%s", line);
    pclose(ls);
    p = open_it(&o);
    cr_assert_not(hth_packed_has(p, 0));
    hth_packed_close(p);
}

/* Another layout, another cut, another model: not our file. */
Test(packed, other_files_are_not_ours)
{
    static const uint64_t other_bytes[PIECES] = {4096 * 299, 4096, 4096};
    struct hth_packed_opts o = opts();
    struct hth_packed *p = open_it(&o);

    write_all(p);
    hth_packed_close(p);
    o.layout = 8;
    p = open_it(&o);
    cr_assert_not(hth_packed_has(p, 0));
    hth_packed_close(p);
    o = opts();
    o.piece_bytes = other_bytes;
    p = open_it(&o);
    cr_assert_not(hth_packed_has(p, 0));
    write_all(p);
    hth_packed_close(p);
}

static void change_file(const char *path, off_t at, uint8_t xor)
{
    int fd = open(path, O_RDWR);
    uint8_t byte;

    cr_assert_eq(pread(fd, &byte, 1, at), 1);
    byte ^= xor;
    cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

Test(packed, every_changed_byte_is_seen)
{
    struct hth_packed_opts o = opts();
    struct hth_packed *p = open_it(&o);
    struct hth_err err;
    off_t header = (off_t)hth_packed_header_bytes(&o);

    write_all(p);
    for (uint32_t i = 0; i < 40; i++) {
        off_t at = header + (off_t)i * 30011;

        change_file(hth_packed_path(p), at, 4);
        cr_assert_eq(read_piece(p, 0, &err), HTH_EHASH);
        cr_assert_not_null(strstr(err.text, hth_packed_path(p)));
        change_file(hth_packed_path(p), at, 4);
    }
    cr_assert_eq(read_piece(p, 0, &err), 0);
    change_file(hth_packed_path(p), header + 5000, 1);
    cr_assert_eq(hth_packed_write(p, 0, g_data[0], &err), 0, "%s", err.text);
    cr_assert_eq(read_piece(p, 0, &err), 0, "repaired in place");
    g_data[0][9] ^= 1;
    cr_assert_eq(hth_packed_write(p, 0, g_data[0], &err), HTH_EHASH);
    hth_packed_close(p);
    for (off_t at = 0; at < 8 + 12 + 32 + 24 + 12 + 4; at++) {
        char path[256];

        p = open_it(&o);
        cr_assert(hth_packed_whole(p));
        snprintf(path, sizeof path, "%s", hth_packed_path(p));
        hth_packed_close(p);
        change_file(path, at, 0x20);
        p = open_it(&o);
        cr_assert_not(hth_packed_whole(p), "header byte %d", (int)at);
        hth_packed_close(p);
        change_file(path, at, 0x20);
    }
}

/* A full disk is said where it happens, before gigabytes are written. */
Test(packed, full_disk_names_the_directory)
{
    struct rlimit lim = {100000, 100000};
    struct hth_packed_opts o = opts();
    struct hth_packed *p = open_it(&o);
    struct hth_err err;

    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &lim), 0);
    cr_assert_eq(hth_packed_write(p, 0, g_data[0], &err), HTH_EIO);
    cr_assert_not_null(strstr(err.text, g_folder.dir), "%s", err.text);
    cr_assert_not(hth_packed_has(p, 0));
    hth_packed_close(p);
}
