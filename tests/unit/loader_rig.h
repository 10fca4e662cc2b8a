/* loader_rig.h - made weights, a folder for their packed files, and loaders
 * over both: what the tests of the loader begin with. */
#ifndef HTH_TESTS_LOADER_RIG_H
#define HTH_TESTS_LOADER_RIG_H

#include "folder.h"
#include "made_weights.h"

extern struct made_weights g_made;
extern struct folder g_folder;

/* For a suite's .init (with experts: the second) and .fini. */
void loader_rig_init(void);
void loader_rig_init_moe(void);
void loader_rig_fini(void);

struct hth_loader *open_loader_with(const struct hth_loader_opts *o);
struct hth_loader_stats stats_of(struct hth_loader *l);

#endif
