/* schema_object.c - objects and arrays. Properties come in the order in which
 * the schema lists them; additional ones behind them, and none unless
 * additionalProperties says so (what is allowed need not be written). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/schema_internal.h"

/* ---- keys of additional properties
 * --------------------------------------------- */

/* Names not to be used, sorted; compared from byte `at` on. */
struct names {
    const char **list;
    size_t first, count, at;
};

static int by_text(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;

    return strcmp(*x, *y);
}

static bool writable(unsigned char c)
{
    return c >= 0x20 && c != '"' && c != '\\' && c != 0x7f;
}

/* A class of what may stand here and is none of the names' next bytes. */
static void put_other(struct hth_buf *b, const struct names *n)
{
    hth_put_printf(b, "[^\"\\\\\\x00-\\x1f\\x7f");
    for (size_t i = n->first; i < n->first + n->count; i++) {
        unsigned char c = (unsigned char)n->list[i][n->at];

        if (c == ']' || c == '^' || c == '-' || c == '[')
            hth_put_printf(b, "\\x%02x", c);
        else if (c != '\0' && writable(c))
            hth_put_u8(b, c);
    }
    hth_put_printf(b, "]");
}

/* Any text but the names: at each byte, one that no name has here and then
 * anything, or one that some have and then any rest but theirs. A name that
 * ends here must go on, so the text may end only where none does. Names
 * are plain ASCII here. */
static void put_not(struct hth_schema *s, struct hth_buf *b, struct names n)
{
    size_t i = n.first, end = n.first + n.count;
    bool ends = false;

    if (++s->depth > HTH_SCHEMA_DEPTH_MAX)
        hth_schema__fail(s, HTH_EUNSUPPORTED,
                         "additionalProperties beside long property names");
    if (s->failed || b->failed)
        return;
    for (size_t k = i; k < end; k++)
        ends = ends || n.list[k][n.at] == '\0';
    hth_put_printf(b, "(");
    put_other(b, &n);
    hth_put_printf(b, " [^\"\\\\\\x00-\\x1f\\x7f]*");
    while (i < end) {
        unsigned char c = (unsigned char)n.list[i][n.at];
        size_t from = i;

        while (i < end && (unsigned char)n.list[i][n.at] == c)
            i++;
        if (c == '\0' || c >= 0x80 || !writable(c))
            continue;
        hth_put_printf(b, " | ");
        hth_schema__literal(b, (const char *)&c, 1);
        hth_put_u8(b, ' ');
        put_not(s, b, (struct names){n.list, from, i - from, n.at + 1});
    }
    hth_put_printf(b, ends ? ")" : ")?");
    s->depth--;
}

/* A key that is none of the properties' names, written without escapes. */
static void put_key(struct hth_schema *s, const json_t *props,
                    struct hth_buf *body)
{
    json_t *object = (json_t *)(uintptr_t)props;
    size_t count = json_object_size(props), n = 0;
    const char **list = calloc(count + 1, sizeof *list);

    if (list == NULL) {
        hth_schema__fail(s, HTH_ENOMEM, "no memory");
        return;
    }
    for (void *it = json_object_iter(object); it != NULL;
         it = json_object_iter_next(object, it)) {
        const unsigned char *p =
            (const unsigned char *)json_object_iter_key(it);

        while (*p != '\0' && *p < 0x80 && writable(*p))
            p++;
        if (*p != '\0') {
            hth_schema__fail(s, HTH_EUNSUPPORTED,
                             "additionalProperties beside a property whose "
                             "name is not plain ASCII");
            break;
        }
        list[n++] = json_object_iter_key(it);
    }
    qsort(list, n, sizeof *list, by_text);
    if (!s->failed) {
        hth_put_printf(body, "\"\\\"\" ");
        if (n == 0)
            hth_put_printf(body, "[^\"\\\\\\x00-\\x1f\\x7f]*");
        else
            put_not(s, body, (struct names){list, 0, n, 0});
        hth_put_printf(body, " \"\\\"\"");
    }
    free(list);
}

