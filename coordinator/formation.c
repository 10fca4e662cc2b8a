/* formation.c - the rules, in this order: a session whose devices are all
 * there stays (growing only when idle); a device lost a moment ago is waited
 * for; otherwise the usable devices, in order of joining, make a new one. */
#include "coordinator/formation.h"

#include <stdio.h>
#include <string.h>

static const struct hth_member *at(const struct hth_formation_view *v, int i)
{
    return &v->members->v[i];
}

static void say(struct hth_formation *out, const char *what, const char *name)
{
    size_t n = strlen(out->reason);

    snprintf(out->reason + n, sizeof out->reason - n, "%s%s%s",
             n > 0 ? ", " : "", name, what);
}

static bool usable(const struct hth_formation_rule *rule,
                   const struct hth_formation_view *v, int i)
{
    return hth_member_usable(at(v, i), v->now_ms, rule->retry_ms);
}

/* Usable devices by order, at most max, into out[1 ..]; returns ranks. */
static uint32_t pick(const struct hth_formation_rule *rule,
                     const struct hth_formation_view *v, uint32_t max,
                     int out[HTH_RANKS_MAX])
{
    bool taken[HTH_DEVICES_MAX] = {false};
    uint32_t ranks = 1, i;
    int best;

    while (ranks < max) {
        best = HTH_MEMBER_NONE;
        for (i = 0; i < v->members->count; i++)
            if (!taken[i] && usable(rule, v, (int)i) &&
                (best == HTH_MEMBER_NONE ||
                 at(v, (int)i)->order < at(v, best)->order))
                best = (int)i;
        if (best == HTH_MEMBER_NONE)
            break;
        taken[best] = true;
        out[ranks++] = best;
    }
    return ranks;
}

/* A device of the session that is not usable: named in the reason. Counts
 * those that are worth waiting for. */
static uint32_t missing(const struct hth_formation_rule *rule,
                        const struct hth_formation_view *v,
                        struct hth_formation *out, uint32_t *recent)
{
    const struct hth_member *m;
    uint32_t r, n = 0;
    char text[160];

    *recent = 0;
    for (r = 1; r < v->current_ranks; r++) {
        m = at(v, v->current[r]);
        if (usable(rule, v, v->current[r]) || hth_member_on_link(m))
            continue;
        n++;
        *recent += hth_member_recent(m, v->now_ms, rule->grace_ms);
        if (m->state == HTH_NODE_FAILED)
            snprintf(text, sizeof text, " (%.120s)", m->why.text);
        else
            snprintf(text, sizeof text, " (%s for %llu s)",
                     m->state == HTH_NODE_REVOKED ? "revoked" : "gone",
                     (unsigned long long)((v->now_ms - m->lost_ms) / 1000));
        say(out, text, m->hello.name);
    }
    return n;
}

/* Is a rank of the session known by its data link alone? Its control connection
 * comes back or the link fails; until then a larger session would lose it. */
static bool hangs_on_link(const struct hth_formation_view *v)
{
    uint32_t r;

    for (r = 1; r < v->current_ranks; r++)
        if (hth_member_on_link(at(v, v->current[r])))
            return true;
    return false;
}

/* The time of the last joining among usable devices. */
static uint64_t last_joined(const struct hth_formation_rule *rule,
                            const struct hth_formation_view *v)
{
    uint64_t t = v->started_ms;
    uint32_t i;

    for (i = 0; i < v->members->count; i++)
        if (usable(rule, v, (int)i) && at(v, (int)i)->joined_ms > t)
            t = at(v, (int)i)->joined_ms;
    return t;
}

/* Right after the start devices that were paired earlier are on their way:
 * forming without them would load everything twice. */
static bool expecting(const struct hth_formation_rule *rule,
                      const struct hth_formation_view *v)
{
    uint32_t i;

    if (v->now_ms - v->started_ms >= rule->start_ms)
        return false;
    for (i = 0; i < v->members->count; i++)
        if (at(v, (int)i)->state == HTH_NODE_AWAY)
            return true;
    return false;
}

static bool same_set(const struct hth_formation_view *v, const int *member,
                     uint32_t ranks)
{
    uint32_t r;

    if (ranks != v->current_ranks)
        return false;
    for (r = 1; r < ranks; r++)
        if (member[r] != v->current[r])
            return false;
    return true;
}

/* Names of paired devices that are away, for "waiting for ...". */
static void name_absent(const struct hth_formation_rule *rule,
                        const struct hth_formation_view *v,
                        struct hth_formation *out)
{
    const struct hth_member *m;
    uint32_t i;
    char text[160];

    for (i = 0; i < v->members->count; i++) {
        m = at(v, (int)i);
        if (usable(rule, v, (int)i) || m->state == HTH_NODE_REVOKED)
            continue;
        snprintf(text, sizeof text, " (%.120s)", m->why.text);
        say(out, m->state == HTH_NODE_FAILED ? text : "", m->hello.name);
    }
}

static void wait_for_more(const struct hth_formation_rule *rule,
                          const struct hth_formation_view *v, uint32_t need,
                          uint32_t have, struct hth_formation *out)
{
    char names[sizeof out->reason / 2];

    out->act = HTH_FORM_WAIT;
    out->reason[0] = '\0';
    name_absent(rule, v, out);
    snprintf(names, sizeof names, "%.200s", out->reason);
    snprintf(out->reason, sizeof out->reason,
             "waiting for %u more device%s (%u of %u are here)%s%s",
             need - have, need - have == 1 ? "" : "s", have, need,
             names[0] != '\0' ? "; away: " : "", names);
}

/* Is the present session to be left alone, and with which act? */
static bool keeps(const struct hth_formation_rule *rule,
                  const struct hth_formation_view *v, struct hth_formation *out)
{
    uint32_t lost, recent;
    char names[sizeof out->reason / 2];

    if (v->current_ranks == 0)
        return false;
    out->reason[0] = '\0';
    lost = missing(rule, v, out, &recent);
    if (lost == 0) {
        out->act = HTH_FORM_KEEP;
        return true;
    }
    if (recent == 0)
        return false;
    snprintf(names, sizeof names, "%.220s", out->reason);
    snprintf(out->reason, sizeof out->reason, "waiting for %s", names);
    out->act = HTH_FORM_WAIT;
    return true;
}

void hth_formation_decide(const struct hth_formation_rule *rule,
                          const struct hth_formation_view *v,
                          struct hth_formation *out)
{
    bool explicit_shares = rule->share_count > 0;
    uint32_t want = explicit_shares ? rule->share_count : HTH_RANKS_MAX;
    uint32_t need = explicit_shares ? want : (rule->no_compute ? 2u : 1u);
    bool kept;

    memset(out, 0, sizeof *out);
    kept = keeps(rule, v, out);
    if (kept && (out->act == HTH_FORM_WAIT || explicit_shares || !v->idle ||
                 hangs_on_link(v)))
        return;
    out->ranks = pick(rule, v, want, out->member);
    if (kept && (out->ranks <= v->current_ranks ||
                 same_set(v, out->member, out->ranks)))
        return;
    if (out->ranks < need) {
        wait_for_more(rule, v, need - 1, out->ranks - 1, out);
        return;
    }
    if (!explicit_shares &&
        (expecting(rule, v) ||
         v->now_ms - last_joined(rule, v) < rule->settle_ms)) {
        if (!kept) {
            out->act = HTH_FORM_WAIT;
            snprintf(out->reason, sizeof out->reason,
                     "waiting a moment for more devices");
        }
        return;
    }
    out->act = HTH_FORM_NEW;
}
