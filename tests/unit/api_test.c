/* api_test.c - the service over sockets, with the bundled model in this
 * process: order and shape of what clients read, errors before headers,
 * clients that leave, and equal answers however they are asked for. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/cluster.h"
#include "http_client.h"
#include "kernels/type.h"

#define MODEL "models/tale-q8_0.gguf"

static struct hth_cluster *g_cluster;
static const char *const g_keys[] = {"secret"};

static void open_with(struct hth_cluster_http *http, uint32_t parallel,
                      uint32_t waiting)
{
    struct hth_cluster_opts o = {.model_path = MODEL,
                                 .offline = true,
                                 .threads = 1,
                                 .kv_type = HTH_F16,
                                 .ctx = 512,
                                 .parallel_max = parallel,
                                 .waiting_max = waiting,
                                 .http = http};
    struct hth_err err;

    hth_log_set_level(HTH_LOG_ERROR);
    cr_assert_eq(hth_cluster_open(&g_cluster, &o, &err), 0, "%s", err.text);
    cr_assert_eq(hth_cluster_wait_ready(g_cluster, 20000, &err), 0, "%s",
                 err.text);
}

static void set_up(void)
{
    struct hth_cluster_http http = {.port = 0};

    open_with(&http, 0, 0);
}

static void tear_down(void)
{
    hth_cluster_close(g_cluster);
}

TestSuite(api, .init = set_up, .fini = tear_down, .timeout = 120);

static uint16_t port(void)
{
    return hth_cluster_http_port(g_cluster);
}

/* The body of an answer that is not chunked, as JSON. */
static json_t *ask(const char *path, const char *body, int status)
{
    struct hth_buf b;
    const char *all = body != NULL ? client_post(port(), path, body, &b)
                                   : client_get(port(), path, &b);
    json_error_t why;
    json_t *v;

    cr_assert_eq(client_status(all), status, "%s: %.600s", path, all);
    cr_assert_not_null(strstr(all, "Content-Type: application/json"));
    v = json_loads(strstr(all, "\r\n\r\n") + 4, 0, &why);
    cr_assert_not_null(v, "%s: %s: %.600s", path, why.text, all);
    hth_buf_fini(&b);
    return v;
}

static const char *text_at(const json_t *v, const char *a, const char *b)
{
    return json_string_value(json_object_get(json_object_get(v, a), b));
}

static void fails(const char *path, const char *body, int status,
                  const char *code)
{
    json_t *v = ask(path, body, status);

    cr_assert_str_eq(text_at(v, "error", "code"), code, "%s", body);
    cr_assert_not_null(text_at(v, "error", "message"));
    cr_assert_not_null(text_at(v, "error", "type"));
    json_decref(v);
}

#define USER "\"messages\":[{\"role\":\"user\",\"content\":\"The door\"}]"
#define GREEDY "\"temperature\":0,\"max_tokens\":12,\"ignore_eos\":true"

static char *content_of(const json_t *v)
{
    const json_t *m = json_object_get(
        json_array_get(json_object_get(v, "choices"), 0), "message");
    const char *text = json_string_value(json_object_get(m, "content"));

    cr_assert_not_null(text);
    return strdup(text);
}

Test(api, models_and_health)
{
    json_t *v = ask("/v1/models", NULL, 200);
    const json_t *m = json_array_get(json_object_get(v, "data"), 0);

    cr_assert_str_eq(json_string_value(json_object_get(m, "id")), "tale-q8_0");
    cr_assert_not_null(json_object_get(m, "root"));
    json_decref(v);
    v = ask("/health", NULL, 200);
    cr_assert_str_eq(json_string_value(json_object_get(v, "status")), "ok");
    json_decref(v);
    json_decref(ask("/v1/models/tale-q8_0", NULL, 200));
    fails("/v1/models/other", NULL, 404, "model_not_found");
}

