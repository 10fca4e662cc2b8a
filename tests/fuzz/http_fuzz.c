/* http_fuzz.c - any bytes where an HTTP request is expected, cut anywhere. The
 * first byte says how long the pieces are. What must hold: no crash, a request
 * that is complete can be asked for everything, and a status otherwise. Seeds:
 * tests/fuzz/corpus/http. */
#include <stdlib.h>
#include <string.h>

#include "coordinator/http_access.h"
#include "coordinator/http_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct hth_http_exchange *x)
{
    static const char *const none[] = {"https://a.example"};
    struct hth_texts listed = {none, 1};
    const char *origin = hth_http_header(x, "origin");
    size_t n, sum = 0;

    sum += strlen(hth_http_method(x)) + strlen(hth_http_path(x)) +
           strlen(hth_http_query(x)) + (hth_http_body(x, &n) != NULL);
    if (origin != NULL)
        sum += hth_access_origin(&listed, origin);
    sum += hth_access_loopback(hth_http_header(x, "host"));
    if (hth_access_bearer(hth_http_header(x, "authorization")) != NULL)
        sum++;
    HTH_ASSERT(sum > 0 && n <= HTH_HTTP_BODY_BYTES_MAX);
}

static size_t request(struct conn *c, const char *p, size_t n, size_t piece)
{
    size_t at = 0, used, take;
    int status = 0;

    c->phase = CONN_HEAD;
    c->complete = false;
    c->x = hth__exchange_new(c);
    HTH_ASSERT(c->x != NULL);
    http_parser_init(&c->parser, HTTP_REQUEST);
    c->parser.data = c;
    while (status == 0 && !c->complete && at < n) {
        take = n - at < piece ? n - at : piece;
        status = hth__exchange_parse(c, p + at, take, &used);
        HTH_ASSERT(used <= take || status != 0);
        HTH_ASSERT(status == 0 || (status >= 400 && status < 600));
        at += used;
        if (status == 0 && !c->complete)
            HTH_ASSERT(used == take);
    }
    if (c->complete && status == 0)
        use(c->x);
    hth__exchange_free(c->x);
    c->x = NULL;
    return status == 0 && c->complete ? at : n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct hth_http h;
    static struct conn c;
    const char *p = (const char *)data + 1;
    size_t n = size - 1, used;

    if (size < 2)
        return 0;
    c.h = &h;
    http_parser_set_max_header_size(HTH_HTTP_HEAD_BYTES_MAX);
    while (n > 0) {
        used = request(&c, p, n, data[0] == 0 ? SIZE_MAX : data[0]);
        HTH_ASSERT(used > 0 && h.body_bytes == 0 && h.exchanges == 0);
        p += used;
        n -= used;
    }
    return 0;
}
