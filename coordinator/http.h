/* http.h - an HTTP/1.1 server: requests in, answers and streams out.
 *
 * Owns: a loop thread, the listening socket and its connections. Every
 * connection, header, body, wait and output queue has a bound (base/limits.h,
 * HTTP); what exceeds it is answered with a 4xx or 5xx where that is still
 * possible, and costs nobody else anything. Keep-alive, pipelining, chunked
 * bodies both ways and Expect: 100-continue are done here (RFC 9110, 9112).
 * Refuses: to know what a path means. Bodies are handed over whole.
 *
 * Threads: open, close, wake and stop from any; all callbacks run on the loop
 * thread and must not block; every hth_http_ call on an exchange is made on
 * the loop thread. Failure: a connection that misbehaves is closed; the
 * server goes on. */
#ifndef HTH_COORDINATOR_HTTP_H
#define HTH_COORDINATOR_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "base/limits.h"
#include "base/status.h"

struct hth_http;

/* One request and its answer. From on_request on it belongs to the handler,
 * until hth_http_reply() or hth_http_end(), also when the client leaves: then
 * these only free it. */
struct hth_http_exchange;

struct hth_http_opts {
    const char *bind; /* address; NULL: 127.0.0.1 */
    uint16_t port;    /* 0: any free one, see hth_http_port() */
    const char *tls_cert_path, *tls_key_path; /* PEM; both or none */
    uint32_t connections_max;                 /* 0: HTH_HTTP_CONNECTIONS_MAX */
    /* Milliseconds; 0: those of base/limits.h. Tests shorten them. */
    uint32_t head_ms, body_ms, idle_ms, stall_ms;
    void (*on_request)(void *ctx, struct hth_http_exchange *x);
    /* After hth_http_wake(), at least once for any number of them. */
    void (*on_wake)(void *ctx);
    /* Ten times a second. May be NULL, as may on_wake. */
    void (*on_tick)(void *ctx, uint64_t now_ms);
    void *ctx;
};

/* Bind and start the thread. Errors: HTH_EBUSY (the port is in use), HTH_EIO,
 * HTH_EUSAGE (no address), HTH_EFORMAT (certificate or key; named),
 * HTH_ENOMEM. */
HTH_MUST_CHECK int hth_http_open(struct hth_http **out,
                                 const struct hth_http_opts *opts,
                                 struct hth_err *err);
/* Take no more connections and requests; streams go on. From any thread. */
void hth_http_quiet(struct hth_http *h);
/* Cut every connection (the handler hears of it by on_gone), wait until the
 * handler has ended its exchanges and uv work is done, join. NULL is fine. */
void hth_http_close(struct hth_http *h);
uint16_t hth_http_port(const struct hth_http *h);
bool hth_http_encrypted(const struct hth_http *h);
/* Have on_wake called soon. Cheap; wakes that come close together are one. */
void hth_http_wake(struct hth_http *h);
/* For uv_queue_work() in callbacks. */
uv_loop_t *hth_http_loop(struct hth_http *h);
uint32_t hth_http_connections(const struct hth_http *h); /* any thread */

/* ---- the request --------------------------------------------------------- */

const char *hth_http_method(const struct hth_http_exchange *x); /* "POST" */
/* Percent-decoded path, and the query as it came ("" without one). */
const char *hth_http_path(const struct hth_http_exchange *x);
const char *hth_http_query(const struct hth_http_exchange *x);
/* Value of a header, name in lower case; NULL without it. Of several with the
 * same name the first. */
const char *hth_http_header(const struct hth_http_exchange *x,
                            const char *name);
const char *hth_http_body(const struct hth_http_exchange *x, size_t *n);
const char *hth_http_peer(const struct hth_http_exchange *x); /* address */
const char *hth_http_id(const struct hth_http_exchange *x);

/* Called once when the client leaves (or is cut off) before the answer's end.
 * NULL fn takes it back. */
void hth_http_on_gone(struct hth_http_exchange *x, void (*fn)(void *ctx),
                      void *ctx);
bool hth_http_gone(const struct hth_http_exchange *x);

/* ---- the answer ---------------------------------------------------------- */

/* Add a header to the answer, before reply or start. Values with line breaks
 * are dropped. */
void hth_http_add(struct hth_http_exchange *x, const char *name,
                  const char *value);
/* The whole answer; frees the exchange. HEAD gets its headers. */
void hth_http_reply(struct hth_http_exchange *x, int status, const char *type,
                    const void *body, size_t n);
/* Begin an answer of unknown length: headers leave at once. */
void hth_http_start(struct hth_http_exchange *x, int status, const char *type);
/* A piece of it, sent at once. A client that lets
 * HTH_HTTP_OUTPUT_BYTES_MAX pile up is cut off. */
void hth_http_write(struct hth_http_exchange *x, const void *data, size_t n);
/* End it; frees the exchange. cut: close the connection without a proper end,
 * so that the client knows that something is missing. */
void hth_http_end(struct hth_http_exchange *x, bool cut);

#endif
