/* api.c - opening the service, and what happens to every request before its
 * route: origin, key, path, method. */
#include "coordinator/api.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/api_internal.h"
#include "coordinator/http_access.h"

#define PREFLIGHT_S "86400"

/* ---- origins --------------------------------------------------------------
 */

/* Browsers ask before they send; they are answered without a key, since they
 * send none. */
static bool cross_origin(struct hth_api *a, struct hth_http_exchange *x)
{
    struct hth_texts listed = {a->o.origins, a->o.origin_count};
    const char *origin = hth_http_header(x, "origin");
    const char *host = hth_http_header(x, "host");
    size_t n = host != NULL ? strlen(host) : 0, o;

    if (origin == NULL)
        return true;
    hth_http_add(x, "Vary", "Origin");
    o = strlen(origin); /* our own page: scheme://host of this very request */
    if (n > 0 && o > n + 3 && strcmp(origin + o - n, host) == 0 &&
        strncmp(origin + o - n - 3, "://", 3) == 0)
        return true;
    if (!hth_access_origin(&listed, origin))
        return false;
    hth_http_add(x, "Access-Control-Allow-Origin", origin);
    hth_http_add(x, "Access-Control-Expose-Headers",
                 "X-Request-Id, Retry-After");
    return true;
}

static void preflight(struct hth_http_exchange *x, bool allowed)
{
    const char *headers = hth_http_header(x, "access-control-request-headers");

    if (allowed) {
        hth_http_add(x, "Access-Control-Allow-Methods",
                     "GET, POST, DELETE, OPTIONS");
        hth_http_add(x, "Access-Control-Allow-Headers",
                     headers != NULL ? headers : "Authorization, Content-Type");
        hth_http_add(x, "Access-Control-Max-Age", PREFLIGHT_S);
    }
    hth_http_reply(x, 204, NULL, NULL, 0);
}

/* ---- keys -----------------------------------------------------------------
 */

static bool may_ask(struct hth_api *a, struct hth_http_exchange *x)
{
    struct hth_texts keys = {a->o.keys, a->o.key_count};
    const char *given = hth_access_bearer(hth_http_header(x, "authorization"));

    if (keys.count == 0)
        return true;
    if (given == NULL)
        given = hth_http_header(x, "x-api-key");
    return hth_access_key(&keys, given);
}

/* A page on a name that was pointed at our loopback address must not reach
 * what only this machine may reach. */
static bool host_fits(struct hth_api *a, struct hth_http_exchange *x)
{
    const char *bind = a->o.bind != NULL ? a->o.bind : "127.0.0.1";
    const char *host = hth_http_header(x, "host");

    return host == NULL || strncmp(bind, "127.", 4) != 0 ||
           hth_access_loopback(host);
}

/* ---- routes ---------------------------------------------------------------
 */

static bool path_fits(const struct api_route *r, const char *path)
{
    size_t n = strlen(r->path);

    if (r->path[n - 1] == '*')
        return strncmp(r->path, path, n - 1) == 0;
    return strcmp(r->path, path) == 0;
}

static bool method_fits(const struct api_route *r, const char *method)
{
    return strcmp(r->method, method) == 0 ||
           (strcmp(method, "HEAD") == 0 && strcmp(r->method, "GET") == 0);
}

/* *other: a route of this path with another method. */
static const struct api_route *find(const char *method, const char *path,
                                    const struct api_route **other)
{
    const struct api_route *r;
    uint32_t i, n;

    *other = NULL;
    r = hth__api_routes(&n);
    for (i = 0; i < n; i++) {
        if (!path_fits(&r[i], path))
            continue;
        if (method_fits(&r[i], method))
            return &r[i];
        *other = &r[i];
    }
    return NULL;
}

static void refuse(struct hth_http_exchange *x, enum api_shape shape,
                   const struct api_fault *f)
{
    hth__api_reply_fault(x, shape, f);
}

static void no_route(struct hth_http_exchange *x, const struct api_route *other)
{
    struct api_fault f;

    if (other != NULL) {
        hth_http_add(x, "Allow", other->method);
        hth__api_fault(&f, "method_not_allowed", NULL, "%s takes %s, not %s",
                       other->path, other->method, hth_http_method(x));
    } else {
        hth__api_fault(&f, "not_found", NULL, "there is nothing at %.200s",
                       hth_http_path(x));
    }
    refuse(x, other != NULL ? other->shape : SHAPE_OPENAI, &f);
}

