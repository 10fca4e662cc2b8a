/* tokenizer.h - text to token ids and back.
 *
 * Byte-level BPE (pre-tokenisers by PCRE2 with Unicode properties) and
 * SentencePiece-style (llama) with byte fallback, from a GGUF's tokenizer.*
 * keys. A tokenizer is immutable after open and may be used by many threads;
 * it copies what it needs from the GGUF. Text is bytes: invalid UTF-8 never
 * fails, it becomes byte tokens. */
#ifndef HTH_MODEL_TOKENIZER_H
#define HTH_MODEL_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"
#include "base/status.h"
#include "model/gguf.h"

struct hth_tokenizer;

/* HTH_EUNSUPPORTED names the tokenizer model or pre-tokeniser and those that
 * are supported; HTH_EFORMAT and HTH_ENOTFOUND name the key. */
HTH_MUST_CHECK int hth_tokenizer_open(struct hth_tokenizer **out,
                                      const struct hth_gguf *g,
                                      struct hth_err *err);
void hth_tokenizer_close(struct hth_tokenizer *t); /* NULL is fine */

#define HTH_TOKEN_NONE UINT32_MAX

uint32_t hth_tokenizer_vocab(const struct hth_tokenizer *t);
uint32_t hth_tokenizer_bos(const struct hth_tokenizer *t); /* or NONE */
uint32_t hth_tokenizer_eos(const struct hth_tokenizer *t); /* or NONE */
/* True for every token that ends a generation (eos, eot, eom...). */
bool hth_tokenizer_is_end(const struct hth_tokenizer *t, uint32_t id);
bool hth_tokenizer_is_special(const struct hth_tokenizer *t, uint32_t id);
/* Does the file ask for a BOS in front (add_bos_token, with the default of
 * its model type)? */
bool hth_tokenizer_adds_bos(const struct hth_tokenizer *t);

struct hth_tokens {
    uint32_t *ids; /* owned; hth_tokens_fini() */
    size_t count;
    size_t cap;
};
void hth_tokens_fini(struct hth_tokens *v);
HTH_MUST_CHECK int hth_tokens_push(struct hth_tokens *v, uint32_t id);

/* Append the ids of text. special: parse the texts of control tokens ("<s>",
 * "<|eot_id|>") as those tokens; otherwise they are plain text. BOS is never
 * added here: callers push it. Worst case O(n log n) in the text's length.
 * Errors: HTH_ELIMIT (HTH_TEXT_BYTES_MAX, HTH_WORD_BYTES_MAX), HTH_ENOMEM;
 * then *out is as it was. */
HTH_MUST_CHECK int hth_tokenize(const struct hth_tokenizer *t,
                                struct hth_str text, bool special,
                                struct hth_tokens *out, struct hth_err *err);

/* The same with control tokens parsed, but only out of bytes whose plain[i] is
 * 0: plain has text.n bytes. */
HTH_MUST_CHECK int hth_tokenize_marked(const struct hth_tokenizer *t,
                                       struct hth_str text,
                                       const uint8_t *plain,
                                       struct hth_tokens *out,
                                       struct hth_err *err);

/* Raw bytes of one token as it appears inside a text: may be part of a
 * character. Control tokens give their text if special, else nothing. Returns
 * the length written, at most size (a longer piece is cut); unknown ids give
 * 0. */
size_t hth_token_bytes(const struct hth_tokenizer *t, uint32_t id, bool special,
                       char *dst, size_t size);

/* Streaming detokenisation: push ids, get whole UTF-8 characters. Bytes that
 * may still become a character are held back (at most 3); bytes that cannot
 * are replaced by U+FFFD. The SentencePiece space in front of the very first
 * token is dropped when `first` starts true. */
struct hth_detok {
    uint8_t held[4];
    uint8_t held_count;
    bool first;
};
void hth_detok_init(struct hth_detok *d, bool at_start);
/* Append what is complete to out. */
void hth_detok_push(struct hth_detok *d, const struct hth_tokenizer *t,
                    uint32_t id, bool special, struct hth_buf *out);
/* The end: what is held back comes out as U+FFFD. */
void hth_detok_finish(struct hth_detok *d, struct hth_buf *out);

#endif
