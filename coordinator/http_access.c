/* http_access.c - keys in constant time, origins by their host. */
#include "coordinator/http_access.h"

#include <string.h>
#include <strings.h>

#include "base/hash.h"

/* Digests are compared, so neither length nor prefix of a key shows in the
 * time this takes. */
bool hth_access_key(const struct hth_texts *keys, const char *given)
{
    uint8_t want[HTH_HASH_BYTES], got[HTH_HASH_BYTES];
    struct hth_hash *h;
    bool found = false;
    uint32_t i;

    if (given == NULL || hth_hash_open(&h) != HTH_OK)
        return false;
    hth_hash_update(h, given, strlen(given));
    hth_hash_finish(h, got);
    for (i = 0; i < keys->count; i++) {
        unsigned char differ = 0;
        size_t k;

        hth_hash_update(h, keys->v[i], strlen(keys->v[i]));
        hth_hash_finish(h, want);
        for (k = 0; k < sizeof want; k++)
            differ |= want[k] ^ got[k];
        found |= differ == 0;
    }
    hth_hash_close(h);
    return found;
}

const char *hth_access_bearer(const char *authorization)
{
    if (authorization == NULL || strncasecmp(authorization, "bearer ", 7) != 0)
        return NULL;
    authorization += 7;
    return authorization + strspn(authorization, " ");
}

/* host[n] without its port. */
static bool is_loopback(const char *host, size_t n)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]",
                                        "0.0.0.0"};
    size_t i, k;

    for (i = 0; i < sizeof names / sizeof names[0]; i++) {
        k = strlen(names[i]);
        if (n < k || strncasecmp(host, names[i], k) != 0)
            continue;
        if (n == k || host[k] == ':')
            return strspn(host + k + (n > k), "0123456789") + k + (n > k) == n;
    }
    return false;
}

bool hth_access_loopback(const char *host)
{
    return host != NULL && is_loopback(host, strlen(host));
}

bool hth_access_origin(const struct hth_texts *listed, const char *origin)
{
    static const char *const apps[] = {"app://", "tauri://", "file://",
                                       "vscode-webview://", "vscode-file://"};
    size_t i;

    for (i = 0; i < listed->count; i++)
        if (strcmp(listed->v[i], "*") == 0 ||
            strcasecmp(listed->v[i], origin) == 0)
            return true;
    for (i = 0; i < sizeof apps / sizeof apps[0]; i++)
        if (strncmp(origin, apps[i], strlen(apps[i])) == 0)
            return true;
    if (strncasecmp(origin, "http://", 7) == 0)
        return hth_access_loopback(origin + 7);
    if (strncasecmp(origin, "https://", 8) == 0)
        return hth_access_loopback(origin + 8);
    return false;
}
