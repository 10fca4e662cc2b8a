/* socket.h - dialling. Internal to net/. Thread-safe. */
#ifndef HTH_NET_SOCKET_H
#define HTH_NET_SOCKET_H

#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"

/* A connected non-blocking socket (the caller's to close), or a negative
 * status: HTH_EUNREACHABLE, HTH_ETIMEDOUT. Blocks up to the deadline (of
 * hth_now_ms()), and as long as the resolver wants for a name. */
HTH_MUST_CHECK int hth__dial(const char *host, uint16_t port,
                             uint64_t deadline_ms, struct hth_err *err);

/* "192.168.1.7:4711", "[fe80::1%eth0]:4711" or "local socket". */
void hth__peer_address(int fd, char out[HTH_ADDRESS_MAX]);

#endif
