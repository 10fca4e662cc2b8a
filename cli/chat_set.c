/* chat_set.c - /set and /show of `hearth chat`. */
#include <stdio.h>
#include <string.h>

#include "cli/chat.h"
#include "cli/options.h"

#define WORD_MAX 64u

/* A number of the request that may be set by name. */
struct parameter {
    const char *name;
    float *f;
    uint32_t *n;
    double min, max;
};

#define PARAMETERS 9u

static void list_parameters(struct hth_msg_submit *r,
                            struct parameter out[PARAMETERS])
{
    const struct parameter all[PARAMETERS] = {
        {"temperature", &r->temperature, NULL, 0, 100},
        {"top_k", NULL, &r->top_k, 0, HTH_VOCAB_MAX},
        {"top_p", &r->top_p, NULL, 0, 1},
        {"min_p", &r->min_p, NULL, 0, 1},
        {"repeat_penalty", &r->repeat_penalty, NULL, 0.01, 100},
        {"repeat_last_n", NULL, &r->repeat_last_n, 0, HTH_CTX_MAX},
        {"frequency_penalty", &r->frequency_penalty, NULL, -100, 100},
        {"presence_penalty", &r->presence_penalty, NULL, -100, 100},
        {"num_predict", NULL, &r->tokens_max, 0, HTH_CTX_MAX},
    };

    memcpy(out, all, sizeof all);
}

/* The next word of *at into word[WORD_MAX]; *at then stands at what follows. */
static bool next_word(const char **at, char *word)
{
    size_t n;

    *at += strspn(*at, " \t");
    n = strcspn(*at, " \t");
    if (n == 0 || n >= WORD_MAX)
        return false;
    memcpy(word, *at, n);
    word[n] = '\0';
    *at += n;
    *at += strspn(*at, " \t");
    return true;
}

static void set_parameter(struct hth_chat_state *s, const char *words)
{
    struct parameter p[PARAMETERS];
    char name[WORD_MAX], value[WORD_MAX];
    double v;

    list_parameters(s->request, p);
    if (!next_word(&words, name) || !next_word(&words, value) ||
        hth_parse_float(value, &v) != HTH_OK) {
        fprintf(stderr, "Usage: /set parameter NAME NUMBER\n");
        return;
    }
    if (strcmp(name, "seed") == 0 && v >= 0 && v < 9e15) {
        s->request->seed = (uint64_t)v;
        s->seeded = true;
        fprintf(stderr, "Set seed to %.0f.\n", v);
        return;
    }
    for (size_t i = 0; i < PARAMETERS; i++) {
        if (strcmp(p[i].name, name) != 0)
            continue;
        if (!(v >= p[i].min && v <= p[i].max)) {
            fprintf(stderr, "%s goes from %g to %g.\n", name, p[i].min,
                    p[i].max);
            return;
        }
        if (p[i].f != NULL)
            *p[i].f = (float)v;
        else
            *p[i].n = (uint32_t)v;
        fprintf(stderr, "Set %s to %g.\n", name, v);
        return;
    }
    fprintf(stderr, "There is no parameter %s; /show parameters lists them.\n",
            name);
}

static void set_system(struct hth_chat_state *s, const char *text)
{
    char plain[4096];
    size_t n = strlen(text);
    struct hth_err err;

    /* Quotes around it are for the eye. */
    if (n >= 2 && text[0] == '"' && text[n - 1] == '"' && n < sizeof plain) {
        memcpy(plain, text + 1, n - 2);
        plain[n - 2] = '\0';
        text = plain;
    }
    if (hth_chat_talk_system(&s->talk, *text == '\0' ? NULL : text, &err) !=
        HTH_OK)
        fprintf(stderr, "%s\n", err.text);
    else
        fprintf(stderr, *text == '\0' ? "No system message.\n"
                                      : "Set the system message.\n");
}

static void set_format(struct hth_chat_state *s, const char *kind)
{
    if (strcmp(kind, "json") != 0) {
        fprintf(stderr, "Usage: /set format json\n");
        return;
    }
    s->talk.json = true;
    fprintf(stderr, "Answers are JSON objects; say so in the question too.\n");
}

void hth_chat_set(struct hth_chat_state *s, const char *words)
{
    char what[WORD_MAX] = "";

    (void)next_word(&words, what);
    if (strcmp(what, "parameter") == 0)
        set_parameter(s, words);
    else if (strcmp(what, "system") == 0)
        set_system(s, words);
    else if (strcmp(what, "verbose") == 0 || strcmp(what, "quiet") == 0)
        s->verbose = what[0] == 'v';
    else if (strcmp(what, "format") == 0)
        set_format(s, words);
    else if (strcmp(what, "noformat") == 0) {
        s->talk.json = false;
        fprintf(stderr, "Answers are free text.\n");
    } else if (strcmp(what, "history") == 0 || strcmp(what, "nohistory") == 0)
        hth_chat_lines_remember(s->lines, what[0] == 'h');
    else
        fprintf(stderr,
                "/set parameter NAME NUMBER   one of /show parameters, "
                "or seed\n"
                "/set system TEXT             the system message\n"
                "/set format json             answers are JSON objects\n"
                "/set noformat                answers are free text\n"
                "/set verbose, /set quiet     statistics or none\n"
                "/set history, /set nohistory remember lines or not\n");
}

static void show_parameters(const struct hth_chat_state *s)
{
    struct parameter p[PARAMETERS];

    list_parameters(s->request, p);
    for (size_t i = 0; i < PARAMETERS; i++)
        fprintf(stderr, "%-18s %g\n", p[i].name,
                p[i].f != NULL ? (double)*p[i].f : (double)*p[i].n);
    if (s->seeded)
        fprintf(stderr, "%-18s %llu\n", "seed",
                (unsigned long long)s->request->seed);
}

static void show_messages(const struct hth_chat_state *s)
{
    for (size_t i = 0; i < json_array_size(s->talk.messages); i++) {
        const json_t *m = json_array_get(s->talk.messages, i);
        const char *text = json_string_value(json_object_get(m, "content"));

        fprintf(stderr, "%s: %s\n",
                json_string_value(json_object_get(m, "role")),
                text != NULL ? text : "");
    }
}

void hth_chat_show(const struct hth_chat_state *s, const char *what)
{
    if (strcmp(what, "parameters") == 0)
        show_parameters(s);
    else if (strcmp(what, "system") == 0)
        fprintf(stderr, "%s\n",
                s->talk.system != NULL ? s->talk.system : "No system message.");
    else if (strcmp(what, "messages") == 0)
        show_messages(s);
    else if (strcmp(what, "info") == 0)
        hth_chat_info(s->client);
    else
        fprintf(stderr, "/show parameters   how answers are chosen\n"
                        "/show system       the system message\n"
                        "/show messages     what was said so far\n"
                        "/show info         the model and where it runs\n");
}
