/* ops.c - the public operations: one call into the instruction set in use.
 * Products are in matmul.c. */
#include "kernels/ops.h"

#include "kernels/isa.h"

void hth_rmsnorm(float *y, const float *x, const float *w, uint32_t d,
                 float eps)
{
    hth_isa_now()->rmsnorm(y, x, w, d, eps);
}

void hth_rope(float *v, uint32_t heads, uint32_t head_dim, uint32_t rot_dim,
              const float *cosines, const float *sines, bool neox)
{
    HTH_ASSERT(rot_dim <= head_dim);
    hth_isa_now()->rope(v, heads, head_dim, rot_dim, cosines, sines, neox);
}

void hth_swiglu(float *gate, const float *up, size_t n)
{
    hth_isa_now()->swiglu(gate, up, n);
}

void hth_add(float *x, const float *y, size_t n)
{
    hth_isa_now()->add(x, y, n);
}

void hth_axpy(float *x, float a, const float *y, size_t n)
{
    hth_isa_now()->axpy(x, a, y, n);
}

void hth_softmax(float *x, size_t n)
{
    hth_isa_now()->softmax(x, n);
}

void hth_f32_to_f16_row(const float *src, uint16_t *dst, size_t n)
{
    hth_isa_now()->f32_to_f16(src, dst, n);
}

void hth_f16_to_f32_row(const uint16_t *src, float *dst, size_t n)
{
    hth_isa_now()->f16_to_f32(src, dst, n);
}
