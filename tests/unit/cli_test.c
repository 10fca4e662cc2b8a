/* cli_test.c - the parts of the command line that know no cluster: JSON,
 * tables, addresses, exit codes, temporary directories. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/address.h"
#include "model/json_write.h"
#include "cli/out.h"
#include "cli/table.h"
#include "cli/tempdir.h"

/* ---- JSON ---------------------------------------------------------------- */

static void json_of(const char *text, size_t n, const char *want)
{
    struct hth_buf b;

    hth_buf_init(&b, 1024);
    hth_json_string(&b, text, n);
    cr_assert(eq(str, (char *)hth_buf_cstr(&b), (char *)want));
    hth_buf_fini(&b);
}

Test(json, strings)
{
    json_of("", 0, "\"\"");
    json_of("a\"b\\c", 5, "\"a\\\"b\\\\c\"");
    json_of("\n\t\x01\x7f", 4, "\"\\n\\t\\u0001\\u007f\"");
    json_of("a\0b", 3, "\"a\\u0000b\"");
    json_of("\xc3\xa4\xf0\x9f\x94\xa5", 6, "\"\xc3\xa4\xf0\x9f\x94\xa5\"");
    json_of("\xff", 1, "\"\xef\xbf\xbd\"");
    json_of("x\xc3", 2, "\"x\xef\xbf\xbd\"");
    json_of("\xed\xa0\x80", 3,
            "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""); /* a surrogate */
}

Test(json, objects_and_numbers)
{
    struct hth_buf b;

    hth_buf_init(&b, 1024);
    hth_put_u8(&b, '{');
    hth_json_field(&b, "a", "x");
    hth_json_field_number(&b, "b", 0.1);
    hth_json_field_number(&b, "c", 9007199254740991.0);
    hth_json_field_number(&b, "d", NAN);
    hth_json_field_number(&b, "e", -3);
    hth_put_u8(&b, '}');
    cr_assert(eq(str, (char *)hth_buf_cstr(&b),
                 "{\"a\":\"x\",\"b\":0.10000000000000001,"
                 "\"c\":9007199254740991,\"d\":null,\"e\":-3}"));
    hth_buf_fini(&b);
}

/* ---- tables -------------------------------------------------------------- */

Test(table, columns_align)
{
    struct hth_table t;
    struct hth_buf out;

    hth_buf_init(&out, 4096);
    hth_table_init(&t, "NAME\tSTATE\tX");
    hth_table_row(&t, "%s\t%s\t%u",
                  "k\xc3\xbc"
                  "che",
                  "ready", 1u);
    hth_table_row(&t, "%s\t%s\t%u", "a", "", 22u);
    hth_table_put(&t, &out);
    cr_assert(eq(str, (char *)hth_buf_cstr(&out),
                 "NAME   STATE  X\n"
                 "k\xc3\xbc"
                 "che  ready  1\n"
                 "a      -      22\n"));
    hth_table_fini(&t);
    hth_buf_fini(&out);
}

/* A device that calls itself an escape sequence must not reach a terminal,
 * and one cell too many must not run past the columns there are. */
Test(table, hostile_cells)
{
    struct hth_table t;
    struct hth_buf out;
    char plain[8];

    hth_buf_init(&out, 4096);
    hth_table_init(&t, "A");
    hth_table_row(&t, "%s",
                  "1\t2\t3\t4\t5\t6\t7\t8\t9\t10\t11\t12\t13\t14\t15"
                  "\t16\t17\t18");
    hth_table_row(&t, "%s", "\x1b[2J\n");
    hth_table_put(&t, &out);
    cr_assert(strchr(hth_buf_cstr(&out), 0x1b) == NULL);
    cr_assert(strstr(hth_buf_cstr(&out), "16\n?[2J?\n") != NULL);
    hth_plain_text("\x1b[31m red", plain, sizeof plain);
    cr_assert(eq(str, plain, "?[31m r"));
    hth_table_fini(&t);
    hth_buf_fini(&out);
}

Test(table, byte_counts)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } want[] = {{0, "0 B"},
                {1023, "1023 B"},
                {1024, "1.00 KiB"},
                {10u << 20, "10.0 MiB"},
                {UINT64_C(5787820032), "5.39 GiB"},
                {UINT64_MAX, "16777216.0 TiB"}};

    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        char text[HTH_BYTES_TEXT];

        hth_bytes_text(want[i].bytes, text);
        cr_assert(eq(str, text, (char *)want[i].text));
    }
}

/* ---- addresses ----------------------------------------------------------- */

Test(address, accepted)
{
    static const struct {
        const char *text, *host;
        uint16_t port;
    } good[] = {{"desk", "desk", 47470},
                {"desk:1", "desk", 1},
                {"192.168.1.10:65534", "192.168.1.10", 65534},
                {"::1", "::1", 47470},
                {"fe80::1%eth0", "fe80::1%eth0", 47470},
                {"[::1]", "::1", 47470},
                {"[fe80::1%eth0]:99", "fe80::1%eth0", 99}};

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        char host[HTH_HOST_BYTES_MAX];
        uint16_t port = 47470;

        cr_assert(
            eq(int, hth_parse_address(good[i].text, host, &port, NULL), HTH_OK),
            "%s", good[i].text);
        cr_assert(eq(str, host, (char *)good[i].host));
        cr_assert(eq(u16, port, good[i].port));
    }
}

