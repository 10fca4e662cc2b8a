/* answer.c - events of a request as text, ids or JSON on standard output,
 * progress and waiting on standard error. */
#include "cli/answer.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "model/json_write.h"
#include "cli/out.h"
#include "cli/signals.h"
#include "cli/table.h"
#include "cli/wrap.h"
#include "coordinator/prompt_json.h"
#include "scheduler/spread.h"

#define LOOK_MS 200u
#define TEXT_BYTES_MAX (64u << 20)
#define CANCEL_PATIENCE_MS 3000u

struct answer {
    const struct hth_answer_opts *opts;
    struct hth_client *client;
    const struct hth_msg_submit *request;
    uint64_t id;
    uint64_t cancelled_ms; /* 0: not cancelled */
    struct hth_buf text;   /* for JSON: all of it */
    struct hth_buf ids;    /* for JSON: "1,2,3" */
    uint64_t tokens;
    struct hth_wrap wrap;
    struct hth_buf lines; /* scratch: text as it is wrapped */
    uint8_t last_byte;    /* printed; a newline is added unless it is one */
    bool line_open;       /* a progress line stands on standard error */
    char waiting[HTH_ERR_TEXT_MAX];
    struct hth_event done; /* kind 0 until it came */
};

static void clear_line(struct answer *a)
{
    if (a->line_open)
        fprintf(stderr, "\r%30s\r", "");
    a->line_open = false;
}

/* Said once per reason; an answer that starts at once says nothing. */
static void on_waiting(struct answer *a, const struct hth_event *ev)
{
    char plain[HTH_ERR_TEXT_MAX];
    char text[HTH_ERR_TEXT_MAX];

    snprintf(text, sizeof text, "%.*s", (int)ev->text.n,
             (const char *)ev->text.p);
    hth_plain_text(text, plain, sizeof plain);
    if (strcmp(plain, a->waiting) == 0)
        return;
    memcpy(a->waiting, plain, sizeof plain);
    clear_line(a);
    fprintf(stderr, "hearth run: %s\n", plain);
}

static void on_prompt(struct answer *a, const struct hth_event *ev)
{
    if (!hth_err_is_terminal() || ev->total == 0)
        return;
    clear_line(a);
    if (ev->done >= ev->total)
        return;
    fprintf(stderr, "\rprompt %u of %u", ev->done, ev->total);
    a->line_open = true;
}

/* The width is asked for each time: windows change theirs. */
static int put_wrapped(struct answer *a, const struct hth_blob *text,
                       struct hth_err *err)
{
    hth_buf_reset(&a->lines);
    if (text != NULL)
        hth_wrap_push(&a->wrap, hth_out_columns(), text->p, text->n, &a->lines);
    else
        hth_wrap_finish(&a->wrap, hth_out_columns(), &a->lines);
    return a->lines.len > 0 ? hth_out_buf(&a->lines, err) : HTH_OK;
}

static int put_text(struct answer *a, const struct hth_blob *text,
                    struct hth_err *err)
{
    if (text->n == 0 || a->opts->ids)
        return HTH_OK;
    if (a->opts->keep != NULL)
        hth_put_bytes(a->opts->keep, text->p, text->n);
    if (a->opts->json) {
        hth_put_bytes(&a->text, text->p, text->n);
        return HTH_OK;
    }
    clear_line(a);
    a->last_byte = text->p[text->n - 1];
    if (a->opts->wrap)
        return put_wrapped(a, text, err);
    return hth_out_bytes(text->p, text->n, err);
}

static int on_token(struct answer *a, const struct hth_event *ev,
                    struct hth_err *err)
{
    bool first = a->tokens++ == 0;
    char id[16];

    if (a->opts->json)
        hth_put_printf(&a->ids, "%s%u", first ? "" : ",", ev->token);
    if (!a->opts->ids || a->opts->json)
        return put_text(a, &ev->text, err);
    clear_line(a);
    a->last_byte = '0';
    snprintf(id, sizeof id, "%s%u", first ? "" : " ", ev->token);
    return hth_out_text(id, err);
}

static int on_error(struct answer *a, const struct hth_event *ev,
                    struct hth_err *err)
{
    char text[HTH_ERR_TEXT_MAX];
    char plain[HTH_ERR_TEXT_MAX];

    (void)a;
    snprintf(text, sizeof text, "%.*s", (int)ev->text.n,
             (const char *)ev->text.p);
    hth_plain_text(text, plain, sizeof plain);
    return hth_fail(err, ev->status < 0 ? ev->status : HTH_EPROTO, "%s", plain);
}

