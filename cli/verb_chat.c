/* verb_chat.c - a conversation in the terminal, with the running coordinator
 * of this machine or a model brought up for it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/answer.h"
#include "cli/chat.h"
#include "cli/local.h"
#include "cli/model_opts.h"
#include "cli/out.h"
#include "cli/paths.h"
#include "cli/signals.h"
#include "cli/verbs.h"

#define NAME_MAX_BYTES 128u

struct chat {
    struct hth_chat_state s;
    char dir[HTH_PATH_BYTES_MAX]; /* history and saved conversations; "" */
    struct hth_answer_end last;
    bool over;
};

/* ---- asking
 * ------------------------------------------------------------------ */

static int random_u64(uint64_t *out, struct hth_err *err)
{
    if (getrandom(out, sizeof *out, 0) != (ssize_t)sizeof *out)
        return hth_fail(err, HTH_EIO, "no random numbers: %s", strerror(errno));
    return HTH_OK;
}

/* One question and its answer. What was interrupted stays as far as it came;
 * a question that failed is forgotten, so that it can be asked again. */
static int ask(struct chat *c, const struct hth_buf *question,
               struct hth_err *err)
{
    struct hth_msg_submit *g = c->s.request;
    struct hth_answer_opts opts = {
        .wrap = true, .verbose = c->s.verbose, .last = &c->last};
    struct hth_buf body, answer;
    int rc = hth_chat_talk_add(&c->s.talk, "user", question, err);

    if (rc != HTH_OK)
        return rc;
    hth_buf_init(&body, HTH_PROMPT_BYTES_MAX);
    hth_buf_init(&answer, HTH_PROMPT_BYTES_MAX);
    opts.keep = &answer;
    rc = hth_chat_talk_text(&c->s.talk, &body, err);
    if (rc == HTH_OK)
        rc = random_u64(&g->key, err);
    if (rc == HTH_OK && !c->s.seeded)
        rc = random_u64(&g->seed, err);
    if (rc == HTH_OK) {
        g->text.p = body.data;
        g->text.n = body.len;
        rc = hth_answer(c->s.client, g, &opts, err);
    }
    if (rc == HTH_OK || (rc == HTH_ECANCELLED && answer.len > 0))
        rc = hth_chat_talk_add(&c->s.talk, "assistant", &answer, err);
    else
        hth_chat_talk_drop(&c->s.talk);
    hth_buf_fini(&body);
    hth_buf_fini(&answer);
    return rc;
}

/* After a Ctrl-C that was meant for the answer, the next one counts anew. */
static bool rearm(void)
{
    int seen = hth_signal_seen;

    if (seen != SIGINT && seen != 0)
        return false;
    hth_signal_seen = 0;
    hth_signals_start();
    return true;
}

/* ---- commands
 * ---------------------------------------------------------------- */

static void help(void)
{
    fprintf(stderr,
            "/set            change a setting: parameter, system, format "
            "json...\n"
            "/show           parameters, system, messages, info\n"
            "/clear          begin a new conversation\n"
            "/nodes          the devices\n"
            "/stats          where the last answer's time went\n"
            "/save NAME      keep this conversation\n"
            "/load NAME      go on with one that was kept\n"
            "/bye            leave (also Ctrl-D)\n"
            "/?, /help       this list\n"
            "\"\"\" begins and ends a text of several lines; Ctrl-C "
            "stops an answer; Ctrl-G opens $VISUAL or $EDITOR.\n");
}

/* A name becomes a file beside the history; a path is a path. */
static bool file_of(const struct chat *c, const char *name, char *path,
                    size_t size)
{
    int n;

    if (*name == '\0' || strlen(name) > NAME_MAX_BYTES) {
        fprintf(stderr, "A name is missing, or too long.\n");
        return false;
    }
    if (strchr(name, '/') != NULL || c->dir[0] == '\0')
        n = snprintf(path, size, "%s", name);
    else
        n = snprintf(path, size, "%s/%s.json", c->dir, name);
    return n > 0 && (size_t)n < size;
}

