/* loader_rig.c - see loader_rig.h. */
#include "loader_rig.h"

#include <criterion/criterion.h>

struct made_weights g_made;
struct folder g_folder;

void loader_rig_init(void)
{
    made_init(&g_made, false);
    folder_init(&g_folder);
}

void loader_rig_init_moe(void)
{
    made_init(&g_made, true);
    folder_init(&g_folder);
}

void loader_rig_fini(void)
{
    folder_fini(&g_folder);
    made_fini(&g_made);
}

struct hth_loader *open_loader_with(const struct hth_loader_opts *o)
{
    struct hth_loader *l = NULL;
    struct hth_err err = {0};

    cr_assert_eq(hth_loader_open(&l, o, &err), 0, "%s", err.text);
    return l;
}

struct hth_loader_stats stats_of(struct hth_loader *l)
{
    struct hth_loader_stats s;

    hth_loader_stats(l, &s);
    return s;
}
