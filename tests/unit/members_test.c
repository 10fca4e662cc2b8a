/* members_test.c - device states and the choice of a session, with a clock of
 * our own. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/formation.h"
#include "coordinator/members.h"

static struct hth_members m;
static struct hth_formation f;
static int session[HTH_RANKS_MAX];
static uint64_t now;

static const struct hth_formation_rule automatic = {
    .settle_ms = 1500, .start_ms = 3000, .grace_ms = 10000, .retry_ms = 60000};

static void reset(void)
{
    memset(&m, 0, sizeof m);
    now = 100000;
}

static int join(const char *id, uint64_t instance, uint32_t pipe)
{
    struct hth_msg_hello h = {.role = HTH_PEER_WORKER, .instance = instance};
    uint32_t replaced;

    snprintf(h.device, sizeof h.device, "%s", id);
    snprintf(h.name, sizeof h.name, "%s", id);
    return hth_members_join(&m, &h, pipe, now, &replaced);
}

static void report(int i, uint8_t state, uint64_t session_id)
{
    struct hth_msg_report r = {.state = state, .session = session_id};

    hth_members_report(&m, i, &r, 7, now);
}

static enum hth_formation_act decide(const struct hth_formation_rule *rule,
                                     uint32_t current_ranks, bool idle)
{
    struct hth_formation_view v = {.members = &m,
                                   .current = session,
                                   .current_ranks = current_ranks,
                                   .idle = idle,
                                   .started_ms = 100000,
                                   .now_ms = now};

    hth_formation_decide(rule, &v, &f);
    return f.act;
}

/* Adopt what was decided as the session. */
static uint32_t adopt(void)
{
    memcpy(session, f.member, sizeof session);
    return f.ranks;
}

TestSuite(members, .init = reset);
TestSuite(formation, .init = reset);

Test(members, life)
{
    int i = join("A", 1, 11);

    cr_assert_eq(m.v[i].state, HTH_NODE_IDLE);
    report(i, HTH_NODE_LOADING, 7);
    cr_assert_eq(m.v[i].state, HTH_NODE_LOADING);
    report(i, HTH_NODE_READY, 7);
    cr_assert_eq(m.v[i].state, HTH_NODE_READY);
    report(i, HTH_NODE_READY, 6);
    cr_assert_eq(m.v[i].state, HTH_NODE_IDLE, "another session's report");
    report(i, 200, 7);
    cr_assert_eq(m.v[i].state, HTH_NODE_IDLE, "no such state");
}

Test(members, silence_is_loss)
{
    int i = join("A", 1, 11);

    now += HTH_LOST_AFTER_MS - 1;
    cr_assert_eq(hth_members_expire(&m, 0, now), HTH_MEMBER_NONE);
    now++;
    cr_assert_eq(hth_members_expire(&m, 0, now), i);
    cr_assert_eq(m.v[i].state, HTH_NODE_LOST);
    cr_assert_eq(hth_members_expire(&m, 0, now), HTH_MEMBER_NONE, "once");
    now += 100;
    hth_members_seen(&m, i, now);
    cr_assert_eq(m.v[i].state, HTH_NODE_IDLE, "heard again");
    cr_assert_eq(m.v[i].joined_ms, now);
}

Test(members, silence_in_a_step_that_stands)
{
    int i = join("A", 1, 11);
    uint64_t hung = HTH_HUNG_AFTER_MS;

    m.v[i].linked = true;
    now += hung;
    cr_assert_eq(hth_members_expire(&m, 0, now), HTH_MEMBER_NONE, "idle");
    cr_assert_eq(hth_members_expire(&m, hung - 1, now), HTH_MEMBER_NONE);
    m.v[i].linked = false;
    cr_assert_eq(hth_members_expire(&m, hung, now), HTH_MEMBER_NONE);
    m.v[i].linked = true;
    hth_members_seen(&m, i, now);
    cr_assert_eq(hth_members_expire(&m, 60000, now), HTH_MEMBER_NONE,
                 "a long step of a device that is heard");
    now += hung;
    cr_assert_eq(hth_members_expire(&m, hung, now), i);
    cr_assert_eq(m.v[i].state, HTH_NODE_LOST);
}

Test(members, nobody_is_lost_while_we_slept)
{
    int i = join("A", 1, 11);

    now += 50000;
    hth_members_missed(&m, 50000 - 10, now);
    cr_assert_eq(hth_members_expire(&m, 0, now), HTH_MEMBER_NONE);
    now += HTH_LOST_AFTER_MS - 10;
    cr_assert_eq(hth_members_expire(&m, 0, now), i);
    hth_members_seen(&m, i, now);
    hth_members_missed(&m, 50000, now);
    cr_assert_eq(hth_members_expire(&m, 0, now), HTH_MEMBER_NONE,
                 "heard before the pause was noticed");
}

