/* speeds.c - a text file of lines "<device> <threads> <bytes per second>".
 * Lines that do not parse are dropped at the next write. */
#include "coordinator/speeds.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"

#define PATH_BYTES_MAX 4096u

struct speed {
    char device[HTH_NAME_MAX];
    uint32_t threads;
    double rate;
};

static uint32_t read_all(const char *path, struct speed *v)
{
    char line[256];
    uint32_t n = 0;
    FILE *f = fopen(path, "re");

    if (f == NULL)
        return 0;
    while (n < HTH_DEVICES_MAX && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "%63s %u %lf", v[n].device, &v[n].threads,
                   &v[n].rate) == 3 &&
            isfinite(v[n].rate) && v[n].rate > 0)
            n++;
    fclose(f);
    return n;
}

static void write_all(const char *path, const struct speed *v, uint32_t n)
{
    char temp[PATH_BYTES_MAX + 8];
    uint32_t i;
    FILE *f;

    snprintf(temp, sizeof temp, "%s.part", path);
    f = fopen(temp, "we");
    if (f == NULL)
        return;
    for (i = 0; i < n; i++)
        fprintf(f, "%s %u %.0f\n", v[i].device, v[i].threads, v[i].rate);
    if (fclose(f) != 0 || rename(temp, path) != 0)
        (void)unlink(temp);
}

static struct speed *find(struct speed *v, uint32_t n, const char *device)
{
    uint32_t i;

    for (i = 0; i < n; i++)
        if (strcmp(v[i].device, device) == 0)
            return &v[i];
    return NULL;
}

double hth_speed_kept(const char *state_dir, const char *device,
                      uint32_t threads, double measured)
{
    struct speed *v, *s;
    char path[PATH_BYTES_MAX];
    uint32_t n;

    if (state_dir == NULL || measured <= 0)
        return measured;
    v = calloc(HTH_DEVICES_MAX, sizeof *v);
    if (v == NULL)
        return measured;
    snprintf(path, sizeof path, "%.4000s/speeds", state_dir);
    n = read_all(path, v);
    s = find(v, n, device);
    if (s != NULL && s->threads == threads && s->rate < measured * 2 &&
        s->rate > measured / 2) {
        measured = s->rate;
        free(v);
        return measured;
    }
    if (s == NULL && n < HTH_DEVICES_MAX)
        s = &v[n++];
    if (s != NULL) {
        snprintf(s->device, sizeof s->device, "%s", device);
        s->threads = threads;
        s->rate = measured;
        write_all(path, v, n);
    }
    free(v);
    return measured;
}
