/* grammar_test.c - GBNF, the matcher, and tokens held to a grammar. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "model/constraint.h"

#define MODEL "models/tale-q4_0.gguf"

static struct hth_tokenizer *g_tokenizer;
static struct hth_token_index *g_index;

static void setup(void)
{
    struct hth_gguf *g = NULL;
    struct hth_err err;

    cr_assert_eq(hth_gguf_open(&g, MODEL, &err), 0, "%s", err.text);
    cr_assert_eq(hth_tokenizer_open(&g_tokenizer, g, &err), 0);
    cr_assert_eq(hth_token_index_open(&g_index, g_tokenizer, &err), 0);
    hth_gguf_close(g);
}

static void teardown(void)
{
    hth_token_index_close(g_index);
    hth_tokenizer_close(g_tokenizer);
}

TestSuite(grammar, .init = setup, .fini = teardown, .timeout = 120);

static struct hth_constraint *follow(const char *gbnf)
{
    struct hth_constraint *c = NULL;
    struct hth_grammar *g = NULL;
    struct hth_err err;

    cr_assert_eq(
        hth_grammar_open(&g, (struct hth_str){gbnf, strlen(gbnf)}, &err), 0,
        "%s: %s", gbnf, err.text);
    cr_assert_eq(hth_constraint_open(&c, g, g_index, &err), 0, "%s", err.text);
    hth_grammar_close(g);
    return c;
}

/* 'y': a text of the grammar; 'p': the beginning of one; 'n': neither. */
static char verdict(const char *gbnf, const char *text)
{
    struct hth_constraint *c = follow(gbnf);
    int rc = hth_constraint_accept_text(c, text, strlen(text));
    char v = rc != 0 ? 'n' : hth_constraint_complete(c) ? 'y' : 'p';

    hth_constraint_close(c);
    return v;
}