Test(members, broken_connection)
{
    int i = join("A", 1, 11);

    m.v[i].linked = true;
    cr_assert(!hth_members_gone(&m, i, now), "its link still works");
    cr_assert_eq(m.v[i].state, HTH_NODE_IDLE);
    join("A", 1, 12);
    m.v[i].linked = false;
    cr_assert(hth_members_gone(&m, i, now));
    cr_assert_eq(m.v[i].state, HTH_NODE_LOST);
    cr_assert_eq(hth_members_by_pipe(&m, 12), HTH_MEMBER_NONE);
}

Test(members, twins)
{
    struct hth_msg_hello h = {.role = HTH_PEER_WORKER, .instance = 2};
    uint32_t replaced;
    int i = join("A", 1, 11);
    uint64_t wish = m.v[i].wish;

    snprintf(h.device, sizeof h.device, "A");
    cr_assert_eq(hth_members_join(&m, &h, 12, now, &replaced), i);
    cr_assert_eq(replaced, 11);
    cr_assert_gt(m.v[i].wish, wish, "told anew what is wanted");
    cr_assert_eq(hth_members_join(&m, &h, 13, now, &replaced), i);
    cr_assert_eq(replaced, 0, "the same process on a new connection");
}

Test(members, failure_and_revocation)
{
    struct hth_msg_report r = {.state = HTH_NODE_FAILED,
                               .session = 7,
                               .status = HTH_EOVERFLOW,
                               .text = "too small"};
    int i = join("A", 1, 11);

    hth_members_report(&m, i, &r, 7, now);
    cr_assert_eq(m.v[i].why.status, HTH_EOVERFLOW);
    cr_assert(!hth_member_usable(&m.v[i], now + 59999, 60000));
    cr_assert(hth_member_usable(&m.v[i], now + 60000, 60000));
    hth_members_revoked(&m, i, now);
    cr_assert_eq(m.v[i].wish_kind, HTH_COMMAND_LEAVE);
    report(i, HTH_NODE_READY, 7);
    cr_assert_eq(m.v[i].state, HTH_NODE_REVOKED, "for good");
    hth_members_forgiven(&m, i);
    cr_assert_eq(m.v[i].wish_kind, HTH_COMMAND_NONE);
    join("A", 2, 12);
    cr_assert_eq(m.v[i].state, HTH_NODE_IDLE);
}

Test(members, wishes_are_numbered)
{
    struct hth_member v = {0};

    hth_member_wish(&v, HTH_COMMAND_LOAD, 7);
    cr_assert_eq(v.wish, 1);
    hth_member_wish(&v, HTH_COMMAND_LOAD, 7);
    cr_assert_eq(v.wish, 1);
    hth_member_wish(&v, HTH_COMMAND_LOAD, 8);
    cr_assert_eq(v.wish, 2);
}

Test(members, a_full_table)
{
    char id[16];
    uint32_t i;

    for (i = 0; i < HTH_DEVICES_MAX; i++) {
        snprintf(id, sizeof id, "D%u", i);
        cr_assert_eq(join(id, 1, i + 1), (int)i);
    }
    cr_assert_eq(join("one more", 1, 999), HTH_MEMBER_NONE);
}

Test(formation, alone)
{
    cr_assert_eq(decide(&automatic, 0, true), HTH_FORM_WAIT, "settling");
    now += 1500;
    cr_assert_eq(decide(&automatic, 0, true), HTH_FORM_NEW);
    cr_assert_eq(f.ranks, 1);
    cr_assert_eq(decide(&automatic, adopt(), true), HTH_FORM_KEEP);
}

/* Devices known from before are on their way after a restart. */
Test(formation, waits_for_known_devices_at_first)
{
    hth_members_know(&m, "A", "A", 0);
    now += 2000;
    cr_assert_eq(decide(&automatic, 0, true), HTH_FORM_WAIT);
    now += 1000;
    cr_assert_eq(decide(&automatic, 0, true), HTH_FORM_NEW);
}

Test(formation, grows_when_idle_and_settled)
{
    uint32_t ranks;

    now += 5000;
    decide(&automatic, 0, true);
    ranks = adopt();
    join("A", 1, 11);
    cr_assert_eq(decide(&automatic, ranks, true), HTH_FORM_KEEP);
    now += 1500;
    cr_assert_eq(decide(&automatic, ranks, false), HTH_FORM_KEEP, "busy");
    cr_assert_eq(decide(&automatic, ranks, true), HTH_FORM_NEW);
    cr_assert_eq(f.ranks, 2);
}

