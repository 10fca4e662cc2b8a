/* rows_pairs_neon.h - a panel of packed weights times rows of x two at a time,
 * with the matrix instructions of ARMv8.6 (i8mm): smmla multiplies two rows of
 * 8 columns by two, four dot products at once. Internal to kernels/: a part of
 * gemm_rows_neon.h where the compiler has the instructions. The integer sums
 * are exact and are scaled in the order of rows_terms(): the same bits. */
#ifndef HTH_KERNELS_ROWS_PAIRS_NEON_H
#define HTH_KERNELS_ROWS_PAIRS_NEON_H

#define STEP_BYTES 64u /* 4 columns of the 16 rows */
#define PAIRS 4u       /* of steps, in a block */
#define EIGHTS 8u      /* of the 16 rows, two rows each */

/* Two steps of 4 columns become one of 8: a row's two words side by side, two
 * rows to a vector. */
static void rows_pair_up(struct rows_panel *w)
{
    for (uint32_t b = 0; b < w->blocks; b++)
        for (uint32_t p = 0; p < PAIRS; p++) {
            int8_t *q = (int8_t *)w->q[b] + 2 * STEP_BYTES * p;
            int32x4_t one[QUARTERS], two[QUARTERS];

            for (uint32_t k = 0; k < QUARTERS; k++) {
                one[k] = vreinterpretq_s32_s8(vld1q_s8(q + 16 * k));
                two[k] =
                    vreinterpretq_s32_s8(vld1q_s8(q + STEP_BYTES + 16 * k));
            }
            for (uint32_t k = 0; k < QUARTERS; k++) {
                vst1q_s8(q + 32 * k,
                         vreinterpretq_s8_s32(vzip1q_s32(one[k], two[k])));
                vst1q_s8(q + 32 * k + 16,
                         vreinterpretq_s8_s32(vzip2q_s32(one[k], two[k])));
            }
        }
}

/* Two rows of x, where a block of theirs begins, and their sums of it. */
struct rows_two {
    const int8_t *q[2];
    float d[2];
    float sum[2][2]; /* per half */
};

static inline void rows_get_two(const struct rows_panel *w,
                                const uint8_t *const x[2], uint32_t width,
                                const uint32_t c[2], struct rows_two *to)
{
    for (int i = 0; i < 2; i++) {
        int16_t sums[2];

        to->q[i] = (const int8_t *)x[i] + 32 * c[i];
        memcpy(&to->d[i], x[i] + 32 * width + 4 * c[i], sizeof to->d[i]);
        memcpy(sums, x[i] + 36 * width + 4 * c[i], sizeof sums);
        to->sum[i][0] = w->halves ? sums[0] : sums[0] + sums[1];
        to->sum[i][1] = sums[1];
    }
}

/* What block b adds for both, as rows_terms(). */
static inline void rows_two_terms(const struct rows_panel *w, uint32_t b,
                                  const struct rows_two *x,
                                  float32x4_t t[2][QUARTERS])
{
    const uint32_t halves = w->halves ? 2 : 1, pairs = PAIRS / halves;
    const int8_t *q = (const int8_t *)w->q[b];

    for (uint32_t h = 0; h < halves; h++) {
        int32x4_t a[EIGHTS];

        for (uint32_t e = 0; e < EIGHTS; e++)
            a[e] = vdupq_n_s32(0);
        for (uint32_t p = h * pairs; p < (h + 1) * pairs; p++) {
            int8x16_t v =
                vcombine_s8(vld1_s8(x->q[0] + 8 * p), vld1_s8(x->q[1] + 8 * p));

            for (uint32_t e = 0; e < EIGHTS; e++)
                a[e] = vmmlaq_s32(a[e],
                                  vld1q_s8(q + 2 * STEP_BYTES * p + 16 * e), v);
        }
        for (uint32_t k = 0; k < QUARTERS; k++) {
            float32x4_t d = vld1q_f32(w->d[b * halves + h] + 4 * k);
            float32x4_t m = vld1q_f32(w->m[b * halves + h] + 4 * k);
            float32x4_t v[2] = {
                vcvtq_f32_s32(vuzp1q_s32(a[2 * k], a[2 * k + 1])),
                vcvtq_f32_s32(vuzp2q_s32(a[2 * k], a[2 * k + 1]))};

            for (int i = 0; i < 2; i++) {
                t[i][k] =
                    h == 0 ? vmulq_f32(v[i], d) : vfmaq_f32(t[i][k], v[i], d);
                if (w->mins)
                    t[i][k] = vfmaq_n_f32(t[i][k], m, x->sum[i][h]);
            }
        }
    }
}

/* Row r of x and the next; a last one alone stands for both. */
static void rows_two_rows(const struct rows_panel *w,
                          const struct rows_job *job, uint32_t r)
{
    const uint32_t other = r + 1 < job->n ? r + 1 : r;
    const uint32_t c[2] = {r % job->width, other % job->width};
    const uint8_t *x[2] = {rows_tile(job, r), rows_tile(job, other)};
    float *y[2] = {job->y + r * job->ldy, job->y + other * job->ldy};
    float32x4_t sum[2][QUARTERS], t[2][QUARTERS];

    for (int i = 0; i < 2; i++)
        for (uint32_t k = 0; k < QUARTERS; k++)
            sum[i][k] = job->fresh ? vdupq_n_f32(0) : vld1q_f32(y[i] + 4 * k);
    for (uint32_t b = 0; b < w->blocks; b++) {
        struct rows_two two;

        rows_get_two(w, x, job->width, c, &two);
        rows_two_terms(w, b, &two, t);
        for (int i = 0; i < 2; i++) {
            for (uint32_t k = 0; k < QUARTERS; k++)
                sum[i][k] = vfmaq_n_f32(sum[i][k], t[i][k], two.d[i]);
            x[i] += job->width * HTH_TILE_BLOCK_BYTES;
        }
    }
    for (int i = 0; i < 2; i++)
        for (uint32_t k = 0; k < QUARTERS; k++)
            vst1q_f32(y[i] + 4 * k, sum[i][k]);
}

/* The panel's codes are rearranged for it. */
static void rows_pairs(struct rows_panel *w, const struct rows_job *job)
{
    rows_pair_up(w);
    for (uint32_t r = 0; r < job->n; r += 2)
        rows_two_rows(w, job, r);
}

#undef STEP_BYTES
#undef PAIRS
#undef EIGHTS

#endif