/* ---- objects
 * -------------------------------------------------------------------- */

struct object {
    json_t *props; /* owned: with required ones that had no schema */
    const json_t *required;
    unsigned extra; /* rule of one additional pair, if has_extra */
    bool has_extra;
    int64_t extra_min, extra_max; /* where there are no properties */
};

static bool is_required(const struct object *o, const char *key)
{
    for (size_t i = 0; i < json_array_size(o->required); i++) {
        const char *name = json_string_value(json_array_get(o->required, i));

        if (name != NULL && strcmp(name, key) == 0)
            return true;
    }
    return false;
}

static void read_required(struct hth_schema *s, const json_t *schema,
                          struct object *o)
{
    const json_t *extra = json_object_get(schema, "additionalProperties");

    o->required = json_object_get(schema, "required");
    if (o->required != NULL && !json_is_array(o->required))
        hth_schema__fail(s, HTH_EINVAL, "required is no list");
    for (size_t i = 0; i < json_array_size(o->required) && !s->failed; i++) {
        const char *name = json_string_value(json_array_get(o->required, i));

        if (name == NULL)
            hth_schema__fail(s, HTH_EINVAL, "required holds no name");
        else if (json_object_get(o->props, name) != NULL)
            continue;
        else if (json_is_false(extra))
            hth_schema__fail(s, HTH_EINVAL,
                             "\"%.64s\" is required and not allowed", name);
        else
            (void)json_object_set_new(
                o->props, name,
                json_is_object(extra) ? json_deep_copy(extra) : json_true());
    }
}

/* How many pairs are possible beside what can be promised. */
static void read_counts(struct hth_schema *s, const json_t *schema,
                        struct object *o)
{
    int64_t min = hth_schema__count(s, schema, "minProperties", 0);
    int64_t max =
        hth_schema__count(s, schema, "maxProperties", HTH_GRAMMAR_REPEAT_MAX);
    int64_t count = (int64_t)json_object_size(o->props);

    o->extra_min = 0;
    o->extra_max = -1;
    if (count == 0 && o->has_extra) {
        /* Keys may repeat, so that more than one is never certain. */
        if (min > 1)
            hth_schema__fail(s, HTH_EUNSUPPORTED,
                             "minProperties above 1 without properties");
        o->extra_min = min;
        if (max < HTH_GRAMMAR_REPEAT_MAX)
            o->extra_max = max;
        return;
    }
    if (min > (int64_t)json_array_size(o->required))
        hth_schema__fail(s, HTH_EUNSUPPORTED,
                         "minProperties above the number of required ones");
    if (max < count || (max < HTH_GRAMMAR_REPEAT_MAX && o->has_extra))
        hth_schema__fail(s, HTH_EUNSUPPORTED,
                         "maxProperties below the number of properties");
}

static void read_extra(struct hth_schema *s, const json_t *schema,
                       struct object *o)
{
    const json_t *extra = json_object_get(schema, "additionalProperties");
    bool bare = json_object_size(o->props) == 0;
    struct hth_buf body;
    const char *ws;

    o->has_extra =
        json_is_object(extra) || json_is_true(extra) || (extra == NULL && bare);
    if (!o->has_extra || s->failed)
        return;
    o->extra = hth_schema__new_rule(s);
    ws = hth_schema__common(s, HTH_SCHEMA_WS);
    hth_buf_init(&body, HTH_GRAMMAR_BYTES_MAX);
    put_key(s, o->props, &body);
    hth_put_printf(&body, " \":\" %s ", ws);
    if (json_is_object(extra))
        hth_put_printf(&body, "r%u", hth_schema__rule(s, extra));
    else
        hth_put_printf(&body, "%s", hth_schema__common(s, HTH_SCHEMA_VALUE));
    hth_schema__write(s, o->extra, &body);
    hth_buf_fini(&body);
}

/* Pairs of an object without properties of its own. */
static void put_map(struct hth_schema *s, const struct object *o,
                    struct hth_buf *body)
{
    const char *ws = hth_schema__common(s, HTH_SCHEMA_WS);

