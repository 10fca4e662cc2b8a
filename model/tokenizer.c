/* tokenizer.c - opening a tokenizer, what it says about itself, and the outer
 * loop of encoding: special tokens are found first and cut the text; what is
 * between them goes to byte-level BPE or the SentencePiece way.
 *
 * A tokenizer never changes after open. All state of a call lives in a struct
 * hth_tok__run on its stack, so calls of many threads do not meet. */
#include "model/tokenizer.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "model/tokenizer_internal.h"

/* Phi-3's tokens swallow the white space behind them, except those that open
 * and close a text; GGUF has no key for that, so it goes by the model's name
 * or architecture. */
static bool is_phi3(const struct hth_gguf *g)
{
    struct hth_str s;
    size_t i;

    if (hth_gguf_string(g, "general.architecture", &s, NULL) == 0 && s.n == 4 &&
        memcmp(s.p, "phi3", 4) == 0)
        return true;
    if (hth_gguf_string(g, "general.name", &s, NULL) < 0)
        return false;
    for (i = 0; i + 4 <= s.n; i++)
        if (strncasecmp(s.p + i, "phi3", 4) == 0 ||
            (i + 5 <= s.n && strncasecmp(s.p + i, "phi-3", 5) == 0))
            return true;
    return false;
}

static void set_rstrip(struct hth_tok__vocab *v)
{
    static const char *const plain[] = {"<unk>", "<s>", "<|endoftext|>"};
    const struct hth_tok__special *s = v->special;
    uint32_t i, k;

    for (i = 0; i < v->special_at[256]; i++, s++) {
        for (k = 0; k < 3; k++)
            if (s->len == strlen(plain[k]) &&
                memcmp(s->text, plain[k], s->len) == 0)
                break;
        if (k == 3)
            v->entries[s->id].flags |= HTH_TOK_RSTRIP;
    }
}

static int model_kind(struct hth_tokenizer *t, const struct hth_gguf *g,
                      struct hth_err *err)
{
    struct hth_str name;
    int rc = hth_gguf_string(g, "tokenizer.ggml.model", &name, err);

    if (rc < 0)
        return rc;
    t->spm = name.n == 5 && memcmp(name.p, "llama", 5) == 0;
    if (t->spm || (name.n == 4 && memcmp(name.p, "gpt2", 4) == 0))
        return 0;
    return hth_fail(err, HTH_EUNSUPPORTED,
                    "tokenizer.ggml.model is '%.*s'; supported are 'gpt2' "
                    "(byte-level BPE) and 'llama' (SentencePiece)",
                    (int)(name.n > 64 ? 64 : name.n), name.p);
}

/* A key that may be missing. */
static int flag(const struct hth_gguf *g, const char *key, bool *out,
                struct hth_err *err)
{
    int rc = hth_gguf_bool(g, key, out, err);

    return rc == HTH_ENOTFOUND ? 0 : rc;
}

static int open_parts(struct hth_tokenizer *t, const struct hth_gguf *g,
                      struct hth_err *err)
{
    int rc;

    if ((rc = model_kind(t, g, err)) < 0 ||
        (rc = hth_tok__vocab_load(&t->vocab, g, t->spm, err)) < 0 ||
        (!t->spm && (rc = hth_tok__bpe_open(t, g, err)) < 0))
        return rc;
    t->adds_bos = t->spm || t->bpe.pre.adds_bos;
    t->space_prefix = t->spm;
    if ((rc = flag(g, "tokenizer.ggml.add_bos_token", &t->adds_bos, err)) < 0 ||
        (rc = flag(g, "tokenizer.ggml.add_space_prefix", &t->space_prefix,
                   err)) < 0)
        return rc;
    if (t->vocab.bos == HTH_TOKEN_NONE)
        t->adds_bos = false;
    if (t->spm && is_phi3(g))
        set_rstrip(&t->vocab);
    return 0;
}

int hth_tokenizer_open(struct hth_tokenizer **out, const struct hth_gguf *g,
                       struct hth_err *err)
{
    struct hth_tokenizer *t = calloc(1, sizeof *t);
    int rc;

