/* tokenizer_rules_test.c - each rule of the tokenizer on vocabularies small
 * enough to check by hand, merging against the plainest possible version,
 * and files that are wrong. */
#include <criterion/criterion.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "tests/unit/tokenizer_make.h"

#define SPACE "\xE2\x96\x81"

static struct hth_tokenizer *finish(struct make *m)
{
    struct hth_tokenizer *t = make_open(m);

    make_free(m);
    return t;
}

/* ---- merging ----------------------------------------------------------- */

/* Join the best neighbours, leftmost first, by looking at all of them every
 * time. rank[l][r] is the order of the pair, into[l][r] what it becomes; ids
 * below 64. */
struct naive {
    int rank[64][64];
    uint32_t into[64][64];
};

static size_t naive_merge(const struct naive *rules, uint32_t *ids, size_t n)
{
    for (;;) {
        size_t i, best = n;

        for (i = 0; i + 1 < n; i++) {
            int rank = rules->rank[ids[i]][ids[i + 1]];

            if (rank >= 0 &&
                (best == n || rank < rules->rank[ids[best]][ids[best + 1]]))
                best = i;
        }
        if (best == n)
            return n;
        ids[best] = rules->into[ids[best]][ids[best + 1]];
        memmove(ids + best + 1, ids + best + 2, (n - best - 2) * sizeof *ids);
        n--;
    }
}

/* Tokens "a" to "c" and 40 random joins of what there is. */
struct pieces {
    char text[64][64];
    size_t count;
};

static void random_pieces(struct pieces *p, struct hth_rng *rng)
{
    char text[128];
    size_t i;

    for (i = 0; i < 3; i++)
        snprintf(p->text[i], 64, "%c", (char)('a' + i));
    for (p->count = 3; p->count < 43;) {
        snprintf(text, sizeof text, "%s%s",
                 p->text[hth_rng_u64(rng) % p->count],
                 p->text[hth_rng_u64(rng) % p->count]);
        for (i = 0; i < p->count && strcmp(text, p->text[i]) != 0; i++)
            ;
        if (i == p->count && strlen(text) < 12)
            memcpy(p->text[p->count++], text, strlen(text) + 1);
    }
}

/* Every way to cut a token in two tokens is a pair; its order is the order of
 * `score`, or that of the merge list. */
static void fill_rules(struct naive *rules, const struct pieces *p,
                       const int *order, struct make *m)
{
    size_t i, k, l;
    char text[160];

    memset(rules->rank, 0xFF, sizeof rules->rank);
    for (i = 0; i < p->count; i++)
        for (k = 0; k < p->count; k++)
            for (l = 0; l < p->count; l++) {
                snprintf(text, sizeof text, "%s%s", p->text[k], p->text[l]);
                if (strcmp(text, p->text[i]) != 0)
                    continue;
                rules->into[k][l] = (uint32_t)i;
                rules->rank[k][l] =
                    order != NULL ? order[i] : (int)m->merge_count;
                if (order == NULL)
                    make_merge(m, p->text[k], p->text[l]);
            }
}

static void check_against_naive(const struct hth_tokenizer *t,
                                const struct naive *rules,
                                const uint32_t *id_of, struct hth_rng *rng)
{
    char text[257];
    uint32_t ids[256];
    size_t n = 1 + hth_rng_u64(rng) % 256, i, count;
    struct hth_tokens got;

    for (i = 0; i < n; i++) {
        ids[i] = hth_rng_u64(rng) % 8 == 0 ? 2 : hth_rng_u64(rng) % 2;
        text[i] = (char)('a' + ids[i]);
    }
    text[n] = '\0';
    count = naive_merge(rules, ids, n);
    got = make_encode(t, text, n, false);
    cr_assert_eq(got.count, count, "'%s'", text);
    for (i = 0; i < count; i++)
        cr_assert_eq(got.ids[i], id_of[ids[i]], "'%s' at %zu", text, i);
    hth_tokens_fini(&got);
}

