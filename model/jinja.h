/* jinja.h - the subset of the Jinja language that chat templates use.
 *
 * What it knows was measured over the published templates: docs/templates.md
 * has the list. Semantics are Jinja2's with trim_blocks, lstrip_blocks, loop
 * controls and the immutable sandbox: a template cannot change its inputs,
 * read files or run for ever. Steps, depth, memory and output are bounded by
 * base/limits.h; a template is input like any other and never asserts.
 *
 * A compiled template is immutable; renders of it may run in many threads at
 * once. Rendering keeps, for every byte of the output, whether it came out of
 * the variables marked `plain` or out of the template itself. */
#ifndef HTH_MODEL_JINJA_H
#define HTH_MODEL_JINJA_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include <jansson.h>

#include "base/cursor.h"
#include "base/status.h"
#include "model/gguf.h"

struct hth_jinja;

/* Copies the source. Errors: HTH_EFORMAT with the line, HTH_ELIMIT,
 * HTH_ENOMEM. */
HTH_MUST_CHECK int hth_jinja_open(struct hth_jinja **out, struct hth_str source,
                                  struct hth_err *err);
void hth_jinja_close(struct hth_jinja *j); /* NULL is fine */

struct hth_jinja_var {
    const char *name;
    const json_t *value; /* borrowed */
    bool plain;          /* its text is marked in the output */
};

struct hth_jinja_input {
    const struct hth_jinja_var *vars; /* later ones win */
    size_t count;
    struct tm now; /* what strftime_now() shows */
};

/* Append the output to text and as many bytes, 0 or 1 each, to plain. Errors:
 * HTH_EINVAL is raise_exception() with its sentence; HTH_EFORMAT names the
 * template's line; HTH_ELIMIT; HTH_ENOMEM. On error both are as they were. */
HTH_MUST_CHECK int hth_jinja_render(const struct hth_jinja *j,
                                    const struct hth_jinja_input *in,
                                    struct hth_buf *text, struct hth_buf *plain,
                                    struct hth_err *err);

#endif
