/* tokenizer_internal.h - what the files of the tokenizer share.
 *
 * tokenizer.c      open, questions, splitting a text at special tokens
 * tokenizer_vocab.c  tokens, their types and their index by text
 * tokenizer_pre.c  pre-tokenisers: text to words (PCRE2)
 * tokenizer_merge.c  the merge loop both algorithms run
 * tokenizer_bpe.c  byte-level BPE: words to ids
 * tokenizer_spm.c  SentencePiece-style: text to ids
 * detok.c          ids to text
 *
 * Not for other modules. */
#ifndef HTH_MODEL_TOKENIZER_INTERNAL_H
#define HTH_MODEL_TOKENIZER_INTERNAL_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/limits.h"
#include "model/tokenizer.h"

/* ---- vocabulary -------------------------------------------------------- */

/* tokenizer.ggml.token_type of the GGUF specification. */
enum hth_tok__type {
    HTH_TOK_UNDEFINED,
    HTH_TOK_NORMAL,
    HTH_TOK_UNKNOWN,
    HTH_TOK_CONTROL,
    HTH_TOK_USER,
    HTH_TOK_UNUSED,
    HTH_TOK_BYTE
};

#define HTH_TOK_END 1u    /* ends a generation */
#define HTH_TOK_RSTRIP 2u /* swallows the white space behind it */

/* One token. Its bytes are those it stands for in a text: byte-level letters
 * are decoded, U+2581 is a space, "<0x0A>" is one byte. */
struct hth_tok__entry {
    uint32_t at; /* in vocab.bytes */
    uint16_t len;
    uint8_t type; /* enum hth_tok__type */
    uint8_t flags;
};

/* A token that is looked for in texts. */
struct hth_tok__special {
    const uint8_t *text; /* in vocab.bytes */
    uint32_t len, id;
};

struct hth_tok__vocab {
    struct hth_tok__entry *entries; /* [count] */
    float *scores;                  /* [count]; SentencePiece only */
    uint8_t *bytes;
    uint32_t count;
    uint32_t len_max; /* of the tokens in the index */
    uint32_t *index;  /* [index_mask + 1] ids or NONE, open addressing */
    uint32_t index_mask;
    uint32_t byte_ids[256];           /* the token of one byte, or NONE */
    struct hth_tok__special *special; /* types 2, 3, 4, sorted by bytes */
    uint32_t special_at[257];   /* where each first byte begins in special */
    uint32_t bos, eos, unknown; /* or NONE */
    bool typed;                 /* the file says the types */
    bool space_breaks;          /* no token has a space behind something else */
};

HTH_MUST_CHECK int hth_tok__vocab_load(struct hth_tok__vocab *v,
                                       const struct hth_gguf *g, bool spm,
                                       struct hth_err *err);
void hth_tok__vocab_fini(struct hth_tok__vocab *v); /* fine on zeroes */

/* The id whose bytes are text, among those plain text may become (never a
 * control, unknown or user-defined token); NONE if there is none. */
uint32_t hth_tok__find(const struct hth_tok__vocab *v, const void *text,
                       size_t n);

/* The longest special token at text, those of type 2 and 3 only if all is
 * set; NONE if there is none. */
uint32_t hth_tok__special_at(const struct hth_tok__vocab *v,
                             const uint8_t *text, size_t n, bool all);

/* Byte-level text of the GPT-2 alphabet to the bytes it stands for, into
 * dst[n]; the number of bytes, or SIZE_MAX where it is not of it. */
size_t hth_tok__unmap(const char *text, size_t n, uint8_t *dst);

/* The array of strings at key, or NULL and *status and err are set. */
const struct hth_gguf_kv *hth_tok__strings(const struct hth_gguf *g,
                                           const char *key, uint64_t max,
                                           int *status, struct hth_err *err);

/* ---- pre-tokenisers ---------------------------------------------------- */

#define HTH_TOK_STAGES_MAX 6u

struct hth_tok__pre {
    pcre2_code *stages[HTH_TOK_STAGES_MAX]; /* each splits what the last left */
    uint32_t count;
    pcre2_match_context *limits;
    bool whole_words; /* a word that is a token is not merged */
    bool adds_bos;
};

