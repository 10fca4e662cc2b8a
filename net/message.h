/* message.h - the control protocol's messages as bytes.
 *
 * Every message is one NNG message: a fixed 4-byte head {u16 magic, u8
 * protocol version, u8 type}, then the fields of its type, little-endian, in
 * the order of the structs below (strings and blobs: u32 length, bytes).
 * Requests and answers pair up as docs/protocol.md lists them.
 * Owns: the layout. Refuses: sockets, and any opinion about what a message
 * means. Pure and thread-safe.
 * Decoding never allocates: struct hth_blob and const char pointers are
 * borrowed from the received bytes, lists stay encoded and are walked with
 * the _next() functions. Anything malformed, too long or left over is
 * HTH_EFORMAT with the message's name; nothing claimed by a peer is believed
 * before it is compared with base/limits.h. */
#ifndef HTH_NET_MESSAGE_H
#define HTH_NET_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/phases.h"
#include "base/status.h"
#include "net/identity.h"

#define HTH_MSG_MAGIC 0x6348u /* "Hc" */
#define HTH_MSG_HEAD_BYTES 4u

/* The control protocol's versions this build speaks. HELLO and ERROR keep
 * their layout in all versions, so that a mismatch can be told. 2: adapters,
 * how prompts were computed, round trips. 3: times of sending and of receiving
 * apart. */
#define HTH_PROTOCOL_MIN 3u
#define HTH_PROTOCOL_MAX 3u

/* X(name, number, text): requests below 64, answers from 64. */
#define HTH_MSG_MAP(X)            \
    X(HELLO, 1, "hello")          \
    X(PROVE, 2, "prove")          \
    X(NEXT, 3, "next")            \
    X(REPORT, 4, "report")        \
    X(CHUNK, 5, "chunk")          \
    X(SUBMIT, 6, "submit")        \
    X(POLL, 7, "poll")            \
    X(CANCEL, 8, "cancel")        \
    X(LIST, 9, "list")            \
    X(PAIR, 10, "pair")           \
    X(REVOKE, 11, "revoke")       \
    X(ERROR, 64, "error")         \
    X(OK, 65, "ok")               \
    X(CHALLENGE, 66, "challenge") \
    X(WELCOME, 67, "welcome")     \
    X(COMMAND, 68, "command")     \
    X(DATA, 69, "data")           \
    X(ACCEPTED, 70, "accepted")   \
    X(EVENTS, 71, "events")       \
    X(NODES, 72, "nodes")         \
    X(CODE, 73, "code")           \
    X(WHO, 74, "who")

enum hth_msg_type {
#define X(name, number, text) HTH_MSG_##name = number,
    HTH_MSG_MAP(X)
#undef X
};

struct hth_blob {
    const uint8_t *p;
    size_t n;
};

#define HTH_NONCE_BYTES 32u

/* ---- who is there ------------------------------------------------------ */

enum hth_peer_role { HTH_PEER_WORKER = 1, HTH_PEER_CLIENT = 2 };

struct hth_msg_hello {
    uint32_t protocol_min, protocol_max;
    char version[HTH_VERSION_BYTES_MAX]; /* of the program */
    char device[HTH_DEVICE_ID_SIZE];
    char name[HTH_NAME_MAX];
    uint8_t role;      /* enum hth_peer_role */
    uint64_t instance; /* random per process: tells a restart from a twin */
    uint8_t nonce[HTH_NONCE_BYTES];
    char arch[HTH_NAME_MAX]; /* "x86_64" */
    char isa[HTH_NAME_MAX];  /* kernels' name */
    uint32_t cores, threads;
    uint64_t memory_bytes;   /* what it offers */
    double read_bytes_per_s; /* measured memory read rate; 0: not measured */
    struct hth_blob certificate; /* PEM with its NUL not counted */
};

struct hth_msg_challenge {
    uint32_t protocol; /* chosen */
    char server[HTH_DEVICE_ID_SIZE];
    uint8_t nonce[HTH_NONCE_BYTES];
};

struct hth_msg_prove {
    struct hth_blob signature; /* over hth_msg_proof_text() */
};

struct hth_msg_welcome {
    char name[HTH_NAME_MAX]; /* coordinator's */
    char version[HTH_VERSION_BYTES_MAX];
    uint16_t data_port;
    uint32_t heartbeat_ms;
};

