/* table.c - rows are kept as text until the widths are known. */
#include "cli/table.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define ROW_BYTES 2048u

/* Characters, not bytes: continuation bytes of UTF-8 take no column. */
static unsigned columns_of(const char *cell, size_t n)
{
    unsigned columns = 0;

    for (size_t i = 0; i < n; i++)
        columns += ((unsigned char)cell[i] & 0xc0) != 0x80;
    return columns;
}

static void add_row(struct hth_table *t, const char *row)
{
    for (unsigned c = 0; c < HTH_TABLE_COLUMNS_MAX; c++) {
        size_t n = strcspn(row, "\t");
        unsigned columns;

        if (n == 0)
            hth_put_u8(&t->cells, '-');
        columns = n == 0 ? 1 : columns_of(row, n);
        if (columns > t->widths[c])
            t->widths[c] = columns;
        for (size_t i = 0; i < n; i++) {
            unsigned char b = (unsigned char)row[i];

            hth_put_u8(&t->cells, b < 0x20 || b == 0x7f ? '?' : b);
        }
        row += n;
        if (*row == '\0' || c + 1 == HTH_TABLE_COLUMNS_MAX)
            break;
        hth_put_u8(&t->cells, '\t');
        row++;
    }
    hth_put_u8(&t->cells, '\n');
}

void hth_plain_text(const char *src, char *dst, size_t dst_size)
{
    size_t n = 0;

    for (; *src != '\0' && n + 1 < dst_size; src++) {
        unsigned char b = (unsigned char)*src;

        dst[n++] = b < 0x20 || b == 0x7f ? '?' : *src;
    }
    dst[n] = '\0';
}

void hth_table_init(struct hth_table *t, const char *heading)
{
    memset(t, 0, sizeof *t);
    hth_buf_init(&t->cells, HTH_TABLE_BYTES_MAX);
    add_row(t, heading);
}

void hth_table_fini(struct hth_table *t)
{
    hth_buf_fini(&t->cells);
}

void hth_table_row(struct hth_table *t, const char *fmt, ...)
{
    char row[ROW_BYTES];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(row, sizeof row, fmt, ap);
    va_end(ap);
    add_row(t, row);
}

void hth_table_put(const struct hth_table *t, struct hth_buf *out)
{
    const char *p = (const char *)t->cells.data;
    const char *end = p == NULL ? NULL : p + t->cells.len;
    unsigned column = 0;

    if (t->cells.failed)
        out->failed = true;
    while (p < end) {
        size_t n = 0;

        while (p[n] != '\t' && p[n] != '\n')
            n++;
        hth_put_bytes(out, p, n);
        if (p[n] == '\n')
            hth_put_u8(out, '\n');
        else
            hth_put_printf(out, "%*s",
                           (int)(t->widths[column] - columns_of(p, n) + 2), "");
        column = p[n] == '\n' ? 0 : column + 1;
        p += n + 1;
    }
}

void hth_bytes_text(uint64_t bytes, char dst[HTH_BYTES_TEXT])
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    unsigned u = 0;

    if (bytes < 1024) {
        snprintf(dst, HTH_BYTES_TEXT, "%u B", (unsigned)bytes);
        return;
    }
    for (v /= 1024.0; v >= 1024.0 && u < 3; u++)
        v /= 1024.0;
    snprintf(dst, HTH_BYTES_TEXT, v < 10 ? "%.2f %s" : "%.1f %s", v, units[u]);
}