static int on_event(struct answer *a, const struct hth_event *ev,
                    struct hth_err *err)
{
    switch (ev->kind) {
    case HTH_EVENT_WAITING:
        on_waiting(a, ev);
        return HTH_OK;
    case HTH_EVENT_PROMPT:
        on_prompt(a, ev);
        return HTH_OK;
    case HTH_EVENT_TOKEN:
        return on_token(a, ev, err);
    case HTH_EVENT_DONE:
        a->done = *ev;
        return put_text(a, &ev->text, err);
    case HTH_EVENT_ERROR:
        return on_error(a, ev, err);
    default:
        return HTH_OK;
    }
}

/* Ctrl-C: tell the coordinator once, then go on reading events, so that the
 * end is known to have come everywhere; but not for ever. */
static int mind_interrupt(struct answer *a, struct hth_err *err)
{
    uint64_t now = hth_now_ms();

    if (!hth_interrupted())
        return HTH_OK;
    if (a->cancelled_ms == 0) {
        a->cancelled_ms = now;
        clear_line(a);
        return hth_client_cancel(a->client, a->id, err);
    }
    if (now - a->cancelled_ms > CANCEL_PATIENCE_MS)
        return hth_fail_interrupted(err);
    return HTH_OK;
}

static int follow(struct answer *a, struct hth_err *err)
{
    int rc = HTH_OK;

    while (rc == HTH_OK && a->done.kind == 0) {
        struct hth_event ev;

        rc = mind_interrupt(a, err);
        if (rc != HTH_OK)
            break;
        rc = hth_client_next(a->client, a->id, &ev, LOOK_MS, err);
        if (rc == HTH_OK)
            rc = on_event(a, &ev, err);
        else if (rc == HTH_ETIMEDOUT)
            rc = HTH_OK;
    }
    clear_line(a);
    return rc;
}

static const char *finish_text(uint8_t finish)
{
    switch (finish) {
    case HTH_FINISH_END:
        return "end";
    case HTH_FINISH_STOP:
        return "stop";
    case HTH_FINISH_LENGTH:
        return "length";
    default:
        return "cancelled";
    }
}

static double rate(uint32_t count, double seconds)
{
    return seconds > 0.0 ? count / seconds : 0.0;
}

/* Rank 0's weights, per token where it says so. */
static void put_weights(struct hth_buf *out, const struct hth_event_stats *s)
{
    uint32_t decoded = s->generated_tokens > 0 ? s->generated_tokens - 1 : 0;

    hth_json_field_number(out, "tokens_per_s", rate(decoded, s->generate_s));
    hth_json_field_number(out, "pinned_bytes", (double)s->pinned_bytes);
    hth_json_field_number(out, "streamed_bytes", (double)s->streamed_bytes);
    hth_json_field_number(out, "read_bytes", (double)s->read_bytes);
    hth_json_field_number(out, "stall_s", s->stall_s);
    hth_json_field_number(out, "disk_bytes_per_s", s->disk_bytes_per_s);
    hth_json_field_number(
        out, "predicted_tokens_per_s",
        s->predicted_token_s > 0.0 ? 1.0 / s->predicted_token_s : 0.0);
}

static int print_json(struct answer *a, struct hth_err *err)
{
    const struct hth_event_stats *s = &a->done.stats;
    struct hth_buf out;
    int rc;

    hth_buf_init(&out, 8 * (size_t)TEXT_BYTES_MAX);
    hth_put_u8(&out, '{');
    hth_json_key(&out, "text");
    hth_json_string(&out, a->text.data, a->text.len);
    hth_json_key(&out, "ids");
    hth_put_printf(&out, "[%s]", hth_buf_cstr(&a->ids));
    hth_json_field(&out, "finish", finish_text(a->done.finish));
    hth_json_key(&out, "seed");
    hth_put_printf(&out, "%llu", (unsigned long long)a->request->seed);
    hth_json_field_number(&out, "prompt_tokens", s->prompt_tokens);
    hth_json_field_number(&out, "generated_tokens", s->generated_tokens);
    hth_json_field_number(&out, "wait_s", s->wait_s);
    hth_json_field_number(&out, "prompt_s", s->prompt_s);
    hth_json_field_number(&out, "generate_s", s->generate_s);
    hth_json_field_number(&out, "ranks", s->ranks);
    hth_put_prompt_stats(&out, &s->prompt);
    if (s->pinned_bytes > 0 || s->streamed_bytes > 0)
        put_weights(&out, s);
    hth_put_printf(&out, "}\n");
    out.failed = out.failed || a->text.failed || a->ids.failed;
    rc = hth_out_buf(&out, err);
    hth_buf_fini(&out);
    return rc;
}

