/* jinja_internal.h - what the files of the Jinja interpreter share.
 *
 * jinja_lex.c     source to tokens, white space control
 * jinja_parse.c   tokens to statements
 * jinja_expr.c    tokens to expressions
 * jinja_value.c   values, their memory, text and order
 * jinja_json.c    JSON to values and back
 * jinja_eval.c    expressions to values
 * jinja_exec.c    statements to text; a render from start to end
 * jinja_text.c    methods and filters on strings
 * jinja_call.c    other filters, tests, methods, global functions
 *
 * Failures stick in the run (x->failed): every function may be called after
 * one, does nothing of consequence then, and returns an undefined value; loops
 * ask for it. Not for other modules. */
#ifndef HTH_MODEL_JINJA_INTERNAL_H
#define HTH_MODEL_JINJA_INTERNAL_H

#include "base/limits.h"
#include "model/jinja.h"

/* ---- values -------------------------------------------------------------- */

enum hth_jv_type {
    HTH_JV_UNDEFINED,
    HTH_JV_NONE,
    HTH_JV_BOOL,
    HTH_JV_INT,
    HTH_JV_FLOAT,
    HTH_JV_STRING,
    HTH_JV_LIST,
    HTH_JV_TUPLE, /* a list that prints with round brackets */
    HTH_JV_DICT,
    HTH_JV_NAMESPACE, /* a dict that set may change */
    HTH_JV_LOOP,      /* where a loop stands */
    HTH_JV_MACRO,
    HTH_JV_FUNCTION, /* a global function, by number */
    HTH_JV_METHOD    /* a method bound to its object */
};

/* mark: NULL, or [n] with 1 for bytes that came from a plain variable. */
struct hth_jstr {
    const char *p; /* UTF-8, not NUL-terminated */
    const uint8_t *mark;
    uint32_t n;
    bool ascii;
    bool safe; /* went through the filter safe: + escapes what it meets */
};

struct hth_jlist;
struct hth_jdict;
struct hth_jmethod;
struct hth_jloop;
struct hth_jn;

struct hth_jv {
    enum hth_jv_type type;
    union {
        bool b;
        int64_t i;
        double f;
        const struct hth_jstr *s; /* undefined: why, or NULL */
        struct hth_jlist *list;
        struct hth_jdict *dict; /* dict, namespace */
        const struct hth_jloop *loop;
        const struct hth_jn *macro;
        const struct hth_jmethod *method;
    } u;
};

struct hth_jlist {
    struct hth_jv *at;
    uint32_t count, cap;
};

struct hth_jpair {
    struct hth_jv key, value;
};

/* In order of insertion; looked up one by one: they are small. */
struct hth_jdict {
    struct hth_jpair *at;
    uint32_t count, cap;
};

/* One pass of a loop. */
struct hth_jloop {
    const struct hth_jlist *items;
    uint32_t index;
};

struct hth_jmethod {
    struct hth_jv self;
    const struct hth_jstr *name;
};

/* ---- syntax -------------------------------------------------------------- */

enum hth_jn_kind {
    /* expressions */
    HTH_JN_CONST,
    HTH_JN_NAME,
    HTH_JN_LIST, /* items in list */
    HTH_JN_TUPLE,
    HTH_JN_DICT, /* keys and values by turns in list */
    HTH_JN_NEGATE,
    HTH_JN_NOT,
    HTH_JN_BINARY, /* op, a, b */
    HTH_JN_AND,
    HTH_JN_OR,
    HTH_JN_COMPARE, /* a, then list of operands with their op */
    HTH_JN_COND,    /* a if b else c */
    HTH_JN_ATTR,    /* a.name */
    HTH_JN_INDEX,   /* a[b] */
    HTH_JN_SLICE,   /* a[b:c:d] */
    HTH_JN_CALL,    /* a(list) */
    HTH_JN_FILTER,  /* a | name(list) */
    HTH_JN_TEST,    /* a is name(list) */
    /* statements, linked by next */
    HTH_JN_TEXT,
    HTH_JN_PRINT,     /* a */
    HTH_JN_IF,        /* a: condition; list, b: chain of the else branch */
    HTH_JN_FOR,       /* a: target, b: of what, c: filter, list, d: else */
    HTH_JN_SET,       /* a: target, b: value */
    HTH_JN_SET_BLOCK, /* a: target, b: chain of filters or NULL, list */
    HTH_JN_MACRO,     /* name, a: parameters (name, a: default), list */
    HTH_JN_FILTERED,  /* a: chain of filters, list */
    HTH_JN_BREAK,
    HTH_JN_CONTINUE
};