/* name: tokenizer.ggml.pre. */
HTH_MUST_CHECK int hth_tok__pre_open(struct hth_tok__pre *p,
                                     struct hth_str name, struct hth_err *err);
void hth_tok__pre_close(struct hth_tok__pre *p); /* fine on zeroes */

/* ---- one call of hth_tokenize ------------------------------------------ */

/* A piece of the text being merged; len 0 once it is part of another. The
 * piece at index i keeps its start for life. */
struct hth_tok__sym {
    uint32_t start, len; /* bytes */
    uint32_t id;         /* or NONE */
    uint32_t prev, next; /* index or NONE */
};

/* Two neighbours that could become id; stale when len no longer is theirs. */
struct hth_tok__pair {
    uint32_t order; /* the lowest is merged first, ties from the left */
    uint32_t left, right, len, id;
};

struct hth_tok__run {
    const struct hth_tokenizer *t;
    struct hth_tokens *out;
    struct hth_err *err;
    pcre2_match_data *match; /* byte-level BPE only */
    struct hth_tok__sym *syms;
    size_t sym_count, sym_cap;
    struct hth_tok__pair *heap;
    size_t heap_count, heap_cap;
    const uint8_t *text; /* what the pieces' starts refer to */
    uint8_t *copy;       /* SentencePiece: the text with its prefix */
    size_t copy_cap;
};

typedef int (*hth_tok__word_fn)(struct hth_tok__run *r, const uint8_t *word,
                                size_t n);

/* Call emit for each word of valid UTF-8, in order, until one fails. */
HTH_MUST_CHECK int hth_tok__pre_split(struct hth_tok__run *r,
                                      const uint8_t *text, size_t n,
                                      hth_tok__word_fn emit);

/* If left and right can be merged, fill in order and id of *pair. */
typedef bool (*hth_tok__pair_fn)(const struct hth_tok__run *r,
                                 const struct hth_tok__sym *left,
                                 const struct hth_tok__sym *right,
                                 struct hth_tok__pair *pair);

/* Append a piece to the row of pieces (restart it by sym_count = 0). A row
 * beyond HTH_WORD_BYTES_MAX is HTH_ELIMIT. */
HTH_MUST_CHECK int hth_tok__sym_push(struct hth_tok__run *r, uint32_t start,
                                     uint32_t len, uint32_t id);
/* Merge neighbours, best first, until none can be: O(n log n). */
HTH_MUST_CHECK int hth_tok__merge(struct hth_tok__run *r,
                                  hth_tok__pair_fn pair_of);

/* ---- the two algorithms ------------------------------------------------ */

struct hth_tok__merge_rule {
    uint64_t pair; /* left id << 32 | right id; UINT64_MAX is a free place */
    uint32_t rank, id;
};

struct hth_tok__bpe {
    struct hth_tok__merge_rule *rules; /* [mask + 1], open addressing */
    uint32_t mask;
    struct hth_tok__pre pre;
    uint32_t stand_in[3]; /* for a byte without a token: U+FFFD's tokens */
    uint32_t stand_in_count;
};

struct hth_tokenizer {
    struct hth_tok__vocab vocab;
    bool spm;
    bool space_prefix; /* SentencePiece: a space in front of a text */
    bool adds_bos;
    struct hth_tok__bpe bpe;
};

HTH_MUST_CHECK int hth_tok__bpe_open(struct hth_tokenizer *t,
                                     const struct hth_gguf *g,
                                     struct hth_err *err);
void hth_tok__bpe_close(struct hth_tok__bpe *b); /* fine on zeroes */

/* Append the ids of a text without special tokens. */
HTH_MUST_CHECK int hth_tok__bpe_text(struct hth_tok__run *r,
                                     const uint8_t *text, size_t n);
/* The same; a space is put in front if the tokenizer says so, as the text
 * always stands at the beginning or behind a special token. */
HTH_MUST_CHECK int hth_tok__spm_text(struct hth_tok__run *r,
                                     const uint8_t *text, size_t n);

/* Append one id to the run's output. */
HTH_MUST_CHECK int hth_tok__push(struct hth_tok__run *r, uint32_t id);

#endif
