/* api_put.c - pieces of JSON that several dialects' answers share. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "coordinator/api_internal.h"
#include "model/json_write.h"

#define TOKEN_TEXT_MAX 512u

void hth__api_event(struct api_call *c, const char *name,
                    const struct hth_buf *json)
{
    if (name != NULL)
        hth_put_printf(&c->out, "event: %s\n", name);
    hth_put_bytes(&c->out, "data: ", 6);
    hth_put_bytes(&c->out, json->data, json->len);
    hth_put_bytes(&c->out, "\n\n", 2);
}

uint32_t hth__api_prompt_tokens(const struct api_call *c)
{
    uint32_t i, n = 0;

    for (i = 0; i < c->prompts; i++)
        n += (uint32_t)c->prompt[i].count;
    return n;
}

uint32_t hth__api_answer_tokens(const struct api_call *c)
{
    uint32_t i, n = 0;

    for (i = 0; i < c->choices; i++)
        n += c->choice[i].tokens;
    return n;
}

uint32_t hth__api_reasoning_tokens(const struct api_call *c)
{
    uint32_t i, n = 0;

    for (i = 0; i < c->choices; i++)
        n += c->choice[i].reasoning_tokens;
    return n;
}

/* Of each prompt once, like prompt_tokens. */
uint32_t hth__api_cached_tokens(const struct api_call *c)
{
    uint32_t i, n = 0, per = c->prompts > 0 ? c->choices / c->prompts : 1;

    for (i = 0; i<c->choices; i += per> 0 ? per : 1)
        n += c->choice[i].stats.cached_tokens;
    return n;
}

void hth__put_usage(struct hth_buf *b, const struct api_call *c)
{
    uint32_t prompt = hth__api_prompt_tokens(c);
    uint32_t answer = hth__api_answer_tokens(c);

    hth_json_key(b, "usage");
    hth_put_printf(b,
                   "{\"prompt_tokens\":%u,\"completion_tokens\":%u,"
                   "\"total_tokens\":%u,\"prompt_tokens_details\":"
                   "{\"cached_tokens\":%u},\"completion_tokens_details\":"
                   "{\"reasoning_tokens\":%u}}",
                   prompt, answer, prompt + answer, hth__api_cached_tokens(c),
                   hth__api_reasoning_tokens(c));
}

static double per_second(uint32_t n, uint64_t ns)
{
    return ns > 0 ? (double)n * 1e9 / (double)ns : 0;
}

/* llama.cpp's timings and, beside them, where the cluster's time went. */
void hth__put_timings(struct hth_buf *b, const struct api_call *c)
{
    const struct hth_request_stats *s = &c->choice[0].stats;
    uint32_t after = s->generated_tokens > 0 ? s->generated_tokens - 1 : 0;

    hth_json_key(b, "timings");
    hth_put_printf(
        b,
        "{\"prompt_n\":%u,\"cache_n\":%u,\"prompt_ms\":%.3f,"
        "\"prompt_per_second\":%.3f,\"predicted_n\":%u,\"predicted_ms\":%.3f,"
        "\"predicted_per_second\":%.3f,\"queue_ms\":%.3f}",
        s->prompt_tokens - s->cached_tokens, s->cached_tokens,
        (double)s->prefill_ns / 1e6,
        per_second(s->prompt_tokens - s->cached_tokens, s->prefill_ns),
        s->generated_tokens, (double)s->decode_ns / 1e6,
        per_second(after, s->decode_ns), (double)s->queue_ns / 1e6);
    hth_json_key(b, "cluster");
    hth_put_printf(b,
                   "{\"compute_ms\":%.3f,\"comm_ms\":%.3f,\"sent_bytes\":%llu,"
                   "\"received_bytes\":%llu",
                   (double)s->compute_ns / 1e6, (double)s->reduce_ns / 1e6,
                   (unsigned long long)s->sent_bytes,
                   (unsigned long long)s->received_bytes);
    hth__put_devices(b, c);
    hth_put_prompt_stats(b, &s->prompt);
    hth_put_u8(b, '}');
}

