/* members.c - transitions of the devices' states. Everything a device says
 * about itself is taken as said; what it may do was decided before. */
#include "coordinator/members.h"

#include <stdio.h>
#include <string.h>

static bool present(const struct hth_member *v)
{
    return v->state >= HTH_NODE_IDLE && v->state <= HTH_NODE_READY;
}

int hth_members_find(const struct hth_members *m, const char *device)
{
    uint32_t i;

    for (i = 0; i < m->count; i++)
        if (strcmp(m->v[i].hello.device, device) == 0)
            return (int)i;
    return HTH_MEMBER_NONE;
}

int hth_members_by_pipe(const struct hth_members *m, uint32_t pipe)
{
    uint32_t i;

    for (i = 0; i < m->count; i++)
        if (pipe != 0 && m->v[i].pipe == pipe)
            return (int)i;
    return HTH_MEMBER_NONE;
}

int hth_members_know(struct hth_members *m, const char *device,
                     const char *name, uint32_t order)
{
    int i = hth_members_find(m, device);
    struct hth_member *v;

    if (i == HTH_MEMBER_NONE) {
        if (m->count == HTH_DEVICES_MAX)
            return HTH_MEMBER_NONE;
        i = (int)m->count++;
        v = &m->v[i];
        memset(v, 0, sizeof *v);
        snprintf(v->hello.device, sizeof v->hello.device, "%s", device);
        v->state = HTH_NODE_AWAY;
    }
    v = &m->v[i];
    v->order = order;
    if (v->pipe == 0)
        snprintf(v->hello.name, sizeof v->hello.name, "%s", name);
    return i;
}

int hth_members_join(struct hth_members *m, const struct hth_msg_hello *hello,
                     uint32_t pipe, uint64_t now_ms, uint32_t *replaced)
{
    int i = hth_members_find(m, hello->device);
    bool twin;
    struct hth_member *v;

    *replaced = 0;
    if (i == HTH_MEMBER_NONE)
        i = hth_members_know(m, hello->device, hello->name, m->count);
    if (i == HTH_MEMBER_NONE)
        return i;
    v = &m->v[i];
    twin = v->hello.instance != hello->instance;
    if (twin && v->pipe != 0 && v->pipe != pipe)
        *replaced = v->pipe;
    v->hello = *hello;
    v->hello.certificate = (struct hth_blob){0};
    v->pipe = pipe;
    v->seen_ms = now_ms;
    v->wish++; /* tell it again what is wanted: it may be a new process */
    if (twin || !present(v)) {
        v->state = HTH_NODE_IDLE;
        v->linked = false;
        v->report = (struct hth_msg_report){0};
        v->joined_ms = now_ms;
        v->why = (struct hth_err){0};
    }
    if (twin)
        v->sent_bytes = 0;
    return i;
}

void hth_members_seen(struct hth_members *m, int i, uint64_t now_ms)
{
    struct hth_member *v = &m->v[i];

    v->seen_ms = now_ms;
    if (v->state == HTH_NODE_LOST && v->pipe != 0) {
        v->state = HTH_NODE_IDLE;
        v->joined_ms = now_ms;
        v->why = (struct hth_err){0};
    }
}

void hth_members_report(struct hth_members *m, int i,
                        const struct hth_msg_report *r, uint64_t session,
                        uint64_t now_ms)
{
    struct hth_member *v = &m->v[i];

    if (v->state == HTH_NODE_REVOKED)
        return;
    hth_members_seen(m, i, now_ms);
    v->report = *r;
    if (r->session != session || r->state < HTH_NODE_IDLE ||
        r->state > HTH_NODE_FAILED || r->state == HTH_NODE_LOST) {
        v->state = HTH_NODE_IDLE;
        return;
    }
    if (r->state == HTH_NODE_FAILED && v->state != HTH_NODE_FAILED) {
        v->failed_ms = now_ms;
        v->why.status = r->status < 0 ? r->status : HTH_EINTERNAL;
        snprintf(v->why.text, sizeof v->why.text, "%s", r->text);
    }
    v->state = r->state;
}

