/* rows_groups.h - the order in which a product of packed rows with many rows of
 * x goes over the rows of weights. Internal to kernels/: included by a set's
 * header behind its many_rows() and GROUPS_STEP, the rows it takes at once. */
#ifndef HTH_KERNELS_ROWS_GROUPS_H
#define HTH_KERNELS_ROWS_GROUPS_H

/* With one tile of x the weights are read from end to end; with more, chunk by
 * chunk, so that x of a chunk stays in a second-level cache. */
HTH_INLINE void many_groups(uint32_t type, const struct hth_q8_product *job)
{
    const bool one = job->x->n <= HTH_TILE_WIDTH_MAX;
    struct hth_q8_product rows = *job;

    for (uint32_t o = 0; o < job->count; o += rows.count) {
        uint32_t left = job->count - o;

        rows.first = job->first + o;
        rows.count = one && left > GROUPS_STEP ? GROUPS_STEP : left;
        many_rows(type, &rows);
    }
}

#endif
