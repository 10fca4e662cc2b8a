/* tokenizer_vocab.c - the tokens of a GGUF, what each stands for, and two
 * ways to find them: by the whole text (a hash index, for merging) and the
 * longest one at a place (a sorted list, for special tokens).
 *
 * Copies the texts, so the GGUF may be closed. Refuses more tokens, longer
 * ones or more bytes than base/limits.h allows, arrays of unequal length,
 * ids outside of the vocabulary and scores that are no numbers: HTH_EFORMAT
 * or HTH_ELIMIT with the key. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_internal.h"
#include "model/utf8.h"

#define KEY "tokenizer.ggml."

/* ---- the GPT-2 alphabet -------------------------------------------------- */

/* Byte-level vocabularies write each byte as one printable character: bytes
 * that print in Latin-1 as themselves, the others in order from U+0100 (Radford
 * et al. 2019). This is the way back, or -1. */
static int byte_of(uint32_t c)
{
    if ((c >= 0x21 && c <= 0x7E) || (c >= 0xA1 && c <= 0xAC) ||
        (c >= 0xAE && c <= 0xFF))
        return (int)c;
    if (c >= 0x100 && c <= 0x120)
        return (int)c - 0x100; /* 0x00..0x20 */
    if (c >= 0x121 && c <= 0x142)
        return (int)c - 0x121 + 0x7F; /* 0x7F..0xA0 */
    return c == 0x143 ? 0xAD : -1;
}

size_t hth_tok__unmap(const char *text, size_t n, uint8_t *dst)
{
    const uint8_t *p = (const uint8_t *)text;
    size_t at = 0, count = 0, len;

    while (at < n) {
        int byte;

        if (hth_utf8_scan(p + at, n - at, &len) != HTH_UTF8_VALID)
            return SIZE_MAX;
        byte = byte_of(hth_utf8_decode(p + at, len));
        if (byte < 0)
            return SIZE_MAX;
        dst[count++] = (uint8_t)byte;
        at += len;
    }
    return count;
}

/* ---- the index by text --------------------------------------------------- */

