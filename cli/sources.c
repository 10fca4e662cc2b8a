/* sources.c - HEARTH_* variables and config.ini. The file is small by decree
 * (HTH_CONFIG_BYTES_MAX) and read whole; a missing one is normal, one that
 * cannot be read is not. Unknown keys are errors, since a misspelt setting
 * that is silently ignored costs an evening. */
#include "cli/sources.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_SIZE 80u

void hth_opt_env_name(const char *name, char *dst, size_t dst_size)
{
    snprintf(dst, dst_size, "HEARTH_%s", name);
    for (char *p = dst; *p != '\0'; p++)
        *p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
}

static const char *environment_value(const char *const *environment,
                                     const char *name)
{
    size_t n = strlen(name);

    for (; *environment != NULL; environment++)
        if (strncmp(*environment, name, n) == 0 && (*environment)[n] == '=')
            return *environment + n + 1;
    return NULL;
}

int hth_sources_environment(struct hth_args *args,
                            const char *const *environment, struct hth_err *err)
{
    if (environment == NULL)
        return HTH_OK;
    for (const struct hth_opt *o = args->verb->opts; o->name != NULL; o++) {
        struct hth_opt_value *v = &args->values[o - args->verb->opts];
        char name[NAME_SIZE];
        const char *text;
        int rc;

        if (v->origin != HTH_ORIGIN_NONE || o->line_only)
            continue;
        hth_opt_env_name(o->name, name, sizeof name);
        text = environment_value(environment, name);
        if (text == NULL || *text == '\0')
            continue;
        rc = hth_opt_check(o, text, err);
        if (rc != HTH_OK)
            return hth_fail_prefix(err, rc, "%s in the environment", name);
        v->text[0] = text;
        v->count = 1;
        v->origin = HTH_ORIGIN_ENVIRONMENT;
    }
    return HTH_OK;
}

/* ---- config.ini ---------------------------------------------------------- */

struct config {
    struct hth_args *args;
    const char *path;
    unsigned line;
    const struct hth_verb *section;  /* NULL: before any section */
    bool from_section[HTH_OPTS_MAX]; /* rows this verb's section has set */
    struct hth_err *err;
};

static char *trim(char *s)
{
    char *end;

    while (isspace((unsigned char)*s))
        s++;
    end = s + strlen(s);
    while (end > s && isspace((unsigned char)end[-1]))
        end--;
    *end = '\0';
    return s;
}

static const struct hth_opt *find_key(const struct hth_verb *verb,
                                      const char *key)
{
    for (const struct hth_opt *o = verb->opts; o->name != NULL; o++)
        if (strcmp(o->name, key) == 0)
            return o;
    return NULL;
}

static bool key_of_any_verb(const char *key)
{
    for (const struct hth_verb *v = hth_verbs; v->name != NULL; v++)
        if (find_key(v, key) != NULL)
            return true;
    return false;
}

static int config_section(struct config *c, char *line)
{
    char *end = strchr(line, ']');

    if (end == NULL || end[1] != '\0')
        return hth_fail(c->err, HTH_EUSAGE, "%s:%u: a section is [verb]",
                        c->path, c->line);
    *end = '\0';
    line = trim(line + 1);
    c->section = hth_verb_find(line);
    if (c->section == NULL)
        return hth_fail(c->err, HTH_EUSAGE,
                        "%s:%u: [%.40s] is no verb of hearth", c->path, c->line,
                        line);
    return HTH_OK;
}

/* A key must belong to its section's verb, or, before any section, to some
 * verb: serve's "model" there is fine for a verb that has none. */
static int check_key(const struct config *c, const char *key)
{
    const char *near = NULL;

    if (c->section != NULL) {
        const struct hth_opt *o = find_key(c->section, key);

        if (o != NULL && o->line_only)
            return hth_fail(c->err, HTH_EUSAGE,
                            "%s:%u: --%s of %s belongs on the command line",
                            c->path, c->line, key, c->section->name);
        if (o != NULL)
            return HTH_OK;
        near = hth_closest_option(c->section, key);
    } else if (key_of_any_verb(key)) {
        return HTH_OK;
    }
    if (near != NULL)
        return hth_fail(c->err, HTH_EUSAGE,
                        "%s:%u: unknown key %.40s; did you mean %s?", c->path,
                        c->line, key, near);
    return hth_fail(c->err, HTH_EUSAGE, "%s:%u: unknown key %.40s", c->path,
                    c->line, key);
}

