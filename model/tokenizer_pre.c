/* tokenizer_pre.c - pre-tokenisers: where byte-level BPE may not merge.
 *
 * Each is a short list of regular expressions, a published fact of the model
 * it belongs to (its tokenizer.json, or OpenAI's tiktoken). A stage splits
 * every piece the stages before it left into its matches and what lies
 * between them; a stage sees one piece at a time, so look-ahead and end of
 * text mean the piece's.
 *
 * PCRE2 runs them, with UTF and Unicode properties, by JIT where there is
 * one. The patterns are ours, never a file's, and none of them needs more
 * than linear time; a match limit turns a mistake about that into HTH_ELIMIT.
 *
 * White space is written out: \s differs among regex engines (PCRE2 counts
 * U+180E), the tokenizers mean Unicode's White_Space. */
#include <stdio.h>
#include <string.h>

#include "model/tokenizer_internal.h"

#define SPACES "\\t-\\r\\x{85}\\p{Z}"
#define WS "[" SPACES "]"
#define NO_WS "[^" SPACES "]"
#define SHORT_I "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define OTHER " ?[^" SPACES "\\p{L}\\p{N}]+"
#define BLANKS WS "+(?!" NO_WS ")|" WS "+"

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+|" OTHER "|" BLANKS

/* Words with one leading mark, digits in groups, marks with line ends; as in
 * tiktoken's cl100k and those after it. */
#define WORDS_DIGITS(digits)                                                   \
    SHORT_I "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "|" OTHER "[\\r\\n]*|" WS \
            "*[\\r\\n]+|" BLANKS

#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define LEAD "[^\\r\\n\\p{L}\\p{N}]?"
/* o200k's words: a capital begins a new one. */
#define CASED(suffix, digits)                                           \
    LEAD UPPER "*" LOWER "+" suffix "|" LEAD UPPER "+" LOWER "*" suffix \
               "|" digits "|" OTHER "[\\r\\n/]*|" WS "*[\\r\\n]+|" BLANKS

#define CJK_OLD "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+"

/* DeepSeek LLM lists its cased letters one range after the other, as of the
 * Unicode version of its day, so they cannot be a property here. */
#define CASED_LIST                                                         \
    "A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}"          \
    "\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}\\x{370}-\\x{373}" \
    "\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}\\x{388}-\\x{38A}"   \
    "\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}"          \
    "\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}"                \
    "\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}"            \
    "\\x{1CBD}-\\x{1CBF}\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}"            \
    "\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}"            \
    "\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}"            \
    "\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}"    \
    "\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}"   \
    "\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}"            \
    "\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}"             \
    "\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}"    \
    "\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}"             \
    "\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}"    \
    "\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}"            \
    "\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}"             \
    "\\x{A722}-\\x{A76F}\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}"            \
    "\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}"            \
    "\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}"          \
    "\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}"      \
    "\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}"

/* What BLOOM's family keeps together: all but white space and these marks. */
#define BLOOM                                                          \
    " ?[^(" SPACES "|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}" \
    "\\x{6D4}\\x{60C})]+"

enum kind {
    P_DEFAULT,
    P_GPT2,
    P_LLAMA3,
    P_QWEN2,
    P_DEEPSEEK_LLM,
    P_DEEPSEEK_CODER,
    P_DEEPSEEK3,
    P_FALCON,
    P_STARCODER,
    P_TEKKEN,
    P_GPT4O,
    P_BLOOM,
    P_VIKING,
    P_BAILING,
    P_SEED,
    P_KINDS
};

/* "White space at the end" is written with a look-behind and a possessive
 * repeat: the same matches, but no second look at a run of blanks from each
 * of its places. */
static const char *const patterns[P_KINDS][HTH_TOK_STAGES_MAX + 1] = {
    [P_DEFAULT] = {"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"},
    [P_GPT2] = {GPT2},
    [P_LLAMA3] = {WORDS_DIGITS("\\p{N}{1,3}")},
    [P_QWEN2] = {WORDS_DIGITS("\\p{N}")},
    [P_DEEPSEEK_LLM] = {"[\\r\\n]", WS "?[" CASED_LIST "]+",
                        WS "?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}"
                           "\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+",
                        "(?<!" WS ")" WS "++\\z", CJK_OLD, "\\p{N}+"},
    [P_DEEPSEEK_CODER] = {"[\\r\\n]", WS "?\\p{L}+", WS "?\\p{P}+", CJK_OLD,
                          "\\p{N}"},
    [P_DEEPSEEK3] = {"\\p{N}{1,3}",
                     "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}"
                     "\\x{30A0}-\\x{30FF}]+",
                     "[!-/:-@\\[-`{-~][A-Za-z]+|"
                     "[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
                     " ?[\\p{P}\\p{S}]+[\\r\\n]*|" WS "*[\\r\\n]+|" BLANKS},
    [P_FALCON] = {"[\\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"},
    [P_STARCODER] = {"\\p{N}", GPT2},
    [P_TEKKEN] = {CASED("", "\\p{N}")},
    [P_GPT4O] = {CASED(SHORT_I "?", "\\p{N}{1,3}")},
    [P_BLOOM] = {BLOOM},
    [P_VIKING] = {BLOOM, "\\p{N}"},
    [P_BAILING] = {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|"
                   "\\p{N}| ?[^" SPACES "\\p{L}\\p{N}]++[\\r\\n]*|" WS
                   "*[\\r\\n]|" BLANKS},
    [P_SEED] = {SHORT_I "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^" SPACES
                        "\\p{L}\\p{N}\\r\\n]+|" WS "*[\\r\\n]+|" BLANKS},
};