static uint32_t hash_of(const uint8_t *p, size_t n)
{
    uint64_t h = 0xCBF29CE484222325u; /* FNV-1a, then mixed */
    size_t i;

    for (i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001B3u;
    h ^= h >> 32;
    h *= 0x9E3779B97F4A7C15u;
    return (uint32_t)(h >> 32);
}

static bool is_special(const struct hth_tok__entry *e)
{
    return e->type == HTH_TOK_UNKNOWN || e->type == HTH_TOK_CONTROL ||
           e->type == HTH_TOK_USER;
}

static bool is_text(const struct hth_tok__vocab *v, uint32_t id,
                    const void *text, size_t n)
{
    const struct hth_tok__entry *e = &v->entries[id];

    return e->len == n && memcmp(v->bytes + e->at, text, n) == 0;
}

uint32_t hth_tok__find(const struct hth_tok__vocab *v, const void *text,
                       size_t n)
{
    uint32_t i;

    if (n == 0 || n > v->len_max)
        return HTH_TOKEN_NONE;
    i = hash_of(text, n) & v->index_mask;
    for (; v->index[i] != HTH_TOKEN_NONE; i = (i + 1) & v->index_mask)
        if (is_text(v, v->index[i], text, n))
            break;
    if (v->index[i] == HTH_TOKEN_NONE || is_special(&v->entries[v->index[i]]))
        return HTH_TOKEN_NONE;
    return v->index[i];
}

/* Put id where its text is looked for; of two with one text the first
 * counts. A token that only later turns out to be special (a file without
 * types) stays in, and hth_tok__find() passes it by. */
static void index_add(struct hth_tok__vocab *v, uint32_t id)
{
    const struct hth_tok__entry *e = &v->entries[id];
    const uint8_t *text = v->bytes + e->at;
    uint32_t i;

    if (e->len == 0 || hth_tok__find(v, text, e->len) != HTH_TOKEN_NONE)
        return;
    if (e->len > v->len_max)
        v->len_max = e->len;
    for (i = 1; i < e->len; i++)
        if (text[i] == ' ' && text[i - 1] != ' ')
            v->space_breaks = false;
    i = hash_of(text, e->len) & v->index_mask;
    while (v->index[i] != HTH_TOKEN_NONE)
        i = (i + 1) & v->index_mask;
    v->index[i] = id;
}

/* ---- special tokens ------------------------------------------------------ */

static int by_bytes(const void *a, const void *b)
{
    const struct hth_tok__special *x = a, *y = b;
    uint32_t n = x->len < y->len ? x->len : y->len;
    int c = memcmp(x->text, y->text, n);

    return c != 0 ? c : (x->len > y->len) - (x->len < y->len);
}

static int special_list(struct hth_tok__vocab *v, struct hth_err *err)
{
    uint32_t i, count = 0, c;

    v->special = calloc((size_t)v->count + 1, sizeof *v->special);
    if (v->special == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for special tokens");
    for (i = 0; i < v->count; i++) {
        const struct hth_tok__entry *e = &v->entries[i];

        if (!is_special(e) || e->len == 0)
            continue;
        if (e->len > HTH_SPECIAL_BYTES_MAX)
            return hth_fail(err, HTH_ELIMIT,
                            KEY "tokens: special token %u has %u bytes, at "
                                "most %u are supported",
                            i, e->len, HTH_SPECIAL_BYTES_MAX);
        v->special[count++] =
            (struct hth_tok__special){v->bytes + e->at, e->len, i};
    }
    qsort(v->special, count, sizeof *v->special, by_bytes);
    for (i = 0, c = 0; c < 257; c++) {
        while (i < count && v->special[i].text[0] < c)
            i++;
        v->special_at[c] = i;
    }
    return 0;
}

/* The first in special[low, high), all of which agree up to depth, whose byte
 * at depth is c or more. */
static uint32_t lower(const struct hth_tok__vocab *v, uint32_t low,
                      uint32_t high, uint32_t depth, uint32_t c)
{
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (v->special[mid].text[depth] < c)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Narrow the sorted list byte by byte; the tokens that end at a depth come
 * first among those left. */
uint32_t hth_tok__special_at(const struct hth_tok__vocab *v,
                             const uint8_t *text, size_t n, bool all)
{
    uint32_t low = v->special_at[text[0]], high = v->special_at[text[0] + 1];
    uint32_t depth = 1, best = HTH_TOKEN_NONE;

    while (low < high) {
        const struct hth_tok__special *s = &v->special[low];

        if (s->len == depth) {
            if (all || v->entries[s->id].type == HTH_TOK_USER)
                best = s->id;
            low++;
            continue;
        }
        if (depth == n)
            break;
        low = lower(v, low, high, depth, text[depth]);
        high = lower(v, low, high, depth, text[depth] + 1u);
        depth++;
    }
    return best;
}

/* ---- loading ------------------------------------------------------------- */

const struct hth_gguf_kv *hth_tok__strings(const struct hth_gguf *g,
                                           const char *key, uint64_t max,
                                           int *status, struct hth_err *err)
{
    const struct hth_gguf_kv *kv = hth_gguf_find(g, key);

    if (kv == NULL)
        *status = hth_fail(err, HTH_ENOTFOUND, "key %s is missing", key);
    else if (kv->type != HTH_GGUF_ARRAY || kv->elem_type != HTH_GGUF_STRING)
        *status =
            hth_fail(err, HTH_EFORMAT, "%s is not an array of strings", key);
    else if (kv->count > max)
        *status =
            hth_fail(err, HTH_ELIMIT, "%s has %llu entries, at most %llu", key,
                     (unsigned long long)kv->count, (unsigned long long)max);
    else
        return kv;
    return NULL;
}

/* The array of numbers at key, one for each token; *out is NULL where there
 * is none. */
static int numbers(const struct hth_tok__vocab *v, const struct hth_gguf *g,
                   const char *key, const struct hth_gguf_kv **out,
                   struct hth_err *err)
{
    const struct hth_gguf_kv *kv = hth_gguf_find(g, key);

    *out = kv;
    if (kv == NULL)
        return 0;
    if (kv->type != HTH_GGUF_ARRAY || kv->elem_type == HTH_GGUF_STRING ||
        kv->elem_type == HTH_GGUF_ARRAY)
        return hth_fail(err, HTH_EFORMAT, "%s is not an array of numbers", key);
    if (kv->count != v->count)
        return hth_fail(err, HTH_EFORMAT, "%s has %llu entries for %u tokens",
                        key, (unsigned long long)kv->count, v->count);
    return 0;
}

static int load_types(struct hth_tok__vocab *v, const struct hth_gguf *g,
                      struct hth_err *err)
{
    const struct hth_gguf_kv *kv;
    int rc = numbers(v, g, KEY "token_type", &kv, err);
    uint32_t i;

    if (rc < 0)
        return rc;
    v->typed = kv != NULL;
    for (i = 0; i < v->count; i++) {
        int64_t type = HTH_TOK_NORMAL;

        if (kv != NULL && hth_gguf_array_i64(kv, i, &type) < 0)
            return hth_fail(err, HTH_EFORMAT, KEY "token_type: bad entry %u",
                            i);
        v->entries[i].type = type >= 0 && type <= HTH_TOK_BYTE
                                 ? (uint8_t)type
                                 : HTH_TOK_UNDEFINED;
    }
    return 0;
}

static int load_scores(struct hth_tok__vocab *v, const struct hth_gguf *g,
                       struct hth_err *err)
{
    const struct hth_gguf_kv *kv;
    int rc = numbers(v, g, KEY "scores", &kv, err);
    uint32_t i;

    if (rc < 0)
        return rc;
    if (kv == NULL)
        return hth_fail(err, HTH_ENOTFOUND, "key " KEY "scores is missing");
    v->scores = calloc(v->count, sizeof *v->scores);
    if (v->scores == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for token scores");
    for (i = 0; i < v->count; i++) {
        double score;

        if (hth_gguf_array_f64(kv, i, &score) < 0 || isnan(score))
            return hth_fail(err, HTH_EFORMAT,
                            KEY "scores: entry %u is no number", i);
        v->scores[i] = (float)score;
    }
    return 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "<0x0A>" is byte 10; anything else -1. */
static int byte_text(struct hth_str s)
{
    int high, low;

    if (s.n != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>')
        return -1;
    high = hex_digit(s.p[3]);
    low = hex_digit(s.p[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* U+2581 stands for a space; dst has room for s.n. */
static size_t unescape_spaces(struct hth_str s, uint8_t *dst)
{
    size_t i, count = 0;

    for (i = 0; i < s.n; i++) {
        if (s.n - i >= 3 && memcmp(s.p + i, "\xE2\x96\x81", 3) == 0) {
            dst[count++] = ' ';
            i += 2;
        } else {
            dst[count++] = (uint8_t)s.p[i];
        }
    }
    return count;
}

/* Write the bytes token id stands for and put it where it can be found. Only
 * ordinary text is decoded: special tokens mean what they say. */
static void add_token(struct hth_tok__vocab *v, uint32_t id, struct hth_str s,
                      bool spm)
{
    struct hth_tok__entry *e = &v->entries[id];
    uint8_t *dst = v->bytes + e->at;
    size_t n = SIZE_MAX;
    int byte =
        spm && (e->type == HTH_TOK_BYTE || !v->typed) ? byte_text(s) : -1;

    if (byte >= 0) {
        e->type = HTH_TOK_BYTE;
        e->len = 1;
        dst[0] = (uint8_t)byte;
        v->byte_ids[byte] = id;
        return;
    }
    if (!is_special(e))
        n = spm ? unescape_spaces(s, dst) : hth_tok__unmap(s.p, s.n, dst);
    if (n != SIZE_MAX) {
        e->len = (uint16_t)n;
        index_add(v, id);
        if (!spm && n == 1 && v->byte_ids[dst[0]] == HTH_TOKEN_NONE)
            v->byte_ids[dst[0]] = id;
        return;
    }
    memcpy(dst, s.p, s.n);
    e->len = (uint16_t)s.n;
}

static int check_tokens(const struct hth_gguf_kv *kv, size_t *bytes,
                        struct hth_err *err)
{
    uint64_t i;

    if (kv->count == 0)
        return hth_fail(err, HTH_EFORMAT, KEY "tokens is empty");
    for (i = 0, *bytes = 0; i < kv->count; i++) {
        if (kv->strings[i].n > HTH_TOKEN_BYTES_MAX)
            return hth_fail(err, HTH_ELIMIT,
                            KEY "tokens: entry %llu has %zu bytes, at most "
                                "%u are supported",
                            (unsigned long long)i, kv->strings[i].n,
                            HTH_TOKEN_BYTES_MAX);
        *bytes += kv->strings[i].n;
    }
    if (*bytes > HTH_VOCAB_BYTES_MAX)
        return hth_fail(err, HTH_ELIMIT,
                        KEY "tokens: %zu bytes of text, at most %u", *bytes,
                        HTH_VOCAB_BYTES_MAX);
    return 0;
}

static int alloc_tables(struct hth_tok__vocab *v, size_t bytes,
                        struct hth_err *err)
{
    uint32_t places = 16;

    while (places < 2 * v->count)
        places *= 2;
    v->index_mask = places - 1;
    v->entries = calloc(v->count, sizeof *v->entries);
    v->bytes = malloc(bytes + 1);
    v->index = malloc(places * sizeof *v->index);
    if (v->entries == NULL || v->bytes == NULL || v->index == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for %u tokens", v->count);
    memset(v->index, 0xFF, places * sizeof *v->index);
    memset(v->byte_ids, 0xFF, sizeof v->byte_ids);
    return 0;
}

/* ---- tokens with a meaning ----------------------------------------------- */

/* Texts that end a turn in published models; `user`: also where the file
 * calls the token user-defined, as converters did for some models. */
static const struct {
    const char *text;
    bool user;
} ends[] = {
    {"<|eot_id|>", true},
    {"<|eom_id|>", true},
    {"<|im_end|>", true},
    {"<|end|>", true},
    {"<|return|>", true},
    {"<|call|>", true},
    {"<end_of_turn>", true},
    {"<turn|>", true},
    {"<|endoftext|>", true},
    {"<|end_of_text|>", true},
    {"<|end_of_turn|>", true},
    {"<|eot|>", true},
    {"<EOT>", true},
    {"_<EOT>", true},
    {"<end_of_utterance>", true},
    {"<\xEF\xBD\x9C"
     "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
     true},
    {"<|fim_pad|>", true},
    {"<|repo_name|>", true},
    {"<|file_sep|>", true},
    {"</s>", false},
};

static void mark_end(struct hth_tok__vocab *v, uint32_t id)
{
    struct hth_tok__entry *e;

    if (id == HTH_TOKEN_NONE)
        return;
    e = &v->entries[id];
    e->flags |= HTH_TOK_END;
    if (e->type == HTH_TOK_USER || !v->typed)
        e->type = HTH_TOK_CONTROL;
}

static uint32_t find_any(const struct hth_tok__vocab *v, const char *text)
{
    uint32_t i;

    for (i = 0; i < v->count; i++)
        if (is_text(v, i, text, strlen(text)))
            return i;
    return HTH_TOKEN_NONE;
}

static void mark_known_ends(struct hth_tok__vocab *v)
{
    uint32_t id, type;
    size_t i;

    for (i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        id = find_any(v, ends[i].text);
        type = id == HTH_TOKEN_NONE ? HTH_TOK_NORMAL : v->entries[id].type;
        if (type == HTH_TOK_CONTROL || (type == HTH_TOK_USER && ends[i].user))
            mark_end(v, id);
    }
}

/* In the harmony format <|end|> only closes a message; the turn goes on until
 * <|return|> or <|call|>. */
static void unmark_harmony(struct hth_tok__vocab *v)
{
    uint32_t end = find_any(v, "<|end|>");

    if (end != HTH_TOKEN_NONE && v->eos != end &&
        find_any(v, "<|return|>") != HTH_TOKEN_NONE &&
        find_any(v, "<|call|>") != HTH_TOKEN_NONE)
        v->entries[end].flags &= (uint8_t)~HTH_TOK_END;
}

/* The id at key, or fallback; UINT32_MAX in the file means there is none. */
static int id_key(const struct hth_tok__vocab *v, const struct hth_gguf *g,
                  const char *key, uint32_t *id, struct hth_err *err)
{
    uint32_t value;
    int rc = hth_gguf_u32(g, key, &value, err);

    if (rc == HTH_ENOTFOUND) {
        if (*id != HTH_TOKEN_NONE && *id >= v->count)
            *id = HTH_TOKEN_NONE;
        return 0;
    }
    if (rc < 0)
        return rc;
    if (value != HTH_TOKEN_NONE && value >= v->count)
        return hth_fail(err, HTH_EFORMAT, "%s is %u, but there are %u tokens",
                        key, value, v->count);
    *id = value;
    return 0;
}

/* Ids by key; SentencePiece's own numbers where a file of it has none. */
static int load_ids(struct hth_tok__vocab *v, const struct hth_gguf *g,
                    bool spm, struct hth_err *err)
{
    uint32_t eot = HTH_TOKEN_NONE, eom = HTH_TOKEN_NONE;
    int rc;

    v->unknown = spm ? 0 : HTH_TOKEN_NONE;
    v->bos = spm ? 1 : HTH_TOKEN_NONE;
    v->eos = spm ? 2 : HTH_TOKEN_NONE;
    if ((rc = id_key(v, g, KEY "bos_token_id", &v->bos, err)) < 0 ||
        (rc = id_key(v, g, KEY "eos_token_id", &v->eos, err)) < 0 ||
        (rc = id_key(v, g, KEY "eot_token_id", &eot, err)) < 0 ||
        (rc = id_key(v, g, KEY "eom_token_id", &eom, err)) < 0 ||
        (rc = id_key(v, g, KEY "unknown_token_id", &v->unknown, err)) < 0)
        return rc;
    mark_known_ends(v);
    unmark_harmony(v);
    mark_end(v, v->eos);
    mark_end(v, eot);
    mark_end(v, eom);
    if (v->bos != HTH_TOKEN_NONE && !v->typed)
        v->entries[v->bos].type = HTH_TOK_CONTROL;
    return 0;
}

int hth_tok__vocab_load(struct hth_tok__vocab *v, const struct hth_gguf *g,
                        bool spm, struct hth_err *err)
{
    const struct hth_gguf_kv *kv;
    size_t bytes = 0;
    uint32_t i, at = 0;
    int rc = 0;

    kv = hth_tok__strings(g, KEY "tokens", HTH_VOCAB_MAX, &rc, err);
    if (kv == NULL || (rc = check_tokens(kv, &bytes, err)) < 0)
        return rc;
    v->count = (uint32_t)kv->count;
    v->space_breaks = true;
    if ((rc = alloc_tables(v, bytes, err)) < 0 ||
        (rc = load_types(v, g, err)) < 0 ||
        (spm && (rc = load_scores(v, g, err)) < 0))
        return rc;
    for (i = 0; i < v->count; i++) {
        v->entries[i].at = at;
        add_token(v, i, kv->strings[i], spm);
        at += (uint32_t)kv->strings[i].n;
    }
    if ((rc = load_ids(v, g, spm, err)) < 0)
        return rc;
    return special_list(v, err);
}

void hth_tok__vocab_fini(struct hth_tok__vocab *v)
{
    free(v->entries);
    free(v->scores);
    free(v->bytes);
    free(v->index);
    free(v->special);
    memset(v, 0, sizeof *v);
}
