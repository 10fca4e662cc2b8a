/* status.c - code names and error sentences. Fails in no way of its own. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *hth_status_text(int status)
{
    switch (status) {
    case HTH_OK:
        return "ok";
#define X(name, code, text) \
    case code:              \
        return text;
        HTH_STATUS_MAP(X)
#undef X
    default:
        return "unknown status";
    }
}

const char *hth_status_name(int status)
{
    switch (status) {
    case HTH_OK:
        return "OK";
#define X(name, code, text) \
    case code:              \
        return #name;
        HTH_STATUS_MAP(X)
#undef X
    default:
        return "UNKNOWN";
    }
}

int hth_fail(struct hth_err *err, int status, const char *fmt, ...)
{
    va_list ap;

    if (err == NULL)
        return status;
    err->status = status;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    return status;
}

int hth_fail_prefix(struct hth_err *err, int status, const char *fmt, ...)
{
    char old[HTH_ERR_TEXT_MAX];
    va_list ap;
    int n;

    if (err == NULL)
        return status;
    memcpy(old, err->text, sizeof old);
    va_start(ap, fmt);
    n = vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof err->text)
        snprintf(err->text + n, sizeof err->text - (size_t)n, ": %.400s", old);
    err->status = status;
    return status;
}

void hth_assert_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "hearth: bug: %s is false at %s:%d\n", what, file, line);
    abort();
}
