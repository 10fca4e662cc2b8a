/* tokenizer_pre_test.c - where each pre-tokeniser cuts. The words were worked
 * out by another regex engine (Python's `regex` 2026.5) from the patterns as
 * their models publish them; '|' parts the words. */
#include <criterion/criterion.h>
#include <string.h>

#include "model/tokenizer_internal.h"

static const char *const texts[] = {
    " Hello  World'S 12345 it's\n\n  x\t",
    "a1+b22=\xC2\xBD!? (c)\r\n \xE4\xB8\xAD\xE6\x96\x87"
    "abc\xE3\x81\x82\xE3\x82\xAB \xEA\xB0\x80.",
    "camelCaseXYZ don'T\xE3\x80\x80\xD4\xB1\xD5\xA1 \xC2\xA0\xC3\xA9\xCC\x81 "
    "//\n\n \xE2\x80\xA8 ",
    "`~$x^y 7 8\xD9\xA3 \xF0\x9F\x98\x80\xF0\x9F\x98\x80 '\xC5\xBF "
    "\xE1\xB2\x80\xE1\x83\x90."};
static const struct {
    const char *pre;
    const char *words[4];
} cases[] = {
    {"default",
     {" Hello| | World|'|S| |123|45| it|'|s|\n\n | x|\t",
      "a|1|+|b|22|=|\xC2\xBD|!?| |(|c|)|\r\n| \xE4\xB8\xAD\xE6\x96\x87"
      "abc\xE3\x81\x82\xE3\x82\xAB| \xEA\xB0\x80|.",
      "camelCaseXYZ| don|'|T|\xE3\x80\x80|\xD4\xB1\xD5\xA1| "
      "|\xC2\xA0|\xC3\xA9|\xCC\x81| |//|\n\n \xE2\x80\xA8 ",
      "`|~$|x|^|y| |7| |8\xD9\xA3| \xF0\x9F\x98\x80\xF0\x9F\x98\x80| "
      "|'|\xC5\xBF| \xE1\xB2\x80\xE1\x83\x90|."}},
    {"gpt-2",
     {" Hello| | World|'|S| 12345| it|'s|\n\n | x|\t",
      "a|1|+|b|22|=|\xC2\xBD|!?| (|c|)|\r\n| \xE4\xB8\xAD\xE6\x96\x87"
      "abc\xE3\x81\x82\xE3\x82\xAB| \xEA\xB0\x80|.",
      "camelCaseXYZ| don|'|T|\xE3\x80\x80|\xD4\xB1\xD5\xA1| "
      "|\xC2\xA0|\xC3\xA9|\xCC\x81| //|\n\n \xE2\x80\xA8 ",
      "`~$|x|^|y| 7| 8\xD9\xA3| \xF0\x9F\x98\x80\xF0\x9F\x98\x80| '|\xC5\xBF| "
      "\xE1\xB2\x80\xE1\x83\x90|."}},
    {"llama-bpe",
     {" Hello| | World|'S| |123|45| it|'s|\n\n| | x|\t",
      "a|1|+b|22|=|\xC2\xBD|!?| (|c|)\r\n| \xE4\xB8\xAD\xE6\x96\x87"
      "abc\xE3\x81\x82\xE3\x82\xAB| \xEA\xB0\x80|.",
      "camelCaseXYZ| don|'T|\xE3\x80\x80\xD4\xB1\xD5\xA1| "
      "|\xC2\xA0\xC3\xA9|\xCC\x81| //\n\n| \xE2\x80\xA8 ",
      "`~$|x|^y| |7| |8\xD9\xA3| \xF0\x9F\x98\x80\xF0\x9F\x98\x80| '|\xC5\xBF| "
      "\xE1\xB2\x80\xE1\x83\x90|."}},
    {"qwen2",
     {" Hello| | World|'S| |1|2|3|4|5| it|'s|\n\n| | x|\t",
      "a|1|+b|2|2|=|\xC2\xBD|!?| (|c|)\r\n| \xE4\xB8\xAD\xE6\x96\x87"
      "abc\xE3\x81\x82\xE3\x82\xAB| \xEA\xB0\x80|.",
      "camelCaseXYZ| don|'T|\xE3\x80\x80\xD4\xB1\xD5\xA1| "
      "|\xC2\xA0\xC3\xA9|\xCC\x81| //\n\n| \xE2\x80\xA8 ",
      "`~$|x|^y| |7| |8|\xD9\xA3| \xF0\x9F\x98\x80\xF0\x9F\x98\x80| "
      "'|\xC5\xBF| \xE1\xB2\x80\xE1\x83\x90|."}},
    {"deepseek-llm",
     {" Hello| | World|'|S| |12345| it|'|s|\n|\n| | x|\t",
      "a|1|+|b|22|=|\xC2\xBD|!?| (|c|)|\r|\n| "
      "|\xE4\xB8\xAD\xE6\x96\x87|abc|\xE3\x81\x82\xE3\x82\xAB| |\xEA\xB0\x80|.",
      "camelCaseXYZ| don|'|T|\xE3\x80\x80|\xD4\xB1|\xD5\xA1| "
      "|\xC2\xA0\xC3\xA9|\xCC\x81| //|\n|\n| |\xE2\x80\xA8| ",
      "`~$|x|^|y| |7| |8\xD9\xA3| \xF0\x9F\x98\x80\xF0\x9F\x98\x80| "
      "'|\xC5\xBF| |\xE1\xB2\x80\xE1\x83\x90|."}},
    {"deepseek-coder",
     {" Hello| | World|'|S| |1|2|3|4|5| it|'|s|\n|\n| | x|\t",
      "a|1|+|b|2|2|=|\xC2\xBD|!?| (|c|)|\r|\n| "
      "|\xE4\xB8\xAD\xE6\x96\x87|abc|\xE3\x81\x82\xE3\x82\xAB| |\xEA\xB0\x80|.",
      "camelCaseXYZ| don|'|T|\xE3\x80\x80|\xD4\xB1\xD5\xA1| "
      "|\xC2\xA0\xC3\xA9|\xCC\x81| //|\n|\n| |\xE2\x80\xA8| ",
      "`~$|x|^|y| |7| |8|\xD9\xA3| \xF0\x9F\x98\x80\xF0\x9F\x98\x80| "
      "'|\xC5\xBF| |\xE1\xB2\x80\xE1\x83\x90|."}},
    {"deepseek-v3",
     {" Hello| | World|'S| |123|45| it|'s|\n\n| | x|\t",
      "a|1|+b|22|=|\xC2\xBD|!?| (|c|)\r\n| "
      "|\xE4\xB8\xAD\xE6\x96\x87|abc|\xE3\x81\x82\xE3\x82\xAB| \xEA\xB0\x80|.",
      "camelCaseXYZ| don|'T|\xE3\x80\x80\xD4\xB1\xD5\xA1| "
      "|\xC2\xA0\xC3\xA9\xCC\x81| //\n\n| \xE2\x80\xA8 ",
      "`~$|x|^y| |7| |8\xD9\xA3| \xF0\x9F\x98\x80\xF0\x9F\x98\x80| '|\xC5\xBF| "
      "\xE1\xB2\x80\xE1\x83\x90|."}},
    {"falcon",
     {" Hello| | World|'|S| |123|45| it|'|s|\n\n | x|\t",
      "a|1|+|b|22|=|\xC2\xBD|!?| |(|c|)|\r\n| \xE4\xB8\xAD\xE6\x96\x87"
      "abc\xE3\x81\x82\xE3\x82\xAB| \xEA\xB0\x80|.",
      "camelCaseXYZ| don|'|T|\xE3\x80\x80|\xD4\xB1\xD5\xA1| "
      "|\xC2\xA0|\xC3\xA9|\xCC\x81| |//|\n\n \xE2\x80\xA8 ",
      "`~$|x|^|y| 7| 8\xD9\xA3| \xF0\x9F\x98\x80\xF0\x9F\x98\x80| |'|\xC5\xBF| "
      "\xE1\xB2\x80\xE1\x83\x90|."}},
    {"starcoder",
     {" Hello| | World|'|S| |1|2|3|4|5| it|'s|\n\n | x|\t",
      "a|1|+|b|2|2|=|\xC2\xBD|!?| (|c|)|\r\n| \xE4\xB8\xAD\xE6\x96\x87"
      "abc\xE3\x81\x82\xE3\x82\xAB| \xEA\xB0\x80|.",
      "camelCaseXYZ| don|'|T|\xE3\x80\x80|\xD4\xB1\xD5\xA1| "
      "|\xC2\xA0|\xC3\xA9|\xCC\x81| //|\n\n \xE2\x80\xA8 ",
      "`~$|x|^|y| |7| |8|\xD9\xA3| \xF0\x9F\x98\x80\xF0\x9F\x98\x80| "
      "'|\xC5\xBF| \xE1\xB2\x80\xE1\x83\x90|."}},
    {"tekken",
     {" Hello| | World|'S| |1|2|3|4|5| it|'s|\n\n| | x|\t",
      "a|1|+b|2|2|=|\xC2\xBD|!?| (|c|)\r\n| \xE4\xB8\xAD\xE6\x96\x87"
      "abc\xE3\x81\x82\xE3\x82\xAB| \xEA\xB0\x80|.",
      "camel|Case|XYZ| don|'T|\xE3\x80\x80\xD4\xB1\xD5\xA1| "
      "|\xC2\xA0\xC3\xA9\xCC\x81| //\n\n| \xE2\x80\xA8 ",
      "`~$|x|^y| |7| |8|\xD9\xA3| \xF0\x9F\x98\x80\xF0\x9F\x98\x80| "
      "'|\xC5\xBF| \xE1\xB2\x80\xE1\x83\x90|."}},
    {"gpt-4o",
     {" Hello| | World'S| |123|45| it's|\n\n| | x|\t",
      "a|1|+b|22|=|\xC2\xBD|!?| (|c|)\r\n| \xE4\xB8\xAD\xE6\x96\x87"
      "abc\xE3\x81\x82\xE3\x82\xAB| \xEA\xB0\x80|.",
      "camel|Case|XYZ| don'T|\xE3\x80\x80\xD4\xB1\xD5\xA1| "
      "|\xC2\xA0\xC3\xA9\xCC\x81| //\n\n| \xE2\x80\xA8 ",
      "`~$|x|^y| |7| |8\xD9\xA3| \xF0\x9F\x98\x80\xF0\x9F\x98\x80| '|\xC5\xBF| "
      "\xE1\xB2\x80\xE1\x83\x90|."}},
    {"bloom",
     {" Hello| | World'S| 12345| it's|\n\n | x|\t",
      "a1+b22=\xC2\xBD|!? (|c|)\r\n| \xE4\xB8\xAD\xE6\x96\x87"
      "abc\xE3\x81\x82\xE3\x82\xAB| \xEA\xB0\x80|.",
      "camelCaseXYZ| don'T|\xE3\x80\x80|\xD4\xB1\xD5\xA1| "
      "\xC2\xA0|\xC3\xA9\xCC\x81| //|\n\n \xE2\x80\xA8 ",
      "`~$x^y| 7| 8\xD9\xA3| \xF0\x9F\x98\x80\xF0\x9F\x98\x80| '\xC5\xBF| "
      "\xE1\xB2\x80\xE1\x83\x90|."}},
    {"viking",
     {" Hello| | World'S| |1|2|3|4|5| it's|\n\n | x|\t",
      "a|1|+b|2|2|=|\xC2\xBD|!? (|c|)\r\n| \xE4\xB8\xAD\xE6\x96\x87"
      "abc\xE3\x81\x82\xE3\x82\xAB| \xEA\xB0\x80|.",
      "camelCaseXYZ| don'T|\xE3\x80\x80|\xD4\xB1\xD5\xA1| "
      "\xC2\xA0|\xC3\xA9\xCC\x81| //|\n\n \xE2\x80\xA8 ",
      "`~$x^y| |7| |8|\xD9\xA3| \xF0\x9F\x98\x80\xF0\x9F\x98\x80| '\xC5\xBF| "
      "\xE1\xB2\x80\xE1\x83\x90|."}},
    {"bailingmoe",
     {" Hello| | World|'S| |1|2|3|4|5| it|'s|\n\n| | x|\t",
      "a|1|+b|2|2|=|\xC2\xBD|!?| (|c|)\r\n| \xE4\xB8\xAD\xE6\x96\x87"
      "abc\xE3\x81\x82\xE3\x82\xAB| \xEA\xB0\x80|.",
      "camelCaseXYZ| don|'T|\xE3\x80\x80\xD4\xB1\xD5\xA1| "
      "|\xC2\xA0\xC3\xA9|\xCC\x81| //\n\n| \xE2\x80\xA8 ",
      "`~$|x|^y| |7| |8|\xD9\xA3| \xF0\x9F\x98\x80\xF0\x9F\x98\x80| "
      "'|\xC5\xBF| \xE1\xB2\x80\xE1\x83\x90|."}},
    {"seed-coder",
     {" Hello| | World|'S| |1|2|3|4|5| it|'s|\n\n| | x|\t",
      "a|1|+b|2|2|=|\xC2\xBD|!?| (|c|)|\r\n| \xE4\xB8\xAD\xE6\x96\x87"
      "abc\xE3\x81\x82\xE3\x82\xAB| \xEA\xB0\x80|.",
      "camelCaseXYZ| don|'T|\xE3\x80\x80\xD4\xB1\xD5\xA1| "
      "|\xC2\xA0\xC3\xA9|\xCC\x81| //|\n\n| \xE2\x80\xA8 ",
      "`~$|x|^y| |7| |8|\xD9\xA3| \xF0\x9F\x98\x80\xF0\x9F\x98\x80| "
      "'|\xC5\xBF| \xE1\xB2\x80\xE1\x83\x90|."}},
};

