/* json_check.c - is standard input one JSON value? With arguments: does each
 * path ("nodes.0.name") exist in it, and (PATH=TEXT) is it that text or
 * number? Exit 0 yes, 1 no with a sentence. Uses jansson, which the program
 * itself does not write its JSON with. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One step down: a key of an object or an index of an array. */
static json_t *step(json_t *value, const char *name)
{
    if (json_is_array(value))
        return json_array_get(value, (size_t)strtoul(name, NULL, 10));
    return json_object_get(value, name);
}

static json_t *find(json_t *value, const char *path)
{
    while (*path != '\0' && value != NULL) {
        size_t n = strcspn(path, ".");
        char name[64];

        snprintf(name, sizeof name, "%.*s", (int)n, path);
        value = step(value, name);
        path += n;
        path += *path == '.';
    }
    return value;
}

static void text_of(json_t *value, char *dst, size_t size)
{
    if (json_is_string(value))
        snprintf(dst, size, "%s", json_string_value(value));
    else if (json_is_number(value))
        snprintf(dst, size, "%.12g", json_number_value(value));
    else if (json_is_array(value))
        snprintf(dst, size, "[%zu]", json_array_size(value));
    else
        snprintf(dst, size, "%s", json_is_true(value) ? "true" : "false");
}

static int check(json_t *root, const char *want)
{
    const char *equals = strchr(want, '=');
    char path[256];
    char text[4096];
    json_t *value;

    snprintf(path, sizeof path, "%.*s",
             (int)(equals != NULL ? equals - want : (long)strlen(want)), want);
    value = find(root, path);
    if (value == NULL) {
        fprintf(stderr, "json_check: no %s\n", path);
        return 1;
    }
    text_of(value, text, sizeof text);
    if (equals != NULL && strcmp(text, equals + 1) != 0) {
        fprintf(stderr, "json_check: %s is \"%s\", not \"%s\"\n", path, text,
                equals + 1);
        return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    json_error_t why;
    json_t *root = json_loadf(stdin, JSON_REJECT_DUPLICATES, &why);
    int rc = 0;

    if (root == NULL) {
        fprintf(stderr, "json_check: line %d: %s\n", why.line, why.text);
        return 1;
    }
    for (int i = 1; i < argc; i++)
        rc |= check(root, argv[i]);
    json_decref(root);
    return rc;
}
