/* config_fuzz.c - config.ini and option values: any text gives values or a
 * usage error, whatever verb it is for. The first byte picks the verb. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"
#include "cli/sources.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use_values(const struct hth_args *args)
{
    for (const struct hth_opt *o = args->verb->opts; o->name != NULL; o++) {
        if (hth_args_text(args, o->name) == NULL)
            continue;
        if (o->type == HTH_OPT_INT)
            (void)hth_args_int(args, o->name);
        else if (o->type == HTH_OPT_FLOAT)
            (void)hth_args_float(args, o->name);
        else if (o->type == HTH_OPT_SIZE)
            (void)hth_args_size(args, o->name);
        else if (o->type == HTH_OPT_CHOICE)
            (void)hth_args_choice(args, o->name);
        else if (o->type == HTH_OPT_FLAG)
            (void)hth_args_flag(args, o->name);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hth_args args = {0};
    struct hth_err err;
    unsigned verbs = 0;
    char *text;

    if (size == 0 || size > HTH_CONFIG_BYTES_MAX)
        return 0;
    while (hth_verbs[verbs].name != NULL)
        verbs++;
    args.verb = &hth_verbs[data[0] % verbs];
    text = malloc(size);
    if (text == NULL)
        return 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    if (hth_sources_config_text(&args, text, "fuzz", &err) == HTH_OK)
        use_values(&args);
    free(text);
    return 0;
}
