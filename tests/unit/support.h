/* support.h - what several unit tests need: golden files, and a model run by
 * in-process shards. Failures are Criterion assertions. */
#ifndef HTH_TESTS_SUPPORT_H
#define HTH_TESTS_SUPPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Directory of the golden vectors, or NULL (then the caller skips). */
const char *golden_dir(void);
/* "DIR/name.suffix" into a static buffer. */
const char *golden_path(const char *name, const char *suffix);
/* Whole file, malloc'd; NULL when missing. */
void *read_file(const char *path, size_t *size);

/* Logits [count][vocab] after each of tokens[count], computed by ranks
 * in-process threads with these shares; malloc'd. chunk: rows per step. */
struct shard_run {
    const char *gguf;
    const double *shares;
    uint32_t ranks;
    uint32_t threads; /* per rank */
    uint32_t kv_type;
    uint32_t chunk;
    const uint32_t *tokens;
    uint32_t count;
    bool moving; /* blocks come for their compute only, each time elsewhere */
    uint32_t vocab; /* out */
    /* Adapters of every row. */
    const char *lora[2];
    float lora_scale[2];
    uint32_t loras;
    uint64_t reduced; /* out: numbers that rank 0 gave to all-reduces */
};
float *run_shards(struct shard_run *run);

double mean_kl(const float *ref, const float *got, uint32_t rows,
               uint32_t vocab);
double max_abs_diff(const float *a, const float *b, size_t n);

#endif
