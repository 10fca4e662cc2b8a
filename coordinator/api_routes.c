/* api_routes.c - every path of the service, in one table. */
#include "coordinator/api_internal.h"
#include "coordinator/api_serve.h"

static const struct api_route routes[] = {
    {"GET", "/health", SHAPE_OPENAI, true, hth__serve_health, NULL},
    {"GET", "/v1/health", SHAPE_OPENAI, true, hth__serve_health, NULL},
    {"GET", "/v1/models", SHAPE_OPENAI, true, hth__serve_models, NULL},
    {"GET", "/models", SHAPE_OPENAI, true, hth__serve_models, NULL},
    {"GET", "/v1/models/*", SHAPE_OPENAI, true, hth__serve_model, NULL},
    {"POST", "/v1/chat/completions", SHAPE_OPENAI, false, NULL,
     &hth__dialect_chat},
    {"POST", "/chat/completions", SHAPE_OPENAI, false, NULL,
     &hth__dialect_chat},
    {"POST", "/v1/cancel/*", SHAPE_OPENAI, false, hth__serve_cancel, NULL},
};

const struct api_route *hth__api_routes(uint32_t *count)
{
    *count = sizeof routes / sizeof routes[0];
    return routes;
}
