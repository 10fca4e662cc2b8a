/* chat_line.c - entries from the terminal, by libedit; plain lines where the
 * input is no terminal. */
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <histedit.h>

#include "base/limits.h"
#include "cli/chat.h"
#include "cli/signals.h"

#define HISTORY_LINES 1000

struct hth_chat_lines {
    EditLine *edit; /* NULL: no terminal */
    History *history;
    char *path; /* owned; of the history, or NULL */
    bool remember;
    bool inside; /* between """ and """ */
    char *line;  /* of getline */
    size_t line_size;
};

static char *prompt(EditLine *e)
{
    static char outer[] = ">>> ", inner[] = "... ";
    struct hth_chat_lines *l = NULL;

    el_get(e, EL_CLIENTDATA, &l);
    return l != NULL && l->inside ? inner : outer;
}

/* The line becomes text, in which newlines stand as they are. */
static bool replace_line(EditLine *e, const char *text)
{
    const LineInfoW *w = el_wline(e);
    int n = (int)(w->lastchar - w->buffer);

    if (mbstowcs(NULL, text, 0) == (size_t)-1)
        return false;
    el_cursor(e, (int)(w->lastchar - w->cursor));
    if (n > 0)
        el_deletestr(e, n);
    return *text == '\0' || el_insertstr(e, text) == 0;
}

/* Ctrl-G: the entry in the user's editor. Ctrl-C there is the editor's, and the
 * line stays as it was where anything fails. */
static unsigned char edit(EditLine *e, int key)
{
    const LineInfo *line = el_line(e);
    struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
    struct hth_buf text;
    struct hth_err err;
    int rc;

    (void)key;
    hth_buf_init(&text, HTH_PROMPT_BYTES_MAX);
    if (line->lastchar > line->buffer)
        hth_put_bytes(&text, line->buffer,
                      (size_t)(line->lastchar - line->buffer));
    sigaction(SIGINT, &ignore, &before);
    el_set(e, EL_PREP_TERM, 0);
    rc = hth_chat_edit(&text, &err);
    el_set(e, EL_PREP_TERM, 1);
    sigaction(SIGINT, &before, NULL);
    if (rc == HTH_OK && !replace_line(e, hth_buf_cstr(&text)))
        rc = hth_fail(&err, HTH_EINVAL, "the text is not UTF-8");
    if (rc != HTH_OK)
        fprintf(stderr, "\n%s\n", err.text);
    hth_buf_fini(&text);
    return CC_REDISPLAY;
}

/* libedit drops what the locale cannot read, and everything here is UTF-8,
 * also where the user's locale is none or an old one. */
static void read_utf8(void)
{
    if (setlocale(LC_CTYPE, "") == NULL ||
        strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        (void)!setlocale(LC_CTYPE, "C.UTF-8");
}

static void open_editor(struct hth_chat_lines *l)
{
    HistEvent ev;

    read_utf8();
    l->edit = el_init("hearth", stdin, stderr, stderr);
    if (l->edit == NULL)
        return;
    el_set(l->edit, EL_CLIENTDATA, l);
    el_set(l->edit, EL_PROMPT, prompt);
    el_set(l->edit, EL_EDITOR, "emacs");
    el_set(l->edit, EL_SIGNAL, 0);
    el_set(l->edit, EL_ADDFN, "edit-entry", "the entry in an editor", edit);
    el_set(l->edit, EL_BIND, "^G", "edit-entry", NULL);
    l->history = history_init();
    if (l->history == NULL)
        return;
    history(l->history, &ev, H_SETSIZE, HISTORY_LINES);
    history(l->history, &ev, H_SETUNIQUE, 1);
    el_set(l->edit, EL_HIST, history, l->history);
    if (l->path != NULL)
        history(l->history, &ev, H_LOAD, l->path);
}

int hth_chat_lines_open(struct hth_chat_lines **out, const char *path,
                        struct hth_err *err)
{
    struct hth_chat_lines *l = calloc(1, sizeof *l);

    if (l != NULL && path != NULL) {
        l->path = strdup(path);
        if (l->path == NULL) {
            free(l);
            l = NULL;
        }
    }
    if (l == NULL)
        return hth_fail(err, HTH_ENOMEM, "out of memory");
    l->remember = true;
    if (isatty(STDIN_FILENO) == 1)
        open_editor(l);
    *out = l;
    return HTH_OK;
}

/* What was typed is nobody else's to read. */
static void save_history(struct hth_chat_lines *l)
{
    mode_t before = umask(077);
    HistEvent ev;

    history(l->history, &ev, H_SAVE, l->path);
    umask(before);
    (void)!chmod(l->path, 0600);
}

void hth_chat_lines_close(struct hth_chat_lines *l)
{
    if (l == NULL)
        return;
    if (l->history != NULL) {
        if (l->path != NULL && l->remember)
            save_history(l);
        history_end(l->history);
    }
    if (l->edit != NULL)
        el_end(l->edit);
    free(l->path);
    free(l->line);
    free(l);
}

void hth_chat_lines_remember(struct hth_chat_lines *l, bool yes)
{
    l->remember = yes;
}

/* One line with its newline; NULL: the end, or a signal. */
static const char *one_line(struct hth_chat_lines *l, size_t *n)
{
    int count = 0;
    ssize_t got;

    if (l->edit != NULL) {
        const char *text = el_gets(l->edit, &count);

        *n = count > 0 ? (size_t)count : 0;
        return *n > 0 ? text : NULL;
    }
    got = getline(&l->line, &l->line_size, stdin);
    *n = got > 0 ? (size_t)got : 0;
    return got > 0 ? l->line : NULL;
}

static void add_history(struct hth_chat_lines *l, const char *line)
{
    HistEvent ev;

    if (l->history != NULL && l->remember && !l->inside && line[0] != '\n')
        history(l->history, &ev, H_ENTER, line);
}

/* A signal while waiting for input. */
static enum hth_chat_read ended(struct hth_chat_lines *l)
{
    l->inside = false;
    if (!hth_interrupted())
        return HTH_CHAT_END;
    clearerr(stdin);
    if (l->edit != NULL)
        el_set(l->edit, EL_REFRESH);
    return HTH_CHAT_INTERRUPT;
}

static bool ends_block(const char *line, size_t n)
{
    return n >= 3 && memcmp(line + n - 3, "\"\"\"", 3) == 0;
}

enum hth_chat_read hth_chat_read(struct hth_chat_lines *l, struct hth_buf *text)
{
    hth_buf_reset(text);
    l->inside = false;
    for (;;) {
        size_t n, from = 0;
        const char *line = one_line(l, &n);
        bool opens;

        if (line == NULL)
            return l->edit == NULL && !hth_interrupted() && text->len > 0
                       ? HTH_CHAT_LINE
                       : ended(l);
        add_history(l, line);
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            n--;
        opens = !l->inside && n >= 3 && memcmp(line, "\"\"\"", 3) == 0;
        if (opens)
            from = 3;
        if ((l->inside || opens) && ends_block(line + from, n - from)) {
            hth_put_bytes(text, line + from, n - from - 3);
            return HTH_CHAT_LINE;
        }
        hth_put_bytes(text, line + from, n - from);
        if (!l->inside && !opens)
            return HTH_CHAT_LINE;
        l->inside = true;
        if (!opens || n > from)
            hth_put_u8(text, '\n');
    }
}
