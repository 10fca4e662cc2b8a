/* api_info.c - what is here and how it is: health, models, cancelling. */
#include <stdio.h>
#include <string.h>

#include "coordinator/api_serve.h"
#include "model/json_write.h"
#include "net/message.h"

#define INFO_BYTES_MAX (1u << 20)

/* ---- health ---------------------------------------------------------------
 */

struct node_counts {
    uint32_t ready, total, lost;
};

static struct node_counts count_nodes(struct hth_api *a)
{
    struct node_counts n = {0};
    struct hth_cursor at;
    struct hth_msg_node node;
    struct hth_buf b;
    struct hth_msg m;

    if (a->o.cluster.nodes == NULL)
        return n;
    hth_buf_init(&b, HTH_NODES_BYTES_MAX + 4096);
    a->o.cluster.nodes(a->o.cluster.ctx, &b);
    if (b.len > 0 && hth_msg_decode(&m, b.data, b.len, NULL) == HTH_OK) {
        hth_cursor_init(&at, m.u.nodes.list.p, m.u.nodes.list.n);
        while (hth_msg_node_next(&at, &node)) {
            n.total += 1;
            n.ready += node.state == HTH_NODE_READY;
            n.lost +=
                node.state == HTH_NODE_LOST || node.state == HTH_NODE_FAILED;
        }
    }
    hth_buf_fini(&b);
    return n;
}

void hth__serve_health(struct hth_api *a, struct hth_http_exchange *x)
{
    char waiting[HTH_ERR_TEXT_MAX];
    struct node_counts n = count_nodes(a);
    struct api_fault f;
    struct hth_buf b;
    uint64_t plan;

    if (!a->o.cluster.ready(a->o.cluster.ctx, &plan, waiting, sizeof waiting)) {
        hth__api_fault(&f, n.lost > 0 ? "cluster_degraded" : "loading_model",
                       NULL, "%s", waiting);
        hth__api_reply_fault(x, SHAPE_OPENAI, &f);
        return;
    }
    hth_buf_init(&b, 1024);
    hth_put_printf(&b,
                   "{\"status\":\"ok\",\"ready\":true,\"nodes_ready\":%u,"
                   "\"nodes_total\":%u}",
                   n.ready, n.total);
    hth__api_reply_json(x, &b);
}

/* ---- models ---------------------------------------------------------------
 */

double hth__model_params(const struct hth_api *a)
{
    double sum = 0;
    size_t i;

    for (i = 0; i < hth_gguf_tensor_count(a->o.gguf); i++) {
        const struct hth_tensor *t = hth_gguf_tensor_at(a->o.gguf, i);
        double n = 1;

        for (uint32_t d = 0; d < t->dims; d++)
            n *= (double)t->ne[d];
        sum += n;
    }
    return sum;
}

/* name: an adapter's, or NULL for the model itself. */
static void put_model(struct hth_buf *b, const struct hth_api *a,
                      const char *name)
{
    hth_put_u8(b, '{');
    hth_json_field(b, "id", name != NULL ? name : a->o.model);
    hth_json_field(b, "object", "model");
    hth_json_field_number(b, "created", (double)a->started_s);
    hth_json_field(b, "owned_by", "hearth");
    hth_json_field(b, "root", a->o.model);
    hth_json_key(b, "parent");
    if (name != NULL)
        hth_json_cstr(b, a->o.model);
    else
        hth_put_printf(b, "null");
    hth_json_field_number(b, "max_model_len", a->o.ctx);
    hth_json_key(b, "meta");
    hth_put_u8(b, '{');
    hth_json_field(b, "architecture", a->o.spec->arch->name);
    hth_json_field_number(b, "n_vocab", a->o.spec->vocab);
    hth_json_field_number(b, "n_ctx", a->o.ctx);
    hth_json_field_number(b, "n_ctx_train", a->o.spec->ctx_train);
    hth_json_field_number(b, "n_embd", a->o.spec->dim);
    hth_json_field_number(b, "n_layer", a->o.spec->layers);
    hth_json_field_number(b, "n_params", hth__model_params(a));
    hth_json_field_number(b, "size", (double)hth_gguf_file_bytes(a->o.gguf));
    hth_put_printf(b, "}}");
}

/* Codex reads the list beside data. */
void hth__serve_models(struct hth_api *a, struct hth_http_exchange *x)
{
    struct hth_lora_info v;
    struct hth_buf b;

    hth_buf_init(&b, INFO_BYTES_MAX);
    hth_put_printf(&b, "{\"object\":\"list\",\"data\":[");
    put_model(&b, a, NULL);
    for (uint32_t i = 0; i < HTH_LORAS_MAX; i++)
        if (hth_loras_info(a->o.loras, i, &v)) {
            hth_put_u8(&b, ',');
            put_model(&b, a, v.name);
        }
    hth_put_printf(&b, "],\"models\":[{");
    hth_json_field(&b, "slug", a->o.model);
    hth_json_field(&b, "name", a->o.model);
    hth_json_field(&b, "display_name", a->o.model);
    hth_json_field_number(&b, "context_window", a->o.ctx);
    hth_put_printf(&b, "}]}");
    hth__api_reply_json(x, &b);
}

void hth__serve_model(struct hth_api *a, struct hth_http_exchange *x)
{
    const char *id = hth_http_path(x) + strlen("/v1/models/");
    struct api_fault f;
    struct hth_buf b;

    if (strcmp(id, a->o.model) != 0 &&
        hth_loras_find(a->o.loras, id) == HTH_LORA_NONE) {
        hth__api_fault(&f, "model_not_found", "model",
                       "there is no model %.120s here; there is: %.120s", id,
                       a->o.model);
        hth__api_reply_fault(x, SHAPE_OPENAI, &f);
        return;
    }
    hth_buf_init(&b, INFO_BYTES_MAX);
    put_model(&b, a, strcmp(id, a->o.model) != 0 ? id : NULL);
    hth__api_reply_json(x, &b);
}

/* ---- cancelling -----------------------------------------------------------
 */

void hth__serve_cancel(struct hth_api *a, struct hth_http_exchange *x)
{
    const char *id = hth_http_path(x) + strlen("/v1/cancel/");
    struct api_fault f;
    struct hth_buf b;

    if (!hth__api_cancel(a, id)) {
        hth__api_fault(&f, "not_found", NULL, "no request %.80s is under way",
                       id);
        hth__api_reply_fault(x, SHAPE_OPENAI, &f);
        return;
    }
    hth_buf_init(&b, 1024);
    hth_put_printf(&b, "{\"cancelled\":true,\"id\":");
    hth_json_cstr(&b, id);
    hth_put_u8(&b, '}');
    hth__api_reply_json(x, &b);
}
