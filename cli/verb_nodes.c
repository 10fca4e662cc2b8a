/* verb_nodes.c - nodes, pair, revoke: short questions to the coordinator that
 * runs on this machine. */
#include <stdio.h>
#include <string.h>

#include "model/json_write.h"
#include "cli/model_opts.h"
#include "cli/nodes.h"
#include "cli/out.h"
#include "cli/paths.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "coordinator/client.h"

#define OUT_BYTES_MAX (4u << 20)

static int open_client(const struct hth_args *args, struct hth_client **out,
                       struct hth_err *err)
{
    char state[HTH_PATH_BYTES_MAX];
    struct hth_client_opts opts = {0};
    int rc = hth_state_option(args, "coordinator", state, &opts.state_dir, err);

    return rc == HTH_OK ? hth_client_open(out, &opts, err) : rc;
}

/* ---- nodes --------------------------------------------------------------- */

/* "loading 42%" while a shard is on its way, and why where it went wrong. */
static void state_text(const struct hth_msg_node *n, char *dst, size_t size)
{
    const char *state = hth_node_state_text(n->state);

    if (n->state == HTH_NODE_LOADING && n->shard_bytes > 0)
        snprintf(dst, size, "%s %.0f%%", state,
                 100.0 * (double)n->done_bytes / (double)n->shard_bytes);
    else
        snprintf(dst, size, "%s", state);
}

static void add_node(struct hth_table *t, const struct hth_msg_node *n)
{
    char name[HTH_NAME_MAX];
    char device[HTH_NAME_MAX];
    char address[HTH_NAME_MAX];
    char arch[HTH_NAME_MAX];
    char state[32];
    char rank[16] = "";
    char share[16] = "";
    char shard[HTH_BYTES_TEXT];
    char memory[HTH_BYTES_TEXT];

    hth_plain_text(n->name, name, sizeof name);
    hth_plain_text(n->device, device, sizeof device);
    hth_plain_text(n->address, address, sizeof address);
    hth_plain_text(n->arch, arch, sizeof arch);
    state_text(n, state, sizeof state);
    if (n->rank >= 0) {
        snprintf(rank, sizeof rank, "%d", n->rank);
        snprintf(share, sizeof share, "%.1f%%", 100.0 * n->share);
    }
    hth_bytes_text(n->shard_bytes, shard);
    hth_bytes_text(n->memory_bytes, memory);
    hth_table_row(t, "%s\t%s\t%s\t%s\t%s\t%s\t%u\t%s\t%s\t%s", name, state,
                  rank, share, n->rank >= 0 ? shard : "", memory, n->threads,
                  arch, address, device);
}

void hth_nodes_put(const struct hth_msg_nodes *nodes, struct hth_buf *out)
{
    char plain[HTH_ERR_TEXT_MAX];
    struct hth_msg_node node;
    struct hth_table t;
    struct hth_cursor c;

    hth_plain_text(nodes->model, plain, sizeof plain);
    hth_put_printf(out, "%s: %s, context %u, %u running, %u queued\n", plain,
                   nodes->ready ? "ready" : "not ready", nodes->ctx,
                   nodes->running, nodes->queued);
    hth_plain_text(nodes->waiting, plain, sizeof plain);
    if (!nodes->ready && plain[0] != '\0')
        hth_put_printf(out, "%s\n", plain);
    hth_table_init(&t, "NAME\tSTATE\tRANK\tSHARE\tSHARD\tMEMORY\tTHREADS\t"
                       "CPU\tADDRESS\tDEVICE");
    hth_cursor_init(&c, nodes->list.p, nodes->list.n);
    while (hth_msg_node_next(&c, &node))
        add_node(&t, &node);
    hth_table_put(&t, out);
    hth_table_fini(&t);
    hth_cursor_init(&c, nodes->list.p, nodes->list.n);
    while (hth_msg_node_next(&c, &node)) {
        char name[HTH_NAME_MAX];

        if (node.text[0] == '\0')
            continue;
        hth_plain_text(node.name, name, sizeof name);
        hth_plain_text(node.text, plain, sizeof plain);
        hth_put_printf(out, "%s: %s\n", name, plain);
    }
}

