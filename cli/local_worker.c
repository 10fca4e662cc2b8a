/* local_worker.c - fork, exec and the end of one worker process. Between fork
 * and exec only async-signal-safe calls are made, because the coordinator's
 * threads are running by then. */
#include "cli/local_worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define ARGS_MAX 24u
#define ENVIRONMENT_MAX 1024u
#define TEXT_BYTES 2304u
#define TAIL_BYTES 400u
#define STOP_POLL_MS 5u

extern char **environ;

/* Everything exec needs, made before fork. */
struct launch {
    char *argv[ARGS_MAX];
    unsigned argc;
    char *environment[ENVIRONMENT_MAX];
    unsigned variables;
    char text[TEXT_BYTES]; /* storage of what is formatted here */
    size_t used;
    bool overflow;
    int log_fd;
    pid_t parent;
    const cpu_set_t *cpus; /* or NULL */
};

static void add_text(struct launch *l, char **list, unsigned *count,
                     unsigned max, const char *text)
{
    size_t n = strlen(text) + 1;

    if (*count + 1 >= max || l->used + n > sizeof l->text) {
        l->overflow = true;
        return;
    }
    memcpy(l->text + l->used, text, n);
    list[(*count)++] = l->text + l->used;
    list[*count] = NULL;
    l->used += n;
}

static void add_arg(struct launch *l, const char *name, const char *value)
{
    add_text(l, l->argv, &l->argc, ARGS_MAX, name);
    if (value != NULL)
        add_text(l, l->argv, &l->argc, ARGS_MAX, value);
}

static void add_number(struct launch *l, const char *name, uint64_t value)
{
    char digits[24];

    snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
    add_arg(l, name, digits);
}

static void build_args(struct launch *l, const struct hth_local_worker_opts *o)
{
    char text[HTH_PATH_BYTES_MAX];

    add_arg(l, "hearth", "worker");
    snprintf(text, sizeof text, "127.0.0.1:%u", o->port);
    add_arg(l, "--join", text);
    snprintf(text, sizeof text, "local-%u", o->number);
    add_arg(l, "--name", text);
    add_number(l, "--threads", o->threads);
    if (o->memory_bytes != 0)
        add_number(l, "--memory", o->memory_bytes);
    add_arg(l, "--store", o->store_dir);
    snprintf(text, sizeof text, "%s/worker-%u", o->dir, o->number);
    add_arg(l, "--state-dir", text);
    add_arg(l, "--log-level", o->log_level);
}

/* Ours, without the settings meant for this command: a HEARTH_NAME or a
 * config.ini must not make all workers the same. What concerns the machine
 * (HEARTH_ISA) stays. */
static void build_environment(struct launch *l,
                              const struct hth_local_worker_opts *o)
{
    char code[64];

    for (char **e = environ; *e != NULL; e++) {
        if (strncmp(*e, "HEARTH_", 7) == 0 && strncmp(*e, "HEARTH_ISA=", 11))
            continue;
        if (l->variables + 3 >= ENVIRONMENT_MAX)
            break;
        l->environment[l->variables++] = *e;
    }
    snprintf(code, sizeof code, "HEARTH_CODE=%s", o->code);
    add_text(l, l->environment, &l->variables, ENVIRONMENT_MAX, code);
    add_text(l, l->environment, &l->variables, ENVIRONMENT_MAX,
             "HEARTH_CONFIG=/dev/null");
}

/* In the child. A session of its own keeps the terminal's Ctrl-C away: the
 * parent stops the answer first and the workers after it. */
static void become_worker(const struct launch *l)
{
    sigset_t none;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != l->parent)
        _exit(127);
    if (l->cpus != NULL)
        (void)sched_setaffinity(0, sizeof *l->cpus, l->cpus);
    setsid();
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    dup2(l->log_fd, STDERR_FILENO);
    dup2(l->log_fd, STDOUT_FILENO);
    close_range(3, ~0u, 0);
    execve("/proc/self/exe", l->argv, l->environment);
    _exit(127);
}

static int fork_worker(struct hth_local_worker *w, struct launch *l,
                       struct hth_err *err)
{
    pid_t pid;

    l->log_fd =
        open(w->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (l->log_fd < 0)
        return hth_fail(err, HTH_EIO, "open %s: %s", w->log_path,
                        strerror(errno));
    l->parent = getpid();
    pid = fork();
    if (pid == 0)
        become_worker(l);
    close(l->log_fd);
    if (pid < 0)
        return hth_fail(err, HTH_EIO, "start a worker: %s", strerror(errno));
    w->pid = pid;
    return HTH_OK;
}

int hth_local_worker_start(struct hth_local_worker *w,
                           const struct hth_local_worker_opts *o,
                           struct hth_err *err)
{
    struct launch *l = calloc(1, sizeof *l);
    int rc;

    if (l == NULL)
        return hth_fail(err, HTH_ENOMEM, "start a worker: out of memory");
    memset(w, 0, sizeof *w);
    w->number = o->number;
    snprintf(w->log_path, sizeof w->log_path, "%s/worker-%u.log", o->dir,
             o->number);
    l->cpus = o->cpus;
    build_args(l, o);
    build_environment(l, o);
    if (l->overflow)
        rc = hth_fail(err, HTH_ELIMIT,
                      "start a worker: the store's path is too long");
    else
        rc = fork_worker(w, l, err);
    free(l);
    return rc;
}

bool hth_local_worker_ended(struct hth_local_worker *w)
{
    if (w->pid > 0 && !w->ended &&
        waitpid(w->pid, &w->exit_status, WNOHANG) == w->pid)
        w->ended = true;
    return w->ended;
}

void hth_local_worker_ask(struct hth_local_worker *w)
{
    if (w->pid > 0 && !hth_local_worker_ended(w))
        kill(w->pid, SIGTERM);
}

void hth_local_worker_stop(struct hth_local_worker *w, uint64_t deadline_ms)
{
    if (w->pid <= 0)
        return;
    while (!hth_local_worker_ended(w) && hth_now_ms() < deadline_ms)
        hth_sleep_ms(STOP_POLL_MS);
    if (!w->ended) {
        kill(w->pid, SIGKILL);
        while (waitpid(w->pid, &w->exit_status, 0) < 0 && errno == EINTR)
            continue;
    }
    w->pid = 0;
}

/* The end of its log without the last newline, as one line. */
static void read_tail(const char *path, char *dst, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    ssize_t n = 0;
    off_t from;

    dst[0] = '\0';
    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0) {
        from = st.st_size > (off_t)size - 1 ? st.st_size - (off_t)size + 1 : 0;
        n = pread(fd, dst, size - 1, from);
    }
    close(fd);
    while (n > 0 && dst[n - 1] == '\n')
        n--;
    dst[n > 0 ? n : 0] = '\0';
    for (char *p = dst; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20)
            *p = p[1] == '\0' ? '\0' : ' ';
}

void hth_local_worker_describe(const struct hth_local_worker *w,
                               struct hth_err *err)
{
    bool killed = WIFSIGNALED(w->exit_status);
    char tail[TAIL_BYTES];

    read_tail(w->log_path, tail, sizeof tail);
    hth_fail(err, HTH_EPEER, "worker local-%u ended with %s %d%s%s", w->number,
             killed ? "signal" : "exit code",
             killed ? WTERMSIG(w->exit_status) : WEXITSTATUS(w->exit_status),
             tail[0] != '\0' ? "; it last wrote: " : "", tail);
}
