/* synth.h - a model of random weights with a working tokenizer, for
 * benchmarks and tests: the right shape and type, and text that means nothing.
 *
 * The weights are bell-shaped and scaled so that activations stay near 1 and
 * logits have a deviation near 2, whatever the size. The same options give the
 * same file, byte for byte. Written by one thread; blocks for as long as the
 * disk takes. Loads in Hearth and, where it knows the architecture, in
 * llama.cpp. */
#ifndef HTH_MODEL_SYNTH_H
#define HTH_MODEL_SYNTH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#define HTH_SYNTH_NAME_SIZE 32u

struct hth_synth_shape {
    char name[HTH_SYNTH_NAME_SIZE]; /* the preset's, or "synth" */
    char arch[HTH_SYNTH_NAME_SIZE]; /* llama, qwen2, qwen3, qwen3moe */
    uint32_t dim, layers, heads, kv_heads, head_dim;
    uint32_t ff; /* of one expert where there are experts */
    uint32_t vocab;
    uint32_t experts, experts_used; /* both 0, or qwen3moe */
    uint32_t ctx;                   /* context_length, positions */
    float rope_base;
    float norm_eps;
    bool tied; /* no output matrix of its own */
};

/* The names of the presets, for help texts: "tiny, llama-1b, ...". */
const char *hth_synth_presets(void);
/* The names of the types: "F32, F16, ... Q4_K_M, Q5_K_M". */
const char *hth_synth_types(void);

/* Read a shape: a preset's name, or d=N,layers=N,heads=N,ff=N,vocab=N and any
 * of kv, head_dim, arch, experts, used, ctx, tied (0 or 1); or a preset
 * followed by changes, as in "llama-8b,layers=4". Fails with HTH_EUSAGE and a
 * sentence about the word that is wrong; HTH_ELIMIT beyond base/limits.h. */
HTH_MUST_CHECK int hth_synth_parse(struct hth_synth_shape *out,
                                   const char *text, struct hth_err *err);

struct hth_synth_opts {
    const char *shape; /* see hth_synth_parse() */
    const char *type;  /* see hth_synth_types(); any case */
    uint64_t seed;
    /* Called from time to time with bytes of weights written and in all; may
     * be NULL. */
    void (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
    void *progress_ctx;
};

/* Write the model to path. Nothing is left there on error. Errors: those of
 * hth_synth_parse() and of the GGUF writer; HTH_EUSAGE for an unknown type or
 * one whose blocks do not divide the rows. */
HTH_MUST_CHECK int hth_synth_write(const struct hth_synth_opts *opts,
                                   const char *path, struct hth_err *err);

/* ---- adapters (synth_lora.c) ----------------------------------------------
 */

struct hth_synth_lora_opts {
    const char *model_path; /* whose layers are adapted, all of them */
    const char *type;       /* F32, F16, BF16, Q8_0 ...; any case */
    uint32_t rank;          /* 1 to HTH_LORA_RANK_MAX */
    float alpha;            /* <= 0: the rank */
    uint64_t seed;
};
/* Write a LoRA adapter of random numbers (model/lora.h) to path. Errors: those
 * of opening the model and of the GGUF writer; HTH_EUSAGE. */
HTH_MUST_CHECK int hth_synth_lora(const struct hth_synth_lora_opts *opts,
                                  const char *path, struct hth_err *err);

#endif