    if (t == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for a tokenizer");
    rc = open_parts(t, g, err);
    if (rc < 0) {
        hth_tokenizer_close(t);
        return hth_fail_prefix(err, rc, "tokenizer of %s",
                               hth_gguf_path(g)[0] != '\0' ? hth_gguf_path(g)
                                                           : "the model");
    }
    *out = t;
    return 0;
}

void hth_tokenizer_close(struct hth_tokenizer *t)
{
    if (t == NULL)
        return;
    hth_tok__bpe_close(&t->bpe);
    hth_tok__vocab_fini(&t->vocab);
    free(t);
}

/* ---- questions ----------------------------------------------------------- */

uint32_t hth_tokenizer_vocab(const struct hth_tokenizer *t)
{
    return t->vocab.count;
}

uint32_t hth_tokenizer_bos(const struct hth_tokenizer *t)
{
    return t->vocab.bos;
}

uint32_t hth_tokenizer_eos(const struct hth_tokenizer *t)
{
    return t->vocab.eos;
}

bool hth_tokenizer_is_end(const struct hth_tokenizer *t, uint32_t id)
{
    return id < t->vocab.count && (t->vocab.entries[id].flags & HTH_TOK_END);
}

bool hth_tokenizer_is_special(const struct hth_tokenizer *t, uint32_t id)
{
    return id < t->vocab.count &&
           (t->vocab.entries[id].type == HTH_TOK_CONTROL ||
            t->vocab.entries[id].type == HTH_TOK_UNKNOWN);
}

bool hth_tokenizer_adds_bos(const struct hth_tokenizer *t)
{
    return t->adds_bos;
}

/* ---- ids ----------------------------------------------------------------- */

void hth_tokens_fini(struct hth_tokens *v)
{
    free(v->ids);
    *v = (struct hth_tokens){0};
}

int hth_tokens_push(struct hth_tokens *v, uint32_t id)
{
    if (v->count == v->cap) {
        size_t cap = v->cap == 0 ? 64 : v->cap * 2;
        uint32_t *p = realloc(v->ids, cap * sizeof *p);

        if (p == NULL)
            return HTH_ENOMEM;
        v->ids = p;
        v->cap = cap;
    }
    v->ids[v->count++] = id;
    return 0;
}

/* ---- encoding ------------------------------------------------------------ */

int hth_tok__push(struct hth_tok__run *r, uint32_t id)
{
    if (hth_tokens_push(r->out, id) < 0)
        return hth_fail(r->err, HTH_ENOMEM, "tokenize: no memory for %zu ids",
                        r->out->count + 1);
    return 0;
}

static int plain(struct hth_tok__run *r, const uint8_t *text, size_t n)
{
    if (n == 0)
        return 0;
    return r->t->spm ? hth_tok__spm_text(r, text, n)
                     : hth_tok__bpe_text(r, text, n);
}

/* What may become a control token: all of it, nothing, or bytes not marked. */
struct marks {
    bool special;
    const uint8_t *plain; /* [n], or NULL */
};

static uint32_t special_at(const struct hth_tok__vocab *v, const uint8_t *text,
                           size_t n, struct marks m)
{
    uint32_t id, own;
    size_t open = 0;

    if (m.plain == NULL)
        return hth_tok__special_at(v, text, n, m.special);
    while (open < n && open < HTH_SPECIAL_BYTES_MAX && m.plain[open] == 0)
        open++;
    /* Tokens that users may write are looked for everywhere. */
    own = hth_tok__special_at(v, text, n, false);
    if (open == 0)
        return own;
    id = hth_tok__special_at(v, text, open, true);
    if (id == HTH_TOKEN_NONE)
        return own;
    return own != HTH_TOKEN_NONE && v->entries[own].len > v->entries[id].len
               ? own
               : id;
}

/* The outer loop: at each place the longest special token wins; where there
 * is none, the byte is plain text. */
static int encode(struct hth_tok__run *r, const uint8_t *text, size_t n,
                  struct marks m)
{
    const struct hth_tok__vocab *v = &r->t->vocab;
    size_t at = 0, from = 0;
    int rc;

    while (at < n) {
        struct marks here = {m.special, m.plain == NULL ? NULL : m.plain + at};
        uint32_t id = special_at(v, text + at, n - at, here);

        if (id == HTH_TOKEN_NONE) {
            at++;
            continue;
        }
        if ((rc = plain(r, text + from, at - from)) < 0 ||
            (rc = hth_tok__push(r, id)) < 0)
            return rc;
        at += v->entries[id].len;
        while (v->entries[id].flags & HTH_TOK_RSTRIP && at < n &&
               isspace(text[at]))
            at++;
        from = at;
    }
    return plain(r, text + from, n - from);
}

static int tokenize(const struct hth_tokenizer *t, struct hth_str text,
                    struct marks m, struct hth_tokens *out, struct hth_err *err)
{
    struct hth_tok__run r = {.t = t, .out = out, .err = err};
    size_t count = out->count;
    int rc;

    if (text.n > HTH_TEXT_BYTES_MAX)
        return hth_fail(err, HTH_ELIMIT,
                        "tokenize: a text of %zu bytes, at most %u", text.n,
                        HTH_TEXT_BYTES_MAX);
    if (!t->spm) {
        r.match = pcre2_match_data_create(1, NULL);
        if (r.match == NULL)
            return hth_fail(err, HTH_ENOMEM, "tokenize: no memory");
    }
    rc = encode(&r, (const uint8_t *)text.p, text.n, m);
    if (rc < 0)
        out->count = count;
    pcre2_match_data_free(r.match);
    free(r.syms);
    free(r.heap);
    free(r.copy);
    return rc;
}

int hth_tokenize(const struct hth_tokenizer *t, struct hth_str text,
                 bool special, struct hth_tokens *out, struct hth_err *err)
{
    return tokenize(t, text, (struct marks){.special = special}, out, err);
}

int hth_tokenize_marked(const struct hth_tokenizer *t, struct hth_str text,
                        const uint8_t *plain, struct hth_tokens *out,
                        struct hth_err *err)
{
    return tokenize(t, text, (struct marks){true, plain}, out, err);
}