static void save_or_load(struct chat *c, const char *name, bool save)
{
    char path[HTH_PATH_BYTES_MAX + NAME_MAX_BYTES + 8];
    struct hth_err err;
    int rc;

    if (!file_of(c, name, path, sizeof path))
        return;
    rc = save ? hth_chat_talk_save(&c->s.talk, path, &err)
              : hth_chat_talk_load(&c->s.talk, path, &err);
    if (rc != HTH_OK)
        fprintf(stderr, "%s\n", err.text);
    else
        fprintf(stderr, "%s %s.\n", save ? "Saved to" : "Loaded", path);
}

/* The text behind a command's word, or NULL where it is another command. */
static const char *behind(const char *line, const char *command)
{
    size_t n = strlen(command);

    if (strncmp(line, command, n) != 0 ||
        (line[n] != '\0' && line[n] != ' ' && line[n] != '\t'))
        return NULL;
    return line + n + strspn(line + n, " \t");
}

static void show_stats(const struct chat *c)
{
    if (c->last.came)
        hth_answer_statistics(&c->last);
    else
        fprintf(stderr, "There is no answer yet.\n");
}

static void command(struct chat *c, const char *line)
{
    const char *rest;

    if (behind(line, "/bye") != NULL || behind(line, "/exit") != NULL)
        c->over = true;
    else if ((rest = behind(line, "/set")) != NULL)
        hth_chat_set(&c->s, rest);
    else if ((rest = behind(line, "/show")) != NULL)
        hth_chat_show(&c->s, rest);
    else if ((rest = behind(line, "/save")) != NULL)
        save_or_load(c, rest, true);
    else if ((rest = behind(line, "/load")) != NULL)
        save_or_load(c, rest, false);
    else if (behind(line, "/nodes") != NULL)
        hth_chat_nodes(c->s.client);
    else if (behind(line, "/stats") != NULL)
        show_stats(c);
    else if (behind(line, "/clear") != NULL) {
        hth_chat_talk_clear(&c->s.talk);
        fprintf(stderr, "A new conversation.\n");
    } else {
        if (behind(line, "/?") == NULL && behind(line, "/help") == NULL)
            fprintf(stderr, "Unknown command %.40s.\n", line);
        help();
    }
}

/* ---- the loop
 * ---------------------------------------------------------------- */

/* Errors of a request are told and the conversation goes on; without the
 * coordinator there is nothing to go on with. */
static int entry(struct chat *c, const struct hth_buf *text,
                 struct hth_err *err)
{
    int rc;

    if (text->len == 0)
        return HTH_OK;
    if (text->data[0] == '/') {
        char line[4096];

        snprintf(line, sizeof line, "%.*s", (int)text->len,
                 (const char *)text->data);
        command(c, line);
        return HTH_OK;
    }
    rc = ask(c, text, err);
    if (rc == HTH_ECANCELLED)
        return rearm() ? HTH_OK : rc;
    if (rc == HTH_OK || rc == HTH_EUNREACHABLE || rc == HTH_EIO)
        return rc;
    fprintf(stderr, "%s\n", err->text);
    return HTH_OK;
}

static int talk(struct chat *c, struct hth_err *err)
{
    struct hth_buf text;
    bool again = false; /* the last thing that came was a Ctrl-C */
    int rc = HTH_OK;

    hth_buf_init(&text, HTH_PROMPT_BYTES_MAX);
    while (rc == HTH_OK && !c->over) {
        switch (hth_chat_read(c->s.lines, &text)) {
        case HTH_CHAT_LINE:
            again = false;
            rc = entry(c, &text, err);
            break;
        case HTH_CHAT_INTERRUPT:
            if (again || !rearm())
                rc = hth_fail_interrupted(err);
            else
                fprintf(stderr, "\nCtrl-C again, Ctrl-D or /bye leaves.\n");
            again = true;
            break;
        default:
            c->over = true;
        }
    }
    hth_buf_fini(&text);
    return rc;
}

/* ---- setting up
 * -------------------------------------------------------------- */