Test(address, refused)
{
    static const char *const bad[] = {
        "",           ":1",
        "desk:",      "desk:0",
        "desk:65535", "[::1",
        "[::1]x",     "[]:1",
        "desk:-1",    "a b",
        "desk:1 ",    "[::1]:",
        "desk:0x1",   "desk:99999999999999999999"};
    char longest[HTH_HOST_BYTES_MAX + 1];
    char host[HTH_HOST_BYTES_MAX];
    uint16_t port = 7;

    memset(longest, 'a', HTH_HOST_BYTES_MAX);
    longest[HTH_HOST_BYTES_MAX] = '\0';
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_assert(
            eq(int, hth_parse_address(bad[i], host, &port, NULL), HTH_EUSAGE),
            "%s", bad[i]);
    }
    cr_assert(
        eq(int, hth_parse_address(longest, host, &port, NULL), HTH_EUSAGE));
    cr_assert(eq(u16, port, 7));
}

/* ---- exit codes, input --------------------------------------------------- */

Test(out, exit_codes)
{
    cr_assert(eq(int, hth_exit_code(HTH_OK), 0));
    cr_assert(eq(int, hth_exit_code(HTH_EIO), 1));
    cr_assert(eq(int, hth_exit_code(HTH_EUSAGE), 2));
    cr_assert(eq(int, hth_exit_code(HTH_EUNREACHABLE), 3));
    cr_assert(eq(int, hth_exit_code(HTH_EPEER), 3));
    cr_assert(eq(int, hth_exit_code(HTH_EAUTH), 4));
    cr_assert(eq(int, hth_exit_code(HTH_ECANCELLED), 130));
    cr_assert(eq(int, hth_exit_code(-9999), 1));
}

Test(out, input_is_bounded)
{
    struct hth_err err;
    struct hth_buf b;
    int ends[2];

    cr_assert(eq(int, pipe(ends), 0));
    cr_assert(eq(int, (int)write(ends[1], "0123456789", 10), 10));
    close(ends[1]);
    hth_buf_init(&b, 9);
    cr_assert(eq(int, hth_read_all(ends[0], "input", &b, &err), HTH_ELIMIT));
    cr_assert(eq(str, err.text, "input is longer than 9 bytes"));
    hth_buf_fini(&b);
    close(ends[0]);
    cr_assert(eq(int, hth_read_file("/nonexistent", &b, &err), HTH_ENOTFOUND));
}

/* ---- temporary directories ----------------------------------------------- */

static bool gone_within(const char *path, uint32_t patience_ms)
{
    uint64_t until = hth_now_ms() + patience_ms;

    while (access(path, F_OK) == 0 && hth_now_ms() < until)
        hth_sleep_ms(10);
    return access(path, F_OK) != 0;
}

static void fill(const char *dir)
{
    char path[256];
    int fd;

    snprintf(path, sizeof path, "%s/deep", dir);
    cr_assert(eq(int, mkdir(path, 0700), 0));
    snprintf(path, sizeof path, "%s/deep/file", dir);
    fd = open(path, O_WRONLY | O_CREAT, 0600);
    cr_assert(fd >= 0);
    close(fd);
}

Test(tempdir, private_and_removed_on_close)
{
    struct hth_tempdir t;
    struct hth_err err;
    struct stat st;
    char path[HTH_TEMPDIR_BYTES_MAX];

    cr_assert(eq(int, hth_tempdir_open(&t, &err), HTH_OK));
    cr_assert(eq(int, stat(t.path, &st), 0));
    cr_assert(eq(uint, st.st_mode & 0777, 0700));
    memcpy(path, t.path, sizeof path);
    fill(path);
    hth_tempdir_close(&t);
    cr_assert(access(path, F_OK) != 0);
    hth_tempdir_close(&t);
}

/* The owner is killed outright: the directory goes all the same. */
Test(tempdir, removed_after_kill)
{
    struct hth_tempdir t;
    char path[HTH_TEMPDIR_BYTES_MAX];
    int ends[2];
    pid_t owner;

    cr_assert(eq(int, pipe(ends), 0));
    owner = fork();
    if (owner == 0) {
        if (hth_tempdir_open(&t, NULL) != HTH_OK ||
            write(ends[1], t.path, sizeof t.path) != (ssize_t)sizeof t.path)
            _exit(1);
        pause();
        _exit(1);
    }
    cr_assert(eq(sz, (size_t)read(ends[0], path, sizeof path), sizeof path));
    fill(path);
    kill(owner, SIGKILL);
    cr_assert(eq(int, waitpid(owner, NULL, 0), owner));
    cr_assert(gone_within(path, 3000));
    close(ends[0]);
    close(ends[1]);
}

Test(tempdir, refuses_what_it_cannot_use)
{
    struct hth_tempdir t;
    struct hth_err err;
    char longest[200];

    memset(longest, 'x', sizeof longest - 1);
    longest[0] = '/';
    longest[sizeof longest - 1] = '\0';
    setenv("TMPDIR", longest, 1);
    cr_assert(eq(int, hth_tempdir_open(&t, &err), HTH_EUSAGE));
    setenv("TMPDIR", "/nonexistent", 1);
    cr_assert(eq(int, hth_tempdir_open(&t, &err), HTH_EIO));
    cr_assert(strstr(err.text, "/nonexistent") != NULL);
}
