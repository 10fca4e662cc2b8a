/* api_devices.c - what each device did while a request ran: its times as it
 * last told them, now less then. Devices tell them about once a second, so a
 * short request may find a device's time unchanged; `steps` says how many
 * steps the figures are of. */
#include <stdlib.h>
#include <string.h>

#include "coordinator/api_internal.h"
#include "model/json_write.h"
#include "net/message.h"

struct api_device {
    char id[HTH_DEVICE_ID_SIZE], name[HTH_NAME_MAX];
    int32_t rank;
    struct hth_phases phases;
};

struct api_devices {
    uint64_t session; /* phases count anew with each */
    uint32_t count;
    struct api_device v[HTH_RANKS_MAX];
};

static void add(struct api_devices *d, const struct hth_msg_node *n,
                struct hth_engine *e)
{
    struct api_device *v = &d->v[d->count];

    if (n->rank < 0 || d->count == HTH_RANKS_MAX)
        return;
    memcpy(v->id, n->device, sizeof v->id);
    memcpy(v->name, n->name, sizeof v->name);
    v->rank = n->rank;
    v->phases = n->phases;
    if (n->rank == 0 && e != NULL) /* this process knows its own at once */
        hth_engine_phases(e, &v->phases);
    d->count++;
}

struct api_devices *hth__api_devices(struct hth_api *a)
{
    struct api_devices *d = calloc(1, sizeof *d);
    struct hth_msg_node n;
    struct hth_cursor at;
    struct hth_buf b;
    struct hth_msg m;

    if (d == NULL || a->o.cluster.nodes == NULL)
        return d;
    hth_buf_init(&b, HTH_NODES_BYTES_MAX + 4096);
    a->o.cluster.nodes(a->o.cluster.ctx, &b);
    if (b.len > 0 && hth_msg_decode(&m, b.data, b.len, NULL) == HTH_OK) {
        d->session = m.u.nodes.session;
        hth_cursor_init(&at, m.u.nodes.list.p, m.u.nodes.list.n);
        while (hth_msg_node_next(&at, &n))
            add(d, &n, a->o.engine);
    }
    hth_buf_fini(&b);
    return d;
}

/* Of a session that began in between, all of it. */
static struct hth_phases since(const struct api_devices *then,
                               const struct api_devices *now, uint32_t i)
{
    static const struct hth_phases none;
    const struct hth_phases *p = &now->v[i].phases, *was = &none;

    for (uint32_t k = 0; k < then->count; k++)
        if (then->session == now->session &&
            strcmp(then->v[k].id, now->v[i].id) == 0 &&
            then->v[k].phases.steps <= p->steps)
            was = &then->v[k].phases;
    return (struct hth_phases){.steps = p->steps - was->steps,
                               .compute_ns = p->compute_ns - was->compute_ns,
                               .send_ns = p->send_ns - was->send_ns,
                               .receive_ns = p->receive_ns - was->receive_ns,
                               .wait_ns = p->wait_ns - was->wait_ns,
                               .disk_ns = p->disk_ns - was->disk_ns};
}

void hth__put_devices(struct hth_buf *b, const struct api_call *c)
{
    struct api_devices *now = c->then != NULL ? hth__api_devices(c->a) : NULL;

    if (now == NULL)
        return;
    hth_json_field_number(b, "nodes", now->count);
    hth_json_key(b, "devices");
    hth_put_u8(b, '[');
    for (uint32_t i = 0; i < now->count; i++) {
        struct hth_phases p = since(c->then, now, i);

        hth_put_printf(b, "%s{\"rank\":%d", i > 0 ? "," : "", now->v[i].rank);
        hth_json_field(b, "name", now->v[i].name);
        hth_put_printf(b,
                       ",\"steps\":%llu,\"compute_ms\":%.3f,"
                       "\"send_ms\":%.3f,\"receive_ms\":%.3f,"
                       "\"wait_ms\":%.3f,"
                       "\"disk_ms\":%.3f}",
                       (unsigned long long)p.steps, (double)p.compute_ns / 1e6,
                       (double)p.send_ns / 1e6, (double)p.receive_ns / 1e6,
                       (double)p.wait_ns / 1e6, (double)p.disk_ns / 1e6);
    }
    hth_put_u8(b, ']');
    free(now);
}
