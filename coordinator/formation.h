/* formation.h - which devices make up the session: keep it, wait, or form
 * another. Pure: members, options and the time in, a decision out. */
#ifndef HTH_COORDINATOR_FORMATION_H
#define HTH_COORDINATOR_FORMATION_H

#include <stdbool.h>
#include <stdint.h>

#include "coordinator/members.h"

/* Times that decide; zero is meant literally. */
struct hth_formation_rule {
    uint32_t share_count; /* ranks asked for, rank 0 included; 0: automatic */
    bool no_compute;      /* automatic: rank 0 computes nothing, so it needs
                             at least one device */
    uint32_t settle_ms;   /* quiet after the last joining */
    uint32_t start_ms;    /* for paired devices, after our own start */
    uint32_t grace_ms;    /* waiting for a device that was lost */
    uint32_t retry_ms;    /* before a device that failed is tried again */
};

struct hth_formation_view {
    const struct hth_members *members;
    const int *current;     /* [current_ranks] member per rank, [0] unused */
    uint32_t current_ranks; /* 0: no session */
    bool idle;              /* no request is running */
    uint64_t started_ms;    /* when the coordinator came up */
    uint64_t now_ms;
};

enum hth_formation_act {
    HTH_FORM_KEEP, /* all its members are there: go on */
    HTH_FORM_WAIT, /* reason says for whom */
    HTH_FORM_NEW   /* form over member[1 .. ranks - 1] */
};

struct hth_formation {
    enum hth_formation_act act;
    uint32_t ranks;
    int member[HTH_RANKS_MAX];
    char reason[HTH_ERR_TEXT_MAX]; /* "waiting for tablet (lost 3 s ago)" */
};

void hth_formation_decide(const struct hth_formation_rule *rule,
                          const struct hth_formation_view *view,
                          struct hth_formation *out);

#endif