/* What PROVE signs: a label, both nonces, both ids; len = out->len. */
void hth_msg_proof_text(struct hth_buf *out, const struct hth_msg_hello *h,
                        const struct hth_msg_challenge *c);

/* ---- what a worker is told --------------------------------------------- */

/* The worker's long poll: answered when the coordinator's wish has a higher
 * number than seen, or after about a second with COMMAND_NONE. */
struct hth_msg_next {
    uint64_t seen;
};

enum hth_command_kind {
    HTH_COMMAND_NONE = 0,
    HTH_COMMAND_LOAD = 1,   /* be this rank */
    HTH_COMMAND_UNLOAD = 2, /* be nothing; keep the store */
    HTH_COMMAND_LEAVE = 3   /* end; status and text say why */
};

struct hth_msg_command {
    uint64_t number;
    uint8_t kind; /* enum hth_command_kind */
    /* LEAVE */
    int32_t status;
    char text[HTH_ERR_TEXT_MAX];
    /* LOAD */
    uint64_t session;
    uint32_t rank;
    uint32_t attempt; /* of linking; another number than the last: link anew */
    struct hth_blob setup;  /* opaque here: worker/rank.h */
    struct hth_blob blocks; /* hth_msg_put_block() each; <= HTH_BLOCKS_MAX */
    /* The adapters to have, as slices like blocks: hth_msg_put_lora() each; and
     * the list's number, which REPORT gives back when they are there. */
    uint64_t loras_number;
    struct hth_blob loras; /* <= HTH_LORAS_MAX */
};

struct hth_msg_block {
    uint64_t bytes;
    uint8_t hash[HTH_HASH_BYTES]; /* zeros where bytes is 0 */
};
#define HTH_MSG_BLOCK_BYTES (8u + HTH_HASH_BYTES)
struct hth_msg_lora {
    uint32_t id; /* < HTH_LORAS_MAX */
    struct hth_msg_block slice;
};
#define HTH_MSG_LORA_BYTES (4u + HTH_MSG_BLOCK_BYTES)
void hth_msg_put_lora(struct hth_buf *b, const struct hth_msg_lora *m);
uint32_t hth_msg_loras(const struct hth_msg_command *m);
void hth_msg_lora_at(const struct hth_msg_command *m, uint32_t i,
                     struct hth_msg_lora *out);
void hth_msg_put_block(struct hth_buf *b, const struct hth_msg_block *m);
/* Blocks in the list; entry i, which must be below it. */
uint32_t hth_msg_blocks(const struct hth_msg_command *m);
void hth_msg_block_at(const struct hth_msg_command *m, uint32_t i,
                      struct hth_msg_block *out);

/* X(name, number, text): of a device as `hearth nodes` shows it. */
#define HTH_NODE_STATE_MAP(X) \
    X(AWAY, 0, "away")        \
    X(IDLE, 1, "idle")        \
    X(LOADING, 2, "loading")  \
    X(LINKING, 3, "linking")  \
    X(READY, 4, "ready")      \
    X(LOST, 5, "lost")        \
    X(FAILED, 6, "failed")    \
    X(REVOKED, 7, "revoked")

enum hth_node_state {
#define X(name, number, text) HTH_NODE_##name = number,
    HTH_NODE_STATE_MAP(X)
#undef X
        HTH_NODE_STATES
};
const char *hth_node_state_text(uint32_t state); /* never NULL */

struct hth_msg_report {
    uint8_t state; /* IDLE, LOADING, LINKING, READY, FAILED; AWAY: it stops */
    uint64_t session;
    uint64_t done_bytes, total_bytes; /* of the shard present */
    uint64_t fetched_bytes; /* received over the network for this session */
    uint64_t memory_bytes;  /* free now */
    uint64_t round_trip_ns; /* of the last report and its OK; 0: the first */
    uint64_t loras_number;  /* of the list of adapters it has; 0: none */
    uint8_t memory_short;   /* 1: its window had to shrink */
    struct hth_phases phases;
    int32_t status; /* FAILED: why */
    char text[HTH_ERR_TEXT_MAX];
};

struct hth_msg_chunk {
    uint8_t hash[HTH_HASH_BYTES];
    uint64_t offset;
    uint32_t length; /* 1 .. HTH_CHUNK_BYTES */
};