Test(api, whole_answer)
{
    json_t *v = ask("/v1/chat/completions", "{" USER "," GREEDY "}", 200);
    const json_t *usage = json_object_get(v, "usage");
    const json_t *choice = json_array_get(json_object_get(v, "choices"), 0);

    const json_t *cluster = json_object_get(v, "cluster");
    const json_t *device =
        json_array_get(json_object_get(cluster, "devices"), 0);

    cr_assert_eq(json_integer_value(json_object_get(cluster, "nodes")), 1);
    cr_assert_geq(json_integer_value(json_object_get(device, "steps")), 10);
    cr_assert_gt(json_number_value(json_object_get(device, "compute_ms")), 0);
    for (size_t i = 0; i < 4; i++) {
        static const char *const rest[] = {"send_ms", "receive_ms", "wait_ms",
                                           "disk_ms"};

        cr_assert(json_is_number(json_object_get(device, rest[i])), "%s",
                  rest[i]);
    }
    cr_assert_str_eq(json_string_value(json_object_get(v, "object")),
                     "chat.completion");
    cr_assert_eq(
        json_integer_value(json_object_get(usage, "completion_tokens")), 12);
    cr_assert_str_eq(
        json_string_value(json_object_get(choice, "finish_reason")), "length");
    json_decref(v);
}

/* Chunks of a stream put together: every event one line of JSON and an empty
 * line, the role with the first token, an empty delta with the reason, usage
 * on a chunk without choices, [DONE]. */
static char *stream_of(const char *body)
{
    struct hth_buf b, text;
    const char *all = client_post(port(), "/v1/chat/completions", body, &b);
    const char *at = all, *role = NULL, *reason = NULL, *usage = NULL;
    char *whole;

    cr_assert_eq(client_status(all), 200, "%.600s", all);
    cr_assert_not_null(strstr(all, "text/event-stream"));
    hth_buf_init(&text, 65536);
    while ((at = strstr(at, "data: {")) != NULL) {
        const char *end = strstr(at, "\n\n");
        json_t *v;
        const json_t *choice, *delta, *content;

        cr_assert_not_null(end);
        v = json_loadb(at + 6, (size_t)(end - at) - 6, 0, NULL);
        cr_assert_not_null(v, "%.300s", at);
        choice = json_array_get(json_object_get(v, "choices"), 0);
        delta = json_object_get(choice, "delta");
        content = json_object_get(delta, "content");
        if (json_object_get(delta, "role") != NULL)
            role = at;
        else if (role == NULL)
            cr_assert_fail("a chunk before the role");
        if (content != NULL)
            hth_put_printf(&text, "%s", json_string_value(content));
        if (json_is_string(json_object_get(choice, "finish_reason"))) {
            cr_assert_eq(json_object_size(delta), 0);
            reason = at;
        }
        if (json_object_get(v, "usage") != NULL) {
            cr_assert_eq(json_array_size(json_object_get(v, "choices")), 0);
            usage = at;
        }
        json_decref(v);
        at = end;
    }
    cr_assert(role != NULL && reason > role && usage > reason);
    cr_assert_gt(strstr(all, "data: [DONE]\n\n"), usage);
    whole = strdup(hth_buf_cstr(&text));
    hth_buf_fini(&text);
    hth_buf_fini(&b);
    return whole;
}

Test(api, a_stream_says_the_same)
{
    json_t *v = ask("/v1/chat/completions", "{" USER "," GREEDY "}", 200);
    char *whole = content_of(v);
    char *pieces = stream_of("{" USER "," GREEDY ",\"stream\":true,"
                             "\"stream_options\":{\"include_usage\":true}}");

    cr_assert_str_eq(pieces, whole);
    free(pieces);
    free(whole);
    json_decref(v);
}

Test(api, parts_and_developer)
{
    json_t *a = ask("/v1/chat/completions", "{" USER "," GREEDY "}", 200);
    json_t *b = ask("/v1/chat/completions",
                    "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
                    "\"text\",\"text\":\"The \"},{\"type\":\"text\",\"text\":"
                    "\"door\"}]}]," GREEDY "}",
                    200);
    char *x = content_of(a), *y = content_of(b);

    cr_assert_str_eq(x, y);
    free(x);
    free(y);
    json_decref(a);
    json_decref(b);
}

Test(api, several_choices_and_logprobs)
{
    json_t *v = ask("/v1/chat/completions",
                    "{" USER ",\"max_tokens\":4,\"n\":3,\"seed\":5,"
                    "\"ignore_eos\":true,"
                    "\"logprobs\":true,\"top_logprobs\":3}",
                    200);
    const json_t *all = json_object_get(v, "choices"), *one, *lp;
    size_t i;

    cr_assert_eq(json_array_size(all), 3);
    json_array_foreach(all, i, one)
    {
        lp = json_object_get(json_object_get(one, "logprobs"), "content");
        cr_assert_eq(json_array_size(lp), 4);
        lp = json_array_get(lp, 0);
        cr_assert_eq(json_array_size(json_object_get(lp, "top_logprobs")), 3);
        cr_assert_leq(json_number_value(json_object_get(lp, "logprob")), 0);
    }
    json_decref(v);
}