Test(formation, waits_for_a_lost_device_then_does_without)
{
    struct hth_err why = {.status = HTH_EPEER, .text = "gone"};
    int a = join("A", 1, 11), b = join("B", 1, 12);
    uint32_t ranks;

    now += 1500;
    cr_assert_eq(decide(&automatic, 0, true), HTH_FORM_NEW);
    ranks = adopt();
    cr_assert_eq(ranks, 3);
    hth_members_lost(&m, a, &why, now);
    now += 9999;
    hth_members_seen(&m, b, now);
    cr_assert_eq(decide(&automatic, ranks, true), HTH_FORM_WAIT);
    cr_assert_not_null(strstr(f.reason, "waiting for A (gone for 9 s)"), "%s",
                       f.reason);
    now += 1;
    cr_assert_eq(decide(&automatic, ranks, true), HTH_FORM_NEW);
    cr_assert_eq(f.ranks, 2);
    cr_assert_eq(f.member[1], b);
    ranks = adopt();
    hth_members_seen(&m, a, now);
    now += 1500;
    cr_assert_eq(decide(&automatic, ranks, true), HTH_FORM_NEW, "used again");
    cr_assert_eq(f.ranks, 3);
}

/* A process that dies may be seen on its control connection first. The session
 * is not formed anew for that: its requests are to end with the name of the
 * device, which only the data link can give. */
Test(formation, a_broken_control_connection_is_left_to_the_link)
{
    struct hth_err why = {.status = HTH_EPEER, .text = "gone"};
    int a = join("A", 1, 11);
    uint32_t ranks;

    now += 1500;
    cr_assert_eq(decide(&automatic, 0, true), HTH_FORM_NEW);
    ranks = adopt();
    report(a, HTH_NODE_READY, 7);
    m.v[a].linked = true;
    cr_assert_not(hth_members_gone(&m, a, now));
    cr_assert_eq(decide(&automatic, ranks, false), HTH_FORM_KEEP);
    cr_assert_eq(decide(&automatic, ranks, true), HTH_FORM_KEEP);
    hth_members_lost(&m, a, &why, now);
    cr_assert_eq(decide(&automatic, ranks, false), HTH_FORM_WAIT);
}

/* Two that join meanwhile would make a larger session without it. */
Test(formation, does_not_grow_past_a_device_on_its_link)
{
    int a = join("A", 1, 11);
    uint32_t ranks;

    now += 1500;
    cr_assert_eq(decide(&automatic, 0, true), HTH_FORM_NEW);
    ranks = adopt();
    report(a, HTH_NODE_READY, 7);
    m.v[a].linked = true;
    cr_assert_not(hth_members_gone(&m, a, now));
    join("B", 1, 12);
    join("C", 1, 13);
    now += 1500;
    cr_assert_eq(decide(&automatic, ranks, true), HTH_FORM_KEEP);
    join("A", 1, 14);
    now += 1500;
    cr_assert_eq(decide(&automatic, ranks, true), HTH_FORM_NEW);
    cr_assert_eq(f.ranks, 4);
}

Test(formation, shares_want_all_their_ranks)
{
    struct hth_formation_rule rule = automatic;
    struct hth_err why = {.status = HTH_EPEER, .text = "gone"};
    int a, b, c;

    rule.share_count = 3;
    a = hth_members_know(&m, "A", "A", 1);
    b = hth_members_know(&m, "B", "B", 0);
    join("A", 1, 11);
    cr_assert_eq(decide(&rule, 0, true), HTH_FORM_WAIT);
    cr_assert_str_eq(f.reason,
                     "waiting for 1 more device (1 of 2 are here); away: B");
    join("B", 1, 12);
    cr_assert_eq(decide(&rule, 0, true), HTH_FORM_NEW, "no settling");
    cr_assert_eq(f.member[1], b, "in the order of pairing");
    cr_assert_eq(f.member[2], a);
    adopt();
    c = join("C", 1, 13);
    cr_assert_eq(decide(&rule, 3, true), HTH_FORM_KEEP, "a spare one");
    hth_members_lost(&m, a, &why, now);
    cr_assert_eq(decide(&rule, 3, true), HTH_FORM_WAIT);
    now += 10000;
    cr_assert_eq(decide(&rule, 3, true), HTH_FORM_NEW);
    cr_assert_eq(f.member[2], c, "the spare one takes its place");
}

Test(formation, without_compute_needs_a_device)
{
    struct hth_formation_rule rule = automatic;

    rule.no_compute = true;
    now += 60000;
    cr_assert_eq(decide(&rule, 0, true), HTH_FORM_WAIT);
    join("A", 1, 11);
    now += 1500;
    cr_assert_eq(decide(&rule, 0, true), HTH_FORM_NEW);
    cr_assert_eq(f.ranks, 2);
}

Test(formation, a_device_that_left_is_not_waited_for)
{
    int a = join("A", 1, 11);
    uint32_t ranks;

    now += 3000;
    decide(&automatic, 0, true);
    ranks = adopt();
    hth_members_left(&m, a, now);
    cr_assert_eq(decide(&automatic, ranks, true), HTH_FORM_NEW);
    cr_assert_eq(f.ranks, 1);
}
