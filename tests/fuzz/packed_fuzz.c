/* packed_fuzz.c - the header of a file of packed weights. Whatever is in it,
 * it is either the one header that its owner expects, or refused. The first
 * byte chooses whether the checksum is made right, to come behind it. */
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/cursor.h"
#include "worker/packed.h"

#define PIECES 3u
#define CHUNKS 4u
/* Magic, three numbers, the key, sizes, sums; then the checksum of all that. */
#define SUMMED_BYTES (8u + 12u + 32u + 8u * PIECES + 4u * CHUNKS)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t bytes[PIECES] = {4096 * 300, 0, 2 << 20};
    struct hth_packed_opts o = {.dir = "/",
                                .key = {1, 2, 3},
                                .layout = 7,
                                .pieces = PIECES,
                                .piece_bytes = bytes};
    uint32_t sums[CHUNKS] = {0};
    uint8_t *head;

    if (size < 1)
        return 0;
    head = malloc(size);
    if (head == NULL)
        return 0;
    size--;
    memcpy(head, data + 1, size);
    if (data[0] % 2 == 0 && size >= SUMMED_BYTES + 4)
        hth_store_u32(head + SUMMED_BYTES, hth_checksum(head, SUMMED_BYTES));
    if (hth_packed_parse(&o, head, size, sums) &&
        (memcmp(head, "HTHPACK1", 8) != 0 || head[20] != 1 ||
         hth_load_u32(head + SUMMED_BYTES - 4) != sums[CHUNKS - 1]))
        abort();
    free(head);
    return 0;
}
