/* tokenizer_make.c - see the header. */
#include "tests/unit/tokenizer_make.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Finish w, which writes to path, and open the result. */
static struct hth_gguf *reopen(struct hth_gguf_writer *w, const char *path)
{
    struct hth_gguf *g = NULL;
    struct hth_err err = {0};

    cr_assert_eq(hth_gguf_finish(w, &err), 0, "%s", err.text);
    cr_assert_eq(hth_gguf_open(&g, path, &err), 0, "%s", err.text);
    unlink(path);
    return g;
}

static struct hth_gguf_writer *create(char path[32])
{
    struct hth_gguf_writer *w = NULL;
    struct hth_err err = {0};
    int fd;

    snprintf(path, 32, "/tmp/hth-tok-XXXXXX");
    fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    close(fd);
    cr_assert_eq(hth_gguf_create(&w, path, &err), 0, "%s", err.text);
    return w;
}

static struct hth_tokenizer *open_and_close(struct hth_gguf *g)
{
    struct hth_tokenizer *t = NULL;
    struct hth_err err = {0};

    cr_assert_eq(hth_tokenizer_open(&t, g, &err), 0, "%s", err.text);
    hth_gguf_close(g); /* a tokenizer keeps nothing of it */
    return t;
}

struct hth_tokenizer *make_with_pre(const struct hth_gguf *g, const char *pre)
{
    static const char key[] = "tokenizer.ggml.pre";
    char path[32];
    struct hth_gguf_writer *w = create(path);
    size_t i;

    for (i = 0; i < hth_gguf_kv_count(g); i++) {
        const struct hth_gguf_kv *kv = hth_gguf_kv_at(g, i);

        if (kv->key.n != strlen(key) || memcmp(kv->key.p, key, kv->key.n) != 0)
            hth_gguf_put_copy(w, kv);
    }
    hth_gguf_put_string(w, key, pre);
    return open_and_close(reopen(w, path));
}

static struct hth_str copy_of(const char *text)
{
    char *p = strdup(text);

    cr_assert(p != NULL);
    return (struct hth_str){p, strlen(p)};
}

uint32_t make_token(struct make *m, const char *text, int32_t type, float score)
{
    cr_assert(m->count < MAKE_TOKENS_MAX);
    m->tokens[m->count] = copy_of(text);
    m->types[m->count] = type;
    m->scores[m->count] = score;
    return (uint32_t)m->count++;
}

void make_merge(struct make *m, const char *left, const char *right)
{
    char text[256];

    cr_assert(m->merge_count < MAKE_TOKENS_MAX);
    snprintf(text, sizeof text, "%s %s", left, right);
    m->merges[m->merge_count++] = copy_of(text);
}

/* The letter of a byte: itself where Latin-1 prints it, else the next free
 * one from U+0100 on. */
static void letter_of(unsigned byte, char text[3])
{
    unsigned c = 0x100, b;

    if ((byte > 32 && byte < 127) || (byte > 160 && byte != 173)) {
        c = byte;
    } else {
        for (b = 0; b < byte; b++)
            if (!((b > 32 && b < 127) || (b > 160 && b != 173)))
                c++;
    }
    memset(text, 0, 3);
    if (c < 0x80) {
        text[0] = (char)c;
    } else {
        text[0] = (char)(0xC0 | c >> 6);
        text[1] = (char)(0x80 | (c & 0x3F));
    }
}

void make_bytes(struct make *m, const char *model)
{
    char text[8];
    unsigned b;

    *m = (struct make){.model = model};
    if (strcmp(model, "llama") == 0) {
        make_token(m, "<unk>", 2, 0);
        make_token(m, "<s>", 3, 0);
        make_token(m, "</s>", 3, 0);
        for (b = 0; b < 256; b++) {
            snprintf(text, sizeof text, "<0x%02X>", b);
            make_token(m, text, 6, 0);
        }
        return;
    }
    m->pre = "gpt-2";
    for (b = 0; b < 256; b++) {
        letter_of(b, text);
        make_token(m, text, 1, 0);
    }
}

