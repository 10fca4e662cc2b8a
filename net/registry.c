/* registry.c - the device list: an array under a mutex and its JSON file. A
 * change is written first and only then kept in memory, so what callers see is
 * what a restart would see. */
#include "net/registry.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/statefile.h"

#define REGISTRY_VERSION 1
#define REGISTRY_FILE_MAX (HTH_DEVICES_MAX * 1024u)

struct hth_registry {
    pthread_mutex_t lock; /* guards the array; held while writing the file */
    char path[HTH_PATH_BYTES_MAX];
    struct hth_device devices[HTH_DEVICES_MAX]; /* in order of pairing */
    size_t count;
};

/* ---- the file ------------------------------------------------------------ */

static bool copy_text(const json_t *o, const char *key, char *dst, size_t size)
{
    const char *s = json_string_value(json_object_get(o, key));

    if (s == NULL || strlen(s) >= size)
        return false;
    memcpy(dst, s, strlen(s) + 1);
    return true;
}

static bool parse_device(const json_t *o, struct hth_device *d)
{
    const json_t *revoked = json_object_get(o, "revoked");
    const json_t *paired = json_object_get(o, "paired_ms");

    if (!json_is_boolean(revoked) || !json_is_integer(paired) ||
        json_integer_value(paired) < 0)
        return false;
    d->revoked = json_is_true(revoked);
    d->paired_ms = (uint64_t)json_integer_value(paired);
    return copy_text(o, "id", d->id, sizeof d->id) &&
           hth_device_id_valid(d->id) &&
           copy_text(o, "name", d->name, sizeof d->name) &&
           copy_text(o, "serial", d->serial, sizeof d->serial);
}

/* False on anything that is not exactly what save() writes: this file decides
 * who may join, so nothing in it is guessed at. */
static bool parse_all(struct hth_registry *r, const json_t *root)
{
    const json_t *list = json_object_get(root, "devices");
    size_t n = json_array_size(list);

    if (json_integer_value(json_object_get(root, "version")) !=
            REGISTRY_VERSION ||
        !json_is_array(list) || n > HTH_DEVICES_MAX)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!parse_device(json_array_get(list, i), &r->devices[i]))
            return false;
    r->count = n;
    return true;
}

static int load(struct hth_registry *r, struct hth_err *err)
{
    json_error_t where = {.line = 0};
    json_t *root;
    char *text;
    size_t n;
    bool ok;
    int status = hth__file_read(r->path, REGISTRY_FILE_MAX, &text, &n, err);

    if (status == HTH_ENOTFOUND)
        return HTH_OK;
    if (status != HTH_OK)
        return status;
    root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &where);
    free(text);
    ok = root != NULL && parse_all(r, root);
    json_decref(root);
    if (!ok)
        return hth_fail(err, HTH_EFORMAT,
                        "%s is damaged (%s); restore it from a copy, or "
                        "remove it and pair every device again",
                        r->path,
                        where.text[0] != '\0' ? where.text
                                              : "a field is missing or wrong");
    return HTH_OK;
}

static json_t *device_json(const struct hth_device *d)
{
    return json_pack("{ss ss ss sI sb}", "id", d->id, "name", d->name, "serial",
                     d->serial, "paired_ms", (json_int_t)d->paired_ms,
                     "revoked", (int)d->revoked);
}