static void print_weights(const struct hth_event_stats *s, uint32_t decoded)
{
    char pinned[HTH_BYTES_TEXT], streamed[HTH_BYTES_TEXT];

    hth_bytes_text(s->pinned_bytes, pinned);
    hth_bytes_text(s->streamed_bytes, streamed);
    fprintf(stderr,
            "weights: %s stay, %s stream per token; read %.0f MB/s, waited "
            "%.1f ms per token; predicted %.2f tokens/s\n",
            pinned, streamed, s->disk_bytes_per_s * 1e-6,
            decoded > 0 ? s->stall_s * 1e3 / decoded : 0.0,
            s->predicted_token_s > 0.0 ? 1.0 / s->predicted_token_s : 0.0);
}

static void print_prompt(const struct hth_prompt_stats *s)
{
    fprintf(stderr, "prefill: %s, %.1f ms", hth_prefill_mode_text(s->mode),
            (double)s->took_ns * 1e-6);
    if (s->predicted_ns > 0)
        fprintf(stderr, " (predicted %.1f ms)", (double)s->predicted_ns * 1e-6);
    fprintf(stderr, "\n");
    for (uint32_t r = 0; r < s->parts; r++)
        fprintf(stderr,
                "  rank %u: %u tokens, computed %.1f ms, waited %.1f ms, sent "
                "%llu bytes, received %llu\n",
                r, s->part[r].rows, (double)s->part[r].compute_ns * 1e-6,
                (double)s->part[r].wait_ns * 1e-6,
                (unsigned long long)s->part[r].sent_bytes,
                (unsigned long long)s->part[r].received_bytes);
}

/* The footer ollama's users know, on standard error. The first token comes
 * out of the prompt's pass, so decoding made one fewer. */
void hth_answer_statistics(const struct hth_answer_end *end)
{
    const struct hth_event_stats *s = &end->stats;
    uint32_t decoded = s->generated_tokens > 0 ? s->generated_tokens - 1 : 0;

    fprintf(stderr,
            "total duration:       %.3f s\n"
            "wait duration:        %.3f s\n"
            "prompt eval count:    %u tokens\n"
            "prompt eval duration: %.3f s\n"
            "prompt eval rate:     %.2f tokens/s\n"
            "eval count:           %u tokens\n"
            "eval duration:        %.3f s\n"
            "eval rate:            %.2f tokens/s\n"
            "ranks: %u, finish: %s, seed: %llu\n",
            s->wait_s + s->prompt_s + s->generate_s, s->wait_s,
            s->prompt_tokens, s->prompt_s, rate(s->prompt_tokens, s->prompt_s),
            s->generated_tokens, s->generate_s, rate(decoded, s->generate_s),
            s->ranks, finish_text(end->finish), (unsigned long long)end->seed);
    if (s->prompt.parts > 0)
        print_prompt(&s->prompt);
    if (s->streamed_bytes > 0)
        print_weights(s, decoded);
}

/* Text ends with a newline, as a line in a terminal or file should; after a
 * failure too, so that the error starts on a line of its own. */
static int end_line(struct answer *a, struct hth_err *err)
{
    int rc = a->opts->wrap ? put_wrapped(a, NULL, err) : HTH_OK;

    if (rc != HTH_OK)
        return rc;
    if (a->opts->json || a->last_byte == '\n' ||
        (a->tokens == 0 && a->last_byte == 0))
        return HTH_OK;
    return hth_out_text("\n", err);
}

static int conclude(struct answer *a, int rc, struct hth_err *err)
{
    struct hth_answer_end last = {true, a->done.finish, a->request->seed,
                                  a->done.stats};
    struct hth_err ignored;
    int ended = end_line(a, rc == HTH_OK ? err : &ignored);

    if (rc == HTH_OK)
        rc = ended;
    if (a->done.kind == 0)
        return rc;
    if (rc == HTH_OK && a->opts->json)
        rc = print_json(a, err);
    if (a->opts->verbose)
        hth_answer_statistics(&last);
    if (a->opts->last != NULL)
        *a->opts->last = last;
    if (rc == HTH_OK && a->done.finish == HTH_FINISH_CANCELLED)
        return hth_fail_interrupted(err);
    return rc;
}

int hth_answer(struct hth_client *client, const struct hth_msg_submit *g,
               const struct hth_answer_opts *opts, struct hth_err *err)
{
    struct answer a = {.opts = opts, .client = client, .request = g};
    int rc = hth_client_submit(client, g, &a.id, err);

    if (rc != HTH_OK)
        return rc;
    hth_buf_init(&a.text, TEXT_BYTES_MAX);
    hth_buf_init(&a.ids, TEXT_BYTES_MAX);
    hth_buf_init(&a.lines, TEXT_BYTES_MAX);
    rc = follow(&a, err);
    if (rc != HTH_OK && a.done.kind == 0)
        (void)!hth_client_cancel(client, a.id, NULL);
    rc = conclude(&a, rc, err);
    hth_buf_fini(&a.lines);
    hth_buf_fini(&a.ids);
    hth_buf_fini(&a.text);
    return rc;
}
