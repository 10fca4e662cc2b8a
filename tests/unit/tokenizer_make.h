/* tokenizer_make.h - vocabularies made for tests. Every function here aborts
 * the test on failure; what it opens is the caller's to close. */
#ifndef HTH_TESTS_TOKENIZER_MAKE_H
#define HTH_TESTS_TOKENIZER_MAKE_H

#include "base/rng.h"
#include "model/gguf.h"
#include "model/tokenizer.h"

/* g's tokenizer under another pre-tokeniser's name. */
struct hth_tokenizer *make_with_pre(const struct hth_gguf *g, const char *pre);

#define MAKE_TOKENS_MAX 600u

/* A vocabulary under construction. Texts are copied. */
struct make {
    const char *model; /* "gpt2" or "llama" */
    const char *pre;   /* NULL: no such key */
    const char *name;  /* general.name, NULL: no such key */
    struct hth_str tokens[MAKE_TOKENS_MAX];
    int32_t types[MAKE_TOKENS_MAX];
    float scores[MAKE_TOKENS_MAX];
    size_t count;
    struct hth_str merges[MAKE_TOKENS_MAX];
    size_t merge_count;
    bool untyped; /* leave out tokenizer.ggml.token_type */
    void (*extra)(struct hth_gguf_writer *w); /* more keys */
};

/* Start with the 256 bytes: letters of the GPT-2 alphabet, ids 0 to 255; or
 * <unk>, <s>, </s> and then <0x00> to <0xFF>, ids 3 to 258. */
void make_bytes(struct make *m, const char *model);
/* Returns the id. */
uint32_t make_token(struct make *m, const char *text, int32_t type,
                    float score);
void make_merge(struct make *m, const char *left, const char *right);
void make_free(struct make *m);

struct hth_gguf *make_gguf(const struct make *m);
struct hth_tokenizer *make_open(const struct make *m);

/* The ids of text, exactly. */
#define CHECK_IDS(t, text, special, ...)                                \
    make_check((t), (text), (special), (const uint32_t[]){__VA_ARGS__}, \
               sizeof((const uint32_t[]){__VA_ARGS__}) / 4)
void make_check(const struct hth_tokenizer *t, const char *text, bool special,
                const uint32_t *want, size_t count);

struct hth_tokens make_encode(const struct hth_tokenizer *t, const char *text,
                              size_t n, bool special);

/* Bytes of all kinds into dst[max]: characters of each length, runs of white
 * space, contractions, digits, special texts and stray bytes. */
size_t make_text(struct hth_rng *r, char *dst, size_t max);

#endif
