/* split_msg_test.c - messages around a spread prompt: what goes in comes out,
 * and what does not fit the session is refused. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "kernels/type.h"
#include "worker/split_msg.h"

static const struct hth_split_bounds bounds = {3, 1000, 256};

static struct hth_split_job a_job(void)
{
    return (struct hth_split_job){
        .job = 7,
        .seq = 2,
        .prefix = 64,
        .wants = 1,
        .candidates = 40,
        .embed_type = HTH_Q4_0,
        .spread = {HTH_PREFILL_KVR, 3, 100, {50, 30, 20}}};
}

static int through(const struct hth_split_job *in, struct hth_split_job *out)
{
    struct hth_buf b;
    int rc;

    hth_buf_init(&b, HTH_SPLIT_BYTES_MAX);
    hth_split_put_job(&b, in);
    cr_assert(!b.failed);
    cr_assert_eq(hth_split_kind(b.data, b.len), (uint32_t)HTH_SPLIT_JOB);
    rc = hth_split_get_job(out, &bounds, b.data, b.len);
    for (size_t cut = 0; cut < b.len; cut++)
        cr_assert_neq(
            hth_split_get_job(&(struct hth_split_job){0}, &bounds, b.data, cut),
            HTH_OK);
    hth_buf_fini(&b);
    return rc;
}

Test(split_msg, a_job_comes_through)
{
    struct hth_split_job in = a_job(), out;

    cr_assert_eq(through(&in, &out), HTH_OK);
    cr_assert_eq(memcmp(&in, &out, sizeof in), 0);
}

Test(split_msg, what_does_not_fit_is_refused)
{
    struct hth_split_job out, in;

#define REFUSED(change)                               \
    do {                                              \
        in = a_job();                                 \
        change;                                       \
        cr_assert_eq(through(&in, &out), HTH_EPROTO); \
    } while (0)
    REFUSED(in.seq = HTH_SEQS_MAX);
    REFUSED(in.wants = 2);
    REFUSED(in.candidates = HTH_CANDIDATES_MAX + 1);
    REFUSED(in.embed_type = 77);
    REFUSED(in.prefix = 901);
    REFUSED(in.spread.count = 101);
    REFUSED(in.spread.mode = HTH_PREFILL_AUTO);
    REFUSED(in.spread.mode = HTH_PREFILL_TP);
    REFUSED(in.spread.rows[1] = UINT32_MAX);
    REFUSED((in.spread.ranks = 2, in.spread.rows[0] = 70));
#undef REFUSED
}

Test(split_msg, meeting_comes_through)
{
    struct hth_split_met met = {4711, {true, 1e-4, 2e-8, 0, 1.5, 5e8, 77}},
                         met2;
    struct hth_split_dial dial = {.meeting = 99, .ranks = 3}, dial2 = {0};
    struct hth_buf b;
    uint32_t bits;

    hth_buf_init(&b, HTH_SPLIT_BYTES_MAX);
    hth_split_put_met(&b, &met);
    cr_assert_eq(hth_split_get_met(&met2, b.data, b.len), HTH_OK);
    cr_assert_eq(met2.port, 4711);
    cr_assert(met2.rates.whole && met2.rates.row_s == 1e-4 &&
              met2.rates.stream_bytes_per_s == 5e8 && met2.rates.crowd == 1.5 &&
              met2.rates.room_bytes == 77);
    hth_buf_reset(&b);
    met.rates.pair_s = NAN;
    hth_split_put_met(&b, &met);
    cr_assert_eq(hth_split_get_met(&met2, b.data, b.len), HTH_EPROTO);
    hth_buf_reset(&b);
    strcpy(dial.peer[2].device, "SOME-DEVICE");
    strcpy(dial.peer[2].host, "192.168.1.9");
    dial.peer[2].port = 9;
    hth_split_put_dial(&b, &dial);
    cr_assert_eq(hth_split_get_dial(&dial2, b.data, b.len), HTH_OK);
    cr_assert_eq(memcmp(&dial, &dial2, sizeof dial), 0);
    hth_buf_reset(&b);
    hth_split_put_kind(&b, HTH_SPLIT_KEEP);
    hth_split_put_bits(&b, 6);
    cr_assert_eq(hth_split_get_bits(&bits, true, b.data, b.len), HTH_OK);
    cr_assert_eq(bits, 6u);
    cr_assert_eq(hth_split_get_bits(&bits, false, b.data, b.len), HTH_EPROTO);
    hth_buf_fini(&b);
}

/* Texts of peers go to logs: ended and printable, whatever was sent. */
Test(split_msg, a_report_is_fixed_and_clean)
{
    struct hth_split_done in = {.status = HTH_ENOMEM,
                                .compute_ns = 5,
                                .pairs = 1ull << 40},
                          out;
    uint8_t bytes[HTH_SPLIT_DONE_BYTES];

    strcpy(in.text, "no memory");
    hth_split_put_done(bytes, &in);
    hth_split_get_done(&out, bytes);
    cr_assert_eq(memcmp(&in, &out, sizeof in), 0);
    memset(bytes, 0x1b, sizeof bytes);
    hth_split_get_done(&out, bytes);
    cr_assert_eq(strlen(out.text), HTH_ERR_TEXT_MAX - 1);
    cr_assert_eq(out.text[0], '?');
}
