/* loader_internal.h - what loader.c (the step's side), loader_read.c
 * (what to read next, the threads), loader_budget.c (how much memory) and
 * loader_rare.c (experts) share.
 *
 * Places: `pos` counts pieces over all tokens, piece i of token t is
 * t * count + i. `want` is the next place the step can ask for, `next` the
 * first place that has not been looked at for reading; next <= want + count.
 * Ring pieces are queued in the order of their places and leave in it. */
#ifndef HTH_WORKER_LOADER_INTERNAL_H
#define HTH_WORKER_LOADER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "worker/loader.h"

#define NO_PIECE UINT32_MAX

enum piece_state {
    PIECE_ABSENT,
    PIECE_READING, /* has memory; some of it may be read */
    PIECE_READY,
    PIECE_HELD /* by the step */
};

enum piece_home {
    HOME_NONE,
    HOME_OWN,  /* memory of its own */
    HOME_RING, /* at ring_at */
    HOME_SLOT  /* of the experts' cache */
};

struct piece {
    uint64_t bytes; /* whole pages; 0: nothing to load, ever */
    uint64_t used;  /* bytes of content */
    uint64_t place; /* of all pieces one after the other, bytes */
    uint32_t block, in_block;
    bool rare; /* an expert: read when expected */
    /* Guarded by lock, except that the step may take READY to HELD and back on
     * its own while home is HOME_OWN. */
    _Atomic uint8_t state;
    uint8_t home;
    _Atomic bool pinned; /* what the plan wants; the step looks at it too */
    bool dropped;  /* nobody waits for it: free it when its reads are done */
    bool spilling; /* being written, to leave afterwards */
    uint8_t *data;
    uint64_t pos;     /* place it is read for */
    uint64_t ring_at; /* HOME_RING */
    uint32_t chunks, issued, under_way;
    uint32_t slot;      /* HOME_SLOT */
    uint64_t last_used; /* rare: tick */
    uint64_t expected;  /* rare: epoch in which the step will need it */
    int status;         /* of its reads */
};

enum job_kind { JOB_CHUNK, JOB_BUILD, JOB_SPILL };

struct job {
    enum job_kind kind;
    uint32_t piece;
    uint32_t chunk;
};

struct rare_cache {
    uint64_t slot_bytes;
    uint32_t slots;     /* that may be used */
    uint32_t slots_max; /* one for each expert */
    uint8_t **data;     /* [slots_max] slot_bytes each; NULL: not taken yet */
    uint32_t *owner;    /* [slots_max] piece, or NO_PIECE */
    uint64_t tick;      /* of use */
    uint64_t epoch;     /* of hth_blocks.expect */
    uint32_t *waiting;  /* [experts] expected pieces not given a slot yet */
    uint32_t waits, next_wait;
    uint32_t *queue; /* [slots_max] pieces whose chunks are to be issued */
    uint32_t queued;
};

/* How fast the disk was over the latest reads. */
struct rate {
    uint32_t under_way;
    uint64_t since_ns; /* when the disk became busy */
    uint64_t bytes, ns;
    double bytes_per_s;
};

struct hth_loader {
    struct hth_loader_opts o;
    struct hth_blocks blocks;
    char *dir; /* o.dir and o.key are these */
    uint8_t *key;
    struct piece *piece; /* [count] */
    uint32_t count;
    struct hth_packed **file; /* [files] by block */
    uint32_t files;
    _Atomic bool keeps; /* packed files are written as pieces come */
    uint32_t group;     /* pieces that may be held at once: a layer's, or one */
    uint32_t units;     /* of the plan: groups */
    struct hth_window_piece *shape; /* [count], of which the plan has [units] */
    bool *wish;                     /* [count] the plan's answer */
    uint64_t ahead_bytes;           /* of the ring, beside its largest unit */
    uint64_t least_bytes;           /* the smallest window */
    struct hth_pages pages;
    struct hth_ring ring;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t work;  /* for readers: something may be to be done */
    pthread_cond_t ready; /* for the step: a piece became ready, or free */
    pthread_t reader[HTH_LOAD_THREADS];
    uint32_t readers;
    bool stop;
    _Atomic uint64_t want;
    uint64_t next;
    uint32_t current;    /* piece whose chunks are being issued */
    uint64_t head, tail; /* of the ring, places in its stream */
    uint32_t *line;      /* [count] ring pieces in order */
    uint32_t line_first, line_count;
    uint32_t *spill; /* [count] pieces to be written so that they may go */
    uint32_t spills;
    uint64_t given_bytes, lent_bytes; /* the budget, and what of it is lent */
    struct rare_cache rare;
    struct rate rate;
    struct hth_loader_stats stats;
    struct hth_err err; /* of the piece that failed last */
};

/* loader.c; lock held. Have the reading go on from place `pos`; what was read
 * ahead and is not held goes unused. May wait for reads under way. */
void hth_loader__restart(struct hth_loader *l, uint64_t pos);

/* loader_budget.c */
HTH_MUST_CHECK int hth_loader__first_plan(struct hth_loader *l,
                                          struct hth_err *err);

/* loader_read.c */
void *hth_loader__reader(void *arg);
/* Lock held by all: */
bool hth_loader__on_disk(const struct hth_loader *l, const struct piece *p);
/* A ring that the plan does not have is given back once it is empty. */
void hth_loader__close_idle_ring(struct hth_loader *l);
/* The next place at which the step can want piece `index`. */
uint64_t hth_loader__next_use(struct hth_loader *l, uint32_t index);
/* A piece that stayed shall not any more: free it if it is idle and nobody
 * counted on it, have it written first where it is on no disk, or leave it to
 * its release. */
void hth_loader__let_go(struct hth_loader *l, uint32_t index);
/* Is it being read, and not to stay? It leaves when that is done. */
bool hth_loader__leaves(const struct piece *p);
/* Is any, or being written so that it may leave? */
bool hth_loader__any_leaves(const struct hth_loader *l);
/* Take what the piece holds away from it; no read is under way. */
void hth_loader__vacate(struct hth_loader *l, struct piece *p);

/* loader_rare.c; lock held by all */
int hth_loader__rare_open(struct hth_loader *l, struct hth_err *err);
/* Let the cache have so much memory: more is taken as it is needed, what is
 * too much goes as it is not in use. */
void hth_loader__rare_size(struct hth_loader *l, uint64_t bytes);
void hth_loader__rare_trim(struct hth_loader *l);
void hth_loader__rare_close(struct hth_loader *l);
void hth_loader__rare_expect(struct hth_loader *l, uint32_t first,
                             const uint32_t *n, uint32_t count);
/* The step wants this one now: make sure that it is being read. */
void hth_loader__rare_need(struct hth_loader *l, uint32_t index);
void hth_loader__rare_used(struct hth_loader *l, uint32_t index);
/* Give slots to expected pieces as far as there are any. */
void hth_loader__rare_feed(struct hth_loader *l);

#endif
