/* hello.h - what both ends of a data link say inside TLS before frames begin.
 * Internal to net/. Pure: bytes in, struct out; nothing a peer sends is
 * believed before it is checked. Thread-safe.
 *
 * One layout for both directions, little-endian:
 *   u32 magic "HLNK", u16 version_min, u16 version_max, i32 status, text
 * and, where status is 0 and the version ranges meet,
 *   u16 version (chosen; 0 from the client), u32 ciphers (client: the set it
 *   likes; server: the one chosen), u32 rank, u64 session, text name,
 *   32 bytes key and 4 bytes salt for what the sender will send.
 * Texts are u32 length and bytes. The first line keeps its layout in all
 * versions, so that a mismatch can be explained. */
#ifndef HTH_NET_HELLO_H
#define HTH_NET_HELLO_H

#include <stdint.h>

#include "base/cursor.h"
#include "base/limits.h"
#include "base/status.h"
#include "net/frame.h"

#define HTH__HELLO_MAGIC 0x4b4e4c48u
/* 2: two ranks swap partials (star_reduce.c), and both must do so. */
#define HTH__LINK_VERSION_MIN 2u
#define HTH__LINK_VERSION_MAX 2u
#define HTH__HELLO_TEXT_MAX 400u

struct hth__hello {
    uint16_t version_min;
    uint16_t version_max;
    int32_t status; /* a refusal, with its sentence */
    char text[HTH__HELLO_TEXT_MAX];
    uint16_t version;
    uint32_t ciphers;
    uint32_t rank;
    uint64_t session;
    char name[HTH_NAME_MAX];
    struct hth_seal_key key;
};

void hth__hello_encode(const struct hth__hello *h, struct hth_buf *out);
/* ours: for its version range. HTH_EVERSION when the ranges do not meet (the
 * sentence says which side to upgrade), HTH_EPROTO for anything malformed. A
 * refusal (status < 0) decodes well, its later fields are zero. */
HTH_MUST_CHECK int hth__hello_decode(struct hth__hello *out, const void *p,
                                     size_t n, const struct hth__hello *ours,
                                     struct hth_err *err);

#endif