struct hth_jn {
    enum hth_jn_kind kind;
    uint32_t line;
    char op[3];                  /* "+", "//", "in", "ni" (not in) */
    bool star;                   /* an if that is an elif */
    const struct hth_jstr *name; /* interned: compare pointers */
    struct hth_jv value;
    struct hth_jn *a, *b, *c, *d;
    struct hth_jn *list, *next;
};

enum hth_jt_kind {
    HTH_JT_TEXT,
    HTH_JT_PRINT, /* {{ */
    HTH_JT_PRINT_END,
    HTH_JT_BLOCK, /* {% */
    HTH_JT_BLOCK_END,
    HTH_JT_NAME,
    HTH_JT_STRING,
    HTH_JT_INT,
    HTH_JT_FLOAT,
    HTH_JT_OP,
    HTH_JT_END
};

struct hth_jt {
    enum hth_jt_kind kind;
    uint32_t line;
    const char *p; /* in the source; strings: their decoded text */
    uint32_t n;
    int64_t i;
    double f;
};

/* Memory that is given back all at once. */
struct hth_jchunk {
    struct hth_jchunk *next;
    size_t used, size;
    _Alignas(16) uint8_t data[];
};

struct hth_jarena {
    struct hth_jchunk *chunks;
    size_t bytes, bytes_max;
};

/* NULL when out of memory or beyond bytes_max; zeroed. */
void *hth_jarena_alloc(struct hth_jarena *a, size_t bytes);
void hth_jarena_fini(struct hth_jarena *a);

struct hth_jinja {
    struct hth_jarena arena;
    char *source; /* owned; line ends are \n */
    uint32_t source_n;
    struct hth_jt *tokens;
    uint32_t token_count, token_cap;
    const struct hth_jstr **names; /* interned; the first is "loop" */
    uint32_t name_count, name_cap;
    struct hth_jn *body;
};

/* The tokens of j->source. */
HTH_MUST_CHECK int hth_jinja__lex(struct hth_jinja *j, struct hth_err *err);
HTH_MUST_CHECK int hth_jinja__parse(struct hth_jinja *j, struct hth_err *err);
/* One string object per name; NULL: no memory. */
const struct hth_jstr *hth_jinja__intern(struct hth_jinja *j, const char *p,
                                         uint32_t n);

/* The parser's state; failures stick. */
struct hth_jparse {
    struct hth_jinja *j;
    const struct hth_jt *at;
    uint32_t depth;
    bool failed;
    int status;
    struct hth_err *err;
};

struct hth_jn *hth_jparse__fail(struct hth_jparse *p, const char *what);
struct hth_jn *hth_jparse__node(struct hth_jparse *p, enum hth_jn_kind kind);
bool hth_jparse__is_op(const struct hth_jparse *p, const char *op);
bool hth_jparse__is_name(const struct hth_jparse *p, const char *name);
bool hth_jparse__take_op(struct hth_jparse *p, const char *op);
bool hth_jparse__take_name(struct hth_jparse *p, const char *name);
void hth_jparse__want_op(struct hth_jparse *p, const char *op);
const struct hth_jstr *hth_jparse__name(struct hth_jparse *p);
/* An expression; with commas it is a tuple. Without cond, "if" ends it. */
struct hth_jn *hth_jparse__expr(struct hth_jparse *p, bool cond);
struct hth_jn *hth_jparse__tuple(struct hth_jparse *p, bool cond);
struct hth_jn *hth_jparse__target(struct hth_jparse *p);
struct hth_jn *hth_jparse__filters(struct hth_jparse *p, struct hth_jn *of);
bool hth_jparse__enter(struct hth_jparse *p);

/* ---- a render ------------------------------------------------------------ */

struct hth_jbind {
    const struct hth_jstr *name;
    struct hth_jv value;
};

/* Variables of a loop's pass, a macro's call, or the template. */
struct hth_jframe {
    struct hth_jframe *up;
    struct hth_jbind *at;
    uint32_t count, cap;
};

/* Text being made, with its marks. */
struct hth_jout {
    struct hth_buf text, mark;
};

enum hth_jflow { HTH_JFLOW_NEXT, HTH_JFLOW_BREAK, HTH_JFLOW_CONTINUE };

struct hth_jrun {
    const struct hth_jinja *j;
    const struct hth_jinja_input *in;
    struct hth_jarena arena;
    struct hth_jframe *frame, *global;
    struct hth_jout *out;
    uint64_t steps;
    uint32_t depth, line;
    enum hth_jflow flow;
    bool failed;
    int status;
    struct hth_err *err;
};

