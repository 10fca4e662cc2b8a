/* split_msg.c - see split_msg.h. Fails only on bytes that no rank of ours
 * would send. */
#include "worker/split_msg.h"

#include <math.h>
#include <string.h>

#include "kernels/type.h"

uint32_t hth_split_kind(const uint8_t *src, size_t n)
{
    return n >= 4 ? hth_load_u32(src) : 0;
}

void hth_split_put_kind(struct hth_buf *b, enum hth_split_kind kind)
{
    hth_put_u32(b, kind);
}

/* ---- meeting ----------------------------------------------------------------
 */

void hth_split_put_met(struct hth_buf *b, const struct hth_split_met *m)
{
    hth_put_u16(b, m->port);
    hth_put_u8(b, m->rates.whole);
    hth_put_f64(b, m->rates.row_s);
    hth_put_f64(b, m->rates.pair_s);
    hth_put_f64(b, m->rates.layer_s);
    hth_put_f64(b, m->rates.crowd);
    hth_put_f64(b, m->rates.stream_bytes_per_s);
    hth_put_u64(b, m->rates.room_bytes);
}

static bool rate_ok(double v)
{
    return isfinite(v) && v >= 0 && v < 1e15;
}

int hth_split_get_met(struct hth_split_met *m, const uint8_t *src, size_t n)
{
    struct hth_cursor c;

    hth_cursor_init(&c, src, n);
    m->port = hth_get_u16(&c);
    m->rates.whole = hth_get_u8(&c) != 0;
    m->rates.row_s = hth_get_f64(&c);
    m->rates.pair_s = hth_get_f64(&c);
    m->rates.layer_s = hth_get_f64(&c);
    m->rates.crowd = hth_get_f64(&c);
    m->rates.stream_bytes_per_s = hth_get_f64(&c);
    m->rates.room_bytes = hth_get_u64(&c);
    return hth_cursor_done(&c) && rate_ok(m->rates.row_s) &&
                   rate_ok(m->rates.pair_s) && rate_ok(m->rates.layer_s) &&
                   rate_ok(m->rates.crowd) &&
                   rate_ok(m->rates.stream_bytes_per_s)
               ? HTH_OK
               : HTH_EPROTO;
}

void hth_split_put_dial(struct hth_buf *b, const struct hth_split_dial *m)
{
    hth_split_put_kind(b, HTH_SPLIT_DIAL);
    hth_put_u64(b, m->meeting);
    hth_put_u32(b, m->ranks);
    for (uint32_t r = 0; r < m->ranks; r++) {
        hth_put_cstr(b, m->peer[r].device);
        hth_put_cstr(b, m->peer[r].host);
        hth_put_u16(b, m->peer[r].port);
    }
}

int hth_split_get_dial(struct hth_split_dial *m, const uint8_t *src, size_t n)
{
    struct hth_cursor c;

    hth_cursor_init(&c, src, n);
    if (hth_get_u32(&c) != HTH_SPLIT_DIAL)
        return HTH_EPROTO;
    m->meeting = hth_get_u64(&c);
    m->ranks = hth_get_u32(&c);
    if (c.failed || m->ranks > HTH_RANKS_MAX)
        return HTH_EPROTO;
    for (uint32_t r = 0; r < m->ranks; r++) {
        hth_get_cstr(&c, m->peer[r].device, sizeof m->peer[r].device);
        hth_get_cstr(&c, m->peer[r].host, sizeof m->peer[r].host);
        m->peer[r].port = hth_get_u16(&c);
    }
    return hth_cursor_done(&c) ? HTH_OK : HTH_EPROTO;
}

void hth_split_put_bits(struct hth_buf *b, uint32_t bits)
{
    hth_put_u32(b, bits);
}

int hth_split_get_bits(uint32_t *bits, bool keep, const uint8_t *src, size_t n)
{
    struct hth_cursor c;

    hth_cursor_init(&c, src, n);
    if (keep && hth_get_u32(&c) != HTH_SPLIT_KEEP)
        return HTH_EPROTO;
    *bits = hth_get_u32(&c);
    return hth_cursor_done(&c) ? HTH_OK : HTH_EPROTO;
}

