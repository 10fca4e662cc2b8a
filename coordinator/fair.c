/* fair.c - a small table of clients and the virtual time of each. */
#include "coordinator/fair.h"

#include <string.h>

void hth_fair_init(struct hth_fair *f)
{
    memset(f, 0, sizeof *f);
}

/* The client's place. Where the table is full the one whose work was done
 * first gives way: a client it does not know starts now, as a new one does. */
static uint32_t place(struct hth_fair *f, uint64_t client)
{
    uint32_t i, oldest = 0;

    for (i = 0; i < f->count; i++) {
        if (f->v[i].client == client)
            return i;
        if (f->v[i].finish < f->v[oldest].finish)
            oldest = i;
    }
    if (f->count < HTH_FAIR_CLIENTS_MAX)
        oldest = f->count++;
    f->v[oldest].client = client;
    f->v[oldest].finish = f->now;
    return oldest;
}

double hth_fair_tag(struct hth_fair *f, uint64_t client, double cost)
{
    uint32_t i = place(f, client);
    double start = f->v[i].finish > f->now ? f->v[i].finish : f->now;

    f->v[i].finish = start + cost;
    return start;
}

void hth_fair_begun(struct hth_fair *f, double tag)
{
    if (tag > f->now)
        f->now = tag;
}
