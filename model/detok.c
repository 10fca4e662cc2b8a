/* detok.c - token ids back to text, also while they are still coming in.
 *
 * A token's bytes were decoded when the tokenizer was opened, so this only
 * copies and keeps characters whole. Cannot fail; what the output buffer
 * cannot hold is its own sticky failure. */
#include <string.h>

#include "model/tokenizer_internal.h"
#include "model/utf8.h"

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

/* The bytes to show for id, *n of them; NULL where it is not shown. */
static const uint8_t *shown(const struct hth_tokenizer *t, uint32_t id,
                            bool special, size_t *n)
{
    const struct hth_tok__entry *e;

    if (id >= t->vocab.count)
        return NULL;
    e = &t->vocab.entries[id];
    if (!special && hth_tokenizer_is_special(t, id))
        return NULL;
    *n = e->len;
    return t->vocab.bytes + e->at;
}

size_t hth_token_bytes(const struct hth_tokenizer *t, uint32_t id, bool special,
                       char *dst, size_t size)
{
    size_t n;
    const uint8_t *p = shown(t, id, special, &n);

    if (p == NULL)
        return 0;
    if (n > size)
        n = size;
    if (n > 0)
        memcpy(dst, p, n);
    return n;
}

void hth_detok_init(struct hth_detok *d, bool at_start)
{
    *d = (struct hth_detok){.first = at_start};
}

/* Add a byte to what is held back and let go of what that decides: a whole
 * character, or a beginning that it shows to be none (then the byte itself
 * may begin the next). */
static void push_byte(struct hth_detok *d, uint8_t byte, struct hth_buf *out)
{
    size_t len;

    for (;;) {
        d->held[d->held_count++] = byte;
        switch (hth_utf8_scan(d->held, d->held_count, &len)) {
        case HTH_UTF8_PARTIAL:
            return;
        case HTH_UTF8_VALID:
            hth_put_bytes(out, d->held, len);
            d->held_count = 0;
            return;
        case HTH_UTF8_INVALID:
            hth_put_bytes(out, replacement, 3);
            d->held_count = (uint8_t)(d->held_count - len);
            if (d->held_count == 0)
                return;
            d->held_count = 0; /* only the byte itself can be left */
        }
    }
}

void hth_detok_push(struct hth_detok *d, const struct hth_tokenizer *t,
                    uint32_t id, bool special, struct hth_buf *out)
{
    size_t n, i = 0;
    const uint8_t *p = shown(t, id, special, &n);

    if (p == NULL)
        return;
    if (d->first && t->space_prefix && n > 0 && p[0] == ' ' &&
        t->vocab.entries[id].type != HTH_TOK_USER)
        i = 1;
    d->first = false;
    for (; i < n; i++)
        push_byte(d, p[i], out);
}

void hth_detok_finish(struct hth_detok *d, struct hth_buf *out)
{
    if (d->held_count > 0)
        hth_put_bytes(out, replacement, 3);
    d->held_count = 0;
}
