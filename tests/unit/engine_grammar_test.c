/* engine_grammar_test.c - answers held to grammars, on one rank and on three,
 * several at once: random models have nothing to say, so whatever is right is
 * the grammar's doing. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "engine_rig.h"
#include "support.h"

#define MODEL "llama-gqa-F16"

static struct hth_tokenizer *g_tokenizer;

static const double g_whole[] = {1}, g_three[] = {1, 2, 1};

static struct hth_grammar *schema(const char *text)
{
    json_t *s = json_loads(text, 0, NULL);
    struct hth_grammar *g = NULL;
    struct hth_err err;

    cr_assert_not_null(s);
    cr_assert_eq(hth_grammar_open_schema(&g, s, &err), 0, "%s", err.text);
    json_decref(s);
    return g;
}

static void text_of(const struct answer *a, char *out, size_t size)
{
    size_t n = 0;

    for (uint32_t i = 0; i < a->n; i++)
        n += hth_token_bytes(g_tokenizer, a->ids[i], false, out + n,
                             size - 1 - n);
    out[n] = '\0';
}

static struct hth_request ask(struct answer *a, struct hth_grammar *g,
                              float temperature, uint64_t seed)
{
    static const uint32_t prompt[] = {1, 20, 30, 40};
    struct hth_request q;

    answer_init(a);
    q = answer_request(a, prompt, 4, 120);
    q.grammar = g;
    q.ignore_end = false;
    q.sampling.temperature = temperature;
    q.sampling.top_k = 40;
    q.sampling.seed = seed;
    return q;
}

static const char g_person[] =
    "{\"type\":\"object\",\"properties\":{\"age\":{\"type\":\"integer\","
    "\"minimum\":1,\"maximum\":99},\"ok\":{\"type\":\"boolean\"},\"c\":{"
    "\"enum\":[\"red\",\"blue\"]}},\"required\":[\"age\",\"ok\",\"c\"]}";

static void is_person(const struct answer *a)
{
    char text[4096];
    json_t *v;
    json_int_t age;

    cr_assert_eq(a->status, 0, "%s", a->err.text);
    text_of(a, text, sizeof text);
    v = json_loads(text, 0, NULL);
    cr_assert_not_null(v, "%s", text);
    age = json_integer_value(json_object_get(v, "age"));
    cr_assert(age >= 1 && age <= 99, "%s", text);
    cr_assert(json_is_boolean(json_object_get(v, "ok")), "%s", text);
    json_decref(v);
}

Test(engine_grammar, answers_keep_to_their_schema, .timeout = 120)
{
    struct hth_grammar *person = schema(g_person);
    struct hth_grammar *list = schema(
        "{\"type\":\"array\",\"items\":{\"type\":\"null\"},\"minItems\":2,"
        "\"maxItems\":4}");
    struct answer one[3], three[3];
    char text[4096];
    struct rig r;

    rig_open(&r, MODEL, g_whole, 1);
    g_tokenizer = r.tokenizer;
    for (int i = 0; i < 3; i++) {
        struct hth_request q =
            ask(&one[i], i == 2 ? list : person, i == 0 ? 0 : 1, 5);

        rig_submit(&r, &q);
    }
    for (int i = 0; i < 3; i++)
        answer_wait(&one[i]);
    is_person(&one[0]);
    is_person(&one[1]);
    text_of(&one[2], text, sizeof text);
    cr_assert_eq(strncmp(text, "[", 1), 0, "%s", text);
    rig_close(&r);

    rig_open(&r, MODEL, g_three, 3);
    g_tokenizer = r.tokenizer;
    for (int i = 0; i < 3; i++) {
        struct hth_request q =
            ask(&three[i], i == 2 ? list : person, i == 0 ? 0 : 1, 5);

        rig_submit(&r, &q);
    }
    for (int i = 0; i < 3; i++) {
        answer_wait(&three[i]);
        cr_assert_eq(three[i].n, one[i].n);
        cr_assert_eq(
            memcmp(three[i].ids, one[i].ids, one[i].n * sizeof one[i].ids[0]),
            0, "answer %d differs on three ranks", i);
    }
    rig_close(&r);
    hth_grammar_close(person);
    hth_grammar_close(list);
}