/* A section's values replace those given before any section; within one level
 * the last wins, or all add up where the row repeats. */
static int config_set(struct config *c, const struct hth_opt *o,
                      const char *text)
{
    size_t row = (size_t)(o - c->args->verb->opts);
    struct hth_opt_value *v = &c->args->values[row];
    bool own = c->section != NULL;
    int rc = hth_opt_check(o, text, c->err);

    if (rc != HTH_OK)
        return hth_fail_prefix(c->err, rc, "%s:%u: %s", c->path, c->line,
                               o->name);
    if (v->origin > HTH_ORIGIN_CONFIG || o->line_only)
        return HTH_OK;
    if (!o->repeats || c->from_section[row] != own)
        v->count = 0;
    if (v->count == HTH_OPT_REPEATS_MAX)
        return hth_fail(c->err, HTH_EUSAGE, "%s:%u: more than %u of %s",
                        c->path, c->line, HTH_OPT_REPEATS_MAX, o->name);
    v->text[v->count++] = text;
    v->origin = HTH_ORIGIN_CONFIG;
    c->from_section[row] = own;
    return HTH_OK;
}

static bool own_section(const struct config *c)
{
    return strcmp(c->section->name, c->args->verb->name) == 0;
}

static int config_line(struct config *c, char *line)
{
    const struct hth_opt *o;
    char *equals;
    char *key;
    int rc;

    line = trim(line);
    if (*line == '\0' || *line == '#' || *line == ';')
        return HTH_OK;
    if (*line == '[')
        return config_section(c, line);
    equals = strchr(line, '=');
    if (equals == NULL)
        return hth_fail(c->err, HTH_EUSAGE, "%s:%u: write key = value", c->path,
                        c->line);
    *equals = '\0';
    key = trim(line);
    rc = check_key(c, key);
    if (rc != HTH_OK || (c->section != NULL && !own_section(c)))
        return rc;
    o = find_key(c->args->verb, key);
    return o == NULL ? HTH_OK : config_set(c, o, trim(equals + 1));
}

int hth_sources_config_text(struct hth_args *args, char *text, const char *path,
                            struct hth_err *err)
{
    struct config c = {.args = args, .path = path, .err = err};
    int rc = HTH_OK;

    for (char *next = text; next != NULL && rc == HTH_OK;) {
        char *line = next;

        next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        c.line++;
        rc = config_line(&c, line);
    }
    return rc;
}

/* One read more than the bound, so that a file of exactly the bound is told
 * from a longer one. Text with NULs is no configuration. */
static int read_config(int fd, const char *path, char **out,
                       struct hth_err *err)
{
    char *text = malloc(HTH_CONFIG_BYTES_MAX + 1);
    size_t len = 0;
    ssize_t n;

    if (text == NULL)
        return hth_fail(err, HTH_ENOMEM, "%s: out of memory", path);
    do {
        n = read(fd, text + len, HTH_CONFIG_BYTES_MAX + 1 - len);
        len += n > 0 ? (size_t)n : 0;
    } while (n > 0 || (n < 0 && errno == EINTR));
    if (n < 0 || len > HTH_CONFIG_BYTES_MAX || memchr(text, 0, len) != NULL) {
        int why = errno;

        free(text);
        if (n < 0)
            return hth_fail(err, HTH_EIO, "read %s: %s", path, strerror(why));
        if (len > HTH_CONFIG_BYTES_MAX)
            return hth_fail(err, HTH_ELIMIT, "%s is longer than %u KiB", path,
                            HTH_CONFIG_BYTES_MAX >> 10);
        return hth_fail(err, HTH_EUSAGE, "%s is no text file", path);
    }
    text[len] = '\0';
    *out = text;
    return HTH_OK;
}

int hth_sources_config(struct hth_args *args,
                       const struct hth_opt_sources *from, struct hth_err *err)
{
    const char *path = from->config_path;
    int fd;
    int rc;

    if (path == NULL)
        return HTH_OK;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && !from->config_required &&
        (errno == ENOENT || errno == ENOTDIR))
        return HTH_OK;
    if (fd < 0)
        return hth_fail(err, HTH_EIO, "open %s: %s", path, strerror(errno));
    rc = read_config(fd, path, &args->config, err);
    close(fd);
    if (rc != HTH_OK)
        return rc;
    return hth_sources_config_text(args, args->config, path, err);
}
