/* stops.c - Knuth, Morris and Pratt's matcher (1977), one per stop string,
 * side by side. How far each has come is how much of the end of the text must
 * be held back. Cannot fail after init. */
#include "model/stops.h"

#include <string.h>

static void fill_back(struct hth_stops *s, uint32_t i)
{
    const uint8_t *text = s->text[i];
    uint16_t *back = s->back[i];
    uint16_t k = 0, at;

    for (at = 1; at < s->len[i]; at++) {
        while (k > 0 && text[k] != text[at])
            k = back[k - 1];
        if (text[k] == text[at])
            k++;
        back[at] = k;
    }
}

int hth_stops_init(struct hth_stops *s, const struct hth_str *texts,
                   size_t count, struct hth_err *err)
{
    uint32_t i;

    if (count > HTH_STOPS_MAX)
        return hth_fail(err, HTH_ELIMIT, "%zu stop strings, at most %u", count,
                        HTH_STOPS_MAX);
    for (i = 0; i < count; i++) {
        if (texts[i].n == 0)
            return hth_fail(err, HTH_EINVAL, "stop string %u is empty", i + 1);
        if (texts[i].n > HTH_STOP_BYTES_MAX)
            return hth_fail(err, HTH_ELIMIT,
                            "stop string %u has %zu bytes, at most %u", i + 1,
                            texts[i].n, HTH_STOP_BYTES_MAX);
    }
    memset(s, 0, sizeof *s);
    s->matched = HTH_STOPS_NONE;
    s->count = (uint32_t)count;
    for (i = 0; i < count; i++) {
        s->len[i] = (uint16_t)texts[i].n;
        memcpy(s->text[i], texts[i].p, texts[i].n);
        fill_back(s, i);
    }
    return 0;
}

/* Take matcher i one byte further; how many bytes it has seen of its text. */
static uint16_t advance(struct hth_stops *s, uint32_t i, uint8_t byte)
{
    uint16_t k = s->seen[i];

    while (k > 0 && s->text[i][k] != byte)
        k = s->back[i][k - 1];
    if (s->text[i][k] == byte)
        k++;
    s->seen[i] = k;
    return k;
}

static void release(struct hth_stops *s, uint32_t keep, struct hth_buf *out)
{
    uint32_t n = s->held_count - keep;

    if (n == 0)
        return;
    hth_put_bytes(out, s->held, n);
    memmove(s->held, s->held + n, keep);
    s->held_count = keep;
}

/* held never overflows: before a byte it is at most a proper beginning of a
 * stop string long. */
static void push_byte(struct hth_stops *s, uint8_t byte, struct hth_buf *out)
{
    uint32_t keep = 0, i;

    s->held[s->held_count++] = byte;
    for (i = 0; i < s->count; i++) {
        uint32_t k = advance(s, i, byte);

        if (k == s->len[i] &&
            (s->matched == HTH_STOPS_NONE || k > s->len[(uint32_t)s->matched]))
            s->matched = (int)i;
        if (k > keep)
            keep = k;
    }
    if (s->matched != HTH_STOPS_NONE)
        keep = s->len[s->matched];
    release(s, keep, out);
    if (s->matched != HTH_STOPS_NONE)
        s->held_count = 0;
}

int hth_stops_push(struct hth_stops *s, const void *text, size_t n,
                   struct hth_buf *out)
{
    const uint8_t *p = text;
    size_t i;

    if (s->count == 0)
        hth_put_bytes(out, text, n);
    for (i = 0; s->count > 0 && i < n && s->matched == HTH_STOPS_NONE; i++)
        push_byte(s, p[i], out);
    return s->matched;
}

void hth_stops_finish(struct hth_stops *s, struct hth_buf *out)
{
    release(s, 0, out);
}
