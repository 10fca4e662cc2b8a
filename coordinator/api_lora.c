/* api_lora.c - adapters over HTTP: which there are and their usual scales
 * (llama.cpp's /lora-adapters), loading and unloading (vLLM's), and what a
 * request asks for. Loading happens only where the coordinator was started
 * with --lora-dir. */
#include <string.h>

#include "coordinator/api_serve.h"
#include "model/json_write.h"

#define LIST_BYTES_MAX (1u << 20)
#define LOAD_WAIT_MS 60000u

static int fault_from(struct api_call *c, int status, const char *param,
                      const char *text)
{
    const char *code = "invalid_value";

    if (status == HTH_ENOTFOUND)
        code = "not_found";
    else if (status == HTH_EAUTH)
        code = "not_allowed";
    else if (status == HTH_EBUSY)
        code = "loading_model";
    else if (status == HTH_ETIMEDOUT)
        code = "deadline_exceeded";
    else if (status == HTH_ENOMEM)
        code = "internal_error";
    return hth__api_fault(&c->fault, code, param, "%s", text);
}

/* ---- listing --------------------------------------------------------------
 */

static void put_adapter(struct hth_buf *b, const struct hth_lora_info *v)
{
    hth_put_u8(b, '{');
    hth_json_field_number(b, "id", v->id);
    hth_json_field(b, "path", v->path);
    hth_json_field_number(b, "scale", (double)v->scale);
    hth_json_field(b, "name", v->name);
    hth_json_field_number(b, "rank", v->rank);
    hth_json_field_number(b, "alpha", (double)v->alpha);
    hth_json_key(b, "ready");
    hth_put_printf(b, v->ready ? "true}" : "false}");
}

void hth__serve_loras(struct hth_api *a, struct hth_http_exchange *x)
{
    struct hth_lora_info v;
    struct hth_buf b;
    bool first = true;

    hth_buf_init(&b, LIST_BYTES_MAX);
    hth_put_u8(&b, '[');
    for (uint32_t i = 0; i < HTH_LORAS_MAX; i++) {
        if (!hth_loras_info(a->o.loras, i, &v))
            continue;
        if (!first)
            hth_put_u8(&b, ',');
        put_adapter(&b, &v);
        first = false;
    }
    hth_put_u8(&b, ']');
    hth__api_reply_json(x, &b);
}

/* ---- scales ---------------------------------------------------------------
 */

/* {"id": 0, "scale": 0.5} of a list; llama.cpp's, and by name, too. */
static int read_one(struct api_call *c, const json_t *o, const char *param,
                    struct hth_lora_ask *out)
{
    const json_t *id = json_object_get(o, "id");
    const json_t *name = json_object_get(o, "name");
    const json_t *scale = json_object_get(o, "scale");

    *out = (struct hth_lora_ask){HTH_LORA_NONE, 1};
    if (!json_is_object(o) || (scale != NULL && !json_is_number(scale)))
        return hth__api_fault(&c->fault, "invalid_value", param,
                              "%s must be a list of {\"id\": number, "
                              "\"scale\": number}",
                              param);
    if (scale != NULL)
        out->scale = (float)json_number_value(scale);
    if (json_is_string(name))
        out->id = hth_loras_find(c->a->o.loras, json_string_value(name));
    else if (json_is_integer(id) && json_integer_value(id) >= 0 &&
             json_integer_value(id) < HTH_LORAS_MAX)
        out->id = (uint32_t)json_integer_value(id);
    if (out->id == HTH_LORA_NONE)
        return hth__api_fault(&c->fault, "invalid_value", param,
                              "%s names an adapter that there is not (see "
                              "GET /lora-adapters)",
                              param);
    return 0;
}

/* What the list does not name gets 0, as llama.cpp has it. Nothing is changed
 * before all of it is known to be right. */
static int read_scales(struct api_call *c)
{
    struct hth_lora_ask ask[HTH_LORAS_MAX];
    struct hth_lora_info v;
    struct hth_err err;
    const json_t *one;
    uint32_t n = 0;
    size_t i;

    if (!json_is_array(c->body) || json_array_size(c->body) > HTH_LORAS_MAX)
        return hth__api_fault(&c->fault, "invalid_value", NULL,
                              "the body must be a list of adapters");
    json_array_foreach(c->body, i, one)
    {
        if (read_one(c, one, "id", &ask[n]) != 0)
            return -1;
        if (!hth_loras_info(c->a->o.loras, ask[n++].id, &v))
            return hth__api_fault(&c->fault, "not_found", "id",
                                  "there is no adapter with id %u",
                                  ask[n - 1].id);
    }
    for (uint32_t k = 0; k < HTH_LORAS_MAX; k++)
        if (hth_loras_info(c->a->o.loras, k, &v))
            (void)!hth_loras_scale(c->a->o.loras, k, 0, NULL);
    for (uint32_t k = 0; k < n; k++) {
        int status = hth_loras_scale(c->a->o.loras, ask[k].id,
                                     (double)ask[k].scale, &err);

        if (status != HTH_OK)
            return fault_from(c, status, "scale", err.text);
    }
    hth_put_printf(&c->out, "{\"success\":true}");
    return 0;
}

/* ---- loading --------------------------------------------------------------
 */

static const char *text_of(struct api_call *c, const char *name)
{
    const char *text = json_string_value(json_object_get(c->body, name));

    if (text == NULL)
        hth__api_fault(&c->fault, "invalid_value", name, "%s must be a string",
                       name);
    return text;
}

