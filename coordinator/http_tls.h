/* http_tls.h - TLS 1.2 below the HTTP server, by mbedTLS, in memory: bytes
 * from the socket go in, plain bytes come out by a callback, and what is to
 * be sent goes to hth__conn_send_raw(). The loop thread's. */
#ifndef HTH_COORDINATOR_HTTP_TLS_H
#define HTH_COORDINATOR_HTTP_TLS_H

#include <stddef.h>

#include "base/status.h"

struct conn;
struct hth__http_tls_setup; /* certificate and key of the server */
struct hth__http_tls;       /* one connection's session */

/* PEM files. HTH_EUSAGE (one of them missing), HTH_EIO, HTH_EFORMAT. */
HTH_MUST_CHECK int hth__http_tls_setup_open(struct hth__http_tls_setup **out,
                                            const char *cert_path,
                                            const char *key_path,
                                            struct hth_err *err);
void hth__http_tls_setup_close(struct hth__http_tls_setup *s); /* NULL: fine */

/* plain: decrypted bytes for ctx (the conn given to feed). */
HTH_MUST_CHECK int
hth__http_tls_open(struct hth__http_tls **out, struct hth__http_tls_setup *s,
                   void (*plain)(void *ctx, const char *p, size_t n));
void hth__http_tls_close(struct hth__http_tls *t); /* NULL: fine */
/* Encrypted bytes arrived. An error ends the connection. */
HTH_MUST_CHECK int hth__http_tls_feed(struct hth__http_tls *t, struct conn *c,
                                      const char *p, size_t n);
void hth__http_tls_send(struct hth__http_tls *t, struct conn *c, const void *p,
                        size_t n);
void hth__http_tls_bye(struct hth__http_tls *t, struct conn *c);

#endif
