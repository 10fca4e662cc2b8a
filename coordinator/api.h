/* api.h - the service people use: OpenAI's, Ollama's, Anthropic's and
 * llama.cpp's HTTP APIs over one engine (docs/api.md).
 *
 * Owns: the HTTP server (coordinator/http.h) and every call under way on its
 * loop thread. Bodies are read, prompts rendered and tokenized on libuv's
 * pool; the engine's thread only adds to generations.
 * Refuses: to decide anything about devices; what it shows of them it is
 * told by `cluster`. A client that leaves has its work cancelled within a
 * step, and only its own.
 * Threads: open and close from one thread; delivered from any. */
#ifndef HTH_COORDINATOR_API_H
#define HTH_COORDINATOR_API_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cursor.h"
#include "base/status.h"
#include "coordinator/engine.h"
#include "coordinator/loras.h"
#include "model/chat.h"
#include "model/gguf.h"
#include "model/spec.h"
#include "model/tokenizer.h"

struct hth_api;

/* What the API may ask about the cluster, from any thread. */
struct hth_api_cluster {
    /* Can requests be served; if not, waiting says for what. *plan is a
     * number that changes with the plan: the same seed gives the same text
     * as long as it stays. */
    bool (*ready)(void *ctx, uint64_t *plan, char *waiting, size_t size);
    /* The last NODES message (net/message.h), encoded, with its head. */
    void (*nodes)(void *ctx, struct hth_buf *out);
    /* A new pairing code; NULL: pairing is not possible. Takes no lock for
     * long. */
    int (*pair)(void *ctx, struct hth_buf *line, struct hth_err *err);
    /* Times a device of a session was lost, since the start. NULL: none. */
    uint64_t (*lost)(void *ctx);
    void *ctx;
};

struct hth_api_opts {
    const char *bind; /* NULL: 127.0.0.1 */
    uint16_t port;    /* 0: any free one */
    const char *tls_cert_path, *tls_key_path;
    const char *const *keys; /* [key_count]; none: everybody may ask */
    uint32_t key_count;
    const char *const *origins; /* besides loopback; "*" is any */
    uint32_t origin_count;
    bool any_model; /* answer whatever model a client names */

    const char *model; /* the name clients use */
    const struct hth_gguf *gguf;
    const struct hth_spec *spec;
    const struct hth_tokenizer *tokenizer; /* NULL: no prompts */
    struct hth_engine *engine;
    struct hth_loras *loras; /* NULL: no adapters */
    uint32_t ctx;            /* positions of one sequence */
    uint32_t parallel;       /* requests that run at a time */
    uint32_t kv_type, wire;  /* of plans: kernels/type.h, net/star.h */
    uint32_t timeout_ms;     /* of one request, waiting included; 0: none */
    struct hth_api_cluster cluster;
};

/* Everything in opts is borrowed until close; texts too. Errors: those of
 * hth_http_open(). */
HTH_MUST_CHECK int hth_api_open(struct hth_api **out,
                                const struct hth_api_opts *opts,
                                struct hth_err *err);
/* New requests are refused from now on (503), and once this has returned the
 * engine is given nothing more. Any thread; NULL is fine. */
void hth_api_quiet(struct hth_api *a);
/* The engine is closed, so every generation has ended. NULL is fine. */
void hth_api_close(struct hth_api *a);
uint16_t hth_api_port(const struct hth_api *a);
/* The engine's `delivered`. */
void hth_api_delivered(struct hth_api *a);

#endif