static void put_json_node(const struct hth_msg_node *n, struct hth_buf *out)
{
    hth_put_u8(out, '{');
    hth_json_field(out, "name", n->name);
    hth_json_field(out, "device", n->device);
    hth_json_field(out, "state", hth_node_state_text(n->state));
    hth_json_key(out, "coordinator");
    hth_put_printf(out, n->coordinator ? "true" : "false");
    hth_json_key(out, "rank");
    if (n->rank >= 0)
        hth_json_number(out, n->rank);
    else
        hth_put_printf(out, "null");
    hth_json_field_number(out, "share", n->share);
    hth_json_field_number(out, "shard_bytes", (double)n->shard_bytes);
    hth_json_field_number(out, "done_bytes", (double)n->done_bytes);
    hth_json_field_number(out, "sent_bytes", (double)n->sent_bytes);
    hth_json_field_number(out, "memory_bytes", (double)n->memory_bytes);
    hth_json_field_number(out, "read_bytes_per_s", n->read_bytes_per_s);
    hth_json_field_number(out, "cores", n->cores);
    hth_json_field_number(out, "threads", n->threads);
    hth_json_field(out, "arch", n->arch);
    hth_json_field(out, "isa", n->isa);
    hth_json_field(out, "address", n->address);
    hth_json_field(out, "version", n->version);
    hth_json_field_number(out, "seen_ms_ago", (double)n->seen_ms_ago);
    hth_json_field(out, "text", n->text);
    hth_put_u8(out, '}');
}

static void put_json(const struct hth_msg_nodes *nodes, struct hth_buf *out)
{
    struct hth_msg_node node;
    struct hth_cursor c;
    bool first = true;

    hth_put_u8(out, '{');
    hth_json_field(out, "version", nodes->version);
    hth_json_field(out, "model", nodes->model);
    hth_json_key(out, "ready");
    hth_put_printf(out, nodes->ready ? "true" : "false");
    hth_json_field(out, "waiting", nodes->waiting);
    hth_json_field_number(out, "ctx", nodes->ctx);
    hth_json_field_number(out, "running", nodes->running);
    hth_json_field_number(out, "queued", nodes->queued);
    hth_json_key(out, "nodes");
    hth_put_u8(out, '[');
    hth_cursor_init(&c, nodes->list.p, nodes->list.n);
    while (hth_msg_node_next(&c, &node)) {
        if (!first)
            hth_put_u8(out, ',');
        first = false;
        put_json_node(&node, out);
    }
    hth_put_printf(out, "]}\n");
}

int hth_verb_nodes(const struct hth_args *args, struct hth_err *err)
{
    struct hth_client *client;
    struct hth_msg_nodes nodes;
    struct hth_buf out;
    int rc = open_client(args, &client, err);

    if (rc != HTH_OK)
        return rc;
    hth_buf_init(&out, OUT_BYTES_MAX);
    rc = hth_client_nodes(client, &nodes, err);
    if (rc == HTH_OK) {
        if (hth_args_flag(args, "json"))
            put_json(&nodes, &out);
        else
            hth_nodes_put(&nodes, &out);
        rc = hth_out_buf(&out, err);
    }
    hth_buf_fini(&out);
    hth_client_close(client);
    return rc;
}

/* ---- pair, revoke -------------------------------------------------------- */

static void put_code(const struct hth_msg_code *code, bool json,
                     struct hth_buf *out)
{
    if (!json) {
        hth_put_printf(out, "hearth worker --join %s:%u --code %s\n",
                       code->host, code->port, code->code);
        return;
    }
    hth_put_u8(out, '{');
    hth_json_field(out, "code", code->code);
    hth_json_field(out, "host", code->host);
    hth_json_field_number(out, "port", code->port);
    hth_json_field_number(out, "expires_s", code->expires_s);
    hth_put_printf(out, "}\n");
}

int hth_verb_pair(const struct hth_args *args, struct hth_err *err)
{
    struct hth_client *client;
    struct hth_msg_code code;
    struct hth_buf out;
    int rc = open_client(args, &client, err);

    if (rc != HTH_OK)
        return rc;
    rc = hth_client_pair(client, &code, err);
    hth_client_close(client);
    if (rc != HTH_OK)
        return rc;
    hth_buf_init(&out, OUT_BYTES_MAX);
    put_code(&code, hth_args_flag(args, "json"), &out);
    rc = hth_out_buf(&out, err);
    hth_buf_fini(&out);
    if (rc == HTH_OK)
        fprintf(stderr, "Works once, within %u minutes.\n",
                (code.expires_s + 59) / 60);
    return rc;
}

int hth_verb_revoke(const struct hth_args *args, struct hth_err *err)
{
    struct hth_client *client;
    int rc = open_client(args, &client, err);

    if (rc != HTH_OK)
        return rc;
    rc = hth_client_revoke(client, args->operands[0], err);
    hth_client_close(client);
    if (rc == HTH_OK)
        fprintf(stderr, "Revoked %s. It can come back with a new code only.\n",
                args->operands[0]);
    return rc;
}
