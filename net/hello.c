/* hello.c - encoding and decoding of the link's hello. */
#include "net/hello.h"

#include <string.h>

void hth__hello_encode(const struct hth__hello *h, struct hth_buf *out)
{
    hth_put_u32(out, HTH__HELLO_MAGIC);
    hth_put_u16(out, h->version_min);
    hth_put_u16(out, h->version_max);
    hth_put_u32(out, (uint32_t)h->status);
    hth_put_cstr(out, h->text);
    if (h->status != HTH_OK)
        return;
    hth_put_u16(out, h->version);
    hth_put_u32(out, h->ciphers);
    hth_put_u32(out, h->rank);
    hth_put_u64(out, h->session);
    hth_put_cstr(out, h->name);
    hth_put_bytes(out, h->key.key, HTH_KEY_BYTES);
    hth_put_bytes(out, h->key.salt, HTH_SALT_BYTES);
}

/* Which side is behind decides what the sentence asks for. */
static int version_fail(const struct hth__hello *theirs,
                        const struct hth__hello *ours, struct hth_err *err)
{
    bool we_lag = ours->version_max < theirs->version_min;

    return hth_fail(err, HTH_EVERSION,
                    "it speaks link versions %u to %u, this device %u to %u: "
                    "upgrade Hearth on %s",
                    theirs->version_min, theirs->version_max, ours->version_min,
                    ours->version_max,
                    we_lag ? "this device" : "the other device");
}

static void decode_rest(struct hth__hello *h, struct hth_cursor *c)
{
    const uint8_t *key;
    const uint8_t *salt;

    h->version = hth_get_u16(c);
    h->ciphers = hth_get_u32(c);
    h->rank = hth_get_u32(c);
    h->session = hth_get_u64(c);
    hth_get_cstr(c, h->name, sizeof h->name);
    key = hth_get_bytes(c, HTH_KEY_BYTES);
    salt = hth_get_bytes(c, HTH_SALT_BYTES);
    if (key == NULL || salt == NULL)
        return;
    memcpy(h->key.key, key, HTH_KEY_BYTES);
    memcpy(h->key.salt, salt, HTH_SALT_BYTES);
}

int hth__hello_decode(struct hth__hello *out, const void *p, size_t n,
                      const struct hth__hello *ours, struct hth_err *err)
{
    struct hth__hello h = {.version = 0};
    struct hth_cursor c;

    hth_cursor_init(&c, p, n);
    if (hth_get_u32(&c) != HTH__HELLO_MAGIC)
        return hth_fail(err, HTH_EPROTO, "its hello is not one of Hearth's");
    h.version_min = hth_get_u16(&c);
    h.version_max = hth_get_u16(&c);
    h.status = (int32_t)hth_get_u32(&c);
    hth_get_cstr(&c, h.text, sizeof h.text);
    if (c.failed || h.status > 0 || h.version_min == 0 ||
        h.version_min > h.version_max)
        return hth_fail(err, HTH_EPROTO, "its hello is malformed");
    if (h.version_min > ours->version_max || h.version_max < ours->version_min)
        return version_fail(&h, ours, err);
    if (h.status == HTH_OK) {
        decode_rest(&h, &c);
        if (!hth_cursor_done(&c) || h.rank >= HTH_RANKS_MAX)
            return hth_fail(err, HTH_EPROTO, "its hello is malformed");
    }
    *out = h;
    return HTH_OK;
}
