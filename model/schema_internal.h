/* schema_internal.h - what the files of the schema compiler share.
 *
 * schema.c          dispatch, references, unions, the public entry
 * schema_merge.c    allOf: two schemas as one; may two both hold
 * schema_object.c   objects and arrays
 * schema_number.c   ranges of numbers as digits
 * schema_string.c   lengths, formats
 * schema_pattern.c  regular expressions
 *
 * The compiler writes GBNF text. What it accepts, it describes soundly: every
 * text of the grammar is valid by the schema, though not every valid value may
 * be written. Not for other modules. */
#ifndef HTH_MODEL_SCHEMA_INTERNAL_H
#define HTH_MODEL_SCHEMA_INTERNAL_H

#include "base/limits.h"
#include "model/constraint.h"

/* Rules every schema may use, written once when first asked for. */
enum hth_schema_common {
    HTH_SCHEMA_WS,
    HTH_SCHEMA_CHAR,
    HTH_SCHEMA_STRING,
    HTH_SCHEMA_NUMBER,
    HTH_SCHEMA_INTEGER,
    HTH_SCHEMA_VALUE,
    HTH_SCHEMA_OBJECT,
    HTH_SCHEMA_ARRAY,
    HTH_SCHEMA_COMMON_COUNT
};

struct hth_schema_ref {
    char *pointer; /* owned: "#/$defs/x" */
    unsigned rule;
};

struct hth_schema {
    const json_t *root; /* what references are looked up in */
    struct hth_buf *out;
    bool common[HTH_SCHEMA_COMMON_COUNT];
    unsigned rules;
    unsigned depth;
    struct hth_schema_ref refs[HTH_SCHEMA_REFS_MAX];
    unsigned ref_count;
    json_t *made; /* schemas made by merging, kept until the end */
    bool failed;
    int status;
    struct hth_err *err;
};

/* Failures stick; the text names what and where. */
void hth_schema__fail(struct hth_schema *s, int status, const char *fmt, ...)
    HTH_PRINTF(3, 4);
/* The name of a common rule, written if it was not yet. */
const char *hth_schema__common(struct hth_schema *s,
                               enum hth_schema_common which);
/* A rule number of one's own; text refers to it as r%u. */
unsigned hth_schema__new_rule(struct hth_schema *s);
/* Write "rN ::= body". */
void hth_schema__write(struct hth_schema *s, unsigned rule,
                       struct hth_buf *body);
/* Compile a schema to a rule and return its number. */
unsigned hth_schema__rule(struct hth_schema *s, const json_t *schema);
/* A GBNF literal of text[n]. */
void hth_schema__literal(struct hth_buf *b, const char *text, size_t n);
/* The schema behind $ref, as far as it goes; NULL: failed. */
const json_t *hth_schema__resolve(struct hth_schema *s, const json_t *schema);
/* A whole number >= 0 at key, or fallback; fails on anything else. */
int64_t hth_schema__count(struct hth_schema *s, const json_t *schema,
                          const char *key, int64_t fallback);
/* Does the schema hold no keyword but these (and notes)? Fails on others. */
void hth_schema__check_keys(struct hth_schema *s, const json_t *schema);

/* Both at once, as a new schema that s->made owns; NULL: failed. */
const json_t *hth_schema__merge(struct hth_schema *s, const json_t *a,
                                const json_t *b);
/* True when surely no value fits both. */
bool hth_schema__disjoint(struct hth_schema *s, const json_t *a,
                          const json_t *b);

void hth_schema__object(struct hth_schema *s, const json_t *schema,
                        struct hth_buf *body);
void hth_schema__array(struct hth_schema *s, const json_t *schema,
                       struct hth_buf *body);
void hth_schema__number(struct hth_schema *s, const json_t *schema,
                        bool integer, struct hth_buf *body);
void hth_schema__string(struct hth_schema *s, const json_t *schema,
                        struct hth_buf *body);
/* The inside of a JSON string that the regular expression finds. */
void hth_schema__pattern(struct hth_schema *s, const char *pattern,
                         struct hth_buf *body);

#endif
