/* prefill.h - how long a prompt will take in each mode, and which mode and
 * partition to take: the cost model of long prompts over several devices.
 *
 * Everything is plain numbers measured elsewhere: what a device computes per
 * second, what a link carries, how long a message takes. The split modes are
 * simulated layer by layer as they run (projections, blocks arriving in the
 * order of spread.h, attention on what has arrived, the rest of the layer, two
 * layers of credit), so that overlap is counted where it happens. Methods:
 * KV-Runahead (arXiv 2405.05329) for the uneven partition: seed by bisection,
 * then a search with halving strides over the simulated time, and a table of
 * ratios with interpolation for lengths not searched.
 * Pure: no I/O, no allocation, thread-safe. */
#ifndef HTH_SCHEDULER_PREFILL_H
#define HTH_SCHEDULER_PREFILL_H

#include <stdint.h>

#include "scheduler/spread.h"

struct hth_prefill_device {
    double row_s;   /* seconds for the products of one row of one whole layer */
    double pair_s;  /* for one query-key pair, all heads, of one layer */
    double layer_s; /* what a chunk of rows costs beside its rows: a layer's
                     * weights come from memory once more */
    double stream_bytes_per_s; /* of whole layers; 0: they are in memory */
    double share;              /* of the tensor-parallel plan, 0..1 */
};

struct hth_prefill_net {
    double alpha_s[HTH_RANKS_MAX][HTH_RANKS_MAX]; /* one message, one way */
    double bytes_per_s[HTH_RANKS_MAX][HTH_RANKS_MAX];
};

/* The model's and the session's part. */
struct hth_prefill_load {
    uint32_t ranks;
    uint32_t layers;
    uint32_t chunk_rows;       /* of one product, and of a step */
    double barrier_s;          /* of an all-reduce beside its bytes */
    uint32_t piece_rows;       /* that blocks are cut into */
    double kv_bytes;           /* keys and values of a position, one layer */
    double reduce_bytes;       /* a row in an all-reduce */
    double embed_bytes;        /* a row as rank 0 sends it to a split prefill */
    double step_bytes;         /* a row as rank 0 sends it to a step */
    double layer_bytes;        /* one whole layer's weights */
    bool whole[HTH_RANKS_MAX]; /* the rank has whole layers */
    double alone;    /* what rank 0 takes while nobody else computes, of what it
                      * takes while all do: less than 1 where ranks share cores;
                      * 0: as long */
    uint32_t barred; /* a bit per mode: not possible for another reason */
    struct hth_prefill_device device[HTH_RANKS_MAX];
    const struct hth_prefill_net *net; /* borrowed */
};

/* A prompt: new tokens after `prefix` cached ones. */
struct hth_prompt {
    uint32_t prefix;
    uint32_t count;
};

struct hth_prefill_rank_time {
    double compute_s, wait_s, end_s;
};
struct hth_prefill_time {
    double first_token_s; /* from the start to the last row's hidden state */
    double all_s;         /* until every rank is done, repair included */
    struct hth_prefill_rank_time rank[HTH_RANKS_MAX];
};

/* Tensor-parallel chunks through the star; time over `load->ranks` ranks. */
void hth_prefill_time_tp(const struct hth_prefill_load *load,
                         const struct hth_prompt *prompt,
                         struct hth_prefill_time *out);
/* A spread of the prompt's tokens; spread->count == prompt->count. */
void hth_prefill_time_split(const struct hth_prefill_load *load,
                            const struct hth_prompt *prompt,
                            const struct hth_spread *spread,
                            struct hth_prefill_time *out);

/* ---- partition ----------------------------------------------------------- */

/* Largest fraction of an unequal partition that one rank may be denied: below
 * this part of an even share a rank gets nothing less, because a rate that was
 * measured badly must not idle a device. */
#define HTH_PREFILL_SHARE_MIN 0.05

/* kvr's seed: c_i such that all ranks compute for the same time, by bisection
 * of that time. weights[ranks] sum to 1. */
void hth_partition_seed(const struct hth_prefill_load *load,
                        const struct hth_prompt *prompt, double *weights);
