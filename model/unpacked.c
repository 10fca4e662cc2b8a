/* unpacked.c - see unpacked.h. No failure. */
#include "model/unpacked.h"

#include <stdio.h>
#include <string.h>

#include "model/roles.h"

static bool is_matrix(const struct hth_part *p)
{
    if (p->rows == 0 || p->planes == 0 || p->role == HTH_ROLE_OUTPUT_NORM ||
        p->role == HTH_ROLE_FFN_ROUTER)
        return false;
    return p->role == HTH_ROLE_OUTPUT || !hth_roles[p->role].f32_only;
}

static void name_part(const struct hth_block *b, const struct hth_part *p,
                      char *dst, size_t size)
{
    if (p->role == HTH_ROLE_OUTPUT)
        snprintf(dst, size, "output.weight");
    else
        hth_role_tensor_name((enum hth_role)p->role, b->layer, dst, size);
}

uint32_t hth_unpacked_find(const struct hth_spec *s, const struct hth_plan *p,
                           uint32_t rank, struct hth_unpacked *out,
                           uint32_t max)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < hth_shard_blocks(s); i++) {
        struct hth_block b;

        hth_shard_block(s, p, rank, i, &b);
        for (uint32_t k = 0; k < b.parts; k++) {
            const struct hth_part *part = &b.part[k];
            uint32_t at = 0;

            if (!is_matrix(part) || hth_part_packs(part))
                continue;
            while (at < count && out[at].type != part->type)
                at++;
            if (at == max)
                continue;
            if (at == count) {
                out[count++] = (struct hth_unpacked){.type = part->type};
                name_part(&b, part, out[at].first, sizeof out[at].first);
            }
            out[at].matrices++;
            out[at].bytes +=
                (uint64_t)part->planes * part->rows * part->row_bytes;
        }
    }
    return count;
}
