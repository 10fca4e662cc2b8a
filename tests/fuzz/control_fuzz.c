/* control_fuzz.c - every decoder of the control protocol; what is accepted
 * must be walkable and must encode to the same bytes again. */
#include <stdlib.h>
#include <string.h>

#include "net/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hth_msg m;
    struct hth_msg_block block;
    struct hth_buf again;
    uint32_t i;

    if (hth_msg_decode(&m, data, size, NULL) != HTH_OK)
        return 0;
    if (m.type == HTH_MSG_COMMAND && m.u.command.kind == HTH_COMMAND_LOAD)
        for (i = 0; i < hth_msg_blocks(&m.u.command); i++)
            hth_msg_block_at(&m.u.command, i, &block);
    hth_buf_init(&again, HTH_CONTROL_BYTES_MAX);
    hth_msg_encode(&again, &m);
    if (!again.failed &&
        (again.len != size || memcmp(again.data + 3, data + 3, size - 3) != 0))
        abort();
    hth_buf_fini(&again);
    return 0;
}