    hth_put_printf(body, "\"{\" %s ", ws);
    if (o->extra_max != 0) {
        hth_put_printf(body, "(r%u (\",\" %s r%u)", o->extra, ws, o->extra);
        if (o->extra_max < 0)
            hth_put_printf(body, "*)%s ", o->extra_min == 0 ? "?" : "");
        else
            hth_put_printf(body, "{0,%lld})%s ", (long long)o->extra_max - 1,
                           o->extra_min == 0 ? "?" : "");
    }
    hth_put_printf(body, "%s \"}\"", ws);
}

/* One rule per place in the list of properties, in two forms: nothing has been
 * written yet (a), something has (b), which is when a comma is due.
 *
 *   b_i ::= ("," ws pair_i)? b_i+1        a_i ::= pair_i b_i+1 | a_i+1
 *
 * without the ? and the second branch where the property is required. */
struct place {
    unsigned a, b; /* rules from here on */
    unsigned pair;
    bool required;
};

static void put_pair(struct hth_schema *s, const char *key,
                     const json_t *schema, unsigned rule)
{
    char *text = NULL;
    json_t *name = json_string(key);
    struct hth_buf body;

    hth_buf_init(&body, HTH_GRAMMAR_BYTES_MAX);
    text = name != NULL ? json_dumps(name, JSON_ENCODE_ANY) : NULL;
    if (text == NULL)
        hth_schema__fail(s, HTH_ENOMEM, "no memory");
    else
        hth_schema__literal(&body, text, strlen(text));
    hth_put_printf(&body, " \":\" %s r%u", hth_schema__common(s, HTH_SCHEMA_WS),
                   hth_schema__rule(s, schema));
    hth_schema__write(s, rule, &body);
    hth_buf_fini(&body);
    free(text);
    json_decref(name);
}

static void put_places(struct hth_schema *s, const struct place *p,
                       const struct object *o)
{
    size_t count = json_object_size(o->props);
    struct hth_buf body;

    hth_buf_init(&body, HTH_GRAMMAR_BYTES_MAX);
    for (size_t i = 0; i < count; i++) {
        hth_buf_reset(&body);
        hth_put_printf(&body, "(\",\" ws r%u)%s r%u", p[i].pair,
                       p[i].required ? "" : "?", p[i + 1].b);
        hth_schema__write(s, p[i].b, &body);
        hth_buf_reset(&body);
        hth_put_printf(&body, "r%u r%u", p[i].pair, p[i + 1].b);
        if (!p[i].required)
            hth_put_printf(&body, " | r%u", p[i + 1].a);
        hth_schema__write(s, p[i].a, &body);
    }
    hth_buf_reset(&body);
    if (o->has_extra)
        hth_put_printf(&body, "(\",\" ws r%u)*", o->extra);
    else
        hth_put_printf(&body, "\"\"");
    hth_schema__write(s, p[count].b, &body);
    hth_buf_reset(&body);
    if (o->has_extra)
        hth_put_printf(&body, "(r%u r%u)?", o->extra, p[count].b);
    else
        hth_put_printf(&body, "\"\"");
    hth_schema__write(s, p[count].a, &body);
    hth_buf_fini(&body);
}

static void put_object(struct hth_schema *s, const struct object *o,
                       struct hth_buf *body)
{
    size_t count = json_object_size(o->props), i = 0;
    struct place *p = calloc(count + 1, sizeof *p);

    if (p == NULL) {
        hth_schema__fail(s, HTH_ENOMEM, "no memory");
        return;
    }
    hth_schema__common(s, HTH_SCHEMA_WS);
    for (void *it = json_object_iter(o->props); it != NULL && !s->failed;
         it = json_object_iter_next(o->props, it), i++) {
        p[i].pair = hth_schema__new_rule(s);
        p[i].required = is_required(o, json_object_iter_key(it));
        put_pair(s, json_object_iter_key(it), json_object_iter_value(it),
                 p[i].pair);
    }
    for (i = 0; i <= count; i++) {
        p[i].a = hth_schema__new_rule(s);
        p[i].b = hth_schema__new_rule(s);
    }
    if (!s->failed)
        put_places(s, p, o);
    hth_put_printf(body, "\"{\" ws r%u ws \"}\"", p[0].a);
    free(p);
}

