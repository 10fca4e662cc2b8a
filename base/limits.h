/* limits.h - every maximum of the program, in one place. No buffer, queue or
 * loop exists without one. Protocol limits bind both sides: changing one is a
 * protocol change. Units are last in the names. */
#ifndef HTH_BASE_LIMITS_H
#define HTH_BASE_LIMITS_H

/* Cluster */
#define HTH_RANKS_MAX 32u    /* coordinator included */
#define HTH_DEVICES_MAX 256u /* paired, not necessarily present */
#define HTH_NAME_MAX 64u     /* device name, bytes with the NUL */
#define HTH_THREADS_MAX 256u

/* Steps */
#define HTH_STEP_ROWS_MAX 512u     /* (sequence, position, token) rows */
#define HTH_STEP_WANTS_MAX 64u     /* rows of a step that want logits */
#define HTH_STEP_OPS_MAX 1024u     /* on the KV cache, before the rows */
#define HTH_STEP_ROWS_DEFAULT 128u /* prefill chunk */
/* One frame of a step. Long, because a slow device may compute for long; that
 * a device is gone is noticed by heartbeats and closed sockets. */
#define HTH_STEP_DEADLINE_MS 120000u
#define HTH_SEQS_MAX 64u           /* live sequences of one coordinator */
#define HTH_SLOTS_MAX 256u         /* of the KV cache: live ones, kept ones */
#define HTH_CTX_MAX (1u << 20)     /* positions of one sequence */
#define HTH_CANDIDATES_MAX 256u    /* per rank and row */
#define HTH_KV_BLOCK_POSITIONS 64u /* a chunk of attention too */
#define HTH_KEPT_MAX 64u           /* contexts on disk, of one cluster */
#define HTH_KEPT_TOKENS_MIN 128u   /* shorter ones are computed as fast */
#define HTH_PREFIX_TOKENS 16u      /* by which cached prompts are matched */

/* Model shapes (reject a file beyond them before allocating anything) */
#define HTH_LAYERS_MAX 512u
#define HTH_HEADS_MAX 1024u
#define HTH_HEAD_DIM_MAX 512u
#define HTH_DIM_MAX (1u << 17)
#define HTH_FF_MAX (1u << 20)
#define HTH_VOCAB_MAX (1u << 20)
#define HTH_EXPERTS_MAX 1024u

/* LoRA adapters */
#define HTH_LORAS_MAX 64u        /* known to one coordinator */
#define HTH_LORA_NONE UINT32_MAX /* no adapter's number */
#define HTH_LORA_TEXT_MAX 512u   /* a list of names and scales, with the NUL */
#define HTH_LORA_SET_MAX 8u      /* added up for one request */
#define HTH_LORA_RANK_MAX 1024u  /* rows of an A */
#define HTH_LORA_BYTES_MAX (8ull << 30) /* one device's slice of one */

/* GGUF */
#define HTH_GGUF_SPLITS_MAX 256u
#define HTH_GGUF_KVS_MAX 65536u
#define HTH_GGUF_TENSORS_MAX 65536u
#define HTH_GGUF_KEY_BYTES_MAX 65535u
#define HTH_GGUF_NAME_BYTES_MAX 64u
#define HTH_GGUF_STRING_BYTES_MAX (64u << 20)
#define HTH_GGUF_ARRAY_MAX (64u << 20)
#define HTH_GGUF_STRINGS_MAX (4u << 20) /* in all string arrays of a part */
#define HTH_GGUF_ALIGN_BYTES_MAX 65536u
#define HTH_GGUF_META_BYTES_MAX                  \
    (1u << 30) /* keys, and tensor list, written \
                */

/* Tokenizer */
#define HTH_TEXT_BYTES_MAX (64u << 20)   /* one text to tokenize */
#define HTH_TOKEN_BYTES_MAX 4096u        /* one token's text */
#define HTH_WORD_BYTES_MAX (4u << 20)    /* without a place to break */
#define HTH_SPECIAL_BYTES_MAX 512u       /* a control or user-defined token */
#define HTH_VOCAB_BYTES_MAX (256u << 20) /* all tokens' texts together */
#define HTH_MERGES_MAX (1u << 22)        /* byte-pair merges */
#define HTH_SPLIT_STEPS_MAX (256u << 20) /* one pre-tokeniser match */
#define HTH_SPLIT_HEAP_KIB_MAX 65536u    /* the same, where there is no JIT */

