/* chat_internal.h - what the files of chat templates share.
 *
 * chat.c        a model's template: open, render, tokenize
 * chat_input.c  a conversation as this template wants it
 * chat_parse.c  an answer's text to content, reasoning, calls
 * chat_call.c   the text of a call to its name and arguments
 * chat_python.c the same of calls written as Python
 * chat_grammar.c  calls, or reasoning before an answer, as a grammar
 *
 * Not for other modules. */
#ifndef HTH_MODEL_CHAT_INTERNAL_H
#define HTH_MODEL_CHAT_INTERNAL_H

#include "base/limits.h"
#include "model/chat.h"
#include "model/jinja.h"

/* How the body between the markers of a call is written. */
enum hth_chat__body {
    HTH_CALL_JSON,    /* {"name": ..., "arguments": {...}}, or a list of them */
    HTH_CALL_NAMED,   /* name, separator, {...} */
    HTH_CALL_XML,     /* <function=name><parameter=key>value</parameter>... */
    HTH_CALL_GLM,     /* name <arg_key>key</arg_key><arg_value>value</...> */
    HTH_CALL_PYTHON,  /* [name(key="value"), ...] */
    HTH_CALL_HARMONY, /* the name is in the message's head */
};

/* One way of writing calls; a row of the table in chat_call.c. */
struct hth_chat__family {
    const char *needle; /* in the template's text */
    const char *open;   /* NULL: the whole answer is the call */
    const char *close;  /* NULL: to the next open, or the end */
    const char *separator;
    enum hth_chat__body body;
};

struct hth_chat {
    struct hth_jinja *jinja;
    char *source;
    char *bos, *eos; /* "" where there is none */
    char problem[HTH_ERR_TEXT_MAX];
    const struct hth_chat__family *family;
    const char *think_open, *think_close;
    bool tools, reasoning;
    /* What the template needs of a conversation, found out by trying. */
    bool wants_parts;     /* contents are lists of parts */
    bool wants_text_args; /* arguments of calls are text */
    bool no_system;       /* refuses a system message */
    bool knows_developer; /* has that role itself */
};

/* A copy of the messages for this template; NULL and *status, err otherwise.
 * The caller decrefs it. */
json_t *hth_chat__messages(const struct hth_chat *c, const json_t *messages,
                           int *status, struct hth_err *err);

const struct hth_chat__family *hth_chat__family_of(const char *source);

/* A call found in an answer. */
struct hth_chat__call {
    char *name;      /* owned */
    char *arguments; /* owned; JSON text */
};
void hth_chat__call_fini(struct hth_chat__call *c);
/* Read the next call of body[n] from *at on and move *at behind it; false:
 * there is none (any more). */
bool hth_chat__next_call(const struct hth_chat__family *f, struct hth_str body,
                         size_t *at, struct hth_chat__call *out);
/* The same, for one call written as Python. */
bool hth_chat__next_python(struct hth_str body, size_t *at,
                           struct hth_chat__call *out);

#endif