static char words[4096];

static int collect(struct hth_tok__run *r, const uint8_t *word, size_t n)
{
    size_t at = strlen(words);

    (void)r;
    cr_assert_lt(at + n + 2, sizeof words);
    if (at > 0)
        words[at++] = '|';
    memcpy(words + at, word, n);
    words[at + n] = '\0';
    return 0;
}

static void check(const char *pre, const char *text, const char *want)
{
    struct hth_tokenizer t = {0};
    struct hth_err err = {0};
    struct hth_tok__run r = {.t = &t, .err = &err};
    struct hth_str name = {pre, strlen(pre)};

    cr_assert_eq(hth_tok__pre_open(&t.bpe.pre, name, &err), 0, "%s", err.text);
    r.match = pcre2_match_data_create(1, NULL);
    words[0] = '\0';
    cr_assert_eq(
        hth_tok__pre_split(&r, (const uint8_t *)text, strlen(text), collect), 0,
        "%s", err.text);
    cr_assert_str_eq(words, want, "%s:\n got %s\nwant %s", pre, words, want);
    pcre2_match_data_free(r.match);
    hth_tok__pre_close(&t.bpe.pre);
}

Test(pre, words)
{
    size_t i, k;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (k = 0; k < sizeof texts / sizeof texts[0]; k++)
            check(cases[i].pre, texts[k], cases[i].words[k]);
}

static int refuse(struct hth_tok__run *r, const uint8_t *word, size_t n)
{
    (void)word;
    (void)n;
    return hth_fail(r->err, HTH_ENOMEM, "enough");
}

Test(pre, stops_when_told)
{
    struct hth_tokenizer t = {0};
    struct hth_err err = {0};
    struct hth_tok__run r = {.t = &t, .err = &err};

    cr_assert_eq(
        hth_tok__pre_open(&t.bpe.pre, (struct hth_str){"falcon", 6}, &err), 0);
    r.match = pcre2_match_data_create(1, NULL);
    cr_assert_eq(hth_tok__pre_split(&r, (const uint8_t *)"a b", 3, refuse),
                 HTH_ENOMEM);
    pcre2_match_data_free(r.match);
    hth_tok__pre_close(&t.bpe.pre);
}
