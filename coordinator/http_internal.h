/* http_internal.h - the server's connections and exchanges, as http*.c see
 * them. Everything is the loop thread's unless it says otherwise. */
#ifndef HTH_COORDINATOR_HTTP_INTERNAL_H
#define HTH_COORDINATOR_HTTP_INTERNAL_H

#include <http_parser.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/cursor.h"
#include "coordinator/http.h"
#include "coordinator/http_tls.h"

#define HTTP_READ_BYTES (64u << 10)

enum conn_phase {
    CONN_IDLE,    /* between requests */
    CONN_HEAD,    /* reading a request line and headers */
    CONN_BODY,    /* reading a body */
    CONN_SERVING, /* the handler has the exchange */
    CONN_LINGER,  /* answered, about to close; input is thrown away */
    CONN_CLOSED   /* uv_close() is under way */
};

struct conn {
    uv_tcp_t tcp;
    uv_shutdown_t shutdown;
    struct hth_http *h;
    struct conn *prev, *next;
    enum conn_phase phase;
    http_parser parser;
    struct hth_http_exchange *x; /* being read or served */
    struct hth_buf ahead;        /* bytes of the next requests */
    struct hth__http_tls *tls;   /* NULL: plain */
    uint64_t since_ms;           /* when the phase began */
    uint64_t moved_ms;           /* when output last moved */
    size_t queued;               /* bytes of output that wait */
    bool driving, reading, close_after, complete;
    char peer[HTH_ADDRESS_MAX];
};

struct header {
    uint32_t name, value; /* offsets into head */
};

struct hth_http_exchange {
    struct hth_http *h;
    struct conn *c;      /* NULL: the client is gone */
    struct hth_buf head; /* texts, each with a NUL: target, names, values */
    struct header header[HTH_HTTP_HEADERS_MAX];
    uint32_t headers;
    bool in_value, head_done;
    uint32_t path, query;
    struct hth_buf body;
    size_t counted; /* of the body in h->body_bytes */
    uint8_t method;
    bool http10, keep_alive, chunked, started, head_only, expects;
    int refuse; /* status to answer with instead of serving; 0: none */
    char id[HTH_HTTP_ID_SIZE];
    char peer[HTH_ADDRESS_MAX];
    struct hth_buf extra; /* headers of the answer */
    void (*gone)(void *ctx);
    void *gone_ctx;
    int status;
    uint64_t begun_ns, sent_bytes;
};

struct hth_http {
    struct hth_http_opts o;
    uv_loop_t loop;
    uv_tcp_t listener;
    uv_async_t wake, order;
    uv_timer_t timer;
    pthread_t thread;
    bool running, listening;
    uint16_t port;
    struct hth__http_tls_setup *tls;
    atomic_bool quiet, stop;
    atomic_uint connections;
    struct conn *conns; /* newest first */
    atomic_uint exchanges;
    size_t body_bytes; /* of all exchanges */
    uint64_t next_id, id_base;
    char date[40];
    uint64_t date_ms;
    char read[HTTP_READ_BYTES];
};

/* http_conn.c */
void hth__conn_open(struct hth_http *h, uv_stream_t *listener);
void hth__conn_close(struct conn *c);
/* Go on with what was read ahead, after an exchange ended. */
void hth__conn_drive(struct conn *c);
/* Bytes on their way to the client, through TLS where there is any. */
void hth__conn_send(struct conn *c, const void *data, size_t n);
/* The same below TLS. */
void hth__conn_send_raw(struct conn *c, const void *data, size_t n);
/* Answer sent: close once it has arrived. */
void hth__conn_linger(struct conn *c);
/* Close what has taken too long. */
void hth__conn_sweep(struct conn *c, uint64_t now_ms);

/* http_parse.c */
struct hth_http_exchange *hth__exchange_new(struct conn *c);
void hth__exchange_free(struct hth_http_exchange *x);
/* Parse p[n] for the connection's exchange; *used bytes were taken. Sets
 * c->complete when a request is whole. Returns 0 or the status to refuse
 * with. */
int hth__exchange_parse(struct conn *c, const char *p, size_t n, size_t *used);
/* Path and query apart, percent signs decoded: 0, or 400. */
int hth__exchange_target(struct hth_http_exchange *x);

/* http_server.c: give it an id and hand it to the handler. */
void hth__http_serve(struct hth_http *h, struct hth_http_exchange *x);

/* http_reply.c */
void hth__exchange_refuse(struct hth_http_exchange *x, int status);
void hth__exchange_gone(struct hth_http_exchange *x);

#endif
