/* console.h - the console: one static page inside the program, and the join
 * line as a QR code. What the page asks for and shows is docs/console.md.
 * Any thread; nothing here blocks. */
#ifndef HTH_COORDINATOR_CONSOLE_H
#define HTH_COORDINATOR_CONSOLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"
#include "base/status.h"

struct hth_console {
    const void *page; /* HTML in UTF-8, static */
    size_t bytes;
    /* The Content-Security-Policy under which a browser runs the script and
     * the style of this page, and nothing else. */
    const char *policy;
    const char *tag; /* ETag, in its quotes */
};
const struct hth_console *hth_console(void);

/* The text as a QR code (ISO/IEC 18004, error correction M): appends an SVG
 * path in which one module is one unit, without a quiet zone; *size gets the
 * modules of a side. HTH_ELIMIT: longer than HTH_QR_BYTES_MAX. */
HTH_MUST_CHECK int hth_qr_path(const char *text, struct hth_buf *out,
                               uint32_t *size, struct hth_err *err);

#endif
