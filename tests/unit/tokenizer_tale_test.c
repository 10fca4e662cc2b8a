/* tokenizer_tale_test.c - the bundled model's vocabulary, which is always
 * there. The ids were worked out by a few lines of Python that try all
 * merges, with its `regex` module; those of the first text also by llama.cpp.
 * Runs from the root of the source tree. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/tokenizer_make.h"

static struct hth_tokenizer *open_tale(void)
{
    struct hth_gguf *g = NULL;
    struct hth_tokenizer *t = NULL;
    struct hth_err err = {0};

    cr_assert_eq(hth_gguf_open(&g, "models/tale-q4_0.gguf", &err), 0, "%s",
                 err.text);
    cr_assert_eq(hth_tokenizer_open(&t, g, &err), 0, "%s", err.text);
    hth_gguf_close(g);
    return t;
}

Test(tale, vectors)
{
    struct hth_tokenizer *t = open_tale();

    CHECK_IDS(t, "The door opened and", false, 359, 730, 1531, 279);
    CHECK_IDS(t, "Once upon a time", false, 46, 1313, 488, 258, 584);
    CHECK_IDS(t, "It's  the\n\nend, isn't it? 1234", false, 676, 376, 220, 262,
              198, 198, 555, 11, 354, 77, 576, 314, 30, 1830, 17, 18, 19);
    CHECK_IDS(t, "\u00DCn\u00EFcode \u2014 \u65E5\u672C\u8A9E \U0001F600",
              false, 127, 250, 77, 127, 107, 66, 621, 68, 220, 158, 222, 242,
              220, 162, 245, 98, 162, 250, 105, 164, 103, 252, 220, 172, 253,
              246, 222);
    CHECK_IDS(t, "   leading and trailing   ", false, 220, 220, 2030, 280, 279,
              1007, 1832, 220, 220, 220);
    CHECK_IDS(t, "don't we'll they've I'm he'd", false, 67, 276, 576, 332, 840,
              459, 1307, 291, 1461, 283, 1731);
    CHECK_IDS(t, "<|endoftext|>", false, 27, 91, 555, 78, 713, 68, 963, 91, 29);
    CHECK_IDS(t, "a<|endoftext|>", true, 64, 2045);
    hth_tokenizer_close(t);
}

Test(tale, ends)
{
    struct hth_tokenizer *t = open_tale();

    cr_assert(hth_tokenizer_is_end(t, 2045));
    cr_assert_not(hth_tokenizer_is_end(t, 2046)); /* <|im_start|> */
    cr_assert(hth_tokenizer_is_end(t, 2047));
    cr_assert_not(hth_tokenizer_adds_bos(t));
    cr_assert_eq(hth_tokenizer_vocab(t), 2048);
    hth_tokenizer_close(t);
}

static char *read_heldout(size_t *n)
{
    FILE *f = fopen("models/heldout.txt", "rb");
    char *p = malloc(1 << 20);

    cr_assert(f != NULL && p != NULL);
    *n = fread(p, 1, 1 << 20, f);
    fclose(f);
    return p;
}

/* 150 KB of prose: the FNV-1a of all ids, and the text again as it streams. */
Test(tale, prose)
{
    struct hth_tokenizer *t = open_tale();
    uint64_t hash = 0xCBF29CE484222325u;
    size_t n, i;
    char *text = read_heldout(&n);
    struct hth_tokens v = make_encode(t, text, n, false);
    struct hth_detok d;
    struct hth_buf out;

    hth_buf_init(&out, 1 << 20);
    hth_detok_init(&d, true);
    for (i = 0; i < v.count; i++) {
        hash = (hash ^ v.ids[i]) * 0x100000001B3u;
        hth_detok_push(&d, t, v.ids[i], false, &out);
    }
    hth_detok_finish(&d, &out);
    cr_assert_eq(v.count, 45458);
    cr_assert_eq(hash, 0x52647cff4ba9ed98u);
    cr_assert_eq(out.len, n);
    cr_assert_eq(memcmp(out.data, text, n), 0);
    hth_buf_fini(&out);
    hth_tokens_fini(&v);
    free(text);
    hth_tokenizer_close(t);
}
