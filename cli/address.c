/* address.c - host and port apart. */
#include "cli/address.h"

#include <string.h>

#include "cli/options.h"

static int refuse(const char *text, struct hth_err *err)
{
    return hth_fail(err, HTH_EUSAGE,
                    "\"%.80s\" is no HOST[:PORT]; an IPv6 address with a port "
                    "is written [ADDRESS]:PORT",
                    text);
}

/* Where the host ends and, or NULL, where the port begins. Two colons without
 * brackets are an IPv6 address and no port. */
static const char *split(const char *text, const char **host, size_t *host_len,
                         const char **port)
{
    const char *colon = strchr(text, ':');
    const char *end;

    *port = NULL;
    *host = text;
    if (text[0] == '[') {
        end = strchr(text, ']');
        if (end == NULL || (end[1] != '\0' && end[1] != ':'))
            return NULL;
        *host = text + 1;
        *host_len = (size_t)(end - *host);
        *port = end[1] == ':' ? end + 2 : NULL;
    } else if (colon != NULL && strchr(colon + 1, ':') == NULL) {
        *host_len = (size_t)(colon - text);
        *port = colon + 1;
    } else {
        *host_len = strlen(text);
    }
    return *host;
}

int hth_parse_address(const char *text, char *host, uint16_t *port,
                      struct hth_err *err)
{
    const char *host_at;
    const char *port_at;
    size_t n;
    int64_t number = *port;

    if (split(text, &host_at, &n, &port_at) == NULL || n == 0 ||
        n >= HTH_HOST_BYTES_MAX || memchr(host_at, ' ', n) != NULL)
        return refuse(text, err);
    if (port_at != NULL && (hth_parse_int(port_at, &number) != HTH_OK ||
                            number < 1 || number > 65534))
        return refuse(text, err);
    memcpy(host, host_at, n);
    host[n] = '\0';
    *port = (uint16_t)number;
    return HTH_OK;
}