/* ---- a job
 * ------------------------------------------------------------------- */

void hth_split_put_job(struct hth_buf *b, const struct hth_split_job *m)
{
    hth_split_put_kind(b, HTH_SPLIT_JOB);
    hth_put_u32(b, m->job);
    hth_put_u32(b, m->seq);
    hth_put_u32(b, m->prefix);
    hth_put_u32(b, m->wants);
    hth_put_u32(b, m->candidates);
    hth_put_u32(b, m->embed_type);
    hth_put_u32(b, m->spread.mode);
    hth_put_u32(b, m->spread.ranks);
    hth_put_u32(b, m->spread.count);
    for (uint32_t r = 0; r < m->spread.ranks; r++)
        hth_put_u32(b, m->spread.rows[r]);
}

static bool job_ok(const struct hth_split_job *m,
                   const struct hth_split_bounds *b)
{
    return m->seq < HTH_SEQS_MAX && m->wants <= 1 &&
           m->candidates <= HTH_CANDIDATES_MAX &&
           hth_row_bytes(m->embed_type, b->dim) > 0 &&
           m->spread.ranks == b->ranks && hth_spread_valid(&m->spread) &&
           m->prefix <= b->ctx_max && m->spread.count <= b->ctx_max - m->prefix;
}

int hth_split_get_job(struct hth_split_job *m, const struct hth_split_bounds *b,
                      const uint8_t *src, size_t n)
{
    struct hth_cursor c;

    memset(m, 0, sizeof *m);
    hth_cursor_init(&c, src, n);
    if (hth_get_u32(&c) != HTH_SPLIT_JOB)
        return HTH_EPROTO;
    m->job = hth_get_u32(&c);
    m->seq = hth_get_u32(&c);
    m->prefix = hth_get_u32(&c);
    m->wants = hth_get_u32(&c);
    m->candidates = hth_get_u32(&c);
    m->embed_type = hth_get_u32(&c);
    m->spread.mode = hth_get_u32(&c);
    m->spread.ranks = hth_get_u32(&c);
    m->spread.count = hth_get_u32(&c);
    if (c.failed || m->spread.ranks > HTH_RANKS_MAX)
        return HTH_EPROTO;
    for (uint32_t r = 0; r < m->spread.ranks; r++)
        m->spread.rows[r] = hth_get_u32(&c);
    return hth_cursor_done(&c) && job_ok(m, b) ? HTH_OK : HTH_EPROTO;
}

void hth_split_put_done(uint8_t dst[HTH_SPLIT_DONE_BYTES],
                        const struct hth_split_done *m)
{
    const uint64_t v[] = {m->compute_ns, m->attend_ns,  m->wait_ns,
                          m->load_ns,    m->sent_bytes, m->received_bytes,
                          m->pairs};

    memset(dst, 0, HTH_SPLIT_DONE_BYTES);
    hth_store_u32(dst, (uint32_t)m->status);
    memcpy(dst + 4, m->text, strnlen(m->text, HTH_ERR_TEXT_MAX - 1));
    for (uint32_t i = 0; i < 7; i++)
        hth_store_u64(dst + 4 + HTH_ERR_TEXT_MAX + (size_t)8 * i, v[i]);
}

/* A peer's text goes to logs and answers: printable, ended. */
void hth_split_get_done(struct hth_split_done *m,
                        const uint8_t src[HTH_SPLIT_DONE_BYTES])
{
    uint64_t v[7];

    m->status = (int32_t)hth_load_u32(src);
    memcpy(m->text, src + 4, HTH_ERR_TEXT_MAX);
    m->text[HTH_ERR_TEXT_MAX - 1] = '\0';
    for (char *p = m->text; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    for (uint32_t i = 0; i < 7; i++)
        v[i] = hth_load_u64(src + 4 + HTH_ERR_TEXT_MAX + (size_t)8 * i);
    m->compute_ns = v[0];
    m->attend_ns = v[1];
    m->wait_ns = v[2];
    m->load_ns = v[3];
    m->sent_bytes = v[4];
    m->received_bytes = v[5];
    m->pairs = v[6];
}
