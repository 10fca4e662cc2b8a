/* schema_string.c - strings: lengths, formats, patterns. */
#include <string.h>

#include "model/schema_internal.h"

#define HEX4 "[0-9a-f]{4}"
#define DATE                                                                   \
    "[0-9]{3} [1-9] \"-\" ((\"0\" [13578] | \"1\" [02]) \"-\" (\"0\" [1-9] | " \
    "[12] [0-9] | \"3\" [01]) | (\"0\" [469] | \"11\") \"-\" (\"0\" [1-9] | "  \
    "[12] [0-9] | \"30\") | \"02-\" (\"0\" [1-9] | \"1\" [0-9] | \"2\" "       \
    "[0-8]))"
#define CLOCK                                                                \
    "([01] [0-9] | \"2\" [0-3]) \":\" [0-5] [0-9] \":\" [0-5] [0-9] (\".\" " \
    "[0-9]{1,6})? (\"Z\" | [-+] ([01] [0-9] | \"2\" [0-3]) \":\" [0-5] [0-9])"
#define BYTE                                                                 \
    "(\"25\" [0-5] | \"2\" [0-4] [0-9] | \"1\" [0-9] [0-9] | [1-9] [0-9] | " \
    "[0-9])"
#define LABEL "[a-z] ([a-z0-9-]{0,20} [a-z0-9])?"
#define HOST LABEL " (\".\" " LABEL "){1,4}"

#define URI "\"https://\" " HOST " (\"/\" [A-Za-z0-9._~-]{0,40}){0,6}"

/* The inside of a string of a format. */
static const char *format_body(const char *format)
{
    static const char *const bodies[][2] = {
        {"date", DATE},
        {"time", CLOCK},
        {"date-time", DATE " \"T\" " CLOCK},
        {"duration", "\"P\" ([1-9] [0-9]{0,3} [YMWD] | \"T\" [1-9] [0-9]{0,3} "
                     "[HMS])"},
        {"uuid", "[0-9a-f]{8} (\"-\" " HEX4 "){3} \"-\" [0-9a-f]{12}"},
        {"ipv4", BYTE " (\".\" " BYTE "){3}"},
        {"ipv6", "[0-9a-f]{1,4} (\":\" [0-9a-f]{1,4}){7}"},
        {"hostname", HOST},
        {"uri", URI},
        {"url", URI},
        {"email", "[a-z0-9] ([a-z0-9_+-]{0,20} [a-z0-9])? \"@\" " HOST},
    };

    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++)
        if (strcmp(format, bodies[i][0]) == 0)
            return bodies[i][1];
    return NULL;
}

static bool has_length(const json_t *schema)
{
    return json_object_get(schema, "minLength") != NULL ||
           json_object_get(schema, "maxLength") != NULL;
}

static void put_format(struct hth_schema *s, const char *format,
                       struct hth_buf *body)
{
    const char *inside = format_body(format);

    if (inside == NULL)
        hth_schema__fail(s, HTH_EUNSUPPORTED,
                         "the format \"%.32s\" is not supported", format);
    else
        hth_put_printf(body, "\"\\\"\" %s \"\\\"\"", inside);
}

static void put_lengths(struct hth_schema *s, const json_t *schema,
                        struct hth_buf *body)
{
    int64_t min = hth_schema__count(s, schema, "minLength", 0);
    int64_t max = hth_schema__count(s, schema, "maxLength", -1);

    if (max >= 0 && max < min)
        hth_schema__fail(s, HTH_EINVAL, "maxLength is below minLength");
    hth_put_printf(body, "\"\\\"\" %s{%lld,",
                   hth_schema__common(s, HTH_SCHEMA_CHAR), (long long)min);
    if (max >= 0)
        hth_put_printf(body, "%lld", (long long)max);
    hth_put_printf(body, "} \"\\\"\"");
}

void hth_schema__string(struct hth_schema *s, const json_t *schema,
                        struct hth_buf *body)
{
    const json_t *pattern = json_object_get(schema, "pattern");
    const json_t *format = json_object_get(schema, "format");

    if ((pattern != NULL) + (format != NULL) + has_length(schema) > 1) {
        hth_schema__fail(s, HTH_EUNSUPPORTED,
                         "more than one of pattern, format and a length in "
                         "one string");
    } else if (pattern != NULL && !json_is_string(pattern)) {
        hth_schema__fail(s, HTH_EINVAL, "pattern is no string");
    } else if (pattern != NULL) {
        hth_put_printf(body, "\"\\\"\" ");
        hth_schema__pattern(s, json_string_value(pattern), body);
        hth_put_printf(body, " \"\\\"\"");
    } else if (format != NULL && !json_is_string(format)) {
        hth_schema__fail(s, HTH_EINVAL, "format is no string");
    } else if (format != NULL) {
        put_format(s, json_string_value(format), body);
    } else if (has_length(schema)) {
        put_lengths(s, schema, body);
    } else {
        hth_put_printf(body, "%s", hth_schema__common(s, HTH_SCHEMA_STRING));
    }
}
