/* embed.h - token ids into embedding rows, from the model file. Rank 0 only:
 * workers get the rows. One row is read with pread when it is needed, so the
 * table costs no memory and a file truncated underneath is an error, never a
 * signal. Thread-safe after open except for the scratch: one thread. */
#ifndef HTH_MODEL_EMBED_H
#define HTH_MODEL_EMBED_H

#include <stdint.h>

#include "base/status.h"
#include "model/gguf.h"
#include "model/spec.h"

struct hth_embed;

HTH_MUST_CHECK int hth_embed_open(struct hth_embed **out,
                                  const struct hth_gguf *g,
                                  const struct hth_spec *s,
                                  struct hth_err *err);
void hth_embed_close(struct hth_embed *e); /* NULL is fine */
/* out: [dim] f32. HTH_EINVAL for an id outside the vocabulary. */
HTH_MUST_CHECK int hth_embed_row(struct hth_embed *e, uint32_t id, float *out,
                                 struct hth_err *err);
/* The row as it is in the file, of hth_embed_row_bytes(). */
HTH_MUST_CHECK int hth_embed_raw(struct hth_embed *e, uint32_t id, void *out,
                                 struct hth_err *err);
size_t hth_embed_row_bytes(const struct hth_embed *e);
uint32_t hth_embed_type(const struct hth_embed *e); /* enum hth_type */

#endif
