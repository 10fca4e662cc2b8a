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
/* NNG's error as a status and a sentence "<what>: <why>". */
int hth__control_fail(struct hth_err *err, int rv, const char *what);

#endif
