/* gguf_image.c - see gguf_image.h. Fails the running test when out of memory.
 */
#include "tests/unit/gguf_image.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/type.h"

void image_text(struct hth_buf *b, const char *s)
{
    hth_put_u64(b, strlen(s));
    hth_put_bytes(b, s, strlen(s));
}

void image_head(struct hth_buf *b, uint64_t tensors, uint64_t keys)
{
    hth_put_bytes(b, "GGUF", 4);
    hth_put_u32(b, 3);
    hth_put_u64(b, tensors);
    hth_put_u64(b, keys);
}

void image_key(struct hth_buf *b, const char *name, uint32_t type)
{
    image_text(b, name);
    hth_put_u32(b, type);
}

void image_key_u32(struct hth_buf *b, const char *name, uint32_t v)
{
    image_key(b, name, HTH_GGUF_U32);
    hth_put_u32(b, v);
}

void image_array(struct hth_buf *b, const char *name, uint32_t type,
                 uint64_t count)
{
    image_key(b, name, HTH_GGUF_ARRAY);
    hth_put_u32(b, type);
    hth_put_u64(b, count);
}

void image_row(struct hth_buf *b, const char *name, uint32_t type,
               uint64_t cols, uint64_t offset)
{
    image_text(b, name);
    hth_put_u32(b, 1);
    hth_put_u64(b, cols);
    hth_put_u32(b, type);
    hth_put_u64(b, offset);
}

void image_zeros(struct hth_buf *b, size_t align, size_t n)
{
    while (b->len % align != 0)
        hth_put_u8(b, 0);
    for (size_t i = 0; i < n; i++)
        hth_put_u8(b, 0);
}

void image_small(struct hth_buf *b)
{
    image_head(b, 2, 2);
    image_key(b, "general.architecture", HTH_GGUF_STRING);
    image_text(b, "llama");
    image_array(b, "tokens", HTH_GGUF_STRING, 2);
    image_text(b, "a");
    image_text(b, "bc");
    image_row(b, "first", HTH_F32, 8, 0);
    image_row(b, "second", HTH_F32, 8, 32);
    image_zeros(b, 32, 64);
}

int image_open(const struct hth_buf *b, struct hth_gguf **g, uint8_t **copy,
               struct hth_err *err)
{
    *copy = malloc(b->len > 0 ? b->len : 1);
    cr_assert(*copy != NULL && !b->failed);
    if (b->len > 0)
        memcpy(*copy, b->data, b->len);
    return hth_gguf_open_memory(g, *copy, b->len, err);
}