struct hth_msg_data {
    struct hth_blob bytes; /* exactly what was asked */
};

/* ---- requests ---------------------------------------------------------- */

struct hth_msg_bias {
    uint32_t id;
    float bias;
};

/* A prompt and how to continue it; hth_msg_submit_init() sets the defaults.
 * Give text or ids, not both. */
struct hth_msg_submit {
    uint64_t key;         /* random; the same key twice is the same request */
    struct hth_blob text; /* the prompt, UTF-8 */
    const uint32_t *ids;  /* [id_count] or NULL; encode only */
    uint32_t id_count;
    struct hth_blob id_blob; /* decoded form: u32 each */
    bool special;            /* texts of control tokens become those tokens */
    /* The text is JSON, {"messages": [...]}, by the model's template; with
     * "response_format": {"type": "json_object"} the answer is an object. */
    bool chat;
    bool ignore_end;     /* go on after an end token (benchmarks) */
    uint32_t tokens_max; /* to generate; 0: until end or context is full */
    float temperature, top_p, min_p;
    float repeat_penalty, frequency_penalty, presence_penalty;
    uint32_t top_k, repeat_last_n;
    uint64_t seed;
    char lora[HTH_LORA_TEXT_MAX]; /* adapters: "NAME[:SCALE],..."; "": those
                                     that go with every request */
    uint32_t stop_count;
    struct hth_blob stop[HTH_STOPS_MAX];
    uint32_t bias_count;
    struct hth_msg_bias bias[HTH_BIAS_MAX];
};
void hth_msg_submit_init(struct hth_msg_submit *m);
uint32_t hth_msg_submit_id_at(const struct hth_msg_submit *m, uint32_t i);

struct hth_msg_id { /* ACCEPTED, CANCEL */
    uint64_t id;
};

/* Long poll for the events from number `from` on; what is before it has
 * arrived and may be forgotten. */
struct hth_msg_poll {
    uint64_t id;
    uint64_t from;
    uint32_t wait_ms; /* at most HTH_POLL_MS_MAX */
};

struct hth_msg_events {
    uint64_t from; /* number of the first event in the list */
    uint32_t count;
    bool ended;           /* the last one is DONE or ERROR */
    struct hth_blob list; /* hth_event_next() */
};

enum hth_event_kind {
    HTH_EVENT_WAITING = 1, /* text: for what ("waiting for tablet") */
    HTH_EVENT_PROMPT = 2,  /* done of total prompt tokens computed */
    HTH_EVENT_TOKEN = 3,   /* token, and the text that became complete */
    HTH_EVENT_DONE = 4,    /* finish, statistics */
    HTH_EVENT_ERROR = 5    /* status, text: one sentence */
};

enum hth_finish {
    HTH_FINISH_END = 1,  /* end token */
    HTH_FINISH_STOP = 2, /* stop string */
    HTH_FINISH_LENGTH = 3,
    HTH_FINISH_CANCELLED = 4
};

/* A rank's part in a prompt. */
struct hth_prompt_part {
    uint32_t rows;
    uint64_t compute_ns; /* without waiting */
    uint64_t attend_ns;  /* of it: attention; 0: not told apart */
    uint64_t wait_ns;    /* for others */
    uint64_t load_ns;    /* for weights; not of compute_ns */
    uint64_t sent_bytes, received_bytes;
};

/* How a prompt was computed, and how long the cost model had thought it would
 * take (0: it was not asked). Parts are by rank; where the prompt took steps
 * there is rank 0's only. */
struct hth_prompt_stats {
    uint32_t mode; /* enum hth_prefill_mode of scheduler/spread.h */
    uint64_t predicted_ns, took_ns; /* to the first token, without the queue */
    uint32_t parts;
    struct hth_prompt_part part[HTH_RANKS_MAX];
};

struct hth_event_stats {
    uint32_t prompt_tokens, generated_tokens;
    double wait_s, prompt_s, generate_s;
    uint32_t ranks;
    /* Rank 0's weights: what stays, what is read per token, what was read and
     * waited for while generating, the disk's rate, and what a token should
     * have cost. */
    uint64_t pinned_bytes, streamed_bytes, read_bytes;
    double stall_s, disk_bytes_per_s, predicted_token_s;
    struct hth_prompt_stats prompt;
};

