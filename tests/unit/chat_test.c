/* chat_test.c - conversations to prompts and answers back to their parts.
 * The templates here are our own, in the manner of the families. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "model/chat.h"
#include "model/constraint.h"
#include "model/stops.h"

/* The demo model's tokenizer; its control tokens are <s> and </s>. */
#define MODEL "models/tale-q4_0.gguf"

static struct hth_chat *open_source(const char *source)
{
    struct hth_chat_opts o = {
        .source = {source, source != NULL ? strlen(source) : 0}};
    struct hth_chat *c = NULL;
    struct hth_err err;

    cr_assert_eq(hth_chat_open(&c, &o, &err), 0, "%s", err.text);
    return c;
}

static int render(const struct hth_chat *c, const char *messages,
                  struct hth_chat_prompt *p, struct hth_err *err)
{
    json_t *m = json_loads(messages, 0, NULL);
    struct hth_chat_input in = {.messages = m, .generate = true};
    int rc;

    cr_assert_not_null(m, "%s", messages);
    hth_chat_prompt_init(p);
    rc = hth_chat_render(c, &in, p, err);
    json_decref(m);
    return rc;
}

static void renders(const char *source, const char *messages, const char *want)
{
    struct hth_chat *c = open_source(source);
    struct hth_chat_prompt p;
    struct hth_err err;

    cr_assert_eq(render(c, messages, &p, &err), 0, "%s", err.text);
    cr_assert_str_eq(hth_buf_cstr(&p.text), want);
    hth_chat_prompt_fini(&p);
    hth_chat_close(c);
}

#define SIMPLE                                                    \
    "{% for m in messages %}{{ '<' + m.role + '>' + m.content }}" \
    "{% endfor %}"

