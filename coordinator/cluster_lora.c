/* cluster_lora.c - adapters on their way to the devices of a session. Runs on
 * the loop thread; what reads files is a job.
 *
 * For each change of the list: slices are cut (job), members are told, by a
 * wish with a new number, and fetch theirs while steps go on; when the last has
 * reported the list's number, rank 0 gets its slices (job) and requests may
 * use them. A session is not attached before that has happened once. */
#include "coordinator/cluster_internal.h"

#define REAP_MS 100u /* between two looks whether an adapter is still used */
#define DIR_BYTES (256ull << 20)

int hth__lora_open(struct hth_cluster *c, struct hth_err *err)
{
    struct hth_loras_opts o = {.spec = &c->spec,
                               .dir = c->opts.lora_dir,
                               .count_max = c->opts.loras_max,
                               .wake = hth__cluster_wake,
                               .arg = c};
    int rc;

    if (c->opts.lora_count == 0 && c->opts.lora_dir == NULL) {
        c->opts.lora_bytes = 0;
        return HTH_OK;
    }
    rc = hth_loras_open(&c->loras, &o, err);
    for (uint32_t i = 0; i < c->opts.lora_count && rc == HTH_OK; i++)
        rc = hth_loras_add_text(c->loras, c->opts.loras[i], err);
    if (rc != HTH_OK)
        return rc;
    if (c->opts.lora_bytes > 0 &&
        c->opts.lora_bytes < hth_loras_bytes(c->loras))
        return hth_fail(err, HTH_EOVERFLOW,
                        "the adapters of --lora take up to %.1f MiB of a "
                        "device, and --lora-memory is %.1f MiB",
                        (double)hth_loras_bytes(c->loras) / (1 << 20),
                        (double)c->opts.lora_bytes / (1 << 20));
    if (c->opts.lora_bytes == 0)
        c->opts.lora_bytes = hth_loras_bytes(c->loras) +
                             (c->opts.lora_dir != NULL ? DIR_BYTES : 0);
    if (c->opts.lora_bytes > HTH_LORA_BYTES_MAX)
        return hth_fail(err, HTH_ELIMIT,
                        "adapters would take %llu MiB of each device, at most "
                        "%llu are supported",
                        (unsigned long long)(c->opts.lora_bytes >> 20),
                        (unsigned long long)(HTH_LORA_BYTES_MAX >> 20));
    return HTH_OK;
}

static bool members_have(const struct hth_cluster *c, uint64_t number)
{
    for (uint32_t r = 1; r < c->session.ranks; r++) {
        const struct hth_member *m = &c->members.v[c->session.member[r]];

        if (m->report.session != c->session.setup.id ||
            m->report.loras_number != number)
            return false;
    }
    return true;
}

bool hth__lora_settled(struct hth_cluster *c)
{
    uint64_t number;

    if (c->loras == NULL)
        return true;
    return hth_loras_cut_for(c->loras, &number) == c->session.setup.id &&
           c->lora.placed == number &&
           c->lora.placed_in == c->session.setup.id && members_have(c, number);
}

static void post(struct hth_cluster *c, enum hth_job_kind kind, uint64_t number)
{
    c->lora.job = true;
    hth__session_job(c, kind, number);
}

static void tell_members(struct hth_cluster *c, uint64_t number)
{
    if (c->lora.told == number)
        return;
    c->lora.told = number;
    for (uint32_t r = 1; r < c->session.ranks; r++)
        c->members.v[c->session.member[r]].wish++;
}

void hth__lora_tick(struct hth_cluster *c, uint64_t now_ms)
{
    bool placed = c->lora.placed_in == c->session.setup.id;
    uint64_t number, cut_for;

    if (c->loras == NULL || c->lora.job || c->session.ranks == 0 ||
        (c->session.state != SESSION_LOADING &&
         c->session.state != SESSION_READY))
        return;
    cut_for = hth_loras_cut_for(c->loras, &number);
    if (cut_for != c->session.setup.id ||
        number != hth_loras_number(c->loras)) {
        post(c, HTH_JOB_CUT, 0);
        return;
    }
    tell_members(c, number);
    if (c->session.loaded && members_have(c, number) &&
        !(placed && c->lora.placed == number)) {
        post(c, HTH_JOB_ADAPT, number);
    } else if (hth_loras_leaving(c->loras) &&
               now_ms - c->lora.reaped_ms >= REAP_MS) {
        c->lora.reaped_ms = now_ms;
        post(c, HTH_JOB_ADAPT, 0);
    }
}

void hth__lora_job_done(struct hth_cluster *c, const struct hth_job *job)
{
    c->lora.job = false;
    if (job->kind == HTH_JOB_ADAPT && job->number != 0) {
        c->lora.placed = job->number;
        c->lora.placed_in = job->session;
    }
}