Test(api, faults_name_what_is_wrong)
{
    const char *chat = "/v1/chat/completions";

    fails(chat, "{", 400, "invalid_json");
    fails(chat, "[]", 400, "invalid_json");
    fails(chat, "{}", 400, "invalid_value");
    fails(chat, "{\"messages\":[]}", 400, "invalid_value");
    fails(chat, "{" USER ",\"temperature\":\"hot\"}", 400, "invalid_value");
    fails(chat, "{" USER ",\"n\":0}", 400, "invalid_value");
    fails(chat, "{" USER ",\"top_logprobs\":3}", 400, "invalid_value");
    fails(chat, "{" USER ",\"functions\":[{}]}", 400, "unsupported_parameter");
    fails(chat, "{" USER ",\"mirostat\":2}", 400, "unsupported_parameter");
    fails(chat, "{" USER ",\"model\":\"gpt\"}", 404, "model_not_found");
    fails(chat, "{" USER ",\"max_tokens\":600}", 400,
          "context_length_exceeded");
    fails("/v1/completions", "{\"prompt\":[5,999999]}", 400, "invalid_value");
    fails("/nothing", "{}", 404, "not_found");
    fails("/v1/models", "{}", 405, "method_not_allowed");
    fails("/v1/responses", "{\"input\":\"x\",\"previous_response_id\":\"r\"}",
          400, "unsupported_parameter");
}

/* What would change the answer and is not there is refused by its name, on
 * every path that samples; neutral values are not. */
Test(api, unsupported_fields_are_named)
{
    static const char *const fields[] = {
        "\"modalities\":[\"text\",\"audio\"]",
        "\"num_ctx\":4096",
        "\"guided_json\":{\"type\":\"null\"}",
        "\"guided_regex\":\"a*\"",
        "\"stop_token_ids\":[3]",
        "\"bad_words\":[\"x\"]",
        "\"min_tokens\":4",
        "\"use_beam_search\":true",
        "\"structured_outputs\":{\"json\":{}}"};
    char body[256];
    struct hth_buf b;

    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        const char *all;
        char name[40];

        snprintf(body, sizeof body, "{" USER ",%s}", fields[i]);
        snprintf(name, sizeof name, "\"param\":\"%.*s\"",
                 (int)strcspn(fields[i] + 1, "\""), fields[i] + 1);
        all = client_post(port(), "/v1/chat/completions", body, &b);
        cr_assert_eq(client_status(all), 400, "%s", body);
        cr_assert_not_null(strstr(all, name), "%s: %s", body, all);
        hth_buf_fini(&b);
    }
    json_decref(ask("/v1/chat/completions",
                    "{" USER ",\"max_tokens\":1,\"modalities\":[\"text\"],"
                    "\"min_tokens\":0,\"bad_words\":[],"
                    "\"use_beam_search\":false}",
                    200));
    fails("/v1/responses", "{\"input\":\"x\",\"top_logprobs\":2}", 400,
          "unsupported_parameter");
}

/* Where each token begins in the text, the prompt before it included. */
Test(api, completions_say_where_tokens_are)
{
    json_t *v = ask("/v1/completions",
                    "{\"prompt\":\"The door\",\"max_tokens\":3,"
                    "\"ignore_eos\":true,\"logprobs\":2}",
                    200);
    const json_t *one = json_array_get(json_object_get(v, "choices"), 0);
    const json_t *lp = json_object_get(one, "logprobs");
    const json_t *at = json_object_get(lp, "text_offset");
    const json_t *tokens = json_object_get(lp, "tokens");

    cr_assert_eq(json_array_size(at), 3);
    cr_assert_eq(json_integer_value(json_array_get(at, 0)), 0);
    cr_assert_eq(json_integer_value(json_array_get(at, 1)),
                 json_string_length(json_array_get(tokens, 0)));
    json_decref(v);
    fails("/v1/completions", "{\"prompt\":\"a\",\"suffix\":\"b\"}", 400,
          "unsupported_parameter");
}

