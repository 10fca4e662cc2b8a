/* address.h - HOST[:PORT] as people write it. Pure. */
#ifndef HTH_CLI_ADDRESS_H
#define HTH_CLI_ADDRESS_H

#include <stdint.h>

#include "base/status.h"

#define HTH_HOST_BYTES_MAX 256u

/* "desk", "192.168.1.10:47470", "fe80::1%eth0", "[fe80::1]:47470". host:
 * HTH_HOST_BYTES_MAX bytes, without brackets. *port stays where none is given.
 * HTH_EUSAGE otherwise. */
HTH_MUST_CHECK int hth_parse_address(const char *text, char *host,
                                     uint16_t *port, struct hth_err *err);

#endif
