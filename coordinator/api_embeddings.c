/* api_embeddings.c - POST /v1/embeddings: the mean of the hidden states over
 * a text, of length 1. OpenAI's own client asks for base64 unless told
 * otherwise. */
#include <stdlib.h>
#include <string.h>

#include "coordinator/api_serve.h"
#include "model/json_write.h"

/* Kept in own: how the numbers are written. */
struct embed_ask {
    bool base64;
};

static int read_embeddings(struct api_call *c)
{
    const json_t *v = json_object_get(c->body, "encoding_format");
    const json_t *dims = json_object_get(c->body, "dimensions");
    const char *format =
        json_is_null(v) || v == NULL ? "float" : json_string_value(v);
    struct embed_ask *own = calloc(1, sizeof *own);

    c->own = own;
    if (own == NULL)
        return hth__api_fault(&c->fault, "internal_error", NULL,
                              "out of memory");
    own->base64 = format != NULL && strcmp(format, "base64") == 0;
    if (!own->base64 && (format == NULL || strcmp(format, "float") != 0))
        return hth__api_fault(&c->fault, "invalid_value", "encoding_format",
                              "encoding_format must be float or base64");
    if (dims != NULL && !json_is_null(dims) &&
        (!json_is_integer(dims) ||
         json_integer_value(dims) != (json_int_t)c->a->o.spec->dim))
        return hth__api_fault(&c->fault, "unsupported_parameter", "dimensions",
                              "this model's embeddings have %u dimensions, "
                              "and cannot be cut",
                              c->a->o.spec->dim);
    c->ask->prompt = json_object_get(c->body, "input");
    c->ask->prompt_name = "input";
    c->ask->tokens_max = 0;
    if (hth__ask_model(c, c->body) != 0 || hth__prompt_text(c) != 0)
        return -1;
    return 0;
}

/* RFC 4648, of little-endian f32. */
static void put_base64(struct hth_buf *b, const uint8_t *p, size_t n)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t i;

    hth_put_u8(b, '"');
    for (i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16;

        if (i + 1 < n)
            v |= (uint32_t)p[i + 1] << 8;
        if (i + 2 < n)
            v |= p[i + 2];
        hth_put_u8(b, (uint8_t)digits[v >> 18]);
        hth_put_u8(b, (uint8_t)digits[v >> 12 & 63]);
        hth_put_u8(b, i + 1 < n ? (uint8_t)digits[v >> 6 & 63] : '=');
        hth_put_u8(b, i + 2 < n ? (uint8_t)digits[v & 63] : '=');
    }
    hth_put_u8(b, '"');
}

static void put_vector(struct hth_buf *b, const struct api_choice *ch)
{
    const struct embed_ask *own = ch->call->own;
    uint32_t dim = ch->call->a->o.spec->dim, i;

    hth_json_key(b, "embedding");
    if (own->base64) {
        put_base64(b, (const uint8_t *)ch->embedding, dim * 4u);
        return;
    }
    hth_put_u8(b, '[');
    for (i = 0; i < dim; i++)
        hth_put_printf(b, "%s%.9g", i > 0 ? "," : "", (double)ch->embedding[i]);
    hth_put_u8(b, ']');
}

static void on_end(struct api_call *c)
{
    struct hth_buf *b = &c->out;
    uint32_t i, n = hth__api_prompt_tokens(c);

    hth_put_printf(b, "{\"object\":\"list\",\"data\":[");
    for (i = 0; i < c->choices; i++) {
        hth_put_printf(b, "%s{\"object\":\"embedding\",\"index\":%u",
                       i > 0 ? "," : "", i);
        put_vector(b, &c->choice[i]);
        hth_put_u8(b, '}');
    }
    hth_put_u8(b, ']');
    hth_json_field(b, "model", c->a->o.model);
    hth_put_printf(b, ",\"usage\":{\"prompt_tokens\":%u,\"total_tokens\":%u}}",
                   n, n);
}

const struct api_dialect hth__dialect_embeddings = {.shape = SHAPE_OPENAI,
                                                    .id_prefix = "embd-",
                                                    .embed = true,
                                                    .fields =
                                                        &hth__fields_embeddings,
                                                    .read = read_embeddings,
                                                    .end = on_end};
