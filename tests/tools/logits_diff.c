/* logits_diff.c - compare two files of little-endian f32 rows.
 *
 *   logits_diff VOCABULARY A B [MAX]
 *
 * Prints the largest difference of any logit, the mean KL divergence of B's
 * rows from A's in nats, and how many rows have the same best token. Exit 0;
 * 1 when the largest difference exceeds MAX, or the files do not compare. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/sampler.h"

struct totals {
    double worst, kl;
    unsigned rows, same_best;
};

static unsigned best_of(const float *row, unsigned n)
{
    unsigned best = 0;

    for (unsigned i = 1; i < n; i++)
        if (row[i] > row[best])
            best = i;
    return best;
}

static void compare(struct totals *t, const float *a, const float *b,
                    unsigned n)
{
    double za = hth_log_sum_exp(a, n);
    double zb = hth_log_sum_exp(b, n);

    for (unsigned i = 0; i < n; i++) {
        double difference = fabs((double)a[i] - (double)b[i]);

        if (!(difference <= t->worst))
            t->worst = difference; /* NaN too */
        t->kl += exp(a[i] - za) * ((a[i] - za) - (b[i] - zb));
    }
    t->same_best += best_of(a, n) == best_of(b, n);
    t->rows++;
}

static int run(unsigned n, FILE *fa, FILE *fb, struct totals *t)
{
    float *a = malloc(n * sizeof *a);
    float *b = malloc(n * sizeof *b);
    size_t na = 0;
    size_t nb = 0;

    while (a != NULL && b != NULL) {
        na = fread(a, sizeof *a, n, fa);
        nb = fread(b, sizeof *b, n, fb);
        if (na != n || nb != n)
            break;
        compare(t, a, b, n);
    }
    free(a);
    free(b);
    return na == 0 && nb == 0 && t->rows > 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    unsigned n = argc > 3 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
    FILE *fa = argc > 3 ? fopen(argv[2], "rb") : NULL;
    FILE *fb = argc > 3 ? fopen(argv[3], "rb") : NULL;
    struct totals t = {0};

    if (n == 0 || n > HTH_VOCAB_MAX || fa == NULL || fb == NULL ||
        run(n, fa, fb, &t) != 0) {
        fprintf(stderr, "logits_diff: the files do not compare\n");
        return 1;
    }
    printf("rows %u, largest difference %.3g, mean KL %.3g, same best %u\n",
           t.rows, t.worst, t.kl / t.rows, t.same_best);
    fclose(fa);
    fclose(fb);
    return argc > 4 && !(t.worst <= strtod(argv[4], NULL)) ? 1 : 0;
}