Test(chat, fallback_is_chatml)
{
    struct hth_chat *c = open_source("{% nonsense %}");

    cr_assert_not_null(strstr(hth_chat_problem(c), "unknown statement"));
    cr_assert_not_null(strstr(hth_chat_source(c), "im_start"));
    hth_chat_close(c);
    renders(NULL, "[{\"role\":\"user\",\"content\":\"hi\"}]",
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
}

Test(chat, input_is_converted)
{
    /* Parts are joined, an unknown role is said otherwise. */
    renders(SIMPLE,
            "[{\"role\":\"developer\",\"content\":[{\"type\":\"text\","
            "\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]},"
            "{\"role\":\"user\",\"content\":\"c\"}]",
            "<system>ab<user>c");
    /* A template that knows parts only. */
    renders("{% for m in messages %}{% for p in m.content %}"
            "{% if p.type == 'text' %}[{{ p.text }}]{% endif %}"
            "{% endfor %}{% endfor %}",
            "[{\"role\":\"user\",\"content\":\"x\"}]", "[x]");
    /* One that refuses system messages. */
    renders("{% if messages[0].role == 'system' %}"
            "{{ raise_exception('no system') }}{% endif %}" SIMPLE,
            "[{\"role\":\"system\",\"content\":\"s\"},"
            "{\"role\":\"user\",\"content\":\"u\"}]",
            "<user>s\n\nu");
    /* Arguments of calls as an object, and as text. */
    renders("{% for m in messages %}{{ m.content }}{% for t in m.tool_calls "
            "or [] %}{{ t.function.arguments.a }}{% endfor %}{% endfor %}"
            "{{ messages[1].tool_calls[0].function.arguments | tojson if "
            "messages|length > 1 }}",
            "[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\","
            "\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
            "\"arguments\":\"{\\\"a\\\": 5}\"}}]}]",
            "u5{\"a\": 5}");
    renders("{% for m in messages %}{{ m.content }}{% for t in m.tool_calls "
            "or [] %}{{ '#' + t.function.arguments }}{% endfor %}{% endfor %}",
            "[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\","
            "\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
            "\"arguments\":{\"a\":5}}}]}]",
            "u#{\"a\": 5}");
}

static void refuses(const char *messages, const char *text)
{
    struct hth_chat *c = open_source(SIMPLE "{% if messages|length > 2 %}"
                                            "{{ raise_exception('too many') }}"
                                            "{% endif %}");
    struct hth_chat_prompt p;
    struct hth_err err;
    int rc;

    rc = render(c, messages, &p, &err);
    cr_assert(rc == HTH_EINVAL || rc == HTH_EUNSUPPORTED);
    cr_assert_not_null(strstr(err.text, text), "%s", err.text);
    hth_chat_prompt_fini(&p);
    hth_chat_close(c);
}

Test(chat, refuses_what_it_cannot_say)
{
    refuses("{}", "messages is no list");
    refuses("[1]", "messages[0] has no role");
    refuses("[{\"role\":\"user\",\"content\":5}]", "messages[0].content");
    refuses("[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]",
            "content[0]: a part of type image_url");
    refuses("[{\"role\":\"user\",\"content\":\"a\"},"
            "{\"role\":\"user\",\"content\":\"a\"},"
            "{\"role\":\"user\",\"content\":\"a\"}]",
            "too many");
}

/* ---- tokens -----------------------------------------------------------------
 */

Test(chat, control_tokens_of_users_are_text)
{
    static const char source[] =
        "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}"
        "{% endfor %}";
    struct hth_tokenizer *t = NULL;
    struct hth_tokens ids = {0};
    struct hth_chat *c = NULL;
    struct hth_gguf *g = NULL;
    struct hth_chat_prompt p;
    struct hth_err err;
    uint32_t ends = 0, begins = 0;

    cr_assert_eq(hth_gguf_open(&g, MODEL, &err), 0, "%s", err.text);
    cr_assert_eq(hth_tokenizer_open(&t, g, &err), 0, "%s", err.text);
    struct hth_chat_opts o = {.tokenizer = t,
                              .source = {source, strlen(source)}};
    char eos[64] = {0}, bos[64] = {0}, messages[256];

    hth_token_bytes(t, hth_tokenizer_eos(t), true, eos, sizeof eos - 1);
    hth_token_bytes(t, hth_tokenizer_bos(t), true, bos, sizeof bos - 1);
    snprintf(messages, sizeof messages,
             "[{\"role\":\"user\",\"content\":\"a %s %s b\"}]", eos, bos);
    cr_assert_eq(hth_chat_open(&c, &o, &err), 0);
    cr_assert_eq(render(c, messages, &p, &err), 0, "%s", err.text);
    cr_assert_eq(hth_chat_tokenize(t, &p, &ids, &err), 0, "%s", err.text);
    for (size_t i = 0; i < ids.count; i++) {
        ends += ids.ids[i] == hth_tokenizer_eos(t);
        begins += ids.ids[i] == hth_tokenizer_bos(t);
    }
    cr_assert_eq(ids.ids[0], hth_tokenizer_bos(t));
    cr_assert_eq(ids.ids[ids.count - 1], hth_tokenizer_eos(t));
    /* Where both are one token, the text has it at both ends. */
    cr_assert_eq(ends, 1 + (hth_tokenizer_eos(t) == hth_tokenizer_bos(t)));
    cr_assert_eq(begins, ends);
    hth_tokens_fini(&ids);
    hth_chat_prompt_fini(&p);
    hth_chat_close(c);
    hth_tokenizer_close(t);
    hth_gguf_close(g);
}

/* ---- answers ----------------------------------------------------------------
 */

struct parts {
    char text[3][1024]; /* content, reasoning, calls as name(arguments); */
};

static void collect(void *ctx, const struct hth_chat_piece *piece)
{
    struct parts *p = ctx;
    char *at = p->text[piece->part];
    size_t n = strlen(at);

    if (piece->part == HTH_CHAT_TOOL)
        snprintf(at + n, sizeof p->text[0] - n, "%.*s(%.*s);",
                 (int)piece->name.n, piece->name.p, (int)piece->text.n,
                 piece->text.p);
    else
        snprintf(at + n, sizeof p->text[0] - n, "%.*s", (int)piece->text.n,
                 piece->text.p);
}

/* Whatever the pieces the answer comes in, the parts are the same. */
static void parses(const char *source, bool reasoning, const char *answer,
                   const char *const want[3])
{
    struct hth_chat *c = open_source(source);

    for (size_t step = 1; step < 40; step += step < 4 ? 1 : 9) {
        struct parts parts = {{"", "", ""}};
        struct hth_chat_parser_opts o = {.tools = true,
                                         .reasoning = reasoning,
                                         .split_reasoning = true,
                                         .sink = collect,
                                         .ctx = &parts};
        struct hth_chat_parser *p = NULL;

        cr_assert_eq(hth_chat_parser_open(&p, c, &o), 0);
        for (size_t at = 0, n = strlen(answer); at < n; at += step)
            cr_assert_eq(hth_chat_parser_push(p, answer + at,
                                              n - at < step ? n - at : step),
                         0);
        hth_chat_parser_finish(p);
        hth_chat_parser_close(p);
        for (int i = 0; i < 3; i++)
            cr_assert_str_eq(parts.text[i], want[i], "%s, part %d, step %zu",
                             answer, i, step);
    }
    hth_chat_close(c);
}

#define PARSES(source, reasoning, answer, ...) \
    parses(source, reasoning, answer, (const char *const[3]){__VA_ARGS__})

Test(chat, plain_answers)
{
    PARSES(SIMPLE, false, " Hello <b>there</b> ", " Hello <b>there</b> ", "",
           "");
    PARSES("<think></think>", false, "<think>\nHm.\n</think>\n\nYes.", "Yes.",
           "Hm.\n", "");
    PARSES("<think></think>", true, "Hm.</think>Yes.", "Yes.", "Hm.", "");
    PARSES("<think></think>", false, "No <think> here", "No <think> here", "",
           "");
    PARSES("<think></think>", true, "Cut off", "", "Cut off", "");
}

Test(chat, calls_of_the_families)
{
    PARSES("<tool_call>", false,
           "Let me look.\n<tool_call>\n{\"name\": \"w\", \"arguments\": "
           "{\"c\": \"a\"}}\n</tool_call>\n<tool_call>{\"name\":\"v\"}"
           "</tool_call>",
           "Let me look.", "", "w({\"c\":\"a\"});v({});");
    PARSES("[TOOL_CALLS]", false,
           "[TOOL_CALLS][{\"name\": \"a\", \"arguments\": {}}, {\"name\": "
           "\"b\", \"arguments\": {\"k\": [1]}}]",
           "", "", "a({});b({\"k\":[1]});");
    PARSES("[TOOL_CALLS][ARGS]", false,
           "[TOOL_CALLS]a[ARGS]{\"x\": 1}[TOOL_CALLS]b[ARGS]{}", "", "",
           "a({\"x\":1});b({});");
    PARSES("<|python_tag|>", false,
           "{\"name\": \"a\", \"parameters\": {\"x\": \"y\"}}", "", "",
           "a({\"x\":\"y\"});");
    PARSES("<|python_tag|>", false, "{ no call", "{ no call", "", "");
    PARSES("<parameter=", false,
           "<tool_call>\n<function=f>\n<parameter=a>\nx y\n</parameter>\n"
           "<parameter=b>\n3\n</parameter>\n</function>\n</tool_call>",
           "", "", "f({\"a\":\"x y\",\"b\":3});");
    PARSES("<arg_key>", false,
           "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>x</arg_value>\n"
           "</tool_call>",
           "", "", "f({\"a\":\"x\"});");
    PARSES("<|tool_call_argument_begin|>", false,
           "<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>"
           "{\"a\": 1}<|tool_call_end|>",
           "", "", "f({\"a\":1});");
    PARSES("<｜tool▁sep｜>", false,
           "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": 1}\n"
           "```<｜tool▁call▁end｜>",
           "", "", "f({\"a\":1});");
    PARSES("<function=", false, "Ok.<function=f>{\"a\": 1}</function>", "Ok.",
           "", "f({\"a\":1});");
    PARSES("<tool_call>", false, "<tool_call>oops</tool_call> more", "oopsmore",
           "", "");
    PARSES("<tool_call>", false, "<tool_call>{\"name\": \"cut",
           "{\"name\": \"cut", "", "");
}