void make_free(struct make *m)
{
    while (m->count > 0)
        free((char *)m->tokens[--m->count].p);
    while (m->merge_count > 0)
        free((char *)m->merges[--m->merge_count].p);
}

struct hth_gguf *make_gguf(const struct make *m)
{
    char path[32];
    struct hth_gguf_writer *w = create(path);

    if (m->name != NULL)
        hth_gguf_put_string(w, "general.name", m->name);
    if (m->model != NULL)
        hth_gguf_put_string(w, "tokenizer.ggml.model", m->model);
    if (m->pre != NULL)
        hth_gguf_put_string(w, "tokenizer.ggml.pre", m->pre);
    hth_gguf_put_strings(w, "tokenizer.ggml.tokens", m->tokens, m->count);
    if (!m->untyped)
        hth_gguf_put_i32s(w, "tokenizer.ggml.token_type", m->types, m->count);
    if (m->model != NULL && strcmp(m->model, "llama") == 0)
        hth_gguf_put_f32s(w, "tokenizer.ggml.scores", m->scores, m->count);
    else
        hth_gguf_put_strings(w, "tokenizer.ggml.merges", m->merges,
                             m->merge_count);
    if (m->extra != NULL)
        m->extra(w);
    return reopen(w, path);
}

struct hth_tokenizer *make_open(const struct make *m)
{
    return open_and_close(make_gguf(m));
}

struct hth_tokens make_encode(const struct hth_tokenizer *t, const char *text,
                              size_t n, bool special)
{
    struct hth_tokens v = {0};
    struct hth_err err = {0};

    cr_assert_eq(hth_tokenize(t, (struct hth_str){text, n}, special, &v, &err),
                 0, "%s", err.text);
    return v;
}

static void show(const char *what, const uint32_t *ids, size_t n)
{
    size_t i;

    fprintf(stderr, "%s", what);
    for (i = 0; i < n; i++)
        fprintf(stderr, " %u", ids[i]);
    fprintf(stderr, "\n");
}

void make_check(const struct hth_tokenizer *t, const char *text, bool special,
                const uint32_t *want, size_t count)
{
    struct hth_tokens got = make_encode(t, text, strlen(text), special);
    bool same = got.count == count &&
                (count == 0 || memcmp(got.ids, want, 4 * count) == 0);

    if (!same) {
        show("want", want, count);
        show("got ", got.ids, got.count);
    }
    cr_assert(same, "text '%s'", text);
    hth_tokens_fini(&got);
}

size_t make_text(struct hth_rng *r, char *dst, size_t max)
{
    static const char *const parts[] = {" ",
                                        "\n",
                                        "  ",
                                        "\t\r\n",
                                        "a",
                                        "Hello",
                                        "'s",
                                        "'LL",
                                        "1234567",
                                        "\xC3\xBC",
                                        "\xF0\x9F\x98\x80",
                                        "\xE4\xB8\xAD\xE6\x96\x87",
                                        "\xE2\x96\x81",
                                        "\xD0\x9F\xD1\x80",
                                        "\xC2\xA0",
                                        "\xEF\xBC\x81",
                                        "!?...",
                                        "<|im_end|>",
                                        "\xE0\xA4\xA8\xE0\xA5\x8D"};
    size_t n = 0;

    while (n + 16 < max && hth_rng_u64(r) % 64 != 0) {
        const char *p = parts[hth_rng_u64(r) % (sizeof parts / sizeof *parts)];
        size_t len = strlen(p);

        if (hth_rng_u64(r) % 4 == 0) {
            dst[n++] = (char)hth_rng_u64(r);
        } else {
            memcpy(dst + n, p, len);
            n += len;
        }
    }
    return n;
}