static void serve(struct hth_api *a, struct hth_http_exchange *x,
                  const struct api_route *r)
{
    struct api_fault f;

    if (!r->open && !may_ask(a, x)) {
        hth__api_fault(&f, "invalid_api_key", NULL,
                       "a valid API key is needed: send it as "
                       "\"Authorization: Bearer KEY\" or \"X-Api-Key\"");
        refuse(x, r->shape, &f);
    } else if (r->dialect != NULL && a->o.tokenizer == NULL) {
        hth__api_fault(&f, "not_implemented", NULL,
                       "this model file has no tokenizer that hearth can "
                       "read, so it takes no prompts");
        refuse(x, r->shape, &f);
    } else if (r->dialect != NULL) {
        hth__api_call(a, x, r->dialect);
    } else {
        r->serve(a, x);
    }
}

static void on_request(void *ctx, struct hth_http_exchange *x)
{
    const char *method = hth_http_method(x), *path = hth_http_path(x);
    bool options = strcmp(method, "OPTIONS") == 0;
    bool allowed = cross_origin(ctx, x);
    const struct api_route *r, *other;
    struct api_fault f;

    if (options) {
        preflight(x, allowed);
        return;
    }
    r = find(method, path, &other);
    if (!host_fits(ctx, x) || (!allowed && strcmp(method, "GET") != 0 &&
                               strcmp(method, "HEAD") != 0)) {
        hth__api_fault(&f, "origin_not_allowed", NULL,
                       "pages of this origin may not ask here; name it with "
                       "--cors-origin");
        refuse(x, r != NULL ? r->shape : SHAPE_OPENAI, &f);
    } else if (r == NULL) {
        no_route(x, other);
    } else {
        serve(ctx, x, r);
    }
}

/* ---- the service ----------------------------------------------------------
 */

static void on_wake(void *ctx)
{
    hth__api_calls_take(ctx);
}

static void on_tick(void *ctx, uint64_t now_ms)
{
    hth__api_calls_tick(ctx, now_ms);
    hth__api_watches_tick(ctx, now_ms);
}

static int open_chat(struct hth_api *a, struct hth_err *err)
{
    struct hth_chat_opts o = {.gguf = a->o.gguf, .tokenizer = a->o.tokenizer};

    return hth_chat_open(&a->chat, &o, err);
}

int hth_api_open(struct hth_api **out, const struct hth_api_opts *opts,
                 struct hth_err *err)
{
    struct hth_api *a = calloc(1, sizeof *a);
    struct hth_http_opts o = {.bind = opts->bind,
                              .port = opts->port,
                              .tls_cert_path = opts->tls_cert_path,
                              .tls_key_path = opts->tls_key_path,
                              .on_request = on_request,
                              .on_wake = on_wake,
                              .on_tick = on_tick,
                              .ctx = a};
    uint64_t seed = 0;
    int status;

    if (a == NULL)
        return hth_fail(err, HTH_ENOMEM, "http: out of memory");
    a->o = *opts;
    pthread_mutex_init(&a->gate, NULL);
    pthread_mutex_init(&a->strange.lock, NULL);
    a->started_s = (int64_t)time(NULL);
    a->started_ms = hth_now_ms();
    (void)!getrandom(&seed, sizeof seed, 0);
    hth_rng_init(&a->rng, seed);
    status = open_chat(a, err);
    if (status == HTH_OK)
        status = hth_http_open(&a->http, &o, err);
    if (status != HTH_OK) {
        hth_chat_close(a->chat);
        free(a);
        return status;
    }
    *out = a;
    return HTH_OK;
}

void hth_api_quiet(struct hth_api *a)
{
    if (a == NULL)
        return;
    hth_http_quiet(a->http);
    pthread_mutex_lock(&a->gate);
    a->closing = true;
    pthread_mutex_unlock(&a->gate);
}

void hth_api_close(struct hth_api *a)
{
    if (a == NULL)
        return;
    hth_http_close(a->http);
    pthread_mutex_destroy(&a->strange.lock);
    pthread_mutex_destroy(&a->gate);
    hth_chat_close(a->chat);
    free(a);
}

uint16_t hth_api_port(const struct hth_api *a)
{
    return hth_http_port(a->http);
}

void hth_api_delivered(struct hth_api *a)
{
    hth_http_wake(a->http);
}
