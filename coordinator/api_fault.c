/* api_fault.c - what went wrong, in each dialect's words: one table from our
 * codes to HTTP status and type. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/api_internal.h"
#include "model/json_write.h"

static const struct row {
    const char *code;
    int http;
    const char *type;
    int retry_s; /* 0: trying again does not help */
} rows[] = {
    {"invalid_json", 400, "invalid_request_error", 0},
    {"invalid_value", 400, "invalid_request_error", 0},
    {"unsupported_parameter", 400, "invalid_request_error", 0},
    {"context_length_exceeded", 400, "invalid_request_error", 0},
    {"invalid_api_key", 401, "authentication_error", 0},
    {"origin_not_allowed", 403, "permission_error", 0},
    {"not_allowed", 403, "permission_error", 0},
    {"model_not_found", 404, "not_found_error", 0},
    {"not_found", 404, "not_found_error", 0},
    {"method_not_allowed", 405, "invalid_request_error", 0},
    {"queue_full", 429, "rate_limit_error", 1},
    {"internal_error", 500, "server_error", 0},
    {"not_implemented", 501, "not_supported_error", 0},
    {"loading_model", 503, "unavailable_error", 2},
    {"cluster_degraded", 503, "unavailable_error", 2},
    {"worker_lost", 503, "server_error", 2},
    {"deadline_exceeded", 504, "timeout_error", 0},
};

static const struct row *row_of(const char *code)
{
    size_t i;

    for (i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(rows[i].code, code) == 0)
            return &rows[i];
    HTH_ASSERT(false && "a code of the table");
}

int hth__api_fault(struct api_fault *f, const char *code, const char *param,
                   const char *fmt, ...)
{
    va_list args;

    f->http = row_of(code)->http;
    f->code = code;
    snprintf(f->param, sizeof f->param, "%s", param != NULL ? param : "");
    va_start(args, fmt);
    vsnprintf(f->text, sizeof f->text, fmt, args);
    va_end(args);
    return -1;
}

int hth__api_fault_from(struct api_fault *f, int status, const char *text)
{
    const char *code = "internal_error";

    if (text == NULL || text[0] == '\0')
        text = hth_status_text(status);
    switch (status) {
    case HTH_ENOMEM:
        break;
    case HTH_EINVAL:
    case HTH_EFORMAT:
    case HTH_ELIMIT:
        code = "invalid_value";
        break;
    case HTH_EUNSUPPORTED:
        code = "unsupported_parameter";
        break;
    case HTH_ENOTFOUND:
        code = "not_found";
        break;
    case HTH_EOVERFLOW:
        code = "context_length_exceeded";
        break;
    case HTH_EBUSY:
        code = "queue_full";
        break;
    case HTH_EUNREACHABLE:
    case HTH_ECANCELLED:
        code = "cluster_degraded";
        break;
    case HTH_EPEER:
    case HTH_EPROTO:
    case HTH_EIO:
        code = "worker_lost";
        break;
    case HTH_ETIMEDOUT:
        code = "deadline_exceeded";
        break;
    }
    return hth__api_fault(f, code, NULL, "%s", text);
}

/* ---- shapes ---------------------------------------------------------------
 */

static void put_openai(struct hth_buf *b, const struct api_fault *f)
{
    hth_put_printf(b, "{\"error\":{");
    hth_json_field(b, "message", f->text);
    hth_json_field(b, "type", row_of(f->code)->type);
    hth_json_key(b, "param");
    if (f->param[0] != '\0')
        hth_json_cstr(b, f->param);
    else
        hth_put_printf(b, "null");
    hth_json_field(b, "code", f->code);
    hth_put_printf(b, "}}");
}

/* Anthropic's own type names (docs.anthropic.com, errors). */
static const char *anthropic_type(const struct api_fault *f)
{
    switch (f->http) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 429:
        return "rate_limit_error";
    case 503:
        return "overloaded_error";
    default:
        return f->http < 500 ? "invalid_request_error" : "api_error";
    }
}

void hth__api_put_fault(struct hth_buf *b, enum api_shape shape,
                        const struct api_fault *f)
{
    if (shape == SHAPE_OPENAI) {
        put_openai(b, f);
    } else if (shape == SHAPE_OLLAMA) {
        hth_put_printf(b, "{");
        hth_json_field(b, "error", f->text);
        hth_put_printf(b, "}");
    } else {
        hth_put_printf(b, "{\"type\":\"error\",\"error\":{");
        hth_json_field(b, "type", anthropic_type(f));
        hth_json_field(b, "message", f->text);
        hth_put_printf(b, "}}");
    }
}

void hth__api_reply_fault(struct hth_http_exchange *x, enum api_shape shape,
                          const struct api_fault *f)
{
    int retry_s = row_of(f->code)->retry_s;
    struct hth_buf b;
    char text[16];

    if (retry_s > 0) {
        snprintf(text, sizeof text, "%d", retry_s);
        hth_http_add(x, "Retry-After", text);
    }
    if (f->http == 401)
        hth_http_add(x, "WWW-Authenticate", "Bearer");
    hth_buf_init(&b, 16384);
    hth__api_put_fault(&b, shape, f);
    hth_http_reply(x, f->http, "application/json", b.data, b.len);
    hth_buf_fini(&b);
}

void hth__api_reply_json(struct hth_http_exchange *x, struct hth_buf *b)
{
    struct api_fault f;

    if (b->failed) {
        hth__api_fault(&f, "internal_error", NULL,
                       "the answer grew beyond its bound");
        hth__api_reply_fault(x, SHAPE_OPENAI, &f);
    } else {
        hth_http_reply(x, 200, "application/json", b->data, b->len);
    }
    hth_buf_fini(b);
}
