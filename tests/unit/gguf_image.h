/* gguf_image.h - GGUF files built by hand in memory, right and wrong ones. */
#ifndef HTH_TESTS_GGUF_IMAGE_H
#define HTH_TESTS_GGUF_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"
#include "model/gguf.h"

void image_text(struct hth_buf *b, const char *s); /* u64 length and bytes */
void image_head(struct hth_buf *b, uint64_t tensors, uint64_t keys);
void image_key(struct hth_buf *b, const char *name, uint32_t type);
void image_key_u32(struct hth_buf *b, const char *name, uint32_t v);
void image_array(struct hth_buf *b, const char *name, uint32_t type,
                 uint64_t count);
/* The entry of a tensor of one dimension. */
void image_row(struct hth_buf *b, const char *name, uint32_t type,
               uint64_t cols, uint64_t offset);
void image_zeros(struct hth_buf *b, size_t align, size_t n);
/* Two keys and two F32 tensors of 8 numbers: the smallest file with
 * everything in it. */
void image_small(struct hth_buf *b);
/* Open an exact copy, so that ASan sees any read past the image; the caller
 * frees *copy after closing. */
int image_open(const struct hth_buf *b, struct hth_gguf **g, uint8_t **copy,
               struct hth_err *err);

#endif
