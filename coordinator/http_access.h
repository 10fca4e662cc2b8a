/* http_access.h - who may ask: API keys, browsers' origins, host names. Pure;
 * thread-safe. */
#ifndef HTH_COORDINATOR_HTTP_ACCESS_H
#define HTH_COORDINATOR_HTTP_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hth_texts {
    const char *const *v;
    uint32_t count;
};

/* Is the key among them? Takes as long for any wrong key of one length. */
bool hth_access_key(const struct hth_texts *keys, const char *given);
/* The key of an Authorization header ("Bearer KEY"), or NULL. */
const char *hth_access_bearer(const char *authorization);
/* May pages of this origin call us? Loopback origins at any port, the schemes
 * of desktop apps, and those listed ("*": all). */
bool hth_access_origin(const struct hth_texts *listed, const char *origin);
/* Is this Host header a name of this machine's loopback? A page of a foreign
 * name that resolves to us (DNS rebinding) is told by it. */
bool hth_access_loopback(const char *host);

#endif
