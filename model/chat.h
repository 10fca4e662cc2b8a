/* chat.h - messages to a prompt, and an answer's text back to its parts.
 *
 * A model file carries a chat template (Jinja). hth_chat_open() compiles it;
 * where it has none, or one that cannot be compiled, ChatML stands in, which
 * hth_chat_problem() explains and the log says once. A compiled template is
 * immutable and may be used by many threads.
 *
 * Rendering marks every byte of the prompt that came from the caller (message
 * contents, names, tools): such bytes never become control tokens, whatever
 * they spell. hth_chat_tokenize() honours the marks and puts the model's BOS
 * in front exactly once, also where the template writes it itself.
 *
 * JSON values are jansson's, borrowed for the call, never changed. */
#ifndef HTH_MODEL_CHAT_H
#define HTH_MODEL_CHAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/cursor.h"
#include "base/status.h"
#include "model/constraint.h"
#include "model/gguf.h"
#include "model/tokenizer.h"

struct hth_chat;

struct hth_chat_opts {
    const struct hth_gguf *gguf;           /* NULL: source must be given */
    const struct hth_tokenizer *tokenizer; /* NULL: no BOS, no EOS text */
    struct hth_str source;                 /* wins over the file's; p NULL:
                                            * take the file's */
    bool strict; /* a template that does not compile is an error */
    bool quiet;  /* the caller says hth_chat_problem() where it matters */
};

/* Everything is copied; gguf and tokenizer may go afterwards. Errors:
 * HTH_ENOMEM; with strict HTH_EFORMAT and the template's line, HTH_ELIMIT. */
HTH_MUST_CHECK int hth_chat_open(struct hth_chat **out,
                                 const struct hth_chat_opts *o,
                                 struct hth_err *err);
void hth_chat_close(struct hth_chat *c); /* NULL is fine */

/* The template in use, and why it is not the file's ("": it is). */
const char *hth_chat_source(const struct hth_chat *c);
const char *hth_chat_problem(const struct hth_chat *c);
/* Does the template look at tools; does the model think aloud first. */
bool hth_chat_has_tools(const struct hth_chat *c);
bool hth_chat_has_reasoning(const struct hth_chat *c);

struct hth_chat_input {
    const json_t *messages; /* array of objects with a role */
    const json_t *tools;    /* array, or NULL */
    const json_t *kwargs;   /* object (chat_template_kwargs), or NULL */
    bool generate;          /* end with the beginning of an answer */
    int64_t now_s;          /* what strftime_now shows, as local time broken
                             * down like UTC; 0: the clock, local time */
};

struct hth_chat_prompt {
    struct hth_buf text;
    struct hth_buf plain; /* [text.len]; 1: came from the caller */
    bool reasoning;       /* the answer begins inside its reasoning */
};

void hth_chat_prompt_init(struct hth_chat_prompt *p);
void hth_chat_prompt_fini(struct hth_chat_prompt *p); /* fine on zeroes */

/* Render. Message contents that are arrays of text parts are joined where the
 * template wants a string. Errors: HTH_EUNSUPPORTED (a part that is no text);
 * HTH_EINVAL with the template's own sentence
 * (raise_exception) or the message that is no object; HTH_EFORMAT (the
 * template fails, with its line); HTH_ELIMIT (steps, depth, size). */
HTH_MUST_CHECK int hth_chat_render(const struct hth_chat *c,
                                   const struct hth_chat_input *in,
                                   struct hth_chat_prompt *out,
                                   struct hth_err *err);

/* Append the prompt's ids, BOS included where the model wants one. */
HTH_MUST_CHECK int hth_chat_tokenize(const struct hth_tokenizer *t,
                                     const struct hth_chat_prompt *p,
                                     struct hth_tokens *out,
                                     struct hth_err *err);

/* ---- the answer ---------------------------------------------------------- */

enum hth_chat_part {
    HTH_CHAT_CONTENT,   /* text the user sees */
    HTH_CHAT_REASONING, /* text of the thinking before it */
    HTH_CHAT_TOOL,      /* one whole call: name and arguments (JSON text) */
};

struct hth_chat_piece {
    enum hth_chat_part part;
    struct hth_str text; /* content, reasoning, or a call's arguments */
    struct hth_str name; /* of the tool */
    uint32_t index;      /* of the call, from 0 */
};

/* Pieces come in order; text is borrowed for the call. */
typedef void (*hth_chat_sink)(void *ctx, const struct hth_chat_piece *piece);

struct hth_chat_parser;

struct hth_chat_parser_opts {
    bool tools;           /* the request had tools: look for calls */
    bool reasoning;       /* hth_chat_prompt.reasoning */
    bool split_reasoning; /* tell it apart from the content */
    hth_chat_sink sink;
    void *ctx;
};

/* One answer, one thread. The text pushed must spell control tokens out
 * (hth_detok_push() with special set): some families mark calls with them. */
HTH_MUST_CHECK int hth_chat_parser_open(struct hth_chat_parser **out,
                                        const struct hth_chat *c,
                                        const struct hth_chat_parser_opts *o);
void hth_chat_parser_close(struct hth_chat_parser *p); /* NULL is fine */
/* Text in any pieces; what may still become a marker is held back. HTH_ELIMIT:
 * a call longer than HTH_TOOL_CALL_BYTES_MAX. */
HTH_MUST_CHECK int hth_chat_parser_push(struct hth_chat_parser *p,
                                        const char *text, size_t n);
/* The answer is over: what was held back comes out. A call that never ended,
 * or whose arguments are no JSON, comes out as content. */
void hth_chat_parser_finish(struct hth_chat_parser *p);
/* Calls delivered so far: finish_reason is "tool_calls" where it is not 0. */
uint32_t hth_chat_parser_calls(const struct hth_chat_parser *p);

/* A grammar (GBNF) of answers that are tool calls as this model writes them,
 * for tool_choice "required" (only NULL) or one function. many: more than one
 * call may follow. HTH_EUNSUPPORTED: a keyword of a parameter's schema, named;
 * HTH_ENOTFOUND: no such function. */
struct hth_chat_choice {
    const json_t *tools;
    const char *only; /* a function's name, or NULL */
    bool many;
};
HTH_MUST_CHECK int hth_chat_tool_grammar(const struct hth_chat *c,
                                         const struct hth_chat_choice *choice,
                                         struct hth_buf *out,
                                         struct hth_err *err);

/* For a prompt that ends inside the reasoning (hth_chat_prompt.reasoning):
 * the grammar's texts now follow the end of the reasoning, which may be any
 * text without the closing mark's beginning. gbnf: text with a rule "root" on
 * a line of its own, changed in place. HTH_ELIMIT: it outgrew its bound. */
HTH_MUST_CHECK int hth_chat_reason_first(const struct hth_chat *c,
                                         struct hth_buf *gbnf);

/* A schema (NULL: any JSON object) as what an answer is held to, behind its
 * reasoning where the prompt ends inside it. *out is the caller's
 * (hth_grammar_close). Errors: those of hth_schema_to_gbnf(), HTH_ELIMIT. */
HTH_MUST_CHECK int hth_chat_open_schema(const struct hth_chat *c,
                                        const json_t *schema, bool reasoning,
                                        struct hth_grammar **out,
                                        struct hth_err *err);

#endif