struct hth_event {
    uint8_t kind; /* enum hth_event_kind */
    struct hth_blob text;
    uint32_t token;
    uint32_t done, total;
    uint8_t finish; /* enum hth_finish */
    struct hth_event_stats stats;
    int32_t status;
};
void hth_event_put(struct hth_buf *b, const struct hth_event *e);
/* The next event of a list; false at the end. A list inside a decoded message
 * is known to be well formed. */
bool hth_event_next(struct hth_cursor *c, struct hth_event *out);

/* ---- devices ----------------------------------------------------------- */

struct hth_msg_node {
    char device[HTH_DEVICE_ID_SIZE];
    char name[HTH_NAME_MAX];
    char address[HTH_NAME_MAX];
    char version[HTH_VERSION_BYTES_MAX];
    char arch[HTH_NAME_MAX];
    char isa[HTH_NAME_MAX];
    uint8_t state; /* enum hth_node_state */
    bool coordinator;
    int32_t rank; /* -1: none */
    double share; /* of the plan, 0..1 */
    uint32_t cores, threads;
    uint64_t memory_bytes;
    double read_bytes_per_s;
    uint64_t shard_bytes, done_bytes; /* of this session */
    uint64_t sent_bytes;         /* weights sent to it since it connected */
    uint64_t seen_ms_ago;        /* since its last message */
    uint64_t round_trip_ns;      /* of a heartbeat; 0: not known */
    struct hth_phases phases;    /* of this session */
    char text[HTH_ERR_TEXT_MAX]; /* why, in states LOST and FAILED */
};

struct hth_msg_nodes {
    char version[HTH_VERSION_BYTES_MAX];
    char model[HTH_NAME_MAX * 4];
    bool ready;
    char waiting[HTH_ERR_TEXT_MAX]; /* for what, while not ready */
    uint64_t session;
    uint32_t ctx;
    uint32_t running, queued; /* requests */
    uint32_t count;
    struct hth_blob list; /* hth_msg_node_next() */
};
void hth_msg_put_node(struct hth_buf *b, const struct hth_msg_node *n);
bool hth_msg_node_next(struct hth_cursor *c, struct hth_msg_node *out);

struct hth_msg_code {
    char code[16]; /* XXXX-XXXX */
    char host[HTH_NAME_MAX];
    uint16_t port;
    uint32_t expires_s;
};

struct hth_msg_revoke {
    char device[HTH_NAME_MAX]; /* id or name */
};

struct hth_msg_error {
    int32_t status;
    char text[HTH_ERR_TEXT_MAX];
};

/* ---- encode and decode ------------------------------------------------- */

/* Every message in one tagged union; LIST, PAIR, OK and WHO have no fields. */
struct hth_msg {
    uint8_t protocol; /* set by decode; encode writes HTH_PROTOCOL_MAX */
    uint8_t type;     /* enum hth_msg_type */
    union {
        struct hth_msg_hello hello;
        struct hth_msg_challenge challenge;
        struct hth_msg_prove prove;
        struct hth_msg_welcome welcome;
        struct hth_msg_next next;
        struct hth_msg_command command;
        struct hth_msg_report report;
        struct hth_msg_chunk chunk;
        struct hth_msg_data data;
        struct hth_msg_submit submit;
        struct hth_msg_id id; /* ACCEPTED, CANCEL */
        struct hth_msg_poll poll;
        struct hth_msg_events events;
        struct hth_msg_nodes nodes;
        struct hth_msg_code code;
        struct hth_msg_revoke revoke;
        struct hth_msg_error error;
    } u;
};

/* Append m; out->failed when it does not fit its maximum. */
void hth_msg_encode(struct hth_buf *out, const struct hth_msg *m);
/* *out is overwritten in every case. Errors: HTH_EFORMAT; HTH_EVERSION where
 * the head's protocol is none of ours (HELLO and ERROR excepted), with a
 * sentence saying which side to upgrade. */
HTH_MUST_CHECK int hth_msg_decode(struct hth_msg *out, const void *p, size_t n,
                                  struct hth_err *err);
const char *hth_msg_type_text(uint8_t type); /* never NULL */

#endif