static void check_bpe(struct hth_rng *rng)
{
    static struct naive rules;
    struct pieces p;
    struct hth_tokenizer *t;
    struct make m;
    uint32_t id_of[64];
    size_t i;

    random_pieces(&p, rng);
    make_bytes(&m, "gpt2");
    for (i = 0; i < p.count; i++)
        id_of[i] =
            i < 3 ? (uint32_t)('a' + i) : make_token(&m, p.text[i], 1, 0);
    fill_rules(&rules, &p, NULL, &m);
    t = finish(&m);
    for (i = 0; i < 50; i++)
        check_against_naive(t, &rules, id_of, rng);
    hth_tokenizer_close(t);
}

Test(rules, byte_pairs_merge_as_by_hand)
{
    struct hth_rng rng;
    int i;

    hth_rng_init(&rng, 1);
    for (i = 0; i < 20; i++)
        check_bpe(&rng);
}

static void no_prefix(struct hth_gguf_writer *w)
{
    hth_gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", false);
}

/* Scores repeat and have both signs, so ties and order are both tried. */
static void check_spm(struct hth_rng *rng)
{
    static struct naive rules;
    struct pieces p;
    struct hth_tokenizer *t;
    struct make m;
    uint32_t id_of[64];
    int order[64];
    size_t i;

    random_pieces(&p, rng);
    make_bytes(&m, "llama");
    for (i = 0; i < p.count; i++) {
        order[i] = (int)(hth_rng_u64(rng) % 20);
        id_of[i] = make_token(&m, p.text[i], 1, (float)(10 - order[i]) * 0.5f);
    }
    fill_rules(&rules, &p, order, &m);
    m.extra = no_prefix;
    t = finish(&m);
    for (i = 0; i < 50; i++)
        check_against_naive(t, &rules, id_of, rng);
    hth_tokenizer_close(t);
}

Test(rules, scores_merge_as_by_hand)
{
    struct hth_rng rng;
    int i;

    hth_rng_init(&rng, 2);
    for (i = 0; i < 20; i++)
        check_spm(&rng);
}

/* ---- SentencePiece ----------------------------------------------------- */

Test(rules, spaces_and_bytes_of_sentencepiece)
{
    struct make m;
    struct hth_tokenizer *t;
    uint32_t space, a, space_a;

    make_bytes(&m, "llama");
    space = make_token(&m, SPACE, 1, -3);
    a = make_token(&m, "a", 1, -2);
    space_a = make_token(&m, SPACE "a", 1, -1);
    t = finish(&m);
    CHECK_IDS(t, "a", false, space_a);
    CHECK_IDS(t, " a", false, space, space_a);
    CHECK_IDS(t, "aa", false, space_a, a);
    CHECK_IDS(t, "a" SPACE "a", false, space_a, space_a);
    CHECK_IDS(t, "\xC3\xBC", false, space, 3 + 0xC3, 3 + 0xBC);
    CHECK_IDS(t, "\xFF", false, space, 3 + 0xFF);
    CHECK_IDS(t, "<s>a", true, 1, space_a);
    CHECK_IDS(t, "<0x41>", false, space, 3 + '<', 3 + '0', 3 + 'x', 3 + '4',
              3 + '1', 3 + '>');
    make_check(t, "", false, NULL, 0);
    cr_assert(hth_tokenizer_adds_bos(t));
    cr_assert_eq(hth_tokenizer_bos(t), 1);
    cr_assert_eq(hth_tokenizer_eos(t), 2);
    hth_tokenizer_close(t);
}

/* A token may have a space in the middle; then words are no limit. */
Test(rules, tokens_across_words)
{
    struct make m;
    struct hth_tokenizer *t;
    uint32_t space, a, a_space, a_space_a;

    make_bytes(&m, "llama");
    space = make_token(&m, SPACE, 1, -4);
    a = make_token(&m, "a", 1, -3);
    a_space = make_token(&m, "a" SPACE, 1, -2);
    a_space_a = make_token(&m, "a" SPACE "a", 1, -1);
    m.extra = no_prefix;
    t = finish(&m);
    CHECK_IDS(t, "a a", false, a_space_a);
    CHECK_IDS(t, "a  a", false, a_space, space, a);
    hth_tokenizer_close(t);
}