/* The request is not over: only what is known by now. */
static void put_timings_so_far(struct hth_buf *b, const struct api_call *c)
{
    uint64_t now = hth_now_ns();
    uint64_t first = c->first_ns != 0 ? c->first_ns : now;
    uint32_t prompt = hth__api_prompt_tokens(c);
    uint32_t answer = hth__api_answer_tokens(c);

    hth_json_key(b, "timings");
    hth_put_printf(
        b,
        "{\"prompt_n\":%u,\"prompt_ms\":%.3f,\"prompt_per_second\":%.3f,"
        "\"predicted_n\":%u,\"predicted_ms\":%.3f,"
        "\"predicted_per_second\":%.3f}",
        prompt, (double)(first - c->begun_ns) / 1e6,
        per_second(prompt, first - c->begun_ns), answer,
        (double)(now - first) / 1e6,
        per_second(answer > 0 ? answer - 1 : 0, now - first));
}

void hth__put_progress(struct hth_buf *b, const struct api_call *c)
{
    if (c->ask->each_usage)
        hth__put_usage(b, c);
    if (c->ask->each_timings)
        put_timings_so_far(b, c);
}

void hth__put_fingerprint(struct hth_buf *b, const struct api_call *c)
{
    char text[24];

    snprintf(text, sizeof text, "fp_%016llx", (unsigned long long)c->plan);
    hth_json_field(b, "system_fingerprint", text);
}

const char *hth__finish_reason(const struct api_choice *ch)
{
    if (ch->end == HTH_END_LENGTH)
        return "length";
    return ch->tool_calls > 0 ? "tool_calls" : "stop";
}

/* ---- logprobs -------------------------------------------------------------
 */

static void put_token(struct hth_buf *b, const struct api_call *c,
                      const struct hth_logprob *v)
{
    char text[TOKEN_TEXT_MAX];
    size_t n =
        hth_token_bytes(c->a->o.tokenizer, v->id, true, text, sizeof text);
    size_t i;

    hth_json_key(b, "token");
    hth_json_string(b, text, n);
    hth_json_key(b, "logprob");
    /* JSON has no infinity: a token that cannot come is told as OpenAI does. */
    hth_put_printf(b, "%.6f",
                   v->logprob > -9999.0f ? (double)v->logprob : -9999.0);
    hth_json_key(b, "bytes");
    hth_put_printf(b, "[");
    for (i = 0; i < n; i++)
        hth_put_printf(b, "%s%u", i > 0 ? "," : "", (unsigned char)text[i]);
    hth_put_printf(b, "]");
}

/* Entries of OpenAI's logprobs.content, separated by commas. */
void hth__put_logprobs(struct api_choice *ch,
                       const struct hth_generation_news *n)
{
    struct hth_buf *b = &ch->logprobs;
    uint32_t i, k;

    for (i = 0; i < n->token_count; i++) {
        if (b->len > 0)
            hth_put_u8(b, ',');
        hth_put_u8(b, '{');
        put_token(b, ch->call, &n->token[i].v[0]);
        hth_json_key(b, "top_logprobs");
        hth_put_u8(b, '[');
        for (k = 1; k < n->token[i].count; k++) {
            if (k > 1)
                hth_put_u8(b, ',');
            hth_put_u8(b, '{');
            put_token(b, ch->call, &n->token[i].v[k]);
            hth_put_u8(b, '}');
        }
        hth_put_printf(b, "]}");
    }
}

void hth__put_chat_logprobs(struct hth_buf *b, struct api_choice *ch)
{
    hth_json_key(b, "logprobs");
    if (ch->logprobs.len == 0) {
        hth_put_printf(b, "null");
        return;
    }
    hth_put_printf(b, "{\"content\":[");
    hth_put_bytes(b, ch->logprobs.data, ch->logprobs.len);
    hth_put_printf(b, "],\"refusal\":null}");
    hth_buf_reset(&ch->logprobs);
}