/* The names of tokenizer.ggml.pre; a kind's own name is its first. */
static const struct name {
    const char *text;
    enum kind kind;
    bool whole_words, adds_bos;
} names[] = {
    {"default", P_DEFAULT, false, false},
    {"gpt-2", P_GPT2, false, false},
    {"phi-2", P_GPT2, false, false},
    {"mpt", P_GPT2, false, false},
    {"olmo", P_GPT2, false, false},
    {"jais", P_GPT2, false, false},
    {"trillion", P_GPT2, false, false},
    {"granite-docling", P_GPT2, false, false},
    {"exaone4", P_GPT2, false, false},
    {"gigachat", P_GPT2, false, false},
    {"mellum", P_GPT2, false, false},
    {"a.x-4.0", P_GPT2, false, false},
    {"llama-bpe", P_LLAMA3, true, true},
    {"llama3", P_LLAMA3, true, true},
    {"llama-v3", P_LLAMA3, true, true},
    {"falcon3", P_LLAMA3, true, true},
    {"falcon-h1", P_LLAMA3, true, true},
    {"pixtral", P_LLAMA3, true, true},
    {"midm-2.0", P_LLAMA3, true, true},
    {"lfm2", P_LLAMA3, true, true},
    {"dbrx", P_LLAMA3, false, false},
    {"smaug-bpe", P_LLAMA3, false, false},
    {"chatglm-bpe", P_LLAMA3, false, false},
    {"glm4", P_LLAMA3, false, false},
    {"qwen2", P_QWEN2, false, false},
    {"deepseek-r1-qwen", P_QWEN2, false, false},
    {"megrez", P_QWEN2, false, false},
    {"kormo", P_QWEN2, false, false},
    {"stablelm2", P_QWEN2, false, false},
    {"hunyuan", P_QWEN2, false, false},
    {"grok-2", P_QWEN2, false, false},
    {"deepseek-llm", P_DEEPSEEK_LLM, false, false},
    {"deepseek-coder", P_DEEPSEEK_CODER, false, false},
    {"deepseek-v3", P_DEEPSEEK3, false, false},
    {"hunyuan-dense", P_DEEPSEEK3, false, false},
    {"falcon", P_FALCON, false, false},
    {"starcoder", P_STARCODER, false, false},
    {"refact", P_STARCODER, false, false},
    {"command-r", P_STARCODER, false, false},
    {"smollm", P_STARCODER, false, false},
    {"codeshell", P_STARCODER, false, false},
    {"exaone", P_STARCODER, false, false},
    {"minerva-7b", P_STARCODER, false, false},
    {"tekken", P_TEKKEN, true, true},
    {"gpt-4o", P_GPT4O, false, false},
    {"llama4", P_GPT4O, false, false},
    {"bloom", P_BLOOM, false, false},
    {"poro-chat", P_BLOOM, false, false},
    {"gpt3-finnish", P_BLOOM, false, false},
    {"viking", P_VIKING, false, false},
    {"bailingmoe", P_BAILING, false, false},
    {"bailingmoe2", P_BAILING, false, false},
    {"llada-moe", P_BAILING, false, false},
    {"seed-coder", P_SEED, false, false},
};

#define NAMES (sizeof names / sizeof names[0])

static int unsupported(struct hth_str name, struct hth_err *err)
{
    char list[HTH_ERR_TEXT_MAX];
    size_t i, at = 0;

    for (i = 0; i < NAMES && at < sizeof list; i++)
        if (i == 0 || names[i].kind != names[i - 1].kind)
            at += (size_t)snprintf(list + at, sizeof list - at, "%s%s",
                                   i == 0 ? "" : ", ", names[i].text);
    return hth_fail(err, HTH_EUNSUPPORTED,
                    "tokenizer.ggml.pre is '%.*s'; supported are %s and "
                    "models that share theirs",
                    (int)(name.n > 64 ? 64 : name.n), name.p, list);
}