/* Chat templates */
#define HTH_JINJA_SOURCE_BYTES_MAX (1u << 20)
#define HTH_JINJA_TOKENS_MAX (1u << 18)
#define HTH_JINJA_PARSE_DEPTH_MAX 128u
#define HTH_JINJA_DEPTH_MAX 512u        /* nested evaluations */
#define HTH_JINJA_STEPS_MAX (20u << 20) /* of one render */
#define HTH_JINJA_MEMORY_BYTES_MAX (256u << 20)
#define HTH_JINJA_TREE_BYTES_MAX (64u << 20) /* a compiled template */
#define HTH_JINJA_ARGS_MAX 16u
#define HTH_JINJA_RANGE_MAX 100000u
#define HTH_JSON_DEPTH_MAX 128u
#define HTH_TOOL_CALL_BYTES_MAX (1u << 20)
#define HTH_TOOL_CALLS_MAX 64u

/* Grammars */
#define HTH_GRAMMAR_BYTES_MAX (1u << 20) /* of GBNF */
#define HTH_GRAMMAR_OPS_MAX (1u << 18)
#define HTH_GRAMMAR_RULES_MAX (1u << 15)
#define HTH_GRAMMAR_SETS_MAX 4096u
#define HTH_GRAMMAR_RANGES_MAX 256u      /* of one character class */
#define HTH_GRAMMAR_CLASS_ALTS_MAX 1024u /* what these become in UTF-8 */
#define HTH_GRAMMAR_DEPTH_MAX 64u        /* nested brackets */
#define HTH_GRAMMAR_REPEAT_MAX 1000000u
#define HTH_GRAMMAR_NODES_MAX 32768u  /* stacks of one answer */
#define HTH_GRAMMAR_STATES_MAX 2048u  /* remembered states of one answer */
#define HTH_GRAMMAR_ITEMS_MAX 131072u /* stacks in all those states */
#define HTH_SCHEMA_DEPTH_MAX 64u
#define HTH_SCHEMA_REFS_MAX 256u

/* Links and frames */
#define HTH_FRAME_BYTES_MAX (1u << 18)   /* payload of one data frame */
#define HTH_LINK_CUT_BYTES (1u << 16)    /* longer messages are cut so */
#define HTH_LINK_INBOX_BYTES (1u << 19)  /* read ahead of a receive */
#define HTH_REKEY_FRAMES (1u << 20)      /* frames sealed by one key */
#define HTH_CONTROL_BYTES_MAX (4u << 20) /* one control message */
#define HTH_CHUNK_BYTES (1u << 20)       /* weight transfer chunk */
#define HTH_CHUNKS_IN_FLIGHT 4u          /* per worker */
#define HTH_LINK_DEADLINE_MS 3000u       /* silence on a data link in a step */
#define HTH_HEARTBEAT_MS 1000u
#define HTH_BUSY_BEAT_MS 250u   /* while steps run */
#define HTH_LOST_AFTER_MS 4000u /* silence of a device */
#define HTH_HUNG_AFTER_MS 1600u /* in a step that stands still as long */

/* Control messages */
#define HTH_VERSION_BYTES_MAX 32u /* program version, with the NUL */
/* Of one rank: its slices, and whole layers. */
#define HTH_BLOCKS_MAX (4u * HTH_LAYERS_MAX + 2u)
#define HTH_SETUP_BYTES_MAX (256u << 10) /* what a rank must know, encoded */
#define HTH_EVENTS_BYTES_MAX (1u << 18)  /* in one answer */
#define HTH_EVENT_TEXT_MAX 65536u        /* text of one event */
#define HTH_NODES_BYTES_MAX (1u << 20)   /* in one answer */
#define HTH_CONTROL_CONTEXTS 192u        /* control requests being served */
#define HTH_CONTROL_PIPES_MAX 512u       /* connections, both kinds */
#define HTH_HELLO_DEADLINE_MS 10000u     /* from connection to proof */
#define HTH_RESEND_MS 2000u              /* an unanswered control request */
#define HTH_CLIENT_CALL_MS 5000u         /* a client's question */
#define HTH_POLL_MS_MAX 1000u            /* longest parked long poll */
#define HTH_JOIN_PATIENCE_MS 30000u      /* to reach a coordinator to pair */
#define HTH_CLOSE_MS 1000u               /* for a control socket to close */
#define HTH_STORE_FILES_MAX 65536u       /* blocks looked at for eviction */

