/* frame.h - the frames of a data link: header and sealing, without a socket.
 *
 * A frame is a 24-byte header, the ciphertext, and a 16-byte tag:
 *
 *   0  u16 magic   0x4846 ("FH" on the wire)
 *   2  u8  version of the framing
 *   3  u8  kind, with HTH_FRAME_LAST on the last frame of a message
 *   4  u32 length  of the payload, at most HTH_FRAME_BYTES_MAX
 *   8  u64 sequence of this direction, from 0, without gaps
 *   16 u64 tag     the caller's, same in all frames of a message
 *
 * little-endian, written field by field, and authenticated as associated
 * data. AEAD (AES-GCM: NIST SP 800-38D; ChaCha20-Poly1305: RFC 8439) by
 * libcrypto; nonce = 4-byte salt of the direction || u64 sequence, little-
 * endian. Every HTH_REKEY_FRAMES frames the key is replaced by
 * HKDF-Expand(old key, "hearth rekey", key bytes) (RFC 5869), on both sides at
 * the same sequence number, so no key seals more frames than that.
 *
 * A seal belongs to one thread at a time. It allocates in open only. Once
 * hth_seal_open_frame() failed the direction is finished for good: the caller
 * closes the link. */
#ifndef HTH_NET_FRAME_H
#define HTH_NET_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"

#define HTH_FRAME_MAGIC 0x4846u
#define HTH_FRAME_VERSION 1u
#define HTH_FRAME_HEADER_BYTES 24u
#define HTH_FRAME_TAG_BYTES 16u
/* What a frame costs on the wire beside its payload. */
#define HTH_FRAME_OVERHEAD_BYTES (HTH_FRAME_HEADER_BYTES + HTH_FRAME_TAG_BYTES)
#define HTH_FRAME_LAST 0x80u /* flag in `kind` */

enum hth_frame_kind {
    HTH_FRAME_DATA = 1,
    HTH_FRAME_ABORT = 2 /* payload: i32 status, then text; ends the link */
};

struct hth_frame {
    uint8_t kind; /* enum hth_frame_kind, maybe | HTH_FRAME_LAST */
    uint32_t len; /* payload bytes */
    uint64_t seq;
    uint64_t tag;
};

void hth_frame_encode(const struct hth_frame *f,
                      uint8_t out[HTH_FRAME_HEADER_BYTES]);
/* Everything but the sequence is checked: HTH_EPROTO, HTH_EVERSION. */
HTH_MUST_CHECK int hth_frame_decode(const uint8_t in[HTH_FRAME_HEADER_BYTES],
                                    struct hth_frame *out, struct hth_err *err);

/* Bits of the hello's cipher set; the value is the wire number. */
enum hth_cipher {
    HTH_CIPHER_AES128_GCM = 1,
    HTH_CIPHER_AES256_GCM = 2,
    HTH_CIPHER_CHACHA20 = 4
};
#define HTH_CIPHERS_ALL 7u

/* What this CPU is good at, as a bit set: AES first where it has
 * instructions for it, else ChaCha20 only. */
uint32_t hth_cipher_set(void);
/* The best cipher both sets have; 0 when there is none. */
uint32_t hth_cipher_pick(uint32_t ours, uint32_t theirs);
const char *hth_cipher_name(uint32_t cipher); /* never NULL */

#define HTH_KEY_BYTES 32u /* sent for every cipher; AES-128 uses 16 */
#define HTH_SALT_BYTES 4u

struct hth_seal_key {
    uint8_t key[HTH_KEY_BYTES];
    uint8_t salt[HTH_SALT_BYTES];
};

struct hth_seal;

/* One direction of a link; sealing or opening, fixed here. The key is copied.
 * Errors: HTH_EINVAL (unknown cipher), HTH_ENOMEM. */
HTH_MUST_CHECK int hth_seal_open(struct hth_seal **out, uint32_t cipher,
                                 const struct hth_seal_key *key, bool sealing);
void hth_seal_close(struct hth_seal *s); /* NULL is fine; wipes the key */
uint64_t hth_seal_seq(const struct hth_seal *s); /* of the next frame */

/* Seal n bytes into out[HTH_FRAME_OVERHEAD_BYTES + n]: header, ciphertext,
 * tag. f->seq and f->len are set here. n <= HTH_FRAME_BYTES_MAX is the
 * caller's duty. */
void hth_seal_frame(struct hth_seal *s, struct hth_frame *f, const void *src,
                    uint8_t *out);

/* Open a frame whose header f came from hth_frame_decode(header): check that
 * its sequence is the expected one, decrypt f->len bytes of body to dst, check
 * the tag behind them. On error dst holds rubbish. HTH_EPROTO: replayed,
 * reordered or lost; HTH_EAUTH: changed on the way. */
HTH_MUST_CHECK int hth_seal_open_frame(struct hth_seal *s,
                                       const struct hth_frame *f,
                                       const uint8_t *header,
                                       const uint8_t *body, void *dst);

#endif
