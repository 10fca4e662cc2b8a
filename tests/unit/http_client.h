/* http_client.h - for tests: bytes to an HTTP server and what comes back. */
#ifndef HTH_TESTS_HTTP_CLIENT_H
#define HTH_TESTS_HTTP_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"

#define CLIENT_BYTES_MAX (32u << 20)

int client_open(uint16_t port); /* to loopback; a socket with time-outs */
void client_send(int fd, const void *data, size_t n);
void client_text(int fd, const char *text);
/* Read until the peer closes (or 20 s pass); NUL-terminated, owned by b. */
const char *client_all(int fd, struct hth_buf *b);
/* Read until `text` has been seen; returns all so far. NULL: it never came. */
const char *client_until(int fd, struct hth_buf *b, const char *text);
/* One POST of a JSON body on a new connection, whole answer. */
const char *client_post(uint16_t port, const char *path, const char *json,
                        struct hth_buf *b);
const char *client_get(uint16_t port, const char *path, struct hth_buf *b);
int client_status(const char *answer); /* 200; 0: none */

#endif
