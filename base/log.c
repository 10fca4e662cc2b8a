/* log.c - log lines to stderr or a sink. A failed write is dropped: logging
 * never fails its caller. */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LINE_MAX_BYTES 1024u

static struct {
    pthread_mutex_t lock;
    char role[96];
    enum hth_log_level level;
    hth_log_sink sink;
    void *sink_ctx;
} g_log = {.lock = PTHREAD_MUTEX_INITIALIZER,
           .role = "hearth",
           .level = HTH_LOG_NOTICE};

void hth_log_set_role(const char *role)
{
    pthread_mutex_lock(&g_log.lock);
    snprintf(g_log.role, sizeof g_log.role, "%s", role);
    pthread_mutex_unlock(&g_log.lock);
}

void hth_log_set_level(enum hth_log_level level)
{
    pthread_mutex_lock(&g_log.lock);
    g_log.level = level;
    pthread_mutex_unlock(&g_log.lock);
}

int hth_log_level_parse(const char *text, enum hth_log_level *out)
{
    static const char *const names[] = {"error", "warn", "notice", "info",
                                        "debug"};

    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = (enum hth_log_level)i;
            return HTH_OK;
        }
    }
    return HTH_EINVAL;
}

void hth_log_set_sink(hth_log_sink sink, void *ctx)
{
    pthread_mutex_lock(&g_log.lock);
    g_log.sink = sink;
    g_log.sink_ctx = ctx;
    pthread_mutex_unlock(&g_log.lock);
}

static size_t format_stamp(char *dst, size_t size, enum hth_log_level level)
{
    struct timespec now;
    struct tm tm;
    size_t n;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    n = strftime(dst, size, "%Y-%m-%dT%H:%M:%S", &tm);
    n += (size_t)snprintf(dst + n, size - n, ".%03ldZ %c %s ",
                          now.tv_nsec / 1000000L, "EWNID"[level], g_log.role);
    return n;
}

/* Bytes below space come from the world (names, paths, peers' texts): they
 * must not be able to forge a second line or drive a terminal. */
static void blank_controls(char *s)
{
    for (; *s != '\0'; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            *s = ' ';
}

void hth_log(enum hth_log_level level, const char *id, const char *fmt, ...)
{
    char line[LINE_MAX_BYTES];
    va_list ap;
    size_t n;

    pthread_mutex_lock(&g_log.lock);
    if (level <= g_log.level) {
        n = format_stamp(line, sizeof line, level);
        n += (size_t)snprintf(line + n, sizeof line - n, "%s ", id);
        if (n < sizeof line) {
            va_start(ap, fmt);
            vsnprintf(line + n, sizeof line - n, fmt, ap);
            va_end(ap);
        }
        blank_controls(line);
        if (g_log.sink != NULL)
            g_log.sink(g_log.sink_ctx, level, line);
        else
            fprintf(stderr, "%s\n", line);
    }
    pthread_mutex_unlock(&g_log.lock);
}