Test(grammar, texts)
{
    static const struct {
        const char *gbnf, *text;
        char want;
    } cases[] = {
        {"root ::= \"yes\" | \"no\"", "yes", 'y'},
        {"root ::= \"yes\" | \"no\"", "ye", 'p'},
        {"root ::= \"yes\" | \"no\"", "yo", 'n'},
        {"root ::= [a-c]+ # note\n", "abcab", 'y'},
        {"root ::= [a-c]+", "", 'p'},
        {"root ::= [^a-c]", "é", 'y'},
        {"root ::= [^a-c]", "b", 'n'},
        {"root ::= [é-ü]{2}", "éü", 'y'},
        {"root ::= [é-ü]{2}", "éz", 'n'},
        {"root ::= .", "👋", 'y'},
        {"root ::= .", "\xf0\x9f", 'p'},
        {"root ::= .", "\xff", 'n'},
        {"root ::= \"\\u00e9\\x41\\n\\\"\"", "éA\n\"", 'y'},
        {"root ::= a b?\na ::= \"a\"\nb ::= \"b\" a", "aba", 'y'},
        {"root ::= (\"a\" | \"b\")* \"c\"", "ababc", 'y'},
        {"root ::= (\n\"a\"\n| \"b\")", "b", 'y'},
        {"root ::= \"a\" |\n \"b\"", "b", 'y'},
        {"root ::= \"a\"\n | \"b\"", "b", 'y'},
        {"root ::= \"a\"{2,3}", "a", 'p'},
        {"root ::= \"a\"{2,3}", "aaa", 'y'},
        {"root ::= \"a\"{2,3}", "aaaa", 'n'},
        {"root ::= \"\"* \"a\"", "a", 'y'},
        {"root ::= \"ab\"*", "abab", 'y'},
        {"root ::= \"a\"{3}", "aaa", 'y'},
        {"root ::= \"a\"{0,2} \"b\"", "b", 'y'},
        {"root ::= (\"a\"?){0,5} \"b\"", "aab", 'y'},
        {"root ::= (\"a\"*)* \"b\"", "aaab", 'y'},
        {"root ::= \"(\" root? \")\"", "((()))", 'y'},
        {"root ::= \"(\" root? \")\"", "((())", 'p'},
        {"root ::= \"(\" root? \")\"", "())", 'n'},
        {"root ::= \"a\" x\nx ::= \"\" | \"b\" x", "abbb", 'y'},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_assert_eq(verdict(cases[i].gbnf, cases[i].text), cases[i].want,
                     "%s on %s", cases[i].gbnf, cases[i].text);
}

Test(grammar, faults)
{
    static const struct {
        const char *gbnf, *text;
    } cases[] = {
        {"", "no rule root"},
        {"x ::= \"a\"", "no rule root"},
        {"root ::= x", "rule x is undefined"},
        {"root ::= root \"a\" | \"b\"", "begins with itself"},
        {"root ::= \"a\"? root", "begins with itself"},
        {"root ::= \"a", "line 1, column 12: a string never ends"},
        {"root ::= [a", "never ends"},
        {"root ::= \"a\"{3,2}", "below"},
        {"root ::= \"a\"{9999999}", "too many"},
        {"root ::= \"a\"\nroot ::= \"b\"", "twice"},
        {"root ::= \"\\q\"", "unknown escape"},
        {"root ::= (\"a\"", "')' expected"},
        {"root = \"a\"", "'::=' expected"},
        {"root ::= \"a\" )", "no part of a rule"},
        {"root ::= []", "empty"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct hth_grammar *g = NULL;
        struct hth_err err = {0};

        cr_assert_neq(hth_grammar_open(&g,
                                       (struct hth_str){cases[i].gbnf,
                                                        strlen(cases[i].gbnf)},
                                       &err),
                      0, "%s", cases[i].gbnf);
        cr_assert_not_null(strstr(err.text, cases[i].text), "%s: %s",
                           cases[i].gbnf, err.text);
    }
}

static const char g_list[] = "root ::= \"[\" (item (\", \" item)*)? \"]\"\n"
                             "item ::= [a-zA-Z ]{1,12} | root\n";

static bool bit(const uint32_t *bits, uint32_t id)
{
    return bits[id / 32] >> (id % 32) & 1;
}

/* A walk through the grammar by random allowed tokens: the mask says of every
 * token what trying it says. */
Test(grammar, mask_is_what_trying_says)
{
    struct hth_constraint *c = follow(g_list);
    uint32_t vocab = hth_tokenizer_vocab(g_tokenizer), allowed = 0;
    struct hth_rng rng;

    hth_rng_init(&rng, 7);
    for (int step = 0; step < 40; step++) {
        const uint32_t *bits = hth_constraint_mask(c);
        uint32_t chosen = HTH_TOKEN_NONE, seen = 0;

        cr_assert_not_null(bits);
        for (uint32_t id = 0; id < vocab; id++) {
            bool yes = hth_constraint_allows(c, id);

            cr_assert_eq(yes, bit(bits, id), "token %u at step %d", id, step);
            seen += yes;
            if (yes && !hth_tokenizer_is_end(g_tokenizer, id) &&
                (chosen == HTH_TOKEN_NONE || hth_rng_unit(&rng) < 1.0 / seen))
                chosen = id;
        }
        allowed += seen;
        if (chosen == HTH_TOKEN_NONE)
            break;
        cr_assert_eq(hth_constraint_accept(c, chosen), 0);
    }
    cr_assert_gt(allowed, 100);
    hth_constraint_close(c);
}

static int by_logit(const void *a, const void *b)
{
    const struct hth_candidate *p = a, *q = b;

    if (p->logit != q->logit)
        return p->logit > q->logit ? -1 : 1;
    return p->id < q->id ? -1 : 1;
}

/* Looking at the best ones first gives the tokens that masking all gives. */
Test(grammar, filter_equals_masking)
{
    uint32_t vocab = hth_tokenizer_vocab(g_tokenizer);
    struct hth_candidate *a = calloc(vocab, sizeof *a);
    struct hth_candidate *b = calloc(vocab, sizeof *b);
    struct hth_constraint *c = follow(g_list);
    struct hth_rng rng;

    hth_rng_init(&rng, 3);
    for (int step = 0; step < 60; step++) {
        uint32_t best = step % 3 == 0 ? 1 : step % 3 == 1 ? 10 : 0, n, m = 0;
        const uint32_t *bits;

        for (uint32_t id = 0; id < vocab; id++)
            a[id] = b[id] =
                (struct hth_candidate){id, (float)hth_rng_unit(&rng) * 10};
        n = hth_constraint_filter(c, a, vocab, best);
        bits = hth_constraint_mask(c);
        for (uint32_t id = 0; id < vocab; id++)
            if (bit(bits, id))
                b[m++] = b[id];
        qsort(a, n, sizeof *a, by_logit);
        qsort(b, m, sizeof *b, by_logit);
        cr_assert_gt(n, 0);
        for (uint32_t i = 0; i < n && i < (best == 0 ? m : best) && i < m; i++)
            cr_assert_eq(a[i].id, b[i].id);
        cr_assert_geq(n, best == 0 || best > m ? m : best);
        if (hth_constraint_accept(c, a[0].id) != 0 ||
            hth_tokenizer_is_end(g_tokenizer, a[0].id))
            break;
    }
    hth_constraint_close(c);
    free(a);
    free(b);
}

/* <"text"> is the control token itself; its spelling, and a grammar without
 * it, keep the two apart. */
Test(grammar, control_tokens_are_named)
{
    uint32_t id = 0, vocab = hth_tokenizer_vocab(g_tokenizer);
    char text[HTH_SPECIAL_BYTES_MAX + 1], gbnf[2 * sizeof text];
    struct hth_constraint *c;
    size_t n = 0;

    for (; id < vocab && n == 0; id++)
        if (hth_tokenizer_is_special(g_tokenizer, id) &&
            !hth_tokenizer_is_end(g_tokenizer, id))
            n = hth_token_bytes(g_tokenizer, id, true, text, sizeof text - 1);
    cr_assert_gt(n, 0);
    id--;
    text[n] = '\0';
    snprintf(gbnf, sizeof gbnf, "root ::= <\"%s\"> \"a\"", text);
    c = follow(gbnf);
    cr_assert(hth_constraint_mask(c)[id / 32] >> (id % 32) & 1);
    cr_assert_eq(verdict(gbnf, text), 'n');
    cr_assert_eq(hth_constraint_accept(c, id), 0);
    cr_assert(!hth_constraint_complete(c));
    cr_assert_eq(hth_constraint_accept_text(c, "a", 1), 0);
    cr_assert(hth_constraint_complete(c));
    hth_constraint_close(c);
    snprintf(gbnf, sizeof gbnf, "root ::= \"%s\"", text);
    c = follow(gbnf);
    cr_assert(!hth_constraint_allows(c, id));
    hth_constraint_close(c);
    c = follow("root ::= .+");
    cr_assert(!hth_constraint_allows(c, id));
    hth_constraint_close(c);
}

Test(grammar, end_tokens)
{
    struct hth_constraint *c = follow("root ::= \"a\" \"b\"?");
    uint32_t eos = hth_tokenizer_eos(g_tokenizer);

    cr_assert(!hth_constraint_allows(c, eos));
    cr_assert_eq(hth_constraint_accept(c, eos), HTH_EINVAL);
    cr_assert_eq(hth_constraint_accept_text(c, "a", 1), 0);
    cr_assert(hth_constraint_allows(c, eos));
    cr_assert_eq(hth_constraint_accept_text(c, "x", 1), HTH_EINVAL);
    cr_assert_eq(hth_constraint_accept(c, eos), 0);
    cr_assert(hth_constraint_mask(c) == NULL);
    hth_constraint_close(c);
}

/* More states and stacks than there is room for: what is behind is forgotten,
 * the answer goes on. Too deep a nest is a limit, not a crash. */
Test(grammar, forgets_and_goes_on)
{
    struct hth_constraint *c = follow("root ::= [a-z]{0,500000} \"!\"");
    int rc = 0;

    for (int i = 0; i < 200000; i++)
        cr_assert_eq(hth_constraint_accept_text(c, "k", 1), 0, "byte %d", i);
    cr_assert_eq(hth_constraint_accept_text(c, "!", 1), 0);
    cr_assert(hth_constraint_complete(c));
    hth_constraint_close(c);
    c = follow("root ::= \"(\" root \")\" | \"x\"");
    for (int i = 0; i < 100000 && rc == 0; i++)
        rc = hth_constraint_accept_text(c, "(", 1);
    cr_assert_eq(rc, HTH_ELIMIT);
    cr_assert(!hth_constraint_allows(c, 5));
    hth_constraint_close(c);
}
