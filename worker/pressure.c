/* pressure.c - procfs, cgroups, and the thread. What cannot be read is
 * unknown, and what is unknown is no shortage. */
#include "worker/pressure.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "worker/loader.h"

#define LOOK_MS 500u
#define CALM_MS 10000u
#define STALLED_MUCH 0.1
#define LOW_LEAST_BYTES (16u << 20)
#define LOW_PART 64u     /* of the budget */
#define DEFAULT_PART 16u /* of what is available, left alone */
#define DEFAULT_LEFT_BYTES (64u << 20)
#define PATH_BYTES_MAX 1024u
#define LINE_BYTES_MAX 512u

/* ---- reading ------------------------------------------------------------- */

struct file {
    const char *root, *dir, *name;
};

/* The first number behind `key` in the file's line that starts with it. */
static bool number_in(const struct file *at, const char *key, uint64_t *out)
{
    char path[2 * PATH_BYTES_MAX], line[LINE_BYTES_MAX];
    unsigned long long v;
    bool found = false;
    FILE *f;

    snprintf(path, sizeof path, "%s%s/%s", at->root, at->dir, at->name);
    f = fopen(path, "re");
    if (f == NULL)
        return false;
    while (!found && fgets(line, sizeof line, f) != NULL)
        found = strncmp(line, key, strlen(key)) == 0 &&
                sscanf(line + strlen(key), "%llu", &v) == 1;
    fclose(f);
    if (found)
        *out = v;
    return found;
}

/* How the two versions call the same three things. */
struct dialect {
    const char *mount, *limit, *usage, *cache;
};
static const struct dialect g_v1 = {
    "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
    "total_inactive_file "};
static const struct dialect g_v2 = {"/sys/fs/cgroup", "memory.max",
                                    "memory.current", "inactive_file "};

/* What one group has left; UINT64_MAX without a limit. */
static uint64_t left_in(const char *root, const struct dialect *d,
                        const char *dir)
{
    uint64_t limit, usage = 0, cache = 0;

    if (!number_in(&(struct file){root, dir, d->limit}, "", &limit))
        return UINT64_MAX;
    (void)number_in(&(struct file){root, dir, d->usage}, "", &usage);
    (void)number_in(&(struct file){root, dir, "memory.stat"}, d->cache, &cache);
    usage -= cache < usage ? cache : usage;
    return usage < limit ? limit - usage : 1;
}

/* A group and those around it, up to the mount. */
static uint64_t left_up_from(const char *root, const struct dialect *d,
                             const char *group)
{
    char dir[PATH_BYTES_MAX];
    uint64_t least = UINT64_MAX;
    size_t mount = strlen(d->mount);

    if (snprintf(dir, sizeof dir, "%s%s", d->mount, group) >= (int)sizeof dir)
        return UINT64_MAX;
    for (;;) {
        uint64_t left = left_in(root, d, dir);
        char *slash = strrchr(dir, '/');

        least = left < least ? left : least;
        if (strlen(dir) <= mount || slash == NULL ||
            (size_t)(slash - dir) < mount)
            return least;
        *slash = '\0';
    }
}

/* Lines are "4:memory:/path" for version 1 and "0::/path" for version 2. */
static uint64_t left_in_groups(const char *root)
{
    char path[2 * PATH_BYTES_MAX], line[LINE_BYTES_MAX];
    uint64_t least = UINT64_MAX;
    FILE *f;

    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    f = fopen(path, "re");
    if (f == NULL)
        return least;
    while (fgets(line, sizeof line, f) != NULL) {
        char *v1 = strstr(line, ":memory:"), *v2 = strstr(line, "0::");
        uint64_t left = UINT64_MAX;

        line[strcspn(line, "\n")] = '\0';
        if (v1 != NULL)
            left = left_up_from(root, &g_v1, v1 + strlen(":memory:"));
        else if (v2 == line)
            left = left_up_from(root, &g_v2, line + strlen("0::"));
        least = left < least ? left : least;
    }
    fclose(f);
    return least;
}

uint64_t hth_memory_available(const char *root)
{
    uint64_t group = left_in_groups(root), kib = 0;

    if (!number_in(&(struct file){root, "/proc", "meminfo"},
                   "MemAvailable:", &kib))
        return group == UINT64_MAX ? 0 : group;
    return group < kib * 1024 ? group : kib * 1024;
}

uint64_t hth_memory_default(const char *root)
{
    uint64_t bytes = hth_memory_available(root);
    uint64_t left = bytes / DEFAULT_PART;

    left = left > DEFAULT_LEFT_BYTES ? left : DEFAULT_LEFT_BYTES;
    return bytes > 2 * left ? bytes - left : bytes / 2;
}

