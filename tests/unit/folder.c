/* folder.c - see folder.h. */
#include "tests/unit/folder.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void folder_init(struct folder *f)
{
    snprintf(f->dir, sizeof f->dir, "/tmp/hearth_test.XXXXXX");
    cr_assert(mkdtemp(f->dir) != NULL);
}

const char *folder_path(struct folder *f, const char *name)
{
    int n = snprintf(f->path, sizeof f->path, "%s/%s", f->dir, name);

    cr_assert(n > 0 && (size_t)n < sizeof f->path);
    return f->path;
}

/* The files there are; remove them where asked to. */
static size_t walk(const struct folder *f, bool removing)
{
    DIR *dir = opendir(f->dir);
    struct dirent *entry;
    size_t n = 0;

    cr_assert(dir != NULL);
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        n++;
        if (removing)
            cr_expect_eq(unlinkat(dirfd(dir), entry->d_name, 0), 0);
    }
    closedir(dir);
    return n;
}

size_t folder_count(const struct folder *f)
{
    return walk(f, false);
}

void folder_fini(struct folder *f)
{
    walk(f, true);
    cr_expect_eq(rmdir(f->dir), 0, "%s is not empty", f->dir);
}