/* LFM2 writes calls as Python. */
Test(chat, calls_as_python)
{
#define LFM "List of tools: ["
    PARSES(LFM, false,
           "Let me see.<|tool_call_start|>[w(city=\"Os\\\"lo\", n=-3, x=1.5,"
           " on=True, none=None, l=[1, 'two', (3,)], d={'k': {}},)]"
           "<|tool_call_end|> Wait.",
           "Let me see.Wait.", "",
           "w({\"city\":\"Os\\\"lo\",\"n\":-3,\"x\":1.5,\"on\":true,"
           "\"none\":null,\"l\":[1,\"two\",[3]],\"d\":{\"k\":{}}});");
    PARSES(LFM, false,
           "<|tool_call_start|>[a(), b.c(s='\\u00e9\\n\\q')]<|tool_call_end|>",
           "", "", "a({});b.c({\"s\":\"é\\n\\\\q\"});");
    PARSES(LFM, false,
           "<|tool_call_start|>[{\"name\": \"a\", \"arguments\": {\"k\": 1}}]"
           "<|tool_call_end|>",
           "", "", "a({\"k\":1});");
    /* What is no literal is no call. */
    PARSES(LFM, false, "<|tool_call_start|>[a(x=1+1)]<|tool_call_end|>",
           "[a(x=1+1)]", "", "");
    PARSES(LFM, false, "<|tool_call_start|>[a(x=\"cut", "[a(x=\"cut", "", "");
#undef LFM
}