static char *registry_text(const struct hth_device *devices, size_t count)
{
    json_t *list = json_array();
    json_t *root;
    char *text;

    for (size_t i = 0; i < count; i++) {
        if (json_array_append_new(list, device_json(&devices[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    root = json_pack("{si so}", "version", REGISTRY_VERSION, "devices", list);
    text = root != NULL ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    return text;
}

/* Write the list as it would be with device at index at. */
static int save_with(struct hth_registry *r, size_t at,
                     const struct hth_device *device, struct hth_err *err)
{
    struct hth_device *all = malloc(sizeof r->devices);
    size_t count = at == r->count ? r->count + 1 : r->count;
    struct hth__file f = {.path = r->path, .mode = 0600};
    char *text;
    int status;

    if (all == NULL)
        return hth_fail(err, HTH_ENOMEM, "save devices: out of memory");
    memcpy(all, r->devices, sizeof r->devices);
    all[at] = *device;
    text = registry_text(all, count);
    free(all);
    if (text == NULL)
        return hth_fail(err, HTH_EINVAL, "save devices: a name is no UTF-8");
    f.data = text;
    f.n = strlen(text);
    status = hth__file_write(&f, err);
    free(text);
    if (status == HTH_OK) {
        r->devices[at] = *device;
        r->count = count;
    }
    return status;
}

/* ---- open and close ------------------------------------------------------ */

int hth_registry_open(struct hth_registry **out, const char *path,
                      struct hth_err *err)
{
    struct hth_registry *r = calloc(1, sizeof *r);
    int n;
    int status;

    if (r == NULL)
        return hth_fail(err, HTH_ENOMEM, "open %s: out of memory", path);
    n = snprintf(r->path, sizeof r->path, "%s", path);
    status =
        n < 0 || (size_t)n >= sizeof r->path
            ? hth_fail(err, HTH_ELIMIT, "path is too long: %.100s...", path)
            : load(r, err);
    if (status != HTH_OK) {
        free(r);
        return status;
    }
    pthread_mutex_init(&r->lock, NULL);
    *out = r;
    return HTH_OK;
}

void hth_registry_close(struct hth_registry *r)
{
    if (r == NULL)
        return;
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* ---- changes and questions, all under the lock --------------------------- */

static size_t index_of(const struct hth_registry *r, const char *id)
{
    size_t i = 0;

    while (i < r->count && strcmp(r->devices[i].id, id) != 0)
        i++;
    return i;
}

int hth_registry_put(struct hth_registry *r, const struct hth_device *device,
                     struct hth_err *err)
{
    size_t at;
    int status;

    if (!hth_device_id_valid(device->id))
        return hth_fail(err, HTH_EINVAL, "not a device id: '%.20s'",
                        device->id);
    pthread_mutex_lock(&r->lock);
    at = index_of(r, device->id);
    status = at == HTH_DEVICES_MAX
                 ? hth_fail(err, HTH_ELIMIT,
                            "%u devices are paired already; a cluster cannot "
                            "have more",
                            HTH_DEVICES_MAX)
                 : save_with(r, at, device, err);
    pthread_mutex_unlock(&r->lock);
    return status;
}

/* The device someone means by its id, or by a name that only one has. */
static int find_by_text(const struct hth_registry *r, const char *text,
                        size_t *at, struct hth_err *err)
{
    size_t found = index_of(r, text);
    unsigned hits = found < r->count;

    for (size_t i = 0; hits == 0 && i < r->count; i++) {
        if (strcmp(r->devices[i].name, text) != 0)
            continue;
        for (size_t k = i; k < r->count; k++)
            hits += strcmp(r->devices[k].name, text) == 0;
        found = i;
    }
    if (hits == 0)
        return hth_fail(err, HTH_ENOTFOUND, "no device is called '%.63s'",
                        text);
    if (hits > 1)
        return hth_fail(err, HTH_EINVAL,
                        "%u devices are called '%.63s': give the id", hits,
                        text);
    *at = found;
    return HTH_OK;
}

int hth_registry_revoke(struct hth_registry *r, const char *id_or_name,
                        struct hth_device *out, struct hth_err *err)
{
    size_t at = 0;
    int status;

    pthread_mutex_lock(&r->lock);
    status = find_by_text(r, id_or_name, &at, err);
    if (status == HTH_OK) {
        struct hth_device d = r->devices[at];

        d.revoked = true;
        status = save_with(r, at, &d, err);
        if (status == HTH_OK && out != NULL)
            *out = d;
    }
    pthread_mutex_unlock(&r->lock);
    return status;
}

int hth_registry_find(struct hth_registry *r, const char *id,
                      struct hth_device *out)
{
    size_t at;
    bool there;

    pthread_mutex_lock(&r->lock);
    at = index_of(r, id);
    there = at < r->count;
    if (there)
        *out = r->devices[at];
    pthread_mutex_unlock(&r->lock);
    return there ? HTH_OK : HTH_ENOTFOUND;
}

bool hth_registry_allowed(void *registry, const char *device_id)
{
    struct hth_device d;

    return hth_registry_find(registry, device_id, &d) == HTH_OK && !d.revoked;
}

size_t hth_registry_list(struct hth_registry *r, struct hth_device *out,
                         size_t max)
{
    size_t n;

    pthread_mutex_lock(&r->lock);
    n = r->count;
    for (size_t i = 0; i < n && i < max; i++)
        out[i] = r->devices[i];
    pthread_mutex_unlock(&r->lock);
    return n;
}
