/* paths.c - XDG directories. Reads the environment only. */
#include "cli/paths.h"

#include <stdio.h>
#include <stdlib.h>

/* A relative path in an XDG variable is invalid by the specification and
 * counts as unset. */
static int xdg_path(const char *variable, const char *below_home,
                    const char *rest, char *dst, size_t size)
{
    const char *base = getenv(variable);
    const char *home = getenv("HOME");
    int n;

    if (base != NULL && base[0] == '/')
        n = snprintf(dst, size, "%s/hearth/%s", base, rest);
    else if (home != NULL && home[0] == '/')
        n = snprintf(dst, size, "%s/%s/hearth/%s", home, below_home, rest);
    else
        return HTH_ENOTFOUND;
    return n < 0 || (size_t)n >= size ? HTH_ELIMIT : HTH_OK;
}

static int explain(int rc, const char *variable, struct hth_err *err)
{
    if (rc == HTH_ENOTFOUND)
        return hth_fail(err, HTH_EUSAGE,
                        "neither $%s nor $HOME is set; give the directory by "
                        "option",
                        variable);
    if (rc != HTH_OK)
        return hth_fail(err, HTH_EUSAGE, "the path in $%s is too long",
                        variable);
    return HTH_OK;
}

int hth_path_config(char *dst, size_t size, struct hth_err *err)
{
    const char *own = getenv("HEARTH_CONFIG");
    int n;

    if (own != NULL && own[0] != '\0') {
        n = snprintf(dst, size, "%s", own);
        return explain(n < 0 || (size_t)n >= size ? HTH_ELIMIT : HTH_OK,
                       "HEARTH_CONFIG", err);
    }
    return explain(
        xdg_path("XDG_CONFIG_HOME", ".config", "config.ini", dst, size),
        "XDG_CONFIG_HOME", err);
}

int hth_path_state(const char *role, char *dst, size_t size,
                   struct hth_err *err)
{
    return explain(xdg_path("XDG_STATE_HOME", ".local/state", role, dst, size),
                   "XDG_STATE_HOME", err);
}

int hth_path_store(char *dst, size_t size, struct hth_err *err)
{
    return explain(xdg_path("XDG_CACHE_HOME", ".cache", "store", dst, size),
                   "XDG_CACHE_HOME", err);
}
