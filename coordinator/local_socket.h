/* local_socket.h - where the coordinator's socket file is: DIR/run/socket in
 * its state directory, or, where that path is too long for a socket's name,
 * in a directory under /tmp that belongs to this user and that a file
 * DIR/run/where names. The directory is 0700, the socket 0600. */
#ifndef HTH_COORDINATOR_LOCAL_SOCKET_H
#define HTH_COORDINATOR_LOCAL_SOCKET_H

#include "base/status.h"

#define HTH_LOCAL_URL_MAX 160u

/* Coordinator: make the place; url gets "ipc://...". HTH_EBUSY: another
 * coordinator uses this state directory (*lock_fd_out stays locked while this
 * one lives; close it at the end). HTH_EIO. */
HTH_MUST_CHECK int hth_local_make(const char *state_dir,
                                  char url[HTH_LOCAL_URL_MAX], int *lock_fd_out,
                                  struct hth_err *err);
/* Remove the socket, and close lock_fd. */
void hth_local_remove(const char *url, int lock_fd);
/* Client: HTH_EUNREACHABLE with what to do when there is no socket. */
HTH_MUST_CHECK int hth_local_find(const char *state_dir,
                                  char url[HTH_LOCAL_URL_MAX],
                                  struct hth_err *err);

#endif
