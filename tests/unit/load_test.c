/* load_test.c - reading streamed answers in any pieces, goals, and the numbers
 * of the report. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/load.h"
#include "cli/sse.h"

struct seen {
    uint32_t events, texts, errors, done, tokens;
};

static void on_event(void *ctx, const struct hth_sse_event *e)
{
    struct seen *s = ctx;

    s->events++;
    s->texts += e->text;
    s->errors += e->error;
    s->done += e->done;
    if (e->tokens > 0)
        s->tokens = e->tokens;
}

static const char stream[] =
    ": a comment\r\n"
    "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\r\n\r\n"
    "data: {\"choices\":[{\"text\":\"a\"}]}\n\n"
    "data:{\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n\n"
    "data: {\"choices\":[{\"text\":\"\"}]}\n\n"
    "event: x\nid: 4\n"
    "data: {\"choices\":[],\"usage\":{\"completion_tokens\":7}}\n\n"
    "data: [DONE]\n\n";

Test(load, a_stream_in_any_pieces)
{
    struct hth_sse *s = calloc(1, sizeof *s);

    cr_assert_not_null(s);
    for (size_t piece = 1; piece <= sizeof stream; piece += 5) {
        struct seen seen = {0};

        hth_sse_init(s, on_event, &seen);
        for (size_t at = 0; at + 1 < sizeof stream; at += piece) {
            size_t left = sizeof stream - 1 - at;

            hth_sse_feed(s, stream + at, left < piece ? left : piece);
        }
        cr_assert_eq(seen.events, 6);
        cr_assert_eq(seen.texts, 2);
        cr_assert_eq(seen.tokens, 7);
        cr_assert_eq(seen.done, 1);
        cr_assert_eq(seen.errors, 0);
    }
    free(s);
}

Test(load, a_stream_that_is_none)
{
    static const char bad[] = "data: {\n"
                              "data: {\"error\":{\"message\":\"no\"}}\n"
                              "data: [1,2]\n"
                              "data: 5\n"
                              "data\n"
                              "nothing\n";
    struct hth_sse *s = calloc(1, sizeof *s);
    struct seen seen = {0};

    cr_assert_not_null(s);
    hth_sse_init(s, on_event, &seen);
    hth_sse_feed(s, bad, sizeof bad - 1);
    cr_assert_eq(seen.errors, 3);
    cr_assert_eq(seen.texts, 0);
    /* a line that does not end is not kept */
    hth_sse_feed(s, "data: ", 6);
    for (uint32_t i = 0; i < 2 * HTH_SSE_LINE_MAX; i++)
        hth_sse_feed(s, "x", 1);
    cr_assert_eq(seen.errors, 3);
    hth_sse_feed(s, "\n", 1);
    cr_assert_eq(seen.errors, 4);
    hth_sse_feed(s, "data: [DONE]\n", 13);
    cr_assert_eq(seen.done, 1);
    free(s);
}

Test(load, goals)
{
    struct hth_load_goal g;
    struct hth_err err;

    cr_assert_eq(hth_load_goal_parse(&g, "tpot:20 ttft:1.5", &err), HTH_OK);
    cr_assert(g.ttft_ms == 1.5 && g.tpot_ms == 20 && g.e2el_ms == 0);
    cr_assert_eq(hth_load_goal_parse(&g, "e2el:9,ttft:3", &err), HTH_OK);
    cr_assert(g.e2el_ms == 9);
    cr_assert_eq(hth_load_goal_parse(&g, "itl:3", &err), HTH_EUSAGE);
    cr_assert_eq(hth_load_goal_parse(&g, "ttft:-3", &err), HTH_EUSAGE);
    cr_assert_eq(hth_load_goal_parse(&g, "ttft", &err), HTH_EUSAGE);
}

/* Ten requests with a first token after 10, 20, ... 100 ms and ten more tokens
 * 10 ms apart; one that failed is in no mean. */
Test(load, numbers)
{
    struct hth_load_opts o = {.requests = 11, .concurrency = 1, .prompt = 5};
    struct hth_load_goal goal = {.ttft_ms = 50};
    struct hth_load_result r = {.count = 11, .duration_s = 2};
    struct hth_buf out;
    float gap = 0.01f;

    r.request = calloc(11, sizeof *r.request);
    cr_assert_not_null(r.request);
    for (uint32_t i = 0; i < 10; i++)
        r.request[i] = (struct hth_load_request){.ok = true,
                                                 .ttft_s = 0.01 * (i + 1),
                                                 .e2e_s = 0.01 * (i + 11),
                                                 .tokens = 11,
                                                 .gap_count = 1,
                                                 .gap_s = &gap};
    hth_buf_init(&out, 65536);
    hth_load_put_json(&o, &r, &goal, &out);
    cr_assert_not(out.failed);
    for (const char *const *k =
             (const char *const[]){
                 "\"completed\":10,", "\"failed\":1,",
                 "\"total_input_tokens\":50,", "\"total_output_tokens\":110,",
                 "\"request_throughput\":5,", "\"request_goodput\":2.5,",
                 "\"output_throughput\":55,", "\"mean_ttft_ms\":55",
                 "\"p90_ttft_ms\":91", "\"median_tpot_ms\":10",
                 "\"request_rate\":null", NULL};
         *k != NULL; k++)
        cr_assert_not_null(strstr(hth_buf_cstr(&out), *k), "%s in %s", *k,
                           hth_buf_cstr(&out));
    hth_buf_fini(&out);
    free(r.request);
}
