/* chat_info.c - what the coordinator tells about itself, in `hearth chat`. */
#include <stdio.h>

#include "cli/chat.h"
#include "cli/nodes.h"
#include "cli/table.h"

/* False: it could not be asked, which was told. */
static bool ask_nodes(struct hth_client *client, struct hth_msg_nodes *out)
{
    struct hth_err err;

    if (hth_client_nodes(client, out, &err) == HTH_OK)
        return true;
    fprintf(stderr, "%s\n", err.text);
    return false;
}

void hth_chat_nodes(struct hth_client *client)
{
    struct hth_msg_nodes nodes;
    struct hth_buf out;

    if (!ask_nodes(client, &nodes))
        return;
    hth_buf_init(&out, HTH_NODES_BYTES_MAX);
    hth_nodes_put(&nodes, &out);
    fprintf(stderr, "%s", hth_buf_cstr(&out));
    hth_buf_fini(&out);
}

/* Devices that have a part of the model, and its bytes on all of them. */
static void put_devices(const struct hth_msg_nodes *nodes)
{
    struct hth_msg_node n;
    struct hth_cursor c;
    uint64_t bytes = 0;
    uint32_t count = 0;
    char text[HTH_BYTES_TEXT], name[HTH_NAME_MAX];

    hth_cursor_init(&c, nodes->list.p, nodes->list.n);
    while (hth_msg_node_next(&c, &n)) {
        if (n.rank < 0)
            continue;
        hth_plain_text(n.name, name, sizeof name);
        hth_bytes_text(n.shard_bytes, text);
        fprintf(stderr, "%-11s %s: %.1f%%, %s, %s\n",
                count == 0 ? "devices" : "", name, 100.0 * n.share, text,
                hth_node_state_text(n.state));
        bytes += n.shard_bytes;
        count++;
    }
    hth_bytes_text(bytes, text);
    fprintf(stderr, "%-11s %s on %u device%s\n", "weights", text, count,
            count == 1 ? "" : "s");
}

void hth_chat_info(struct hth_client *client)
{
    struct hth_msg_nodes nodes;
    char plain[HTH_ERR_TEXT_MAX];

    if (!ask_nodes(client, &nodes))
        return;
    hth_plain_text(nodes.model, plain, sizeof plain);
    fprintf(stderr, "%-11s %s\n", "model", plain);
    fprintf(stderr, "%-11s %u tokens\n", "context", nodes.ctx);
    put_devices(&nodes);
    hth_plain_text(nodes.waiting, plain, sizeof plain);
    fprintf(
        stderr, "%-11s %s%s%s\n", "state", nodes.ready ? "ready" : "not ready",
        !nodes.ready && plain[0] != '\0' ? ": " : "", nodes.ready ? "" : plain);
    hth_plain_text(nodes.version, plain, sizeof plain);
    fprintf(stderr, "%-11s %s\n", "version", plain);
}
