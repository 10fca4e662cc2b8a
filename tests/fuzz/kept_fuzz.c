/* kept_fuzz.c - files of contexts: the coordinator's list and the head of a
 * rank's part. What is accepted is what would be written. */
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "base/hash.h"
#include "coordinator/kept.h"
#include "worker/kv_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* With a hash that agrees, so that what is behind it is reached. */
static void decode_sealed(const uint8_t *data, size_t size)
{
    static const uint8_t print[HTH_HASH_BYTES];
    uint8_t *copy = malloc(size + HTH_HASH_BYTES);
    struct hth_kept_text text = {0};
    struct hth_hash *h;

    if (copy == NULL || hth_hash_open(&h) != HTH_OK)
        abort();
    if (size > 0)
        memcpy(copy, data, size);
    if (size >= 12 + HTH_HASH_BYTES)
        memset(copy + 12, 0, HTH_HASH_BYTES);
    hth_hash_update(h, copy, size);
    hth_hash_finish(h, copy + size);
    hth_hash_close(h);
    if (hth_kept_decode(copy, size + HTH_HASH_BYTES, print, &text, NULL) ==
        HTH_OK) {
        size_t head = 12 + HTH_HASH_BYTES;

        head += hth_load_u32(copy + 4) == 2 ? 8 : 0;
        if (head + 4 * (size_t)text.count != size)
            abort();
        for (uint32_t i = 0; i < text.count; i++)
            if (text.tokens[i] != hth_load_u32(copy + head + 4 * (size_t)i))
                abort();
    }
    free(text.tokens);
    free(copy);
}

static void heads(const uint8_t *data, size_t size)
{
    struct hth_kv_file want = {.key = 5, .layers = 2, .positions = 64};
    uint8_t own[HTH_KV_FILE_HEAD_BYTES];
    struct hth_err err;

    hth_kv_file_put(&want, own);
    if (hth_kv_file_check(&want, data, size, &err) == HTH_OK &&
        memcmp(own, data, sizeof own) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t print[HTH_HASH_BYTES];
    struct hth_kept_text text = {0};

    if (hth_kept_decode(data, size, print, &text, NULL) == HTH_OK)
        free(text.tokens);
    decode_sealed(data, size);
    heads(data, size);
    return 0;
}
