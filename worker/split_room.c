/* split_room.c - memory for spread prompts. Where slices and whole layers fit
 * the budget together, both stay. Else the steps' weights lend what a prompt
 * needs while it runs, and nobody steps then: they shrink to a smaller window,
 * and read again afterwards what they gave up. */
#include "base/log.h"
#include "worker/split_internal.h"

static const struct hth_spec *spec_of(const struct hth_split *s)
{
    return &s->session->spec;
}

/* Everything that is to stay is there before the ranks meet: what is measured
 * then is what a prompt will see. */
static int load_all(struct hth_split *s, struct hth_err *err)
{
    int rc = hth__split_take_room(s, 0, err);

    for (uint32_t l = 0; l < spec_of(s)->layers && rc == HTH_OK; l++)
        rc = hth_whole_warm(s->whole, l, err);
    hth__split_give_room(s);
    return rc;
}

int hth__split_load(struct hth_split *s, struct hth_err *err)
{
    struct hth_whole_opts o = {.spec = spec_of(s),
                               .rows_max = s->session->rows_max,
                               .kv_type = s->session->kv_type,
                               .pool = s->o.pool,
                               .source = s->o.source,
                               .dir = s->o.dir,
                               .key = s->o.key};
    uint64_t least = hth_loader_least(s->o.loader);
    uint64_t one = hth_whole_window_bytes(spec_of(s), 1);
    struct hth_loader_stats slices;
    uint64_t slice_bytes;
    int rc;

    hth_loader_stats(s->o.loader, &slices);
    slice_bytes =
        slices.window.total_bytes > least ? slices.window.total_bytes : least;
    s->keeps = s->o.budget_bytes == 0 ||
               slice_bytes + hth_whole_bytes(spec_of(s)) <= s->o.budget_bytes;
    /* No room for whole layers is no reason not to serve: this rank then has
     * no rows of spread prompts, which the choice of a mode takes into
     * account. */
    if (!s->keeps && (o.dir == NULL || least + one > s->o.budget_bytes)) {
        hth_log(HTH_LOG_WARN, "NO-WHOLE-LAYERS",
                "rank=%u: a window over whole layers needs %llu MiB, and %llu "
                "MiB are left of the budget; raise --memory, or use --prefill "
                "tp",
                s->rank, (unsigned long long)(one >> 20) + 1,
                (unsigned long long)((s->o.budget_bytes > least
                                          ? s->o.budget_bytes - least
                                          : 0) >>
                                     20));
        return HTH_OK;
    }
    rc = hth_whole_open(&s->whole, &o, err);
    return rc == HTH_OK && s->keeps ? load_all(s, err) : rc;
}

/* So much for whole layers. */
static int try_room(struct hth_split *s, uint64_t whole, uint64_t bytes,
                    struct hth_err *err)
{
    bool all = whole == hth_whole_bytes(spec_of(s));
    int rc;

    if (s->all && !all) {
        hth_whole_end(s->whole);
        s->all = false;
    }
    rc = hth_loader_lend(s->o.loader, whole + bytes, err);
    if (rc == HTH_OK)
        rc = hth_whole_begin(s->whole, all ? 0 : whole, err);
    s->all = rc == HTH_OK && all;
    return rc;
}

int hth__split_take_room(struct hth_split *s, uint64_t bytes,
                         struct hth_err *err)
{
    int rc = HTH_EOVERFLOW;

    s->has_room = true;
    if (s->whole == NULL)
        return hth_loader_lend(s->o.loader, bytes, err);
    if (s->keeps)
        rc = try_room(s, hth_whole_bytes(spec_of(s)), bytes, err);
    for (uint32_t layers = 2;
         rc == HTH_EOVERFLOW && layers > 0 && s->o.dir != NULL; layers--)
        rc =
            try_room(s, hth_whole_window_bytes(spec_of(s), layers), bytes, err);
    return rc;
}

void hth__split_give_room(struct hth_split *s)
{
    if (!s->has_room)
        return;
    s->has_room = false;
    if (s->whole != NULL && !s->all)
        hth_whole_end(s->whole);
    (void)!hth_loader_lend(s->o.loader,
                           s->all ? hth_whole_bytes(spec_of(s)) : 0, NULL);
}

uint64_t hth__split_room(const struct hth_split *s)
{
    uint64_t taken = hth_loader_least(s->o.loader);

    if (s->o.budget_bytes == 0)
        return UINT64_MAX;
    if (s->whole != NULL)
        taken += s->o.dir != NULL ? hth_whole_window_bytes(spec_of(s), 1)
                                  : hth_whole_bytes(spec_of(s));
    return s->o.budget_bytes > taken ? s->o.budget_bytes - taken : 0;
}
