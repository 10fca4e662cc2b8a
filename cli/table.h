/* table.h - plain tables: left-aligned columns two spaces apart, no rules, so
 * that people and awk both read them. One thread. */
#ifndef HTH_CLI_TABLE_H
#define HTH_CLI_TABLE_H

#include <stdint.h>

#include "base/cursor.h"

#define HTH_TABLE_COLUMNS_MAX 16u
#define HTH_TABLE_BYTES_MAX (1u << 20)

struct hth_table {
    struct hth_buf cells; /* rows of tab-separated cells, newline each */
    unsigned widths[HTH_TABLE_COLUMNS_MAX]; /* in characters */
};

/* heading: the first row. */
void hth_table_init(struct hth_table *t, const char *heading);
void hth_table_fini(struct hth_table *t);
/* Cells separated by tabs; an empty cell is shown as "-". Texts from other
 * devices go through hth_plain_text() first. */
void hth_table_row(struct hth_table *t, const char *fmt, ...) HTH_PRINTF(2, 3);
/* Append the table; out->failed also when the table did not fit. */
void hth_table_put(const struct hth_table *t, struct hth_buf *out);

/* Copy src with control bytes as '?': what another device calls itself must
 * not drive our terminal. Cut to dst_size. */
void hth_plain_text(const char *src, char *dst, size_t dst_size);

#define HTH_BYTES_TEXT 24u
/* "5.39 GiB", "812 B" */
void hth_bytes_text(uint64_t bytes, char dst[HTH_BYTES_TEXT]);

#endif
