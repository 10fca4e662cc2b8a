/* paths.h - where things live, by the XDG base directory specification.
 *
 * Each writes a path into dst, or fails with HTH_EUSAGE and a sentence when
 * neither the variable nor HOME is set, or the path is too long. Nothing is
 * created. */
#ifndef HTH_CLI_PATHS_H
#define HTH_CLI_PATHS_H

#include <stddef.h>

#include "base/status.h"

#define HTH_PATH_BYTES_MAX 1024u

/* $HEARTH_CONFIG, else $XDG_CONFIG_HOME/hearth/config.ini. */
HTH_MUST_CHECK int hth_path_config(char *dst, size_t size, struct hth_err *err);
/* $XDG_STATE_HOME/hearth/ROLE; role is "coordinator" or "worker". */
HTH_MUST_CHECK int hth_path_state(const char *role, char *dst, size_t size,
                                  struct hth_err *err);
/* $XDG_CACHE_HOME/hearth/store */
HTH_MUST_CHECK int hth_path_store(char *dst, size_t size, struct hth_err *err);

#endif
