/* cores_linux.c - cores.h by what Linux tells in sysfs. */
#include <stdbool.h>
#include <stdio.h>

#include "base/cores.h"

#define PATH_BYTES_MAX 256u
#define LINE_BYTES_MAX 4096u
/* Beside a big core of the same frequency, in tenths: a first guess. */
#define ATOM_TENTHS 6u

/* The first line of root/name; false where there is none. */
static bool read_line(const char *root, const char *name, char *line, int size)
{
    char path[PATH_BYTES_MAX];
    FILE *f;
    bool got;

    if ((size_t)snprintf(path, sizeof path, "%s/%s", root, name) >= sizeof path)
        return false;
    f = fopen(path, "re");
    if (f == NULL)
        return false;
    got = fgets(line, size, f) != NULL;
    fclose(f);
    return got;
}

static uint32_t number(const char *root, uint32_t cpu, const char *what)
{
    char name[96], line[32];
    unsigned v = 0;

    snprintf(name, sizeof name, "system/cpu/cpu%u/%s", cpu, what);
    if (!read_line(root, name, line, sizeof line) ||
        sscanf(line, "%9u", &v) != 1)
        return 0;
    return v;
}

/* Fill out from one file per CPU; false unless each of them has it. */
static bool from_file(const char *root, const char *what, struct hth_cores *out)
{
    uint32_t v;

    out->count = 0;
    while (out->count < HTH_CPUS_MAX &&
           (v = number(root, out->count, what)) > 0)
        out->speed[out->count++] = v;
    return out->count > 0;
}

static bool differ(const struct hth_cores *c)
{
    for (uint32_t i = 1; i < c->count; i++)
        if (c->speed[i] != c->speed[0])
            return true;
    return false;
}

/* "0-3,8": take tenths of the speed of each CPU in the list. */
static void slow_down(struct hth_cores *c, const char *list)
{
    unsigned from, to;
    int used;

    while (sscanf(list, "%9u%n", &from, &used) == 1) {
        list += used;
        to = from;
        if (sscanf(list, "-%9u%n", &to, &used) == 1)
            list += used;
        for (; from <= to && from < c->count; from++)
            c->speed[from] = c->speed[from] / 10 * ATOM_TENTHS;
        if (*list++ != ',')
            return;
    }
}

void hth_cores_find(const char *root, struct hth_cores *out)
{
    char line[LINE_BYTES_MAX];

    if (from_file(root, "cpu_capacity", out) && differ(out))
        return;
    if (from_file(root, "cpufreq/cpuinfo_max_freq", out) &&
        read_line(root, "cpu_atom/cpus", line, sizeof line))
        slow_down(out, line);
    if (!differ(out))
        out->count = 0;
}
