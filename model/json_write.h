/* json_write.h - writing JSON (RFC 8259) into a buffer. Commas and braces are
 * the caller's business; strings and numbers are made safe here. */
#ifndef HTH_MODEL_JSON_WRITE_H
#define HTH_MODEL_JSON_WRITE_H

#include "base/cursor.h"

/* text[n] as a string with its quotes; what is not UTF-8 becomes U+FFFD. */
void hth_json_string(struct hth_buf *b, const void *text, size_t n);
void hth_json_cstr(struct hth_buf *b, const char *text);
/* A number that reads back the same; what is not finite becomes null. */
void hth_json_number(struct hth_buf *b, double v);
/* "key":"text", and "key":number, with a comma in front unless first in its
 * object, which the last byte of the buffer tells. */
void hth_json_field(struct hth_buf *b, const char *key, const char *text);
void hth_json_field_number(struct hth_buf *b, const char *key, double v);
void hth_json_key(struct hth_buf *b, const char *key);

#endif
