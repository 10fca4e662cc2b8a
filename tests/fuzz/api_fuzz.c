/* api_fuzz.c - any bytes as the body of every route that takes one. The first
 * byte chooses the dialect, the second whether an answer is written too. What
 * must hold: no crash, and a body that is not taken has a fault that names a
 * code. Seeds: tests/fuzz/corpus/api. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/api_serve.h"
#include "model/synth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct api_dialect *const dialects[] = {
    &hth__dialect_chat,        &hth__dialect_completions,
    &hth__dialect_embeddings,  &hth__dialect_responses,
    &hth__dialect_messages,    &hth__dialect_count,
    &hth__dialect_ollama_chat, &hth__dialect_ollama_generate,
    &hth__dialect_ollama_show, &hth__dialect_tokenize,
    &hth__dialect_detokenize,  &hth__dialect_template,
    &hth__dialect_lora_scales, &hth__dialect_lora_load,
    &hth__dialect_lora_unload,
};

static struct hth_api g_api;
static struct hth_spec g_spec;

/* One adapter, which is never ready. */
static void add_adapter(void)
{
    struct hth_synth_lora_opts o = {
        .model_path = "models/tale-q8_0.gguf", .type = "F16", .rank = 1};
    struct hth_loras_opts l = {.spec = &g_spec};
    char path[] = "/tmp/hearth-fuzz-XXXXXX", text[64];
    int fd = mkstemp(path);

    HTH_ASSERT(fd >= 0 && close(fd) == 0);
    HTH_ASSERT(hth_synth_lora(&o, path, NULL) == HTH_OK);
    HTH_ASSERT(hth_loras_open(&g_api.o.loras, &l, NULL) == HTH_OK);
    snprintf(text, sizeof text, "tiny=%s:0", path);
    HTH_ASSERT(hth_loras_add_text(g_api.o.loras, text, NULL) == HTH_OK);
    (void)unlink(path);
}

static void set_up(void)
{
    struct hth_gguf *g;
    struct hth_tokenizer *t;
    struct hth_chat_opts o = {0};

    HTH_ASSERT(hth_gguf_open(&g, "models/tale-q8_0.gguf", NULL) == HTH_OK);
    HTH_ASSERT(hth_spec_read(&g_spec, g, NULL) == HTH_OK);
    HTH_ASSERT(hth_tokenizer_open(&t, g, NULL) == HTH_OK);
    o.gguf = g;
    o.tokenizer = t;
    HTH_ASSERT(hth_chat_open(&g_api.chat, &o, NULL) == HTH_OK);
    g_api.o.model = "tale";
    g_api.o.gguf = g;
    g_api.o.spec = &g_spec;
    g_api.o.tokenizer = t;
    g_api.o.ctx = 512;
    hth_rng_init(&g_api.rng, 1);
    add_adapter();
}

/* A made-up answer of two words and a call, whole or in pieces. */
static void answer(struct api_call *c)
{
    struct hth_chat_piece text = {.text = {"a\"b", 3}};
    struct hth_chat_piece call = {
        .part = HTH_CHAT_TOOL, .text = {"{}", 2}, .name = {"f", 1}};
    struct api_choice *ch = &c->choice[0];
    float *zeros;

    if (c->d->instant || c->prompts == 0)
        return;
    zeros = calloc(g_spec.dim, sizeof *zeros);
    c->choices = 1;
    ch->call = c;
    ch->part = -1;
    ch->stop = -1;
    ch->end = HTH_END_STOP;
    ch->embedding = zeros;
    hth_buf_init(&ch->text, 65536);
    hth_buf_init(&ch->reasoning, 65536);
    hth_buf_init(&ch->tools, 65536);
    hth_buf_init(&ch->logprobs, 65536);
    c->streaming = c->ask->stream && c->d->piece != NULL;
    if (c->streaming) {
        if (c->d->begin != NULL)
            c->d->begin(c);
        c->d->piece(ch, &text);
        if (c->d->chat) {
            ch->tool_calls = 1;
            c->d->piece(ch, &call);
        }
        c->d->choice_end(ch);
    }
    c->ended = 1;
    c->d->end(c);
    HTH_ASSERT(c->out.len > 0);
    free(zeros);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct api_dialect *d;
    struct api_call *c;
    struct hth_buf b;

    if (g_api.o.model == NULL)
        set_up();
    if (size < 2)
        return 0;
    d = dialects[data[0] % (sizeof dialects / sizeof dialects[0])];
    c = hth__api_call_new(&g_api, d);
    HTH_ASSERT(c != NULL);
    if (hth__api_call_read(c, (const char *)data + 2, size - 2) != 0) {
        HTH_ASSERT(c->fault.http >= 400 && c->fault.code != NULL);
        hth_buf_init(&b, 65536);
        hth__api_put_fault(&b, d->shape, &c->fault);
        HTH_ASSERT(b.len > 0 && !b.failed);
        hth_buf_fini(&b);
    } else if (data[1] & 1) {
        answer(c);
    }
    hth__api_call_free(c);
    return 0;
}
