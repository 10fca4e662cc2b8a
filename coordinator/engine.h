/* engine.h - rank 0 and the request loop: prompts in, tokens out.
 *
 * Owns a thread that runs steps over all live requests: one decode row of
 * each, plus a chunk of prompts. Owns rank 0's weights (read from the GGUF)
 * and the star over the workers' links. It never exits because of a device: a
 * failed link ends every request in flight with a sentence naming the device,
 * then `lost` is called and the engine waits to be attached again.
 *
 * Threads: load, attach, detach, close from one controlling thread; submit and
 * cancel from any. Callbacks come from the engine's thread; they must not
 * block for long and must not call load, attach, detach or close. After a
 * submit that returned HTH_OK, on_end is called exactly once. */
#ifndef HTH_COORDINATOR_ENGINE_H
#define HTH_COORDINATOR_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "model/constraint.h"
#include "model/gguf.h"
#include "model/sampler.h"
#include "model/tokenizer.h"
#include "net/link.h"
#include "net/message.h"
#include "worker/rank.h"

struct hth_engine;

struct hth_engine_opts {
    const struct hth_gguf *gguf;           /* borrowed for life */
    const struct hth_tokenizer *tokenizer; /* borrowed; NULL: no end tokens */
    uint32_t threads;
    uint64_t memory_bytes; /* 0: no bound */
    const char *store_dir; /* for weights that stream; NULL: they must fit */
    const char *kv_dir;    /* contexts that survive a restart; NULL: none do */
    const char *past_dir;  /* what long prompts took (prefills.h); NULL: it is
                            * forgotten with the session */
    uint32_t parallel_max; /* requests that run at a time; 0: HTH_SEQS_MAX */
    uint32_t waiting_max;  /* beside them; 0: HTH_REQUESTS_MAX */
    uint32_t room_ahead;   /* KV positions reserved beyond those a request has;
                              0: HTH_ROOM_AHEAD */
    /* A worker's link failed: its rank, and a sentence. Engine thread. */
    void (*lost)(void *ctx, uint32_t rank, const struct hth_err *err);
    /* A step's tokens and ends have been delivered: whoever only noted them
     * in the callbacks tells its readers now, once for all. May be NULL. */
    void (*delivered)(void *ctx);
    void *ctx;
};

HTH_MUST_CHECK int hth_engine_open(struct hth_engine **out,
                                   const struct hth_engine_opts *opts,
                                   struct hth_err *err);
/* Ends requests in flight with HTH_ECANCELLED. NULL is fine. */
void hth_engine_close(struct hth_engine *e);

/* Load rank 0's share of a session (session->rank is 0). Replaces the one
 * before; a session with the same plan, types and context keeps the weights.
 * Blocks while loading. Detaches first. */
HTH_MUST_CHECK int hth_engine_load(struct hth_engine *e,
                                   const struct hth_session *session,
                                   struct hth_err *err);
/* Serve over links[1 .. ranks - 1] (links[0] is unused and NULL). The engine
 * owns the links from here on, on error too. ranks == 1: links may be NULL. */
HTH_MUST_CHECK int hth_engine_attach(struct hth_engine *e,
                                     struct hth_link **links, uint32_t ranks,
                                     struct hth_err *err);
/* Stop serving: requests in flight end with *why (copied), links close.
 * Blocks until the step in progress is over. */
void hth_engine_detach(struct hth_engine *e, const struct hth_err *why);
/* Rank 0's adapters, by the controlling thread: hold one (hth_adapters_put());
 * let go of one: HTH_EBUSY while a request that was submitted uses it, and from
 * then on none can be submitted. */
bool hth_engine_lora_has(struct hth_engine *e, uint32_t id);
HTH_MUST_CHECK int hth_engine_lora_put(struct hth_engine *e, uint32_t id,
                                       struct hth_adapter_slice slice,
                                       struct hth_err *err);
HTH_MUST_CHECK int hth_engine_lora_drop(struct hth_engine *e, uint32_t id);
bool hth_engine_attached(const struct hth_engine *e);

struct hth_request_stats {
    uint32_t prompt_tokens, generated_tokens;
    uint32_t cached_tokens; /* of the prompt, found in the prefix cache */
    uint32_t put_back;      /* times it made room for others and began again */
    uint64_t queue_ns, prefill_ns, decode_ns; /* decode: after token 1 */
    uint64_t compute_ns, reduce_ns;           /* rank 0, while it ran */
    uint64_t sent_bytes, received_bytes;      /* all links, payload */
    struct hth_prompt_stats prompt;
    /* Rank 0's weights; read and stall: after token 1. */
    uint64_t pinned_bytes, streamed_bytes, read_bytes, stall_ns;
    double disk_bytes_per_s, predicted_token_s;
};

/* A token and the natural logarithm of its probability, before penalties,
 * biases and temperature. */
struct hth_logprob {
    uint32_t id;
    float logprob;
};

