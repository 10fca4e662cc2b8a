/* answer_test.c - one request followed to its end, against a client that
 * plays back a list of events: this file's hth_client_*() stand in for the
 * real ones, and standard output is a file. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/answer.h"
#include "cli/signals.h"

#define EVENTS_MAX 8u

static struct {
    struct hth_event list[EVENTS_MAX];
    unsigned count, next;
    unsigned timeouts; /* given before the first event */
    unsigned cancels;
    unsigned signal_after; /* events until Ctrl-C; 0: never */
    int submit_status;
} play;

int hth_client_submit(struct hth_client *c, const struct hth_msg_submit *g,
                      uint64_t *id_out, struct hth_err *err)
{
    (void)c;
    (void)g;
    *id_out = 42;
    return play.submit_status == HTH_OK
               ? HTH_OK
               : hth_fail(err, play.submit_status, "no");
}

int hth_client_next(struct hth_client *c, uint64_t id, struct hth_event *ev,
                    uint32_t timeout_ms, struct hth_err *err)
{
    (void)c;
    (void)timeout_ms;
    cr_assert(eq(u64, id, 42));
    if (play.timeouts > 0) {
        play.timeouts--;
        return hth_fail(err, HTH_ETIMEDOUT, "none yet");
    }
    if (play.signal_after != 0 && play.next == play.signal_after)
        hth_signal_seen = SIGINT;
    if (play.next == play.count)
        return hth_fail(err, HTH_ENOTFOUND, "asked after the end");
    *ev = play.list[play.next++];
    return HTH_OK;
}

int hth_client_cancel(struct hth_client *c, uint64_t id, struct hth_err *err)
{
    (void)c;
    (void)err;
    cr_assert(eq(u64, id, 42));
    play.cancels++;
    return HTH_OK;
}

static void add(uint8_t kind, const char *text, uint32_t token)
{
    struct hth_event *e = &play.list[play.count++];

    e->kind = kind;
    e->text.p = (const uint8_t *)text;
    e->text.n = strlen(text);
    e->token = token;
    if (kind == HTH_EVENT_DONE) {
        e->finish = (uint8_t)token;
        e->stats.generated_tokens = 2;
        e->stats.ranks = 3;
    }
}

/* Run with standard output in a file; its text comes back in out. */
static int answer(const struct hth_answer_opts *opts, char *out,
                  size_t out_size, struct hth_err *err)
{
    static struct hth_msg_submit request = {.seed = 7};
    char path[] = "/tmp/hearth-answer-XXXXXX";
    int fd = mkstemp(path);
    ssize_t n;
    int rc;

    cr_assert(fd >= 0);
    unlink(path);
    fflush(stdout);
    dup2(fd, STDOUT_FILENO);
    memset(err, 0, sizeof *err);
    rc = hth_answer(NULL, &request, opts, err);
    n = pread(fd, out, out_size - 1, 0);
    out[n > 0 ? n : 0] = '\0';
    close(fd);
    return rc;
}

static void two_tokens(void)
{
    add(HTH_EVENT_TOKEN, "Once", 11);
    add(HTH_EVENT_TOKEN, " upon", 12);
}

Test(answer, text_ends_with_a_newline)
{
    struct hth_answer_opts opts = {0};
    struct hth_err err;
    char out[256];

    play.timeouts = 2;
    add(HTH_EVENT_PROMPT, "", 0);
    two_tokens();
    add(HTH_EVENT_DONE, " a", HTH_FINISH_LENGTH);
    cr_assert(eq(int, answer(&opts, out, sizeof out, &err), HTH_OK));
    cr_assert(eq(str, out, "Once upon a\n"));
    cr_assert(eq(uint, play.cancels, 0));
}

Test(answer, a_newline_is_not_doubled_and_silence_stays_silent)
{
    struct hth_answer_opts opts = {0};
    struct hth_err err;
    char out[256];

    add(HTH_EVENT_TOKEN, "x\n", 1);
    add(HTH_EVENT_DONE, "", HTH_FINISH_END);
    cr_assert(eq(int, answer(&opts, out, sizeof out, &err), HTH_OK));
    cr_assert(eq(str, out, "x\n"));
    memset(&play, 0, sizeof play);
    add(HTH_EVENT_DONE, "", HTH_FINISH_END);
    cr_assert(eq(int, answer(&opts, out, sizeof out, &err), HTH_OK));
    cr_assert(eq(str, out, ""));
}

