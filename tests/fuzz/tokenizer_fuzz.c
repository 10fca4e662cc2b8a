/* tokenizer_fuzz.c - texts. The first byte picks the vocabulary and whether
 * special tokens are parsed; byte-level ids must stand for the same bytes
 * again, and what streams out must be UTF-8 at all times. The vocabularies
 * are seeds of tokenizer_meta. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "model/tokenizer.h"
#include "model/utf8.h"

#define KINDS 6
#define CHECK(cond) ((cond) ? (void)0 : abort())

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct hth_tokenizer *kinds[KINDS];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char *const names[KINDS] = {
        "gpt-2", "llama-bpe", "deepseek-llm", "default", "gpt-4o", "spm"};
    const char *dir = getenv("HEARTH_SEEDS");
    char path[512];
    struct hth_gguf *g;
    int i;

    (void)argc;
    (void)argv;
    for (i = 0; i < KINDS; i++) {
        snprintf(path, sizeof path, "%s/%s.gguf",
                 dir != NULL ? dir : "tests/fuzz/corpus/tokenizer_meta",
                 names[i]);
        CHECK(hth_gguf_open(&g, path, NULL) == 0);
        CHECK(hth_tokenizer_open(&kinds[i], g, NULL) == 0);
        hth_gguf_close(g);
    }
    return 0;
}

static void check_ids(const struct hth_tokenizer *t, const struct hth_tokens *v,
                      const uint8_t *text, size_t n, bool exact)
{
    struct hth_buf bytes, shown;
    struct hth_detok d;
    char piece[HTH_TOKEN_BYTES_MAX];
    size_t i, at = 0;

    hth_buf_init(&bytes, 16 * n + 64);
    hth_buf_init(&shown, 64 * n + 64);
    hth_detok_init(&d, true);
    for (i = 0; i < v->count; i++) {
        hth_put_bytes(&bytes, piece,
                      hth_token_bytes(t, v->ids[i], true, piece, sizeof piece));
        hth_detok_push(&d, t, v->ids[i], true, &shown);
        CHECK(at == shown.len ||
              hth_utf8_valid(shown.data + at, shown.len - at) ==
                  shown.len - at);
        at = shown.len;
    }
    hth_detok_finish(&d, &shown);
    CHECK(!bytes.failed && !shown.failed);
    CHECK(!exact ||
          (bytes.len == n && (n == 0 || memcmp(bytes.data, text, n) == 0)));
    hth_buf_fini(&bytes);
    hth_buf_fini(&shown);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct hth_tokenizer *t;
    struct hth_tokens v = {0};
    struct hth_str text = {(const char *)data + 1, size - 1};

    if (size == 0)
        return 0;
    t = kinds[data[0] % KINDS];
    CHECK(hth_tokenize(t, text, data[0] & 64, &v, NULL) == 0);
    check_ids(t, &v, data + 1, size - 1, t != kinds[KINDS - 1]);
    hth_tokens_fini(&v);
    return 0;
}