/* Arguments of a call: the first ones without, the rest with a name. */
struct hth_jargs {
    struct hth_jv at[HTH_JINJA_ARGS_MAX];
    const struct hth_jstr *name[HTH_JINJA_ARGS_MAX]; /* NULL: by place */
    uint32_t count, places;
};

/* Fail with the line in front; returns undefined. */
struct hth_jv hth_jx_fail(struct hth_jrun *x, int status, const char *fmt, ...)
    HTH_PRINTF(3, 4);
/* Count a step; false when there were too many or something failed. */
bool hth_jx_step(struct hth_jrun *x);
void *hth_jx_alloc(struct hth_jrun *x, size_t bytes); /* NULL: failed */

static inline struct hth_jv hth_jv_none(void)
{
    return (struct hth_jv){.type = HTH_JV_NONE};
}
static inline struct hth_jv hth_jv_undefined(void)
{
    return (struct hth_jv){.type = HTH_JV_UNDEFINED};
}
static inline struct hth_jv hth_jv_bool(bool b)
{
    return (struct hth_jv){.type = HTH_JV_BOOL, .u.b = b};
}
static inline struct hth_jv hth_jv_int(int64_t i)
{
    return (struct hth_jv){.type = HTH_JV_INT, .u.i = i};
}
static inline struct hth_jv hth_jv_float(double f)
{
    return (struct hth_jv){.type = HTH_JV_FLOAT, .u.f = f};
}
static inline struct hth_jv hth_jv_str(const struct hth_jstr *s)
{
    return (struct hth_jv){.type = HTH_JV_STRING, .u.s = s};
}
static inline bool hth_jv_is_number(struct hth_jv v)
{
    return v.type == HTH_JV_BOOL || v.type == HTH_JV_INT ||
           v.type == HTH_JV_FLOAT;
}
static inline bool hth_jv_is_list(struct hth_jv v)
{
    return v.type == HTH_JV_LIST || v.type == HTH_JV_TUPLE;
}
static inline bool hth_jv_is_dict(struct hth_jv v)
{
    return v.type == HTH_JV_DICT || v.type == HTH_JV_NAMESPACE;
}

/* Strings. A part shares the bytes of the whole. */
struct hth_jv hth_jv_text(struct hth_jrun *x, const char *p, size_t n);
struct hth_jv hth_jv_cstr(struct hth_jrun *x, const char *s);
struct hth_jv hth_jv_part(struct hth_jrun *x, const struct hth_jstr *s,
                          size_t from, size_t n);
struct hth_jv hth_jv_safe(struct hth_jrun *x, struct hth_jv v);
bool hth_jstr_is(const struct hth_jstr *s, const char *text);
bool hth_jstr_same(const struct hth_jstr *a, const struct hth_jstr *b);
int hth_jstr_order(const struct hth_jstr *a, const struct hth_jstr *b,
                   bool fold);
uint32_t hth_jstr_chars(const struct hth_jstr *s);
/* Byte offset of character at, or n. */
uint32_t hth_jstr_offset(const struct hth_jstr *s, uint32_t at);

/* Undefined with its reason: printf text, shown when it is used. */
struct hth_jv hth_jv_missing(struct hth_jrun *x, const char *fmt, ...)
    HTH_PRINTF(2, 3);
/* What using this undefined value is. */
struct hth_jv hth_jx_undefined(struct hth_jrun *x, struct hth_jv v);

struct hth_jv hth_jv_list(struct hth_jrun *x, enum hth_jv_type type,
                          uint32_t cap);
void hth_jlist_push(struct hth_jrun *x, struct hth_jv list, struct hth_jv v);
struct hth_jv hth_jv_dict(struct hth_jrun *x, enum hth_jv_type type);
/* NULL: no such key. */
struct hth_jv *hth_jdict_get(struct hth_jrun *x, struct hth_jv dict,
                             struct hth_jv key);
struct hth_jv *hth_jdict_find(struct hth_jv dict, const char *key);
void hth_jdict_put(struct hth_jrun *x, struct hth_jv dict, struct hth_jv key,
                   struct hth_jv v);
void hth_jdict_put_name(struct hth_jrun *x, struct hth_jv dict,
                        const char *name, struct hth_jv v);
struct hth_jv hth_jv_pair(struct hth_jrun *x, struct hth_jv a, struct hth_jv b);

