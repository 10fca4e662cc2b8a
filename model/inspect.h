/* inspect.h - a description of a GGUF for people and for scripts: files, keys,
 * tensors, totals per type. Reads the directory only, never the weights.
 *
 * The text goes to terminals: control characters and bytes that are not UTF-8
 * are escaped. The JSON is always valid UTF-8. Arrays show their first
 * elements, long strings their beginning: the output is bounded by the number
 * of keys and tensors. Not thread-safe in *out; appends, and fails by
 * out->failed when out's maximum is reached. */
#ifndef HTH_MODEL_INSPECT_H
#define HTH_MODEL_INSPECT_H

#include "base/cursor.h"
#include "model/gguf.h"

#define HTH_INSPECT_ELEMENTS 6u       /* of an array that are shown */
#define HTH_INSPECT_TEXT_BYTES 60u    /* of a string, in the text */
#define HTH_INSPECT_JSON_BYTES 65536u /* of a string, in the JSON */

void hth_inspect_text(const struct hth_gguf *g, struct hth_buf *out);

/* One object, no newline at the end:
 * {"version": 3, "architecture": "llama" or null, "bytes": n, "weights": n,
 *  "files": [{"path": s, "bytes": n}],
 *  "keys": [{"key": s, "type": s, "value": v}
 *           or {"key": s, "type": "array", "elements": s, "count": n,
 *               "first": [v...]}],
 *  "tensors": [{"name": s, "type": s, "shape": [n...], "bytes": n,
 *               "file": n, "offset": n}],
 *  "types": [{"type": s, "tensors": n, "weights": n, "bytes": n,
 *             "packed": whether there is a layout for fast kernels}]}
 * Shapes begin with the columns; files count from 0; integers beyond
 * INT64_MAX are strings, floats that are no numbers are null. */
void hth_inspect_json(const struct hth_gguf *g, struct hth_buf *out);

#endif
