/* message_samples.h - one well-formed message of every type, for tests. */
#ifndef HTH_TESTS_MESSAGE_SAMPLES_H
#define HTH_TESTS_MESSAGE_SAMPLES_H

#include "net/message.h"

#define HTH_SAMPLES 25u

/* Sample i of HTH_SAMPLES; its blobs point at static memory. */
void hth_sample_message(uint32_t i, struct hth_msg *out);

#endif