static void expect_too_long(const char *model, const char *unit)
{
    size_t n = HTH_WORD_BYTES_MAX + 2u, i;
    char *text = malloc(n);
    struct hth_tokens v = {0};
    struct hth_err err = {0};
    struct hth_tokenizer *t;
    struct make m;

    cr_assert(text != NULL);
    for (i = 0; i < n; i++)
        text[i] = unit[i % strlen(unit)];
    make_bytes(&m, model);
    t = finish(&m);
    cr_assert_eq(hth_tokenize(t, (struct hth_str){text, n}, false, &v, &err),
                 HTH_ELIMIT);
    cr_assert(strstr(err.text, "one word") != NULL);
    cr_assert_eq(v.count, 0);
    text[n / 2] = ' ';
    cr_assert_eq(hth_tokenize(t, (struct hth_str){text, n}, false, &v, &err), 0,
                 "%s", err.text);
    cr_assert_geq(v.count, n);
    hth_tokens_fini(&v);
    hth_tokenizer_close(t);
    free(text);
}

Test(rules, words_have_a_limit)
{
    expect_too_long("gpt2", "a");
    expect_too_long("llama", "a");
}

/* Without byte tokens the unknown one stands in. */
Test(rules, unknown)
{
    struct make m = {.model = "llama"};
    struct hth_tokenizer *t;
    uint32_t x;

    make_token(&m, "<unk>", 2, 0);
    x = make_token(&m, "x", 1, 0);
    m.extra = no_prefix;
    t = finish(&m);
    CHECK_IDS(t, "xyx", false, x, 0, x);
    hth_tokenizer_close(t);
}

/* ---- special tokens ---------------------------------------------------- */

static void add_specials(struct make *m)
{
    make_token(m, "<a>", 3, 0);    /* 256 */
    make_token(m, "<a>b", 3, 0);   /* 257 */
    make_token(m, "[user]", 4, 0); /* 258 */
    make_token(m, "<unk>", 2, 0);  /* 259 */
}

Test(rules, special_tokens_only_where_asked)
{
    struct make m;
    struct hth_tokenizer *t;

    make_bytes(&m, "gpt2");
    add_specials(&m);
    t = finish(&m);
    CHECK_IDS(t, "x<a>y", true, 'x', 256, 'y');
    CHECK_IDS(t, "x<a>y", false, 'x', '<', 'a', '>', 'y');
    CHECK_IDS(t, "<a><a>bb<a", true, 256, 257, 'b', '<', 'a');
    CHECK_IDS(t, "[user]<unk>", true, 258, 259);
    CHECK_IDS(t, "[user]<", false, 258, '<');
    cr_assert(hth_tokenizer_is_special(t, 256));
    cr_assert(hth_tokenizer_is_special(t, 259));
    cr_assert_not(hth_tokenizer_is_special(t, 258));
    cr_assert_not(hth_tokenizer_is_special(t, 'a'));
    cr_assert_not(hth_tokenizer_is_special(t, 100000));
    hth_tokenizer_close(t);
}

/* A plain text that happens to be a control token's can never become it,
 * whatever the merges say. */
Test(rules, merges_never_make_a_control_token)
{
    struct make m;
    struct hth_tokenizer *t;

    make_bytes(&m, "gpt2");
    make_token(&m, "ab", 3, 0);
    make_merge(&m, "a", "b");
    m.pre = "llama-bpe"; /* where whole words are looked up as well */
    t = finish(&m);
    CHECK_IDS(t, "ab", false, 'a', 'b');
    CHECK_IDS(t, "ab", true, 256);
    hth_tokenizer_close(t);
}

static void eos_256(struct hth_gguf_writer *w)
{
    hth_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", 256);
}

/* A file without types: what its keys name is a control token, and plain text
 * still never becomes it. */