/* Shares by the speed of products, for the modes whose attention is even. */
void hth_partition_speed(const struct hth_prefill_load *load, double *weights);
/* Improve kvr's weights: boundaries move by a stride that halves, while the
 * simulated time to the first token falls. Never worse than the seed or the
 * even partition. Returns that time. */
double hth_partition_search(const struct hth_prefill_load *load,
                            const struct hth_prompt *prompt, double *weights);

#define HTH_PARTITION_TABLE_MAX 32u

/* Ratios by prompt length; ascending. Valid for one session's devices. */
struct hth_partition_table {
    uint32_t entries;
    uint32_t ranks;
    uint32_t count[HTH_PARTITION_TABLE_MAX];
    double weight[HTH_PARTITION_TABLE_MAX][HTH_RANKS_MAX];
};
/* Remember; an entry of the same length is replaced, a full table loses the
 * one nearest to its neighbours. */
void hth_partition_learn(struct hth_partition_table *t, uint32_t count,
                         const double *weights);
/* Ratios for a length: linear between neighbours, in the logarithm of the
 * length. False where the table has no entry on both sides. */
bool hth_partition_lookup(const struct hth_partition_table *t, uint32_t count,
                          double *weights);

/* ---- what was measured ----------------------------------------------------
 */

#define HTH_PREFILL_LENGTHS 21u /* octaves: to 2^20 tokens */
#define HTH_PREFILL_KEPT 5u     /* prompts of a mode and length */

/* What the last prompts of a mode and length took, as the logarithm of measured
 * over predicted time; of more than are kept the oldest goes. */
struct hth_prefill_runs {
    uint32_t runs; /* ever; the next is kept at runs % HTH_PREFILL_KEPT */
    float log_factor[HTH_PREFILL_KEPT];
};
/* Measured over predicted time to the first token, by mode and length. A model
 * leaves things out (cores that ranks share, a medium that links share); what
 * it leaves out is much the same the next time. Zero: nothing is known. */
struct hth_prefill_past {
    struct hth_prefill_runs of[HTH_PREFILL_AUTO][HTH_PREFILL_LENGTHS];
};
/* A prompt took `factor` times what the model alone had said. */
void hth_prefill_learn(struct hth_prefill_past *past, uint32_t mode,
                       uint32_t count, double factor);
/* What the model's time is to be multiplied by: the median of what is kept. */
double hth_prefill_factor(const struct hth_prefill_past *past, uint32_t mode,
                          uint32_t count);
/* At most 1: how much better than predicted a mode may turn out at this length,
 * for the little that it was run. The automatic choice goes by it, so that what
 * was never tried, or was unlucky once, is tried where it costs little. */
double hth_prefill_doubt(const struct hth_prefill_past *past, uint32_t mode,
                         uint32_t count);
/* Is it time to try again what was not the best? Every so many prompts of a
 * length. */
bool hth_prefill_again(const struct hth_prefill_past *past, uint32_t count);

/* Rates within this factor of each other get their mean: a measurement cannot
 * tell more, and an uneven deal among equal devices only costs. */
#define HTH_PREFILL_ALIKE 1.1
void hth_prefill_level(double *rate, uint32_t n);

/* ---- choice -------------------------------------------------------------- */

struct hth_prefill_choice {
    uint32_t mode; /* TP, or one that splits, with its spread */
    struct hth_spread spread;
    double predicted_s;                  /* to the first token */
    double model_s;                      /* the same without the past */
    double by_mode_s[HTH_PREFILL_MODES]; /* 0: not possible */
    double model_by_mode_s[HTH_PREFILL_MODES];
};

/* What a choice remembers of earlier prompts of the same devices. */
struct hth_prefill_memory {
    struct hth_partition_table table;
    struct hth_prefill_past past;
};

/* The best of all possible modes, or `wanted` if it is not AUTO. memory may be
 * NULL; else its table is asked and taught, its past is asked, and a mode that
 * may turn out to be the best is taken before it is known to be.
 * HTH_EUNSUPPORTED: the wanted mode is barred, or needs whole layers where they
 * are not. */
HTH_MUST_CHECK int hth_prefill_choose(const struct hth_prefill_load *load,
                                      const struct hth_prompt *prompt,
                                      uint32_t wanted,
                                      struct hth_prefill_memory *memory,
                                      struct hth_prefill_choice *out);

#endif