Test(answer, ids)
{
    struct hth_answer_opts opts = {.ids = true};
    struct hth_err err;
    char out[256];

    two_tokens();
    add(HTH_EVENT_DONE, "", HTH_FINISH_STOP);
    cr_assert(eq(int, answer(&opts, out, sizeof out, &err), HTH_OK));
    cr_assert(eq(str, out, "11 12\n"));
}

Test(answer, json)
{
    struct hth_answer_opts opts = {.json = true};
    struct hth_err err;
    char out[512];

    two_tokens();
    add(HTH_EVENT_DONE, "\"\n", HTH_FINISH_STOP);
    cr_assert(eq(int, answer(&opts, out, sizeof out, &err), HTH_OK));
    cr_assert(eq(str, out,
                 "{\"text\":\"Once upon\\\"\\n\",\"ids\":[11,12],"
                 "\"finish\":\"stop\",\"seed\":7,\"prompt_tokens\":0,"
                 "\"generated_tokens\":2,\"wait_s\":0,\"prompt_s\":0,"
                 "\"generate_s\":0,\"ranks\":3}\n"));
}

/* The sentence is another machine's text: its status is kept, its control
 * bytes are not, and what came before it stays printed. */
Test(answer, error)
{
    struct hth_answer_opts opts = {0};
    struct hth_err err;
    char out[256];

    two_tokens();
    add(HTH_EVENT_ERROR, "tablet was lost\x1b[2J", 0);
    play.list[play.count - 1].status = HTH_EPEER;
    cr_assert(eq(int, answer(&opts, out, sizeof out, &err), HTH_EPEER));
    cr_assert(eq(str, err.text, "tablet was lost?[2J"));
    cr_assert(eq(str, out, "Once upon\n"));
}

Test(answer, error_with_a_status_that_is_none)
{
    struct hth_answer_opts opts = {0};
    struct hth_err err;
    char out[256];

    add(HTH_EVENT_ERROR, "odd", 0);
    play.list[0].status = 5;
    cr_assert(eq(int, answer(&opts, out, sizeof out, &err), HTH_EPROTO));
}

Test(answer, interrupt_cancels_once_and_keeps_what_came)
{
    struct hth_answer_opts opts = {0};
    struct hth_err err;
    char out[256];

    two_tokens();
    add(HTH_EVENT_TOKEN, " late", 13);
    add(HTH_EVENT_DONE, "", HTH_FINISH_CANCELLED);
    play.signal_after = 2;
    cr_assert(eq(int, answer(&opts, out, sizeof out, &err), HTH_ECANCELLED));
    cr_assert(eq(uint, play.cancels, 1));
    cr_assert(eq(str, out, "Once upon late\n"));
}

Test(answer, refused)
{
    struct hth_answer_opts opts = {0};
    struct hth_err err;
    char out[256];

    play.submit_status = HTH_ELIMIT;
    cr_assert(eq(int, answer(&opts, out, sizeof out, &err), HTH_ELIMIT));
    cr_assert(eq(str, out, ""));
}

/* Nobody reads on: the request is stopped where it runs. */
Test(answer, unwritable_output_cancels)
{
    static struct hth_msg_submit request;
    struct hth_answer_opts opts = {0};
    struct hth_err err;
    int full = open("/dev/full", O_WRONLY);

    cr_assert(full >= 0);
    two_tokens();
    add(HTH_EVENT_DONE, "", HTH_FINISH_END);
    fflush(stdout);
    dup2(full, STDOUT_FILENO);
    cr_assert(eq(int, hth_answer(NULL, &request, &opts, &err), HTH_EIO));
    cr_assert(eq(uint, play.cancels, 1));
    cr_assert(strstr(err.text, "No space left") != NULL);
}
