/* chat.h - what the files of `hearth chat` share.
 *
 * chat_line.c   lines from the terminal: editing, history, """ blocks
 * chat_editor.c an entry in $VISUAL or $EDITOR
 * chat_talk.c   the conversation: messages, saving, loading
 * chat_set.c    /set and /show
 * chat_info.c   what the coordinator tells: /nodes, /show info
 * verb_chat.c   commands, and asking
 *
 * Main thread only. Answers go to standard output, all else to standard
 * error. */
#ifndef HTH_CLI_CHAT_H
#define HTH_CLI_CHAT_H

#include <stdbool.h>

#include <jansson.h>

#include "base/cursor.h"
#include "base/status.h"
#include "coordinator/client.h"
#include "net/message.h"

/* ---- lines -----------------------------------------------------------------
 */

struct hth_chat_lines;

/* Standard input: with editing and history where it is a terminal. history:
 * file kept from time to time, or NULL. */
HTH_MUST_CHECK int hth_chat_lines_open(struct hth_chat_lines **out,
                                       const char *history,
                                       struct hth_err *err);
void hth_chat_lines_close(struct hth_chat_lines *l); /* NULL is fine */
void hth_chat_lines_remember(struct hth_chat_lines *l, bool yes);

enum hth_chat_read {
    HTH_CHAT_LINE,      /* *text is an entry, without its last newline */
    HTH_CHAT_INTERRUPT, /* Ctrl-C: the entry is dropped */
    HTH_CHAT_END        /* Ctrl-D, or the input is over */
};
/* Read one entry: a line, or lines between """ and """. */
enum hth_chat_read hth_chat_read(struct hth_chat_lines *l,
                                 struct hth_buf *text);

/* Let the user's editor change text; waits until it is over. Errors: HTH_EIO
 * (no editor, or it failed), HTH_ELIMIT (longer than text->max); then text is
 * not what the user had. */
HTH_MUST_CHECK int hth_chat_edit(struct hth_buf *text, struct hth_err *err);

/* ---- the conversation
 * -------------------------------------------------------- */

struct hth_chat_talk {
    json_t *messages; /* owned */
    char *system;     /* owned, or NULL */
    bool json;        /* answers are JSON objects */
};

int hth_chat_talk_init(struct hth_chat_talk *t, struct hth_err *err);
void hth_chat_talk_fini(struct hth_chat_talk *t);
void hth_chat_talk_clear(struct hth_chat_talk *t);
/* NULL text takes the system message away. */
int hth_chat_talk_system(struct hth_chat_talk *t, const char *text,
                         struct hth_err *err);
int hth_chat_talk_add(struct hth_chat_talk *t, const char *role,
                      const struct hth_buf *text, struct hth_err *err);
/* Forget the last message: a question that got no answer. */
void hth_chat_talk_drop(struct hth_chat_talk *t);
/* All of it as a chat request's text (struct hth_msg_submit.chat). */
int hth_chat_talk_text(const struct hth_chat_talk *t, struct hth_buf *out,
                       struct hth_err *err);
int hth_chat_talk_save(const struct hth_chat_talk *t, const char *path,
                       struct hth_err *err);
int hth_chat_talk_load(struct hth_chat_talk *t, const char *path,
                       struct hth_err *err);

/* ---- settings
 * ---------------------------------------------------------------- */

struct hth_chat_state {
    struct hth_chat_talk talk;
    struct hth_msg_submit *request; /* its parameters are the settings */
    struct hth_chat_lines *lines;
    struct hth_client *client; /* borrowed */
    bool verbose;
    bool seeded; /* every answer with the same seed */
};

/* "/set ..." and "/show ..." behind their first word. Mistakes are told on
 * standard error, where the user is looking. */
void hth_chat_set(struct hth_chat_state *s, const char *words);
void hth_chat_show(const struct hth_chat_state *s, const char *what);

/* What the coordinator tells, for people. Each asks it once. */
void hth_chat_nodes(struct hth_client *client);
void hth_chat_info(struct hth_client *client);

#endif
