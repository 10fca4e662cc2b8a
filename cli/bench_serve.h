/* bench_serve.h - `hearth bench serve`: load on an HTTP service, by the options
 * of the bench verb. Main thread. */
#ifndef HTH_CLI_BENCH_SERVE_H
#define HTH_CLI_BENCH_SERVE_H

#include "cli/options.h"

HTH_MUST_CHECK int hth_bench_serve(const struct hth_args *args,
                                   struct hth_err *err);

#endif
