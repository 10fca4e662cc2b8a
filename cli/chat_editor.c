/* chat_editor.c - an entry in the user's own editor, by way of a file that
 * nobody else can read and that is gone afterwards. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/chat.h"
#include "cli/out.h"
#include "cli/paths.h"

extern char **environ;

/* SIGINT is ignored here meanwhile, which the editor shall not inherit; nor
 * SIGPIPE, which all of hearth ignores. */
static int spawn(pid_t *pid, char *const argv[])
{
    posix_spawnattr_t how;
    sigset_t fresh;
    int rc = posix_spawnattr_init(&how);

    if (rc != 0)
        return rc;
    sigemptyset(&fresh);
    sigaddset(&fresh, SIGINT);
    sigaddset(&fresh, SIGPIPE);
    posix_spawnattr_setsigdefault(&how, &fresh);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSIGDEF);
    rc = posix_spawn(pid, "/bin/sh", NULL, &how, argv, environ);
    posix_spawnattr_destroy(&how);
    return rc;
}

/* The shell splits the variable as other programs' users expect ("code -w");
 * the path is an argument, so nothing in it is read as shell. */
static int run_editor(char *path, struct hth_err *err)
{
    static char command[] = "exec ${VISUAL:-${EDITOR:-vi}} \"$1\"";
    static char sh[] = "sh", c[] = "-c";
    char *argv[] = {sh, c, command, sh, path, NULL};
    pid_t pid;
    int status = 0;
    int rc = spawn(&pid, argv);

    if (rc != 0)
        return hth_fail(err, HTH_EIO, "/bin/sh: %s", strerror(rc));
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return hth_fail(err, HTH_EIO, "editor: %s", strerror(errno));
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return hth_fail(err, HTH_EIO,
                        "the editor failed; set VISUAL or EDITOR to yours");
    return HTH_OK;
}

static int write_out(int fd, const struct hth_buf *text, struct hth_err *err)
{
    size_t at = 0;

    while (at < text->len) {
        ssize_t n = write(fd, text->data + at, text->len - at);

        if (n < 0 && errno != EINTR)
            return hth_fail(err, HTH_EIO, "temporary file: %s",
                            strerror(errno));
        at += n > 0 ? (size_t)n : 0;
    }
    return HTH_OK;
}

int hth_chat_edit(struct hth_buf *text, struct hth_err *err)
{
    const char *dir = getenv("TMPDIR");
    char path[HTH_PATH_BYTES_MAX];
    int n = snprintf(path, sizeof path, "%s/hearth-entry-XXXXXX",
                     dir != NULL && dir[0] != '\0' ? dir : "/tmp");
    int fd, rc;

    if (n < 0 || (size_t)n >= sizeof path)
        return hth_fail(err, HTH_ELIMIT, "TMPDIR is too long");
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return hth_fail(err, HTH_EIO, "%s: %s", path, strerror(errno));
    rc = write_out(fd, text, err);
    close(fd);
    if (rc == HTH_OK)
        rc = run_editor(path, err);
    hth_buf_reset(text);
    if (rc == HTH_OK)
        rc = hth_read_file(path, text, err);
    unlink(path);
    while (text->len > 0 && text->data[text->len - 1] == '\n')
        text->len--;
    return rc;
}