Test(rules, untyped_files)
{
    struct make m;
    struct hth_tokenizer *t;

    make_bytes(&m, "gpt2");
    make_token(&m, "ab", 1, 0);
    make_token(&m, "bc", 1, 0);
    make_merge(&m, "a", "b");
    make_merge(&m, "b", "c");
    m.untyped = true;
    m.extra = eos_256;
    t = finish(&m);
    cr_assert(hth_tokenizer_is_special(t, 256));
    cr_assert(hth_tokenizer_is_end(t, 256));
    CHECK_IDS(t, "abc", false, 'a', 257);
    CHECK_IDS(t, "abc", true, 256, 'c');
    hth_tokenizer_close(t);
}

Test(rules, phi3_tokens_swallow_white_space)
{
    struct make m;
    struct hth_tokenizer *t;
    uint32_t user, space, x, end;

    make_bytes(&m, "llama");
    user = make_token(&m, "<|user|>", 3, 0);
    end = make_token(&m, "<|endoftext|>", 3, 0);
    space = make_token(&m, SPACE, 1, 0);
    x = make_token(&m, "x", 1, 0);
    m.name = "My Phi-3 mini";
    t = make_open(&m);
    CHECK_IDS(t, "<|user|> \n x", true, user, space, x);
    CHECK_IDS(t, "<|endoftext|> x", true, end, space, space, x);
    hth_tokenizer_close(t);
    m.name = "Something else";
    t = finish(&m);
    CHECK_IDS(t, "<|user|> x", true, user, space, space, x);
    hth_tokenizer_close(t);
}

/* llama-bpe takes a word that is a token whole, though no merge leads to it;
 * gpt-2 does not. */
Test(rules, whole_words)
{
    struct make m;
    struct hth_tokenizer *t;

    make_bytes(&m, "gpt2");
    make_token(&m, "word", 1, 0);
    t = make_open(&m);
    CHECK_IDS(t, "word", false, 'w', 'o', 'r', 'd');
    cr_assert_not(hth_tokenizer_adds_bos(t));
    hth_tokenizer_close(t);
    m.pre = "llama-bpe";
    t = finish(&m);
    CHECK_IDS(t, "word", false, 256);
    hth_tokenizer_close(t);
}

/* ---- ids with a meaning ------------------------------------------------ */

static void end_keys(struct hth_gguf_writer *w)
{
    hth_gguf_put_u32(w, "tokenizer.ggml.bos_token_id", 'B');
    hth_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", 256);
    hth_gguf_put_u32(w, "tokenizer.ggml.eot_token_id", 257);
    hth_gguf_put_u32(w, "tokenizer.ggml.eom_token_id", UINT32_MAX);
    hth_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", true);
}

Test(rules, ends)
{
    struct make m;
    struct hth_tokenizer *t;
    uint32_t id;

    make_bytes(&m, "gpt2");
    make_token(&m, "<end>", 3, 0);         /* 256, by key */
    make_token(&m, "<turn>", 4, 0);        /* 257, by key */
    make_token(&m, "<|im_end|>", 3, 0);    /* 258, known */
    make_token(&m, "<|eot_id|>", 4, 0);    /* 259, known, user-defined */
    make_token(&m, "<end_of_turn>", 1, 0); /* 260, plain text */
    make_token(&m, "</s>", 4, 0);          /* 261, not where user-defined */
    m.extra = end_keys;
    t = finish(&m);
    for (id = 0; id < 262; id++)
        cr_assert_eq(hth_tokenizer_is_end(t, id), id >= 256 && id < 260,
                     "token %u", id);
    cr_assert_not(hth_tokenizer_is_end(t, UINT32_MAX));
    cr_assert_eq(hth_tokenizer_bos(t), 'B');
    cr_assert_eq(hth_tokenizer_eos(t), 256);
    cr_assert(hth_tokenizer_adds_bos(t));
    cr_assert_eq(hth_tokenizer_vocab(t), 262);
    hth_tokenizer_close(t);
}