/* What clients of Go send for what was never set; and Ollama's logprobs. */
Test(api, ollama_says_nothing_with_empty_fields)
{
    json_t *v = ask("/api/generate",
                    "{\"prompt\":\"The door\",\"suffix\":\"\",\"system\":"
                    "\"\",\"template\":\"\",\"context\":[],\"images\":null,"
                    "\"stream\":false,\"raw\":true,\"logprobs\":true,"
                    "\"top_logprobs\":2,"
                    "\"options\":{\"num_predict\":4,\"temperature\":0}}",
                    200);
    const json_t *lp = json_object_get(v, "logprobs");

    cr_assert_eq(json_array_size(lp),
                 (size_t)json_integer_value(json_object_get(v, "eval_count")));
    cr_assert_eq(
        json_array_size(json_object_get(json_array_get(lp, 0), "top_logprobs")),
        2);
    json_decref(v);
}

/* Nothing of what is said, only how far it is; and as many as run at once. */
Test(api, slots_and_props)
{
    json_t *v = ask("/slots", NULL, 200), *p = ask("/props", NULL, 200);

    cr_assert_eq((json_int_t)json_array_size(v),
                 json_integer_value(json_object_get(p, "total_slots")));
    cr_assert(
        json_is_false(json_object_get(json_array_get(v, 0), "is_processing")));
    cr_assert_not_null(json_object_get(p, "bos_token"));
    json_decref(v);
    json_decref(p);
}

/* The request's own words come back with the response. */
Test(api, responses_repeat_what_was_asked)
{
    static char long_one[70000], body[71000];
    json_t *v = ask("/v1/responses",
                    "{\"input\":\"The door\",\"max_output_tokens\":3,"
                    "\"instructions\":\"Be \\\"brief\\\"\",\"metadata\":"
                    "{\"a\":\"b\"},\"text\":{\"format\":{\"type\":\"text\"}}}",
                    200);

    cr_assert_str_eq(json_string_value(json_object_get(v, "instructions")),
                     "Be \"brief\"");
    cr_assert_eq(json_integer_value(json_object_get(v, "max_output_tokens")),
                 3);
    cr_assert_str_eq(text_at(v, "metadata", "a"), "b");
    json_decref(v);
    memset(long_one, 'x', sizeof long_one); /* too long to be repeated */
    snprintf(body, sizeof body,
             "{\"input\":\"a\",\"max_output_tokens\":1,\"metadata\":"
             "{\"a\":\"%.*s\"}}",
             (int)sizeof long_one, long_one);
    v = ask("/v1/responses", body, 200);
    cr_assert_eq(json_object_size(json_object_get(v, "metadata")), 0);
    json_decref(v);
}

Test(api, completions_count_exactly)
{
    json_t *v = ask("/v1/completions",
                    "{\"prompt\":\"The door\",\"max_tokens\":7,"
                    "\"ignore_eos\":true,\"repetition_penalty\":1.0,"
                    "\"logprobs\":null}",
                    200);

    cr_assert_eq(json_integer_value(json_object_get(json_object_get(v, "usage"),
                                                    "completion_tokens")),
                 7);
    json_decref(v);
}

Test(api, embeddings)
{
    json_t *v = ask("/v1/embeddings",
                    "{\"input\":[\"one\",\"two\"],"
                    "\"encoding_format\":\"base64\"}",
                    200);
    const json_t *e = json_object_get(
        json_array_get(json_object_get(v, "data"), 1), "embedding");

    cr_assert_eq(json_string_length(e), (256 * 4 + 2) / 3 * 4);
    json_decref(v);
    v = ask("/v1/embeddings", "{\"input\":\"one\"}", 200);
    e = json_object_get(json_array_get(json_object_get(v, "data"), 0),
                        "embedding");
    cr_assert_eq(json_array_size(e), 256);
    json_decref(v);
}

Test(api, tokens_there_and_back)
{
    json_t *v = ask("/tokenize", "{\"content\":\"The door\"}", 200);
    char *list = json_dumps(json_object_get(v, "tokens"), 0), body[256];

    snprintf(body, sizeof body, "{\"tokens\":%s}", list);
    json_decref(v);
    v = ask("/detokenize", body, 200);
    cr_assert_str_eq(json_string_value(json_object_get(v, "content")),
                     "The door");
    json_decref(v);
    free(list);
}

