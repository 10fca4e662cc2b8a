/* pair_proto.h - pairing as messages, without a socket. Internal to net/.
 *
 *   device -> coordinator  HELLO      versions, nonce, public key, name
 *   coordinator -> device  CHALLENGE  status, version, nonce, salt, scrypt cost
 *   device -> coordinator  PROOF      HMAC of the device, signature by its key
 *   coordinator -> device  WELCOME    status, HMAC of the coordinator,
 *                                     certificate, CA, names, ports
 *
 * transcript = SHA-256(label || SHA-256 of the server's certificate as seen by
 * each side || HELLO || CHALLENGE), every part with its length in front; both
 * HMACs are over a role label and the transcript. Where something is wrong the
 * coordinator answers with a CHALLENGE or WELCOME whose status is negative and
 * that holds one sentence, and nothing else. */
#ifndef HTH_NET_PAIR_PROTO_H
#define HTH_NET_PAIR_PROTO_H

#include <stdint.h>

#include "base/cursor.h"
#include "net/pairing.h"

#define HTH__PAIR_VERSION_MIN 1u
#define HTH__PAIR_VERSION_MAX 1u
#define HTH__PAIR_NONCE_BYTES 32u
#define HTH__PAIR_MAC_BYTES 32u
#define HTH__PAIR_SALT_BYTES 16u
#define HTH__PAIR_TEXT_MAX 300u
/* scrypt (RFC 7914): 2^15 x 8 needs 32 MiB and some 0.1 s per guess. A device
 * refuses to be asked for more than the bounds. */
#define HTH__SCRYPT_LOG2_N 15u
#define HTH__SCRYPT_LOG2_N_MAX 17u
#define HTH__SCRYPT_R 8u

struct hth__pair_hello {
    uint16_t version_min;
    uint16_t version_max;
    uint8_t nonce[HTH__PAIR_NONCE_BYTES];
    uint8_t pubkey[HTH_PUBKEY_MAX];
    size_t pubkey_len;
    char name[HTH_NAME_MAX];
};

struct hth__pair_challenge {
    int32_t status; /* negative: only text follows */
    char text[HTH__PAIR_TEXT_MAX];
    uint16_t version;
    uint8_t nonce[HTH__PAIR_NONCE_BYTES];
    uint8_t salt[HTH__PAIR_SALT_BYTES];
    uint8_t scrypt_log2_n;
};

struct hth__pair_proof {
    uint8_t mac[HTH__PAIR_MAC_BYTES];
    struct hth_sig sig; /* by the device's key, over the transcript */
};

struct hth__pair_welcome {
    int32_t status; /* negative: only text follows */
    char text[HTH__PAIR_TEXT_MAX];
    uint8_t mac[HTH__PAIR_MAC_BYTES];
    char cert_pem[HTH_PEM_MAX];
    char ca_pem[HTH_PEM_MAX];
    char name[HTH_NAME_MAX];
    uint16_t control_port;
    uint16_t data_port;
};

void hth__pair_hello_encode(const struct hth__pair_hello *m,
                            struct hth_buf *out);
void hth__pair_challenge_encode(const struct hth__pair_challenge *m,
                                struct hth_buf *out);
void hth__pair_proof_encode(const struct hth__pair_proof *m,
                            struct hth_buf *out);
void hth__pair_welcome_encode(const struct hth__pair_welcome *m,
                              struct hth_buf *out);
/* HTH_EPROTO for anything malformed, HTH_EVERSION (hello) where the ranges do
 * not meet; *out untouched on error. */
HTH_MUST_CHECK int hth__pair_hello_decode(struct hth__pair_hello *out,
                                          const void *p, size_t n);
HTH_MUST_CHECK int hth__pair_challenge_decode(struct hth__pair_challenge *out,
                                              const void *p, size_t n);
HTH_MUST_CHECK int hth__pair_proof_decode(struct hth__pair_proof *out,
                                          const void *p, size_t n);
HTH_MUST_CHECK int hth__pair_welcome_decode(struct hth__pair_welcome *out,
                                            const void *p, size_t n);

/* ---- what is proved ------------------------------------------------------ */

struct hth__bytes {
    const void *p;
    size_t n;
};
void hth__pair_transcript(const uint8_t server_fingerprint[32],
                          struct hth__bytes hello, struct hth__bytes challenge,
                          uint8_t out[32]);
enum hth__pair_role { HTH__PAIR_DEVICE, HTH__PAIR_COORDINATOR };
void hth__pair_mac(const uint8_t key[32], enum hth__pair_role role,
                   const uint8_t transcript[32],
                   uint8_t out[HTH__PAIR_MAC_BYTES]);
/* Stretch a code in its normal form. HTH_ENOMEM. */
HTH_MUST_CHECK int hth__pair_stretch(const char code[HTH_CODE_SIZE],
                                     const uint8_t salt[HTH__PAIR_SALT_BYTES],
                                     uint8_t log2_n, uint8_t out[32]);

/* ---- the coordinator's side of one pairing ------------------------------- */

struct hth__pair_server;
HTH_MUST_CHECK int hth__pair_server_open(struct hth__pair_server **out,
                                         struct hth_pairing *p,
                                         const uint8_t fingerprint[32]);
void hth__pair_server_close(struct hth__pair_server *s); /* NULL is fine */
/* One message from the device; reply is filled in every case but an allocation
 * failure, and must be sent. 0: go on; 1: paired, last message; negative:
 * refused, last message. */
HTH_MUST_CHECK int hth__pair_server_input(struct hth__pair_server *s,
                                          const void *msg, size_t n,
                                          struct hth_buf *reply,
                                          struct hth_err *err);

/* ---- between the server side and the codes (pairing.c) --------------------
 */

/* The salt all codes outstanding now are stretched with. */
void hth__pairing_salt(struct hth_pairing *p,
                       uint8_t out[HTH__PAIR_SALT_BYTES]);
/* Does mac prove one of the codes over this transcript? Then that code is used
 * up and its key copied to key. Otherwise a wrong try is counted against every
 * code: HTH_EAUTH, or HTH_EBUSY when everybody together is wrong too often. */
HTH_MUST_CHECK int hth__pairing_redeem(struct hth_pairing *p,
                                       const uint8_t transcript[32],
                                       const uint8_t mac[HTH__PAIR_MAC_BYTES],
                                       uint8_t key[32], struct hth_err *err);
const struct hth_pairing_opts *hth__pairing_opts(const struct hth_pairing *p);
/* Tests: move the clock by so many milliseconds. */
void hth__pairing_shift_clock(struct hth_pairing *p, int64_t ms);

#endif