Test(rules, harmony_messages_end_without_ending_the_turn)
{
    struct make m;
    struct hth_tokenizer *t;

    make_bytes(&m, "gpt2");
    make_token(&m, "<|end|>", 3, 0);
    t = make_open(&m);
    cr_assert(hth_tokenizer_is_end(t, 256));
    hth_tokenizer_close(t);
    make_token(&m, "<|return|>", 3, 0);
    make_token(&m, "<|call|>", 3, 0);
    t = finish(&m);
    cr_assert_not(hth_tokenizer_is_end(t, 256));
    cr_assert(hth_tokenizer_is_end(t, 257));
    cr_assert(hth_tokenizer_is_end(t, 258));
    hth_tokenizer_close(t);
}

/* ---- odd vocabularies -------------------------------------------------- */

/* A byte without a token becomes U+FFFD's bytes; with none of those either,
 * nothing. */
Test(rules, bytes_without_a_token)
{
    struct make m;
    struct hth_tokenizer *t;

    make_bytes(&m, "gpt2");
    free((char *)m.tokens[0xFF].p);
    m.tokens[0xFF] = (struct hth_str){strdup("zz"), 2};
    t = finish(&m);
    CHECK_IDS(t, "a\xFF", false, 'a', 0xEF, 0xBF, 0xBD);
    hth_tokenizer_close(t);

    m = (struct make){.model = "gpt2"};
    make_token(&m, "a", 1, 0);
    t = finish(&m);
    CHECK_IDS(t, "ba\xFF", false, 0);
    hth_tokenizer_close(t);
}

Test(rules, appends_and_restores)
{
    struct make m;
    struct hth_tokenizer *t;
    struct hth_tokens v = {0};
    struct hth_err err = {0};
    struct hth_str a = {"a", 1};

    make_bytes(&m, "gpt2");
    t = finish(&m);
    cr_assert_eq(hth_tokens_push(&v, 7), 0);
    cr_assert_eq(hth_tokenize(t, a, false, &v, &err), 0);
    cr_assert_eq(v.count, 2);
    cr_assert_eq(v.ids[0], 7);
    cr_assert_eq(v.ids[1], 'a');
    a.n = HTH_TEXT_BYTES_MAX + 1u;
    cr_assert_eq(hth_tokenize(t, a, false, &v, &err), HTH_ELIMIT);
    cr_assert_eq(v.count, 2);
    hth_tokens_fini(&v);
    hth_tokenizer_close(t);
}

static void *encode_often(void *arg)
{
    int i;

    for (i = 0; i < 2000; i++)
        CHECK_IDS(arg, "a <a> 12", true, 'a', ' ', 256, ' ', '1', '2');
    return NULL;
}

Test(rules, many_threads_share_one)
{
    struct make m;
    struct hth_tokenizer *t;
    pthread_t threads[4];
    int i;

    make_bytes(&m, "gpt2");
    add_specials(&m);
    t = finish(&m);
    for (i = 0; i < 4; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, encode_often, t), 0);
    for (i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    hth_tokenizer_close(t);
}

/* ---- files that are wrong ---------------------------------------------- */

static void expect_error(struct make *m, int status, const char *word)
{
    struct hth_gguf *g = make_gguf(m);
    struct hth_tokenizer *t = NULL;
    struct hth_err err = {0};

    cr_assert_eq(hth_tokenizer_open(&t, g, &err), status, "%s: %s", word,
                 err.text);
    cr_assert(t == NULL);
    cr_assert(strstr(err.text, word) != NULL, "'%s' lacks '%s'", err.text,
              word);
    hth_gguf_close(g);
    make_free(m);
}

Test(rules, unknown_kinds_are_named)
{
    struct make m;

    make_bytes(&m, "gpt2");
    m.model = "bert";
    expect_error(&m, HTH_EUNSUPPORTED, "'bert'");
    make_bytes(&m, "gpt2");
    m.model = NULL;
    expect_error(&m, HTH_ENOTFOUND, "tokenizer.ggml.model");
    make_bytes(&m, "gpt2");
    m.pre = "frobnicate";
    expect_error(&m, HTH_EUNSUPPORTED, "'frobnicate'");
    make_bytes(&m, "gpt2");
    m.pre = "frobnicate";
    expect_error(&m, HTH_EUNSUPPORTED, "llama-bpe, qwen2");
}