Test(chat, harmony)
{
    PARSES("<|channel|>", false,
           "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
           "<|channel|>final<|message|>Yes.",
           "Yes.", "Hm.", "");
    PARSES("<|channel|>", false,
           "<|channel|>commentary to=functions.f <|constrain|>json<|message|>"
           "{\"a\":1}",
           "", "", "f({\"a\":1});");
    PARSES("<|channel|>", false, "just text", "just text", "", "");
    PARSES("<|channel|>", false,
           "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant to="
           "functions.f<|channel|>commentary json<|message|>{\"a\": [1]}"
           "<|call|>",
           "", "Hm.", "f({\"a\":[1]});");
    PARSES("<|channel|>", false,
           "<|channel|>commentary to=functions.f<|message|>{\"a\":<|call|>",
           "{\"a\":", "", "");
}

/* ---- calls by grammar -------------------------------------------------------
 */

static const char g_tools[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"w\",\"parameters\":{"
    "\"type\":\"object\",\"properties\":{\"c\":{\"$ref\":\"#/$defs/t\"}},"
    "\"required\":[\"c\"],\"$defs\":{\"t\":{\"enum\":[\"a\",\"b\"]}}}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"v\"}}]";

/* Is the answer one that the grammar allows, and does it read as calls? */
static void forced(const char *source, const char *only, const char *answer,
                   bool allowed)
{
    struct hth_chat *c = open_source(source);
    struct hth_tokenizer *t = NULL;
    struct hth_token_index *x = NULL;
    struct hth_constraint *k = NULL;
    struct hth_grammar *g = NULL;
    struct hth_gguf *file = NULL;
    json_t *tools = json_loads(g_tools, 0, NULL);
    struct hth_chat_choice choice = {tools, only, true};
    struct hth_buf text;
    struct hth_err err;
    bool ok;

    cr_assert_eq(hth_gguf_open(&file, MODEL, &err), 0);
    cr_assert_eq(hth_tokenizer_open(&t, file, &err), 0);
    cr_assert_eq(hth_token_index_open(&x, t, &err), 0);
    hth_buf_init(&text, 1u << 20);
    cr_assert_eq(hth_chat_tool_grammar(c, &choice, &text, &err), 0, "%s",
                 err.text);
    cr_assert_eq(hth_grammar_open(
                     &g, (struct hth_str){hth_buf_cstr(&text), text.len}, &err),
                 0, "%s in %s", err.text, hth_buf_cstr(&text));
    cr_assert_eq(hth_constraint_open(&k, g, x, &err), 0);
    ok = hth_constraint_accept_text(k, answer, strlen(answer)) == 0 &&
         hth_constraint_complete(k);
    cr_assert_eq(ok, allowed, "%s by %s", answer, hth_buf_cstr(&text));
    hth_buf_fini(&text);
    hth_constraint_close(k);
    hth_grammar_close(g);
    hth_token_index_close(x);
    hth_tokenizer_close(t);
    hth_gguf_close(file);
    hth_chat_close(c);
    json_decref(tools);
}

/* Is a + b + c a text of the grammar? */
static void allows(struct hth_grammar *g, const char *a, const char *b,
                   const char *c, bool want)
{
    struct hth_tokenizer *t = NULL;
    struct hth_token_index *x = NULL;
    struct hth_constraint *k = NULL;
    struct hth_gguf *file = NULL;
    struct hth_err err;
    char text[256];
    bool ok;

    snprintf(text, sizeof text, "%s%s%s", a, b, c);
    cr_assert_eq(hth_gguf_open(&file, MODEL, &err), 0);
    cr_assert_eq(hth_tokenizer_open(&t, file, &err), 0);
    cr_assert_eq(hth_token_index_open(&x, t, &err), 0);
    cr_assert_eq(hth_constraint_open(&k, g, x, &err), 0);
    ok = hth_constraint_accept_text(k, text, strlen(text)) == 0 &&
         hth_constraint_complete(k);
    cr_assert_eq(ok, want, "%s", text);
    hth_constraint_close(k);
    hth_token_index_close(x);
    hth_tokenizer_close(t);
    hth_gguf_close(file);
}

Test(chat, calls_that_are_forced)
{
    static const char hermes[] =
        "<tool_call>\n{\"name\":\"w\",\"arguments\":{\"c\":\"a\"}}\n"
        "</tool_call>";

    forced("<tool_call>", NULL, hermes, true);
    forced("<tool_call>", "v", hermes, false);
    forced("<tool_call>", NULL, "no", false);
    forced("[TOOL_CALLS]", NULL,
           "[TOOL_CALLS][{\"name\":\"w\",\"arguments\":{\"c\":\"b\"}}, "
           "{\"name\":\"v\",\"arguments\":{}}]",
           true);
    forced("<|python_tag|>", "w",
           "{\"name\":\"w\",\"parameters\":{\"c\":\"b\"}}", true);
    PARSES("<tool_call>", false, hermes, "", "", "w({\"c\":\"a\"});");
}

Test(chat, harmony_and_lfm_can_be_forced)
{
    static const char harmony[] =
        "<|channel|>commentary to=functions.w <|constrain|>json<|message|>"
        "{\"c\":\"a\"}";
    static const char lfm[] =
        "<|tool_call_start|>\n{\"name\":\"v\",\"arguments\":{}}\n"
        "<|tool_call_end|>";

    forced("<|channel|>", NULL, harmony, true);
    forced("<|channel|>", "w", harmony, true);
    forced("<|channel|>", "v", harmony, false);
    forced("<|channel|>", NULL,
           "<|channel|>commentary to=functions.w <|constrain|>json<|message|>"
           "{\"c\":\"z\"}",
           false);
    forced("<|channel|>", NULL, "<|channel|>final<|message|>Hi", false);
    forced("List of tools: [", "v", lfm, true);
    PARSES("List of tools: [", false, lfm, "", "", "v({});");
    PARSES("<|channel|>", false, harmony, "", "", "w({\"c\":\"a\"});");
}

/* Behind reasoning of any text the same grammar holds. */
Test(chat, reasoning_comes_first)
{
    static const char *const sources[] = {"<think></think>", "[THINK][/THINK]"};

    for (size_t i = 0; i < 2; i++) {
        struct hth_chat *c = open_source(sources[i]);
        const char *close = i == 0 ? "</think>" : "[/THINK]";
        struct hth_grammar *g = NULL;
        struct hth_err err;
        struct hth_buf b;

        hth_buf_init(&b, 4096);
        hth_put_printf(&b, "root ::= \"yes\"\n");
        cr_assert_eq(hth_chat_reason_first(c, &b), 0);
        cr_assert_eq(hth_grammar_open(
                         &g, (struct hth_str){hth_buf_cstr(&b), b.len}, &err),
                     0, "%s: %s", err.text, hth_buf_cstr(&b));
        allows(g, "Hm < [ 2/3 \n", close, "\n\nyes", true);
        allows(g, "", close, "yes", true);
        allows(g, "", "", "yes", false);
        allows(g, "a", close, "no", false);
        hth_grammar_close(g);
        hth_buf_fini(&b);
        hth_chat_close(c);
    }
}
