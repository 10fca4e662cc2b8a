/* folder.h - a temporary folder of one test. Failures are Criterion
 * assertions. */
#ifndef HTH_TESTS_FOLDER_H
#define HTH_TESTS_FOLDER_H

#include <stddef.h>

struct folder {
    char dir[64];
    char path[192]; /* of the last folder_path() */
};

void folder_init(struct folder *f);
/* "DIR/name" in f->path. */
const char *folder_path(struct folder *f, const char *name);
size_t folder_count(const struct folder *f); /* of the files in it */
void folder_fini(struct folder *f);          /* removes the files, too */

#endif