/* Lines of JSON, the last of them done, times in nanoseconds. */
Test(api, ollama)
{
    struct hth_buf b;
    const char *all = client_post(port(), "/api/chat",
                                  "{\"model\":\"tale-q8_0\"," USER
                                  ",\"options\":{\"num_predict\":3}}",
                                  &b);

    cr_assert_eq(client_status(all), 200);
    cr_assert_not_null(strstr(all, "application/x-ndjson"));
    cr_assert_not_null(strstr(all, "\"done\":true,\"done_reason\":\""));
    cr_assert_not_null(strstr(all, "\"eval_count\":"));
    hth_buf_fini(&b);
    json_decref(ask("/api/tags", NULL, 200));
    json_decref(ask("/api/ps", NULL, 200));
    json_decref(ask("/api/version", NULL, 200));
    json_decref(ask("/api/show", "{\"model\":\"tale-q8_0\"}", 200));
    json_decref(ask("/api/pull", "{}", 501));
}

static void in_order(const char *all, const char *const *events)
{
    for (; *events != NULL; events++) {
        const char *found = strstr(all, *events);

        cr_assert_not_null(found, "%s is missing or out of order", *events);
        all = found + 1;
    }
}

Test(api, anthropic)
{
    static const char *const events[] = {"event: message_start",
                                         "event: content_block_start",
                                         "event: content_block_delta",
                                         "event: content_block_stop",
                                         "event: message_delta",
                                         "event: message_stop",
                                         NULL};
    struct hth_buf b;

    in_order(client_post(port(), "/v1/messages",
                         "{\"max_tokens\":6,\"stream\":true,\"temperature\":0,"
                         "\"ignore_eos\":true," USER "}",
                         &b),
             events);
    hth_buf_fini(&b);
    json_decref(ask("/v1/messages/count_tokens", "{" USER "}", 200));
    json_decref(ask("/v1/messages", "{" USER "}", 400));
}

Test(api, responses)
{
    static const char *const events[] = {"event: response.created",
                                         "event: response.in_progress",
                                         "event: response.output_item.added",
                                         "event: response.content_part.added",
                                         "event: response.output_text.delta",
                                         "event: response.output_text.done",
                                         "event: response.content_part.done",
                                         "event: response.output_item.done",
                                         "event: response.incomplete",
                                         NULL};
    struct hth_buf b;

    in_order(client_post(port(), "/v1/responses",
                         "{\"input\":\"The door\",\"stream\":true,"
                         "\"temperature\":0,\"ignore_eos\":true,"
                         "\"max_output_tokens\":6,"
                         "\"tools\":[{\"type\":\"web_search\"}]}",
                         &b),
             events);
    hth_buf_fini(&b);
    json_decref(
        ask("/v1/responses", "{\"input\":\"\",\"max_output_tokens\":1}", 200));
}

/* Every line is a comment or a sample of a family that was announced. */
Test(api, metrics)
{
    struct hth_buf b;
    const char *all, *line;

    json_decref(ask("/v1/chat/completions", "{" USER "," GREEDY "}", 200));
    all = client_get(port(), "/metrics", &b);
    cr_assert_not_null(strstr(all, "version=0.0.4"));
    cr_assert_not_null(
        strstr(all, "\nhearth_requests_total{finish=\"length\"} 1\n"));
    cr_assert_not_null(
        strstr(all, "\nhearth_time_to_first_token_seconds_count 1\n"));
    cr_assert_not_null(strstr(all, "\nhearth_generated_tokens_total 12\n"));
    for (line = strstr(all, "\r\n\r\n") + 4; line != NULL && *line != '\0';
         line = strchr(line, '\n') != NULL ? strchr(line, '\n') + 1 : NULL)
        cr_assert(strncmp(line, "# HELP ", 7) == 0 ||
                      strncmp(line, "# TYPE ", 7) == 0 ||
                      strncmp(line, "hearth_", 7) == 0,
                  "%.80s", line);
    hth_buf_fini(&b);
}

/* ---- clients that leave, crowds, keys -------------------------------------
 */

static bool has_metric(const char *line)
{
    struct hth_buf b;
    bool has = strstr(client_get(port(), "/metrics", &b), line) != NULL;

    hth_buf_fini(&b);
    return has;
}

static void wait_metric(const char *line)
{
    for (int i = 0; i < 2000 && !has_metric(line); i++)
        hth_sleep_ms(10);
    cr_assert(has_metric(line), "%s", line);
}