/* The folder is a comfort: without it nothing is remembered. */
static void find_dir(struct chat *c)
{
    struct hth_err err;
    char *slash;

    if (hth_path_state("chat", c->dir, sizeof c->dir, &err) != HTH_OK) {
        c->dir[0] = '\0';
        return;
    }
    for (slash = strchr(c->dir + 1, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)!mkdir(c->dir, 0700);
        *slash = '/';
    }
    if (mkdir(c->dir, 0700) != 0 && errno != EEXIST)
        c->dir[0] = '\0';
}

static int open_lines(struct chat *c, struct hth_err *err)
{
    char path[HTH_PATH_BYTES_MAX + 16];

    find_dir(c);
    snprintf(path, sizeof path, "%s/history", c->dir);
    return hth_chat_lines_open(&c->s.lines, c->dir[0] != '\0' ? path : NULL,
                               err);
}

static int open_talk(struct chat *c, const struct hth_args *args,
                     struct hth_err *err)
{
    struct hth_msg_submit *g = c->s.request;
    int64_t seed = hth_args_int(args, "seed");
    int rc;

    hth_msg_submit_init(g);
    g->chat = true;
    g->tokens_max = (uint32_t)hth_args_int(args, "max-tokens");
    g->temperature = (float)hth_args_float(args, "temp");
    g->seed = (uint64_t)seed;
    c->s.seeded = seed >= 0;
    c->s.verbose = hth_args_flag(args, "verbose");
    rc = hth_chat_talk_init(&c->s.talk, err);
    if (rc == HTH_OK && hth_args_text(args, "system") != NULL)
        rc = hth_chat_talk_system(&c->s.talk, hth_args_text(args, "system"),
                                  err);
    return rc == HTH_OK ? open_lines(c, err) : rc;
}

static int with_client(struct chat *c, const struct hth_client_opts *where,
                       struct hth_err *err)
{
    int rc = hth_client_open(&c->s.client, where, err);

    if (rc != HTH_OK)
        return rc;
    if (isatty(STDIN_FILENO) == 1)
        fprintf(stderr, "/? lists the commands.\n");
    rc = talk(c, err);
    hth_client_close(c->s.client);
    return rc;
}

static int chat_here(struct chat *c, const struct hth_args *args,
                     struct hth_err *err)
{
    struct hth_client_opts where = {0};
    struct hth_local_opts opts;
    struct hth_local *local;
    int rc = hth_local_options(args, &opts, err);

    if (rc != HTH_OK)
        return rc;
    opts.ctx = (uint32_t)hth_args_int(args, "ctx");
    hth_local_loras(args, &opts);
    rc = hth_local_open(&local, &opts, err);
    if (rc != HTH_OK)
        return rc;
    where.url = hth_cluster_url(hth_local_cluster(local));
    rc = with_client(c, &where, err);
    hth_local_close(local);
    return rc;
}

static int chat_there(struct chat *c, const struct hth_args *args,
                      struct hth_err *err)
{
    char state[HTH_PATH_BYTES_MAX];
    struct hth_client_opts where = {0};
    int rc = hth_lora_names(args, c->s.request, err);

    if (rc == HTH_OK)
        rc =
            hth_state_option(args, "coordinator", state, &where.state_dir, err);
    return rc == HTH_OK ? with_client(c, &where, err) : rc;
}

int hth_verb_chat(const struct hth_args *args, struct hth_err *err)
{
    struct chat c = {.over = false};
    int rc;

    c.s.request = calloc(1, sizeof *c.s.request);
    if (c.s.request == NULL)
        return hth_fail(err, HTH_ENOMEM, "out of memory");
    hth_signals_start();
    hth_log_option(args);
    rc = open_talk(&c, args, err);
    if (rc == HTH_OK)
        rc = hth_args_text(args, "model") != NULL ? chat_here(&c, args, err)
                                                  : chat_there(&c, args, err);
    hth_chat_lines_close(c.s.lines);
    hth_chat_talk_fini(&c.s.talk);
    free(c.s.request);
    return rc;
}