/* "some avg10=1.23 avg60=...": percent of the last ten seconds. */
static double stalled_part(const char *root)
{
    static const char key[] = "some avg10=";
    char path[2 * PATH_BYTES_MAX], line[LINE_BYTES_MAX];
    double percent = 0;
    FILE *f;

    snprintf(path, sizeof path, "%s/proc/pressure/memory", root);
    f = fopen(path, "re");
    if (f == NULL)
        return 0;
    if (fgets(line, sizeof line, f) != NULL &&
        strncmp(line, key, strlen(key)) == 0)
        percent = strtod(line + strlen(key), NULL);
    fclose(f);
    return percent > 0 ? percent / 100 : 0;
}

/* ---- deciding ------------------------------------------------------------ */

void hth_pressure_init(struct hth_pressure_state *s, uint64_t given_bytes)
{
    *s = (struct hth_pressure_state){.given_bytes = given_bytes,
                                     .now_bytes = given_bytes,
                                     .low_bytes = given_bytes / LOW_PART};
    if (s->low_bytes < LOW_LEAST_BYTES)
        s->low_bytes = LOW_LEAST_BYTES;
}

static bool shrink(struct hth_pressure_state *s, uint64_t available)
{
    uint64_t missing = 2 * s->low_bytes - available;
    uint64_t before = s->now_bytes;

    s->now_bytes -= missing < s->now_bytes ? missing : s->now_bytes - 1;
    return s->now_bytes != before;
}

static bool grow(struct hth_pressure_state *s, uint64_t available)
{
    uint64_t before = s->now_bytes, room = available - 3 * s->low_bytes;

    s->now_bytes += room;
    if (s->now_bytes > s->given_bytes)
        s->now_bytes = s->given_bytes;
    return s->now_bytes != before;
}

bool hth_pressure_step(struct hth_pressure_state *s,
                       const struct hth_pressure_seen *seen)
{
    uint64_t available = seen->available_bytes;
    bool stalled = seen->stalled >= STALLED_MUCH && available != 0 &&
                   available < 2 * s->low_bytes;

    if (available == 0)
        return false;
    if (available < s->low_bytes || stalled) {
        s->calm_since_ms = 0;
        return shrink(s, available);
    }
    if (available < 4 * s->low_bytes || seen->stalled >= STALLED_MUCH) {
        s->calm_since_ms = 0;
        return false;
    }
    if (s->calm_since_ms == 0)
        s->calm_since_ms = seen->now_ms;
    return seen->now_ms - s->calm_since_ms >= CALM_MS && grow(s, available);
}

/* ---- the thread ---------------------------------------------------------- */

struct hth_pressure {
    struct hth_loader *loader;
    struct hth_pressure_state state;
    pthread_t thread;
    pthread_mutex_t lock; /* guards stop */
    pthread_cond_t wake;
    bool stop;
    atomic_bool short_now;
};

/* Wait for the next look; false: it is time to stop. */
static bool wait_a_while(struct hth_pressure *p)
{
    struct timespec until;
    bool stop;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += LOOK_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&p->lock);
    if (!p->stop)
        (void)pthread_cond_timedwait(&p->wake, &p->lock, &until);
    stop = p->stop;
    pthread_mutex_unlock(&p->lock);
    return !stop;
}

static void apply(struct hth_pressure *p, uint64_t available)
{
    uint64_t got = hth_loader_budget(p->loader, p->state.now_bytes);
    bool less = got < p->state.given_bytes;

    p->state.now_bytes =
        got > p->state.given_bytes ? p->state.given_bytes : got;
    if (less == atomic_load(&p->short_now))
        return;
    atomic_store(&p->short_now, less);
    hth_log(less ? HTH_LOG_WARN : HTH_LOG_NOTICE,
            less ? "MEMORY-SHORT" : "MEMORY-BACK",
            "%llu MiB are available; weights keep %llu of %llu MiB",
            (unsigned long long)(available >> 20),
            (unsigned long long)(got >> 20),
            (unsigned long long)(p->state.given_bytes >> 20));
}

static void *pressure_main(void *arg)
{
    struct hth_pressure *p = arg;

    while (wait_a_while(p)) {
        struct hth_pressure_seen seen = {hth_memory_available(""),
                                         stalled_part(""), hth_now_ms()};

        if (hth_pressure_step(&p->state, &seen))
            apply(p, seen.available_bytes);
    }
    return NULL;
}

int hth_pressure_start(struct hth_pressure **out, struct hth_loader *loader,
                       uint64_t given_bytes, struct hth_err *err)
{
    struct hth_pressure *p = calloc(1, sizeof *p);

    if (p == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory to watch memory");
    p->loader = loader;
    hth_pressure_init(&p->state, given_bytes);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    if (pthread_create(&p->thread, NULL, pressure_main, p) != 0) {
        pthread_cond_destroy(&p->wake);
        pthread_mutex_destroy(&p->lock);
        free(p);
        return hth_fail(err, HTH_ENOMEM, "cannot start a thread");
    }
    *out = p;
    return HTH_OK;
}

bool hth_pressure_is_short(const struct hth_pressure *p)
{
    return p != NULL && atomic_load(&p->short_now);
}

void hth_pressure_stop(struct hth_pressure *p)
{
    if (p == NULL)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
