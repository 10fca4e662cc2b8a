/* fair.h - whose turn it is among waiting requests: start-time fair queueing
 * (Goyal, Vin and Cheng 1996).
 *
 * A request's tag is when its client's earlier ones would be done in virtual
 * time; the lowest tag goes first. One client alone is served in order; one
 * that sends a hundred requests delays another's first by one of its own.
 * Pure, one thread (or under its owner's lock). */
#ifndef HTH_COORDINATOR_FAIR_H
#define HTH_COORDINATOR_FAIR_H

#include <stdint.h>

#define HTH_FAIR_CLIENTS_MAX 256u

struct hth_fair {
    struct {
        uint64_t client;
        double finish;
    } v[HTH_FAIR_CLIENTS_MAX];
    uint32_t count;
    double now;
};

void hth_fair_init(struct hth_fair *f);
/* The tag of a new request. cost: what it takes, in any unit; > 0. */
double hth_fair_tag(struct hth_fair *f, uint64_t client, double cost);
/* The request of this tag has begun: time goes on. */
void hth_fair_begun(struct hth_fair *f, double tag);

#endif
