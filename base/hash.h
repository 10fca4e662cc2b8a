/* hash.h - SHA-256 by libcrypto (measured several times faster than the TLS
 * library's own on CPUs with SHA instructions). A context belongs to one
 * thread. Allocation happens in open only. */
#ifndef HTH_BASE_HASH_H
#define HTH_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define HTH_HASH_BYTES 32u
#define HTH_HASH_HEX_SIZE 65u /* text with the NUL */

struct hth_hash;

HTH_MUST_CHECK int hth_hash_open(struct hth_hash **out);
void hth_hash_update(struct hth_hash *h, const void *p, size_t n);
/* Write the digest of all updates and start anew. */
void hth_hash_finish(struct hth_hash *h, uint8_t out[HTH_HASH_BYTES]);
void hth_hash_close(struct hth_hash *h); /* NULL is fine */

void hth_hash_hex(const uint8_t hash[HTH_HASH_BYTES],
                  char out[HTH_HASH_HEX_SIZE]);
int hth_hash_parse_hex(const char *text, uint8_t out[HTH_HASH_BYTES]);

#endif
