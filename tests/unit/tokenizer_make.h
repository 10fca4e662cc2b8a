/* tokenizer_make.h - vocabularies made for tests. */
#ifndef HTH_TESTS_TOKENIZER_MAKE_H
#define HTH_TESTS_TOKENIZER_MAKE_H

#include "model/gguf.h"

/* Write g's keys to path, with tokenizer.ggml.pre set to pre. Aborts the test
 * on failure. */
void make_with_pre(const struct hth_gguf *g, const char *pre, const char *path);

#endif
