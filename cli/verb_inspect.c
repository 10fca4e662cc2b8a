/* verb_inspect.c - what is in a GGUF file. */
#include "cli/out.h"
#include "cli/verbs.h"
#include "model/inspect.h"

#define OUT_BYTES_MAX (256u << 20)

int hth_verb_inspect(const struct hth_args *args, struct hth_err *err)
{
    struct hth_gguf *gguf;
    struct hth_buf out;
    int rc = hth_gguf_open(&gguf, args->operands[0], err);

    if (rc != HTH_OK)
        return rc;
    hth_buf_init(&out, OUT_BYTES_MAX);
    if (hth_args_flag(args, "json")) {
        hth_inspect_json(gguf, &out);
        hth_put_u8(&out, '\n');
    } else {
        hth_inspect_text(gguf, &out);
    }
    rc = hth_out_buf(&out, err);
    hth_buf_fini(&out);
    hth_gguf_close(gguf);
    return rc;
}
