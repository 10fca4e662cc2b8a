/* simd_make.c - data for the tests of the instruction sets. */
#include "tests/unit/simd_make.h"

#include <criterion/criterion.h>

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

const struct hth_isa *simd_usable_at(uint32_t i)
{
    for (uint32_t k = 0; hth_isa_at(k) != NULL; k++)
        if (hth_isa_at(k)->usable() && i-- == 0)
            return hth_isa_at(k);
    return NULL;
}

void *simd_guarded(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t room = (bytes + page - 1) / page * page;
    uint8_t *p = mmap(NULL, room + 2 * page, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    cr_assert_neq(p, MAP_FAILED);
    cr_assert_eq(mprotect(p, page, PROT_NONE), 0);
    cr_assert_eq(mprotect(p + page + room, page, PROT_NONE), 0);
    return p + page + room - bytes;
}

float *simd_floats(struct hth_rng *rng, size_t n, float size)
{
    float *x = simd_guarded(n * sizeof *x);

    for (size_t i = 0; i < n; i++)
        x[i] = size * hth_rng_normal(rng);
    return x;
}

struct simd_halves simd_halves_of(uint32_t type)
{
    switch (type) {
    case HTH_Q2_K:
        return (struct simd_halves){80, 2};
    case HTH_Q3_K:
        return (struct simd_halves){108, 1};
    case HTH_Q6_K:
        return (struct simd_halves){208, 1};
    case HTH_Q4_1:
    case HTH_Q5_1:
    case HTH_Q4_K:
    case HTH_Q5_K:
        return (struct simd_halves){0, 2};
    case HTH_F32:
    case HTH_BF16:
        return (struct simd_halves){0, 0};
    default:
        return (struct simd_halves){0, 1};
    }
}

/* Random blocks with moderate scales: all other bits of a block are free. */
static void simd_weights(struct hth_rng *rng, const struct hth_mat *w)
{
    const struct hth_type_info *info = hth_type_info(w->type);
    struct simd_halves halves = simd_halves_of(w->type);
    uint8_t *p = (uint8_t *)w->data;
    size_t bytes = (size_t)w->rows * w->row_bytes;

    for (size_t i = 0; i < bytes; i++)
        p[i] = (uint8_t)hth_rng_u64(rng);
    for (size_t b = 0; b < bytes; b += info->bytes) {
        float f = hth_rng_normal(rng);
        uint16_t v = hth_f32_to_bf16(f);

        if (w->type == HTH_F32)
            memcpy(p + b, &f, 4);
        if (w->type == HTH_BF16)
            memcpy(p + b, &v, 2);
        for (uint32_t h = 0; h < halves.count; h++) {
            v = hth_f32_to_f16(0.02f * hth_rng_normal(rng));
            memcpy(p + b + halves.at + 2 * h, &v, 2);
        }
    }
}

struct hth_mat simd_matrix(struct hth_rng *rng, uint32_t type, uint32_t rows,
                           uint32_t cols)
{
    struct hth_mat w = {type, rows, cols, hth_row_bytes(type, cols),
                        NULL, false};

    w.data = simd_guarded((size_t)rows * w.row_bytes);
    simd_weights(rng, &w);
    return w;
}

struct hth_q8 simd_q8(const float *x, uint32_t n, uint32_t cols)
{
    struct hth_q8 q = {simd_guarded((size_t)n * cols),
                       simd_guarded((size_t)n * cols / 32 * sizeof(float)),
                       simd_guarded((size_t)n * cols / 16 * sizeof(int16_t)),
                       n,
                       cols,
                       NULL};

    for (size_t r = 0; r < n; r++)
        hth_isa_ref.q8_row(x + r * cols, cols, q.q + r * cols,
                           q.d + r * cols / 32, q.sums + r * cols / 16);
    return q;
}