/* Identity, handshake, pairing */
#define HTH_PEM_MAX 4096u            /* one key or certificate, with the NUL */
#define HTH_PUBKEY_MAX 128u          /* DER SubjectPublicKeyInfo, P-256: 91 */
#define HTH_SIG_MAX 80u              /* DER ECDSA signature, P-256: <= 72 */
#define HTH_HOST_MAX 256u            /* host name or address, with the NUL */
#define HTH_ADDRESS_MAX 64u          /* "[ipv6%scope]:port", with the NUL */
#define HTH_HANDSHAKE_MS 5000u       /* opening a data link, all of it */
#define HTH_HALF_OPEN_MAX 64u        /* handshakes under way on one port */
#define HTH_HELLO_BYTES_MAX 1024u    /* one hello inside TLS */
#define HTH_PAIRING_MS 15000u        /* one pairing, all of it */
#define HTH_PAIRING_BYTES_MAX 16384u /* one pairing message */
#define HTH_CODES_MAX 8u             /* valid at the same time */
#define HTH_CODE_LIFE_S 600u
#define HTH_CODE_TRIES_MAX 5u      /* wrong tries that kill a code */
#define HTH_PAIR_TRIES_PER_MIN 20u /* wrong tries of everybody together */

/* Requests */
#define HTH_PROMPT_BYTES_MAX (3u << 20) /* fits a control message */
#define HTH_STOPS_MAX 16u
#define HTH_STOP_BYTES_MAX 256u
#define HTH_BIAS_MAX 1024u
#define HTH_LOGPROBS_MAX 21u  /* the token and its 20 likeliest rivals */
#define HTH_ROOM_AHEAD 256u   /* KV positions a request is given at a time */
#define HTH_REQUESTS_MAX 256u /* queued and running */
#define HTH_REQUEST_EVENTS_BYTES_MAX (4u << 20) /* kept for its client */
#define HTH_STREAM_PAUSE_MS 20u /* at least, between two tellings of tokens */
#define HTH_REQUEST_ABANDONED_MS 10000u /* without a poll: cancelled */

/* Console */
#define HTH_QR_BYTES_MAX 512u /* text of one QR code */
#define HTH_WATCHES_MAX 64u   /* pages that watch the cluster */
/* Benchmarks */
#define HTH_BENCH_REPETITIONS_MAX 1000u
#define HTH_BENCH_TESTS_MAX 256u
#define HTH_LOAD_REQUESTS_MAX 100000u
#define HTH_LOAD_IN_FLIGHT_MAX 256u
#define HTH_SSE_LINE_MAX 65536u
#define HTH_PROFILE_READS_MAX 16u
#define HTH_PROFILE_FORMATS_MAX 64u
#define HTH_PROFILE_BYTES_MAX 16384u /* of the file */

/* HTTP */
#define HTH_HTTP_CONNECTIONS_MAX 10240u
#define HTH_HTTP_TLS_CONNECTIONS_MAX 1024u  /* each takes 40 KB */
#define HTH_HTTP_HEAD_BYTES_MAX (32u << 10) /* request line and headers */
#define HTH_HTTP_HEADERS_MAX 100u           /* of one request */
#define HTH_HTTP_BODY_BYTES_MAX (8u << 20)  /* of one request */
#define HTH_HTTP_BODIES_BYTES_MAX                                           \
    (64u << 20)                              /* of all being read or served \
                                              */
#define HTH_HTTP_AHEAD_BYTES_MAX (64u << 10) /* read while one is served */
#define HTH_HTTP_OUTPUT_BYTES_MAX (8u << 20) /* waiting for a slow client */
#define HTH_HTTP_HEAD_MS 10000u              /* from first byte to headers */
#define HTH_HTTP_BODY_MS 60000u              /* from headers to last byte */
#define HTH_HTTP_IDLE_MS 75000u              /* between two requests */
#define HTH_HTTP_STALL_MS 30000u             /* output that does not move */
#define HTH_HTTP_LINGER_MS 2000u /* for an answer to arrive before close */
#define HTH_API_KEYS_MAX 256u
#define HTH_HTTP_ID_SIZE 72u /* of a request, with the NUL */

/* Command line */
#define HTH_OPTS_MAX 40u        /* rows of one verb's table */
#define HTH_OPT_REPEATS_MAX 64u /* of one option */
#define HTH_OPERANDS_MAX 64u
#define HTH_CONFIG_BYTES_MAX (64u << 10)
#define HTH_CPUS_MAX 1024u           /* that a process can be bound to */
#define HTH_LOCAL_PATIENCE_MS 60000u /* without progress while starting */
#define HTH_LOCAL_STOP_MS 3000u      /* from SIGTERM to SIGKILL */

#endif