void hth_schema__object(struct hth_schema *s, const json_t *schema,
                        struct hth_buf *body)
{
    const json_t *props = json_object_get(schema, "properties");
    struct object o = {.props = json_object()};

    if (props != NULL && !json_is_object(props))
        hth_schema__fail(s, HTH_EINVAL, "properties is no object");
    else if (props != NULL)
        (void)json_object_update(o.props, (json_t *)(uintptr_t)props);
    read_required(s, schema, &o);
    read_extra(s, schema, &o);
    if (!s->failed)
        read_counts(s, schema, &o);
    if (!s->failed && json_object_size(o.props) == 0 && o.has_extra) {
        put_map(s, &o, body);
    } else if (!s->failed) {
        put_object(s, &o, body);
    }
    json_decref(o.props);
}

/* ---- arrays
 * --------------------------------------------------------------------- */

/* The items in front that have a schema each. */
static size_t put_tuple(struct hth_schema *s, const json_t *prefix,
                        size_t limit, struct hth_buf *body)
{
    size_t i = 0;

    for (; i < json_array_size(prefix) && i < limit && !s->failed; i++)
        hth_put_printf(body, "%sr%u ", i == 0 ? "" : "\",\" ws ",
                       hth_schema__rule(s, json_array_get(prefix, i)));
    return i;
}

void hth_schema__array(struct hth_schema *s, const json_t *schema,
                       struct hth_buf *body)
{
    const json_t *items = json_object_get(schema, "items");
    const json_t *prefix = json_object_get(schema, "prefixItems");
    int64_t min = hth_schema__count(s, schema, "minItems", 0);
    int64_t max = hth_schema__count(s, schema, "maxItems", -1), done;
    unsigned item;

    if (json_is_true(json_object_get(schema, "uniqueItems")) && max != 1 &&
        max != 0)
        hth_schema__fail(s, HTH_EUNSUPPORTED, "uniqueItems is not supported");
    if (json_is_array(items)) /* the older way to say prefixItems */
        hth_schema__fail(s, HTH_EUNSUPPORTED,
                         "items as a list; use prefixItems");
    if (max >= 0 && max < min)
        hth_schema__fail(s, HTH_EINVAL, "maxItems is below minItems");
    if (s->failed)
        return;
    hth_schema__common(s, HTH_SCHEMA_WS);
    hth_put_printf(body, "\"[\" ws ");
    done =
        (int64_t)put_tuple(s, prefix, max < 0 ? SIZE_MAX : (size_t)max, body);
    min = min > done ? min - done : 0;
    max = max < 0 ? -1 : max - done;
    if (json_is_false(items) || (prefix != NULL && items == NULL)) {
        if (min > 0 && json_is_false(items))
            hth_schema__fail(s, HTH_EINVAL, "minItems with no items allowed");
        if (min == 0)
            max = 0;
    }
    if (max != 0 && !s->failed) {
        json_t *any = json_true();

        item = hth_schema__rule(s, items != NULL ? items : any);
        json_decref(any);
        if (done > 0) {
            hth_put_printf(body, "(\",\" ws r%u){%lld,", item, (long long)min);
        } else {
            hth_put_printf(body, "(r%u (\",\" ws r%u){%lld,", item, item,
                           (long long)(min > 0 ? min - 1 : 0));
            max = max > 0 ? max - 1 : max;
        }
        if (max >= 0)
            hth_put_printf(body, "%lld", (long long)max);
        hth_put_printf(body, done > 0 ? "} " : min > 0 ? "}) " : "})? ");
    }
    hth_put_printf(body, "ws \"]\"");
}