static void bos_out_of_range(struct hth_gguf_writer *w)
{
    hth_gguf_put_u32(w, "tokenizer.ggml.bos_token_id", 5000);
}

static void eos_is_text(struct hth_gguf_writer *w)
{
    hth_gguf_put_string(w, "tokenizer.ggml.eos_token_id", "end");
}

static void short_types(struct hth_gguf_writer *w)
{
    hth_gguf_put_i32s(w, "tokenizer.ggml.token_type", (int32_t[]){1, 1}, 2);
}

static void types_are_text(struct hth_gguf_writer *w)
{
    hth_gguf_put_string(w, "tokenizer.ggml.token_type", "normal");
}

static void flag_is_text(struct hth_gguf_writer *w)
{
    hth_gguf_put_string(w, "tokenizer.ggml.add_bos_token", "yes");
}

Test(rules, malformed_keys_are_named)
{
    static const struct {
        void (*extra)(struct hth_gguf_writer *w);
        bool untyped;
        const char *word;
    } cases[] = {{bos_out_of_range, false, "bos_token_id is 5000"},
                 {eos_is_text, false, "eos_token_id"},
                 {short_types, true, "2 entries for 256 tokens"},
                 {types_are_text, true, "token_type"},
                 {flag_is_text, false, "add_bos_token"}};
    struct make m;
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        make_bytes(&m, "gpt2");
        m.extra = cases[i].extra;
        m.untyped = cases[i].untyped;
        expect_error(&m, HTH_EFORMAT, cases[i].word);
    }
}

Test(rules, malformed_tokens_are_named)
{
    struct make m;
    static char text[HTH_TOKEN_BYTES_MAX + 2];

    memset(text, 'x', sizeof text - 1);
    make_bytes(&m, "gpt2");
    make_token(&m, text, 1, 0);
    expect_error(&m, HTH_ELIMIT, "entry 256");
    text[HTH_SPECIAL_BYTES_MAX + 1] = '\0';
    make_bytes(&m, "gpt2");
    make_token(&m, text, 3, 0);
    expect_error(&m, HTH_ELIMIT, "special token 256");
    make_bytes(&m, "llama");
    m.scores[9] = NAN;
    expect_error(&m, HTH_EFORMAT, "scores: entry 9");
    m = (struct make){.model = "gpt2"};
    expect_error(&m, HTH_EFORMAT, "tokens is empty");
}

/* The first of two equal merges counts. */
Test(rules, doubled_merges_keep_their_rank)
{
    struct make m;
    struct hth_tokenizer *t;

    make_bytes(&m, "gpt2");
    make_token(&m, "ab", 1, 0);
    make_token(&m, "bc", 1, 0);
    make_merge(&m, "a", "b");
    make_merge(&m, "b", "c");
    make_merge(&m, "a", "b");
    t = finish(&m);
    CHECK_IDS(t, "abc", false, 256, 'c');
    hth_tokenizer_close(t);
}

/* Minus zero is no worse than zero: the left pair wins the tie. */
Test(rules, zeros_tie)
{
    struct make m;
    struct hth_tokenizer *t;

    make_bytes(&m, "llama");
    make_token(&m, "ab", 1, -0.0f);
    make_token(&m, "bc", 1, 0.0f);
    m.extra = no_prefix;
    t = finish(&m);
    CHECK_IDS(t, "abc", false, 259, 3 + 'c');
    hth_tokenizer_close(t);
}

/* Merges of what is no token, without a space: left out. */
Test(rules, useless_merges_do_no_harm)
{
    struct make m;
    struct hth_tokenizer *t;

    make_bytes(&m, "gpt2");
    make_token(&m, "ab", 1, 0);
    make_merge(&m, "a", "zz");
    make_merge(&m, "zz", "a");
    make_merge(&m, "b", "c");
    make_merge(&m, "", "");
    make_merge(&m, "\x01", "\xFF");
    make_merge(&m, "a", "b");
    make_merge(&m, "a", "b");
    t = finish(&m);
    CHECK_IDS(t, "abc", false, 256, 'c');
    hth_tokenizer_close(t);
}