static int compile(struct hth_tok__pre *p, const char *pattern,
                   struct hth_err *err)
{
    int code;
    PCRE2_SIZE at;
    PCRE2_UCHAR text[128];
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);

    if (re == NULL) {
        pcre2_get_error_message(code, text, sizeof text);
        return hth_fail(err, HTH_EINTERNAL,
                        "pre-tokeniser pattern, at %zu: %s; this PCRE2 is "
                        "too old or has no Unicode",
                        (size_t)at, (char *)text);
    }
    (void)pcre2_jit_compile(re, PCRE2_JIT_COMPLETE); /* else interpreted */
    p->stages[p->count++] = re;
    return 0;
}

int hth_tok__pre_open(struct hth_tok__pre *p, struct hth_str name,
                      struct hth_err *err)
{
    const char *const *stage;
    size_t i;
    int rc = 0;

    for (i = 0; i < NAMES; i++)
        if (strlen(names[i].text) == name.n &&
            memcmp(names[i].text, name.p, name.n) == 0)
            break;
    if (i == NAMES)
        return unsupported(name, err);
    p->whole_words = names[i].whole_words;
    p->adds_bos = names[i].adds_bos;
    p->limits = pcre2_match_context_create(NULL);
    if (p->limits == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for a pre-tokeniser");
    pcre2_set_match_limit(p->limits, HTH_SPLIT_STEPS_MAX);
    pcre2_set_heap_limit(p->limits, HTH_SPLIT_HEAP_KIB_MAX);
    for (stage = patterns[names[i].kind]; *stage != NULL && rc == 0; stage++)
        rc = compile(p, *stage, err);
    return rc;
}

void hth_tok__pre_close(struct hth_tok__pre *p)
{
    uint32_t i;

    for (i = 0; i < p->count; i++)
        pcre2_code_free(p->stages[i]);
    pcre2_match_context_free(p->limits);
    memset(p, 0, sizeof *p);
}

/* ---- splitting ----------------------------------------------------------- */

struct splitter {
    struct hth_tok__run *r;
    hth_tok__word_fn emit;
};

static int split(const struct splitter *s, uint32_t stage, const uint8_t *text,
                 size_t n);

/* Next match at or after at: 1 and its bounds, 0 for none, or an error. A JIT
 * out of stack is no verdict on the text: the interpreter, which uses the
 * heap, answers then. */
static int next_match(struct hth_tok__run *r, uint32_t stage,
                      const uint8_t *text, size_t n, size_t bounds[2])
{
    const struct hth_tok__pre *p = &r->t->bpe.pre;
    const PCRE2_SIZE *at;
    int rc = pcre2_match(p->stages[stage], text, n, bounds[1],
                         PCRE2_NO_UTF_CHECK, r->match, p->limits);

    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc =
            pcre2_match(p->stages[stage], text, n, bounds[1],
                        PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, r->match, p->limits);
    if (rc == PCRE2_ERROR_NOMATCH)
        return 0;
    if (rc == PCRE2_ERROR_NOMEMORY)
        return hth_fail(r->err, HTH_ENOMEM, "tokenize: no memory to split");
    if (rc < 0)
        return hth_fail(r->err, HTH_ELIMIT,
                        "tokenize: the pre-tokeniser gave up (PCRE2 error %d) "
                        "on a piece of %zu bytes; break up the text",
                        rc, n);
    at = pcre2_get_ovector_pointer(r->match);
    bounds[0] = at[0];
    bounds[1] = at[1];
    return 1;
}

/* One stage over one piece. No pattern matches the empty string; were one
 * to, the rest would be one piece, not an endless loop. */
static int split(const struct splitter *s, uint32_t stage, const uint8_t *text,
                 size_t n)
{
    size_t bounds[2] = {0, 0}, done = 0;
    int rc;

    if (n == 0)
        return 0;
    if (stage == s->r->t->bpe.pre.count)
        return s->emit(s->r, text, n);
    while (done < n) {
        rc = next_match(s->r, stage, text, n, bounds);
        if (rc < 0)
            return rc;
        if (rc == 0 || bounds[1] <= done)
            break;
        rc = split(s, stage + 1, text + done, bounds[0] - done);
        if (rc == 0)
            rc = split(s, stage + 1, text + bounds[0], bounds[1] - bounds[0]);
        if (rc < 0)
            return rc;
        done = bounds[1];
    }
    return split(s, stage + 1, text + done, n - done);
}

int hth_tok__pre_split(struct hth_tok__run *r, const uint8_t *text, size_t n,
                       hth_tok__word_fn emit)
{
    struct splitter s = {r, emit};

    return split(&s, 0, text, n);
}
