/* checksum_test.c - one value on every machine, and no flip goes unseen. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "base/checksum.h"
#include "base/rng.h"

Test(checksum, cpu_and_plain_agree)
{
    uint8_t data[700];
    struct hth_rng rng;

    hth_rng_init(&rng, 11);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)hth_rng_u64(&rng);
    for (size_t n = 0; n < 600; n++)
        for (size_t at = 0; at < 9; at += 4)
            cr_assert_eq(hth_checksum(data + at, n),
                         hth_checksum_plain(data + at, n), "%zu bytes", n);
}

/* Short inputs are a CRC-32C of twelve fixed bytes and the data; these values
 * are part of the file format. */
Test(checksum, known_values)
{
    uint8_t data[100];

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 37);
    cr_expect_eq(hth_checksum(data, 0), 0x3bb006b2u, "%x",
                 hth_checksum(data, 0));
    cr_expect_eq(hth_checksum(data, 9), 0x78edfaeeu, "%x",
                 hth_checksum(data, 9));
    cr_expect_eq(hth_checksum(data, 100), 0x3ee0717au, "%x",
                 hth_checksum(data, 100));
}

Test(checksum, every_flip_is_seen)
{
    size_t n = 4096;
    uint8_t *data = calloc(1, n);
    uint32_t good = hth_checksum(data, n);

    for (size_t bit = 0; bit < n * 8; bit += 5) {
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        cr_assert_neq(hth_checksum(data, n), good, "bit %zu", bit);
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    cr_assert_eq(hth_checksum(data, n), good);
    cr_assert_neq(hth_checksum(data, n - 1), good);
    free(data);
}
