/* control_tls.h - what both ends of a control socket share. Only for
 * net/control_*.c. */
#ifndef HTH_NET_CONTROL_TLS_H
#define HTH_NET_CONTROL_TLS_H

#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>

#include "base/status.h"
#include "net/control.h"

/* A configuration for one side of mutual TLS with the point's identity;
 * *out stays NULL where the point has none. */
int hth__control_tls(nng_tls_config **out, nng_tls_mode mode,
                     const struct hth_control_point *point,
                     struct hth_err *err);
/* Close a socket, but do not wait longer than HTH_CLOSE_MS: NNG 1.5.2 can wait
 * for ever for a task of its own (nanomsg/nng issue 1543; seen here once in
 * some hundred closings under load). False: it is still closing, and whatever
 * its callbacks were given must stay where it is. */
bool hth__control_close(nng_socket socket);
/* NNG's error as a status and a sentence "<what>: <why>". */
int hth__control_fail(struct hth_err *err, int rv, const char *what);

#endif