static void put_success(struct api_call *c, const char *name, const char *done)
{
    hth_put_printf(&c->out, "{\"success\":true");
    hth_json_field(&c->out, "name", name);
    hth_json_field_number(&c->out, "id", hth_loras_find(c->a->o.loras, name));
    hth_json_field(&c->out, "status", done);
    hth_put_u8(&c->out, '}');
}

static int refuse_loading(struct api_call *c)
{
    return hth__api_fault(&c->fault, "not_allowed", NULL,
                          "adapters are not loaded or unloaded by request "
                          "here; start the coordinator with --lora-dir DIR");
}

/* Answers when requests can use it: on a pool thread, so it may wait. */
static int read_load(struct api_call *c)
{
    struct hth_loras *l = c->a->o.loras;
    const char *name, *path;
    struct hth_err err = {0};
    int status;

    if (!hth_loras_may_load(l))
        return refuse_loading(c);
    name = text_of(c, "lora_name");
    path = name != NULL ? text_of(c, "lora_path") : NULL;
    if (path == NULL)
        return -1;
    if (name[0] == '\0')
        return hth__api_fault(&c->fault, "invalid_value", "lora_name",
                              "lora_name must not be empty");
    status = hth_loras_load(l, name, path, &err);
    if (status != HTH_OK)
        return fault_from(c, status, "lora_path", err.text);
    status = hth_loras_wait(l, name, LOAD_WAIT_MS, &err);
    if (status != HTH_OK)
        return fault_from(c, status, "lora_name", err.text);
    put_success(c, name, "loaded");
    return 0;
}

static int read_unload(struct api_call *c)
{
    struct hth_err err = {0};
    const char *name;
    int status;

    if (!hth_loras_may_load(c->a->o.loras))
        return refuse_loading(c);
    name = text_of(c, "lora_name");
    if (name == NULL)
        return -1;
    status = hth_loras_unload(c->a->o.loras, name, &err);
    if (status != HTH_OK)
        return fault_from(c, status, "lora_name", err.text);
    hth_put_printf(&c->out, "{\"success\":true");
    hth_json_field(&c->out, "name", name);
    hth_json_field(&c->out, "status", "unloaded");
    hth_put_u8(&c->out, '}');
    return 0;
}

static void said(struct api_call *c)
{
    (void)c;
}

const struct api_dialect hth__dialect_lora_scales = {.shape = SHAPE_OPENAI,
                                                     .id_prefix = "",
                                                     .instant = true,
                                                     .list = true,
                                                     .read = read_scales,
                                                     .end = said};
const struct api_dialect hth__dialect_lora_load = {.shape = SHAPE_OPENAI,
                                                   .id_prefix = "",
                                                   .instant = true,
                                                   .fields = &hth__fields_lora,
                                                   .read = read_load,
                                                   .end = said};
const struct api_dialect hth__dialect_lora_unload = {.shape = SHAPE_OPENAI,
                                                     .id_prefix = "",
                                                     .instant = true,
                                                     .fields =
                                                         &hth__fields_lora,
                                                     .read = read_unload,
                                                     .end = said};

/* ---- what a request asks for -----------------------------------------------
 */

bool hth__ask_adapter_model(struct api_call *c, const char *model)
{
    size_t n = strlen(c->a->o.model);
    struct hth_lora_info v;
    uint32_t id;

    if (strncmp(model, c->a->o.model, n) == 0 && model[n] == ':')
        model += n + 1;
    id = hth_loras_find(c->a->o.loras, model);
    if (id == HTH_LORA_NONE || !hth_loras_info(c->a->o.loras, id, &v))
        return false;
    c->ask->by_model = true;
    c->ask->model_lora =
        (struct hth_lora_ask){id, v.scale < 0 || v.scale > 0 ? v.scale : 1};
    return true;
}

static int read_list(struct api_call *c, const json_t *list)
{
    struct hth_lora_choice *out = &c->ask->lora;
    const json_t *one;
    size_t i;

    if (!json_is_array(list) || json_array_size(list) > HTH_LORA_SET_MAX)
        return hth__api_fault(&c->fault, "invalid_value", "lora",
                              "lora must be a list of at most %u adapters",
                              HTH_LORA_SET_MAX);
    json_array_foreach(list, i, one)
    {
        if (read_one(c, one, "lora", &out->ask[out->n++]) != 0)
            return -1;
    }
    return 0;
}

int hth__ask_adapters(struct api_call *c)
{
    const json_t *list = json_object_get(c->body, "lora");
    struct hth_loras *l = c->a->o.loras;
    struct hth_err err = {0};
    int status;

    if (l == NULL) {
        if (list == NULL || json_is_null(list) ||
            (json_is_array(list) && json_array_size(list) == 0))
            return 0;
        return hth__api_fault(&c->fault, "invalid_value", "lora",
                              "there are no adapters here; start the "
                              "coordinator with --lora or --lora-dir");
    }
    if (list != NULL && !json_is_null(list)) {
        if (read_list(c, list) != 0)
            return -1;
        status = hth_loras_choose(l, &c->ask->lora, &err);
    } else if (c->ask->by_model) {
        c->ask->lora.n = 1;
        c->ask->lora.ask[0] = c->ask->model_lora;
        status = hth_loras_choose(l, &c->ask->lora, &err);
    } else {
        status = hth_loras_default(l, &c->ask->lora, &err);
    }
    /* Not a path that there is not, but a field that is wrong. */
    if (status == HTH_ENOTFOUND)
        status = HTH_EINVAL;
    return status == HTH_OK ? 0 : fault_from(c, status, "lora", err.text);
}