/* An adapter by its number (hth_rank_adapters()). */
struct hth_lora_ask {
    uint32_t id;
    float scale;
};

struct hth_request {
    const uint32_t *tokens; /* copied by submit */
    uint32_t count;         /* >= 1 */
    uint32_t generate_max;  /* 0: only the prompt is run */
    uint32_t split;  /* a step ends at this position of the prompt; 0: none */
    bool ignore_end; /* go on after an end token */
    /* Begin where an earlier request with the same beginning left off, and
     * keep what this one computes for later ones. Not for measuring. */
    bool reuse;
    struct hth_sampling sampling; /* copied */
    /* Adapters that all ranks have, and that stay as long as the request does;
     * variant: what the cache tells their contexts by (prefix.h), 0 exactly
     * without any. Their prompts take steps, whatever the mode. */
    uint32_t loras;
    struct hth_lora_ask lora[HTH_LORA_SET_MAX];
    uint64_t variant;
    uint64_t client;      /* whose it is: turns go round clients (fair.h) */
    int32_t priority;     /* a higher one goes first */
    uint32_t deadline_ms; /* from submit; ends with HTH_ETIMEDOUT. 0: none */
    /* NULL, or what the answer is held to; submit takes a reference of its
     * own. An end token then always ends the answer. */
    struct hth_grammar *grammar;
    /* 0: none; else 1 + how many of the likeliest tokens on_logprobs gets,
     * at most HTH_LOGPROBS_MAX. Costs a gather of all logits. */
    uint32_t logprobs;
    /* All may be NULL except on_end. */
    void (*on_prefill)(void *ctx, uint32_t done, uint32_t total);
    /* Each generated token, an end token excepted. Return false to stop (a
     * stop string): the request ends with HTH_OK. */
    bool (*on_token)(void *ctx, uint32_t id);
    /* Just before on_token: v[0] is the token, v[1 .. n) the likeliest. */
    void (*on_logprobs)(void *ctx, const struct hth_logprob *v, uint32_t n);
    /* All logits after each prompt token ([vocab], borrowed), in order. */
    void (*on_logits)(void *ctx, uint32_t index, const float *logits,
                      uint32_t vocab);
    /* The hidden state after each prompt token ([dim], normalised, borrowed),
     * in order. As with on_logits, every position is computed: nothing of the
     * prompt may come from a cache. */
    void (*on_hidden)(void *ctx, uint32_t index, const float *x, uint32_t dim);
    void (*on_end)(void *ctx, int status, const struct hth_err *err,
                   const struct hth_request_stats *stats);
    void *ctx;
};

/* HTH_EBUSY when the queue is full, HTH_EOVERFLOW when prompt + generate_max
 * exceed the context (both numbers in the text), HTH_EUNREACHABLE when not
 * attached. *id is for cancel. */
HTH_MUST_CHECK int hth_engine_submit(struct hth_engine *e,
                                     const struct hth_request *r, uint64_t *id,
                                     struct hth_err *err);
/* For measuring, loaded engines only. Times: rank 0's so far; from a callback,
 * or while nothing runs. */
struct hth_loader_stats;
void hth_engine_weights(const struct hth_engine *e,
                        struct hth_loader_stats *out);
void hth_engine_times(const struct hth_engine *e,
                      struct hth_forward_times *out);
void hth_engine_plan(const struct hth_engine *e, struct hth_plan *out);
/* The KV cache, in blocks of HTH_KV_BLOCK_POSITIONS positions; every rank has
 * its heads of all of them. Any thread; zeros while nothing is loaded. */
struct hth_cache_stats {
    uint32_t blocks, blocks_used;
    uint32_t kept;           /* sequences kept for later requests */
    uint64_t kept_positions; /* of them, shared ones once */
};
void hth_engine_cache_stats(struct hth_engine *e, struct hth_cache_stats *out);
/* Requests that are computed and that wait, now. Any thread. */
void hth_engine_queue(struct hth_engine *e, uint32_t *running,
                      uint32_t *waiting);
/* Tokens since the engine was opened: prompt tokens computed, tokens found in
 * the cache, tokens generated. Any thread. */
struct hth_engine_totals {
    uint64_t prompt_tokens, cached_tokens, generated_tokens;
};
void hth_engine_totals(struct hth_engine *e, struct hth_engine_totals *out);
/* How long the step under way has lasted; 0: none is. Any thread. */
uint64_t hth_engine_step_ms(const struct hth_engine *e);
/* Is memory short on any other rank? Then, as when it is on rank 0, sequences
 * that are only kept go, one before each step. Any thread. */
void hth_engine_peers_short(struct hth_engine *e, bool any);
/* Where rank 0's time went. Any thread. */
void hth_engine_phases(struct hth_engine *e, struct hth_phases *out);

/* End a request within a step; on_end gets HTH_ECANCELLED. Unknown ids are
 * ignored. */
void hth_engine_cancel(struct hth_engine *e, uint64_t id);

#endif
