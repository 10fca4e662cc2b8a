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
    {"POST", "/v1/completions", SHAPE_OPENAI, false, NULL,
     &hth__dialect_completions},
    {"POST", "/completions", SHAPE_OPENAI, false, NULL,
     &hth__dialect_completions},
    {"POST", "/v1/embeddings", SHAPE_OPENAI, false, NULL,
     &hth__dialect_embeddings},
    {"POST", "/embeddings", SHAPE_OPENAI, false, NULL,
     &hth__dialect_embeddings},
    {"POST", "/tokenize", SHAPE_OPENAI, false, NULL, &hth__dialect_tokenize},
    {"POST", "/detokenize", SHAPE_OPENAI, false, NULL,
     &hth__dialect_detokenize},
    {"POST", "/apply-template", SHAPE_OPENAI, false, NULL,
     &hth__dialect_template},
    {"GET", "/props", SHAPE_OPENAI, false, hth__serve_props, NULL},
    {"POST", "/v1/responses", SHAPE_OPENAI, false, NULL,
     &hth__dialect_responses},
    {"POST", "/responses", SHAPE_OPENAI, false, NULL, &hth__dialect_responses},
    {"POST", "/v1/messages", SHAPE_ANTHROPIC, false, NULL,
     &hth__dialect_messages},
    {"POST", "/v1/messages/count_tokens", SHAPE_ANTHROPIC, false, NULL,
     &hth__dialect_count},
    {"POST", "/api/chat", SHAPE_OLLAMA, false, NULL, &hth__dialect_ollama_chat},
    {"POST", "/api/generate", SHAPE_OLLAMA, false, NULL,
     &hth__dialect_ollama_generate},
    {"POST", "/api/show", SHAPE_OLLAMA, false, NULL, &hth__dialect_ollama_show},
    {"GET", "/api/version", SHAPE_OLLAMA, true, hth__serve_ollama_version,
     NULL},
    {"GET", "/api/tags", SHAPE_OLLAMA, false, hth__serve_ollama_tags, NULL},
    {"GET", "/api/ps", SHAPE_OLLAMA, false, hth__serve_ollama_ps, NULL},
    {"POST", "/api/embed", SHAPE_OLLAMA, false, hth__serve_ollama_none, NULL},
    {"POST", "/api/embeddings", SHAPE_OLLAMA, false, hth__serve_ollama_none,
     NULL},
    {"POST", "/api/pull", SHAPE_OLLAMA, false, hth__serve_ollama_none, NULL},
    {"POST", "/api/push", SHAPE_OLLAMA, false, hth__serve_ollama_none, NULL},
    {"POST", "/api/create", SHAPE_OLLAMA, false, hth__serve_ollama_none, NULL},
    {"POST", "/api/copy", SHAPE_OLLAMA, false, hth__serve_ollama_none, NULL},
    {"DELETE", "/api/delete", SHAPE_OLLAMA, false, hth__serve_ollama_none,
     NULL},
    {"POST", "/v1/cancel/*", SHAPE_OPENAI, false, hth__serve_cancel, NULL},
};

const struct api_route *hth__api_routes(uint32_t *count)
{
    *count = sizeof routes / sizeof routes[0];
    return routes;
}