void hth_members_lost(struct hth_members *m, int i, const struct hth_err *why,
                      uint64_t now_ms)
{
    struct hth_member *v = &m->v[i];

    v->linked = false;
    if (v->state == HTH_NODE_REVOKED || v->state == HTH_NODE_AWAY)
        return;
    if (v->state != HTH_NODE_LOST)
        v->lost_ms = now_ms;
    v->state = HTH_NODE_LOST;
    v->why = *why;
}

void hth_members_left(struct hth_members *m, int i, uint64_t now_ms)
{
    struct hth_member *v = &m->v[i];

    if (v->state == HTH_NODE_REVOKED)
        return;
    v->state = HTH_NODE_AWAY;
    v->linked = false;
    v->lost_ms = now_ms;
    v->why = (struct hth_err){0};
}

bool hth_members_gone(struct hth_members *m, int i, uint64_t now_ms)
{
    struct hth_member *v = &m->v[i];
    struct hth_err why;

    v->pipe = 0;
    if (v->linked || v->state == HTH_NODE_REVOKED || !present(v))
        return false;
    hth_fail(&why, HTH_EPEER, "its connection ended");
    hth_members_lost(m, i, &why, now_ms);
    return true;
}

void hth_members_revoked(struct hth_members *m, int i, uint64_t now_ms)
{
    struct hth_member *v = &m->v[i];

    v->lost_ms = now_ms;
    v->linked = false;
    v->state = HTH_NODE_REVOKED;
    hth_member_wish(v, HTH_COMMAND_LEAVE, 0);
}

void hth_members_forgiven(struct hth_members *m, int i)
{
    struct hth_member *v = &m->v[i];

    if (v->state != HTH_NODE_REVOKED)
        return;
    v->state = HTH_NODE_AWAY;
    v->why = (struct hth_err){0};
    hth_member_wish(v, HTH_COMMAND_NONE, 0);
}

static uint32_t patience_ms(const struct hth_member *v, uint64_t step_ms)
{
    return v->linked && step_ms >= HTH_HUNG_AFTER_MS ? HTH_HUNG_AFTER_MS
                                                     : HTH_LOST_AFTER_MS;
}

int hth_members_expire(struct hth_members *m, uint64_t step_ms, uint64_t now_ms)
{
    struct hth_err why;
    uint32_t i, ms;

    for (i = 0; i < m->count; i++) {
        if (!present(&m->v[i]) && m->v[i].state != HTH_NODE_FAILED)
            continue;
        ms = patience_ms(&m->v[i], step_ms);
        if (now_ms - m->v[i].seen_ms < ms)
            continue;
        hth_fail(&why, HTH_EPEER, "silent for %.1f s", ms / 1000.0);
        hth_members_lost(m, (int)i, &why, now_ms);
        return (int)i;
    }
    return HTH_MEMBER_NONE;
}

void hth_members_missed(struct hth_members *m, uint64_t ms, uint64_t now_ms)
{
    for (uint32_t i = 0; i < m->count; i++) {
        uint64_t seen = m->v[i].seen_ms + ms;

        m->v[i].seen_ms = seen < now_ms ? seen : now_ms;
    }
}

bool hth_member_usable(const struct hth_member *v, uint64_t now_ms,
                       uint32_t retry_ms)
{
    if (v->hello.role != HTH_PEER_WORKER || v->pipe == 0)
        return false;
    if (v->state == HTH_NODE_FAILED)
        return now_ms - v->failed_ms >= retry_ms;
    return present(v);
}

bool hth_member_on_link(const struct hth_member *v)
{
    return v->pipe == 0 && v->linked && present(v);
}

bool hth_member_recent(const struct hth_member *v, uint64_t now_ms,
                       uint32_t grace_ms)
{
    return v->state == HTH_NODE_LOST && now_ms - v->lost_ms < grace_ms;
}

void hth_member_wish(struct hth_member *v, uint8_t kind, uint64_t session)
{
    if (v->wish_kind == kind && v->wish_session == session && v->wish > 0)
        return;
    v->wish_kind = kind;
    v->wish_session = session;
    v->wish++;
}