Test(api, who_leaves_frees_its_place)
{
    static const char body[] = "{" USER ",\"stream\":true,"
                               "\"ignore_eos\":true}";
    struct hth_buf b = {0};
    char head[256];
    int fd = client_open(port());

    snprintf(head, sizeof head,
             "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
             "Content-Length: %zu\r\n\r\n",
             sizeof body - 1);
    client_text(fd, head);
    client_text(fd, body);
    cr_assert_not_null(client_until(fd, &b, "\"content\""));
    close(fd);
    hth_buf_fini(&b);
    wait_metric("\nhearth_requests_running 0\n");
    wait_metric("\nhearth_requests_total{finish=\"cancelled\"} 1\n");
}

struct crowd {
    pthread_t thread;
    int status;
    bool retry;
};

static void *one_of_many(void *arg)
{
    struct crowd *c = arg;
    struct hth_buf b;
    const char *all = client_post(
        port(), "/v1/completions",
        "{\"prompt\":\"The door\",\"max_tokens\":200,\"ignore_eos\":true}", &b);

    c->status = client_status(all);
    c->retry = strstr(all, "Retry-After: ") != NULL;
    hth_buf_fini(&b);
    return NULL;
}

/* Two run, three wait, the others are told to come back; nobody gets a 500. */
Test(api_crowd, queue_bound, .timeout = 120)
{
    struct hth_cluster_http http = {.port = 0};
    struct crowd c[20];
    int served = 0, refused = 0;

    open_with(&http, 2, 3);
    for (int i = 0; i < 20; i++)
        pthread_create(&c[i].thread, NULL, one_of_many, &c[i]);
    for (int i = 0; i < 20; i++) {
        pthread_join(c[i].thread, NULL);
        served += c[i].status == 200;
        refused += c[i].status == 429 && c[i].retry;
    }
    cr_assert_eq(served + refused, 20);
    cr_assert_geq(served, 5);
    tear_down();
}

static int with_header(const char *method, const char *path, const char *header,
                       const char *part)
{
    struct hth_buf b;
    char head[512];
    int fd = client_open(port()), status;
    const char *all;

    snprintf(head, sizeof head,
             "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
             "%s\r\n\r\n",
             method, path, header);
    client_text(fd, head);
    all = client_all(fd, &b);
    status = client_status(all);
    if (part[0] == '!')
        cr_assert_null(strstr(all, part + 1), "%.400s", all);
    else
        cr_assert_not_null(strstr(all, part), "%.400s", all);
    hth_buf_fini(&b);
    close(fd);
    return status;
}

Test(api_access, keys_and_origins, .timeout = 120)
{
    struct hth_cluster_http http = {.port = 0, .keys = g_keys, .key_count = 1};
    static const char *const acao = "Access-Control-Allow-Origin: ";

    open_with(&http, 0, 0);
    cr_assert_eq(with_header("GET", "/props", "X: y", "invalid_api_key"), 401);
    cr_assert_eq(with_header("GET", "/props", "Authorization: Bearer wrong",
                             "invalid_api_key"),
                 401);
    cr_assert_eq(
        with_header("GET", "/props", "Authorization: Bearer secret", "n_ctx"),
        200);
    cr_assert_eq(with_header("GET", "/props", "X-Api-Key: secret", "n_ctx"),
                 200);
    cr_assert_eq(with_header("GET", "/v1/models", "X: y", "tale"), 200);
    cr_assert_eq(with_header("GET", "/v1/models",
                             "Origin: https://evil.example", "!Allow-Origin"),
                 200);
    cr_assert_eq(
        with_header("GET", "/v1/models", "Origin: http://localhost:3000", acao),
        200);
    cr_assert_eq(with_header("OPTIONS", "/v1/chat/completions",
                             "Origin: http://localhost:3000\r\n"
                             "Access-Control-Request-Headers: x-stainless-os",
                             "Access-Control-Allow-Headers: x-stainless-os"),
                 204);
    cr_assert_eq(with_header("POST", "/v1/chat/completions",
                             "Origin: https://evil.example\r\n"
                             "Authorization: Bearer secret",
                             "origin_not_allowed"),
                 403);
    tear_down();
}

/* A page whose name was made to point here is not let in. */
Test(api, foreign_host_names)
{
    struct hth_buf b;
    int fd = client_open(port());

    client_text(fd, "GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n"
                    "Connection: close\r\n\r\n");
    cr_assert_eq(client_status(client_all(fd, &b)), 403);
    hth_buf_fini(&b);
    close(fd);
}
