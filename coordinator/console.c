/* console.c - the page that scripts/console-page made an array of, and QR
 * codes by libqrencode. Owns nothing that changes. */
#include "coordinator/console.h"

#include <errno.h>
#include <qrencode.h>
#include <string.h>

#include "base/limits.h"
#include "coordinator/console_page.h"

const struct hth_console *hth_console(void)
{
    static const struct hth_console console = {
        console_page, sizeof console_page, CONSOLE_CSP, CONSOLE_TAG};

    return &console;
}

/* One rectangle for each horizontal run of dark modules. */
static void put_path(const QRcode *qr, struct hth_buf *out)
{
    for (int y = 0; y < qr->width; y++)
        for (int x = 0, run; x < qr->width; x += run + 1) {
            const unsigned char *row = qr->data + (size_t)y * qr->width;

            for (run = 0; x + run < qr->width && (row[x + run] & 1); run++)
                ;
            if (run > 0)
                hth_put_printf(out, "M%d %dh%dv1h-%dz", x, y, run, run);
        }
}

int hth_qr_path(const char *text, struct hth_buf *out, uint32_t *size,
                struct hth_err *err)
{
    QRcode *qr;

    if (strlen(text) > HTH_QR_BYTES_MAX)
        return hth_fail(err, HTH_ELIMIT,
                        "a QR code of ours holds at most %u bytes",
                        HTH_QR_BYTES_MAX);
    qr = QRcode_encodeString8bit(text, 0, QR_ECLEVEL_M);
    if (qr == NULL)
        return hth_fail(err, errno == ENOMEM ? HTH_ENOMEM : HTH_EINVAL,
                        "cannot make a QR code of this text");
    *size = (uint32_t)qr->width;
    put_path(qr, out);
    QRcode_free(qr);
    return out->failed ? hth_fail(err, HTH_ENOMEM, "no memory for a QR code")
                       : HTH_OK;
}
