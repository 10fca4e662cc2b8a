/* synth_internal.h - between the files of synth. Not for others. */
#ifndef HTH_MODEL_SYNTH_INTERNAL_H
#define HTH_MODEL_SYNTH_INTERNAL_H

#include "base/rng.h"
#include "model/gguf.h"
#include "model/synth.h"

/* 256 bytes, 3 control tokens and, as a BPE vocabulary without any would be
 * strange, a merge. */
#define SYNTH_VOCAB_MIN 260u

/* Put the tokenizer.* keys of a vocabulary of `vocab` tokens, at least
 * SYNTH_VOCAB_MIN. Errors: HTH_ENOMEM; the writer's stick to it. */
HTH_MUST_CHECK int hth__synth_put_vocab(struct hth_gguf_writer *w,
                                        uint32_t vocab, struct hth_err *err);

/* n bell-shaped numbers. */
void hth__synth_draw(struct hth_rng *rng, double mean, double deviation,
                     float *dst, size_t n);

#endif