bool hth_jv_true(struct hth_jv v);
bool hth_jv_same(struct hth_jrun *x, struct hth_jv a, struct hth_jv b);
/* < 0, 0, > 0; fails on values without an order. */
int hth_jv_order(struct hth_jrun *x, struct hth_jv a, struct hth_jv b,
                 bool fold);
const char *hth_jv_type_name(struct hth_jv v); /* Python's */
/* What a loop goes over, as a list; fails on what has no elements. */
struct hth_jv hth_jv_elements(struct hth_jrun *x, struct hth_jv v);

/* Text under construction. */
void hth_jout_init(struct hth_jout *o);
void hth_jout_fini(struct hth_jout *o);
void hth_jout_put(struct hth_jrun *x, struct hth_jout *o, const char *p,
                  size_t n);
void hth_jout_cstr(struct hth_jrun *x, struct hth_jout *o, const char *s);
void hth_jout_part(struct hth_jrun *x, struct hth_jout *o,
                   const struct hth_jstr *s, size_t from, size_t n);
/* One byte in place of a byte of s, with its mark. */
void hth_jout_like(struct hth_jrun *x, struct hth_jout *o, const char *text,
                   uint8_t mark);
void hth_jout_value(struct hth_jrun *x, struct hth_jout *o, struct hth_jv v);
/* The text so far as a value; frees o. */
struct hth_jv hth_jout_take(struct hth_jrun *x, struct hth_jout *o);
struct hth_jv hth_jv_to_string(struct hth_jrun *x, struct hth_jv v);

struct hth_jv hth_jv_from_json(struct hth_jrun *x, const json_t *j, bool plain);
/* json.dumps with these; indent < 0: one line. */
struct hth_jdump {
    int indent;
    bool ascii, sort;
    const char *comma, *colon;
};
void hth_jout_json(struct hth_jrun *x, struct hth_jout *o, struct hth_jv v,
                   const struct hth_jdump *how);
void hth_jout_float(struct hth_jrun *x, struct hth_jout *o, double f);

/* Names. */
struct hth_jv hth_jx_lookup(struct hth_jrun *x, const struct hth_jstr *name);
void hth_jx_bind(struct hth_jrun *x, struct hth_jframe *f,
                 const struct hth_jstr *name, struct hth_jv v);

struct hth_jv hth_jx_eval(struct hth_jrun *x, const struct hth_jn *n);
void hth_jx_exec(struct hth_jrun *x, const struct hth_jn *list);
void hth_jx_assign(struct hth_jrun *x, const struct hth_jn *target,
                   struct hth_jv v);
struct hth_jv hth_jx_loop_attr(struct hth_jrun *x, const struct hth_jloop *l,
                               const struct hth_jstr *name);
/* Run a body and take its text. */
struct hth_jv hth_jx_capture(struct hth_jrun *x, const struct hth_jn *list);
struct hth_jv hth_jx_call_macro(struct hth_jrun *x, const struct hth_jn *m,
                                const struct hth_jargs *args);
struct hth_jv hth_jx_attr(struct hth_jrun *x, struct hth_jv v,
                          const struct hth_jstr *name);
struct hth_jv hth_jx_item(struct hth_jrun *x, struct hth_jv v,
                          struct hth_jv key);

/* Arguments: by place, by name; NULL: not given. */
const struct hth_jv *hth_jargs_get(const struct hth_jargs *a, uint32_t place,
                                   const char *name);

struct hth_jv hth_jx_filter(struct hth_jrun *x, const struct hth_jstr *name,
                            struct hth_jv v, const struct hth_jargs *a);
bool hth_jx_test(struct hth_jrun *x, const struct hth_jstr *name,
                 struct hth_jv v, const struct hth_jargs *a);
struct hth_jv hth_jx_method(struct hth_jrun *x, const struct hth_jmethod *m,
                            const struct hth_jargs *a);
bool hth_jx_has_method(struct hth_jv v, const struct hth_jstr *name);
struct hth_jv hth_jx_function(struct hth_jrun *x, int64_t number,
                              const struct hth_jargs *a);
/* The number of a global function, or -1. */
int hth_jx_function_number(const struct hth_jstr *name);

/* A filter or method of strings; self is one. */
typedef struct hth_jv (*hth_jtext_fn)(struct hth_jrun *x, struct hth_jv self,
                                      const struct hth_jargs *a);
hth_jtext_fn hth_jtext_method(const struct hth_jstr *name);
struct hth_jv hth_jtext_indent(struct hth_jrun *x, struct hth_jv self,
                               const struct hth_jargs *a);
struct hth_jv hth_jtext_strip(struct hth_jrun *x, struct hth_jv self,
                              const struct hth_jargs *a);

#endif
