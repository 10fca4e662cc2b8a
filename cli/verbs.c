/* verbs.c - the one table of verbs and options. What a user can type, read in
 * --help or the man page, complete, or set in the environment is here and
 * nowhere else. Data only. */
#include "cli/verbs.h"

#define ROW(n, c, t, a, ...)                                         \
    {                                                                \
        .name = (n), .letter = (c), .type = HTH_OPT_##t, .arg = (a), \
        __VA_ARGS__                                                  \
    }
#define FLAG(n, c, ...)                                               \
    {                                                                 \
        .name = (n), .letter = (c), .type = HTH_OPT_FLAG, __VA_ARGS__ \
    }
#define END          \
    {                \
        .name = NULL \
    }

/* ---- rows that several verbs share --------------------------------------- */

#define MODEL_HELP "The model: a GGUF file, or the first part of a split one."
#define ROW_MODEL \
    ROW("model", 'm', FILE, "FILE", .help = MODEL_HELP, .required = true)
#define ROW_STATE_DIR                                                        \
    ROW("state-dir", 0, DIR, "DIR",                                          \
        .help = "The coordinator's state: keys, known devices, its socket. " \
                "Default: $XDG_STATE_HOME/hearth/coordinator.")
#define ROW_JSON FLAG("json", 0, .help = "Print JSON.")
#define ROW_THREADS                                                          \
    ROW("threads", 't', INT, "N", .fallback = "0", .max = HTH_THREADS_MAX,   \
        .help = "Threads that compute; 0 is one per core. Ranks started on " \
                "this machine by one command divide the cores.")
#define ROW_MEMORY                                                       \
    ROW("memory", 0, SIZE, "SIZE",                                       \
        .help = "Memory for weights, KV cache and buffers, as 2GiB or "  \
                "800MiB. Weights that do not fit are streamed from the " \
                "store. Default: what is free.")
#define ROW_WIRE                                                               \
    ROW("wire", 0, CHOICE, "TYPE", .fallback = "f16", .choices = "f32|f16|q8", \
        .help = "How numbers travel between devices. f32 is exact, q8 is a "   \
                "quarter of the bytes.")
#define ROW_KV                                                                 \
    ROW("kv", 0, CHOICE, "TYPE", .fallback = "f16", .choices = "f16|f32|q8_0", \
        .help = "Type of the KV cache. q8_0 is half of f16.")
#define ROW_PREFILL                                                           \
    ROW("prefill", 0, CHOICE, "MODE", .fallback = "tp",                       \
        .choices = "tp|auto|ring|striped|zigzag|kvr|single",                  \
        .help = "How long prompts are computed: tp in steps, like decoding; " \
                "the others split the tokens over the devices, which then "   \
                "need whole layers, too. auto takes the fastest.")
#define ROW_CTX                                                             \
    ROW("ctx", 'c', INT, "N", .fallback = "0", .max = HTH_CTX_MAX,          \
        .help = "Longest sequence in tokens; 0 is what the model was made " \
                "for.")
#define ROW_LOG_LEVEL(d)                                  \
    ROW("log-level", 0, CHOICE, "LEVEL", .fallback = (d), \
        .choices = "error|warn|notice|info|debug",        \
        .help = "How much to log on standard error.")
#define SHARE_MAX 1e6
#define ROW_SHARES_LOCAL                                                       \
    ROW("shares", 's', FLOATS, "A,B,...", .max = SHARE_MAX, .line_only = true, \
        .help = "Start a cluster of this many ranks on this machine, with "    \
                "these relative shares, rank 0 (this process) first. 0,1,1 "   \
                "computes nothing in this process; 1 is one process and no "   \
                "network.")
#define ROW_LOCAL                                                          \
    ROW("local", 'l', INT, "N", .min = 0, .max = HTH_RANKS_MAX - 1,        \
        .line_only = true,                                                 \
        .help = "Start N worker processes on this machine; they and this " \
                "process get equal shares.")
#define ROW_STORE_LOCAL                                                     \
    ROW("store", 0, DIR, "DIR",                                             \
        .help = "Keep the shards that started workers are sent in DIR for " \
                "the next time, and weights that stream because they do "   \
                "not fit --memory. Default: a temporary one; for rank 0 "   \
                "$XDG_CACHE_HOME/hearth/store.")
#define ROW_SPECIAL                                                         \
    FLAG("special", 0,                                                      \
         .help =                                                            \
             "Read the texts of control tokens (<s>, <|eot_id|>) as those " \
             "tokens.")

/* ---- the verbs ----------------------------------------------------------- */

#define ROW_LORA_LOCAL                                                     \
    ROW("lora", 0, TEXT, "[NAME=]FILE[:SCALE]", .repeats = true,           \
        .help = "Add this LoRA adapter (GGUF) to the model, its effect "   \
                "times SCALE (1). Without -m: NAME[:SCALE] of an adapter " \
                "that the coordinator has. May be repeated.")

static const struct hth_opt serve_opts[] = {
    ROW_MODEL,
    ROW("bind", 'b', TEXT, "ADDR",
        .help = "Address to listen on. Default: all addresses of this "
                "machine."),
    ROW("port", 'p', INT, "N", .fallback = "47470", .min = 1, .max = 65534,
        .help = "Port for pairing and data; the next one up carries the "
                "control messages."),
    ROW_THREADS,
    ROW_MEMORY,
    FLAG("no-compute", 0,
         .help = "Give this machine no share of the model: it only "
                 "coordinates."),
    ROW("shares", 's', FLOATS, "auto|A,B,...", .fallback = "auto",
        .max = SHARE_MAX, .choices = "auto",
        .help = "Relative shares of the ranks, this machine first, devices in "
                "the order they joined. auto follows measured speed and "
                "memory."),
    ROW_WIRE,
    ROW_KV,
    ROW_PREFILL,
    ROW_CTX,
    ROW("kv-dir", 0, DIR, "DIR",
        .help = "Keep long contexts in DIR, so that they survive a restart: "
                "while nothing runs, each device writes its part. Default: "
                "none are kept."),
    ROW("lora", 0, TEXT, "[NAME=]FILE[:SCALE]", .repeats = true,
        .help = "Load this LoRA adapter (GGUF); requests that name no adapter "
                "get it times SCALE (1; 0: only those that name it). May be "
                "repeated."),
    ROW("lora-dir", 0, DIR, "DIR",
        .help = "Let clients load adapters from DIR, and unload them, over "
                "HTTP. Default: they may not."),
    ROW("lora-memory", 0, SIZE, "SIZE",
        .help = "Memory for adapters on each device. Default: what those of "
                "--lora take, and 256 MiB more with --lora-dir."),
    ROW("max-loras", 0, INT, "N", .fallback = "64", .min = 1,
        .max = HTH_LORAS_MAX, .help = "Adapters at a time."),
    ROW("http-port", 0, INT, "N", .min = 1, .max = 65535,
        .help = "Port of the HTTP service (API and console). Default: --port "
                "plus 10."),
    ROW("http-bind", 0, TEXT, "ADDR", .fallback = "127.0.0.1",
        .help = "Address of the HTTP service. 0.0.0.0 lets other machines "
                "ask; give it API keys then."),
    FLAG("no-http", 0, .help = "No HTTP service."),
    ROW("api-key", 0, TEXT, "KEY", .repeats = true,
        .help = "Answer HTTP requests with this key only. May be repeated."),
    ROW("api-key-file", 0, FILE, "FILE", .help = "Keys, one per line."),
    ROW("cors-origin", 0, TEXT, "ORIGIN", .repeats = true,
        .help = "Let pages of this origin ask, besides those of this machine; "
                "* is any."),
    ROW("tls-cert", 0, FILE, "FILE",
        .help = "Certificate chain (PEM): the HTTP service is HTTPS."),
    ROW("tls-key", 0, FILE, "FILE", .help = "Its key (PEM)."),
    ROW("parallel", 0, INT, "N", .fallback = "0", .max = HTH_SEQS_MAX,
        .help = "Requests that run at a time; 0 is as many as there can."),
    ROW("queue", 0, INT, "N", .fallback = "64", .min = 1,
        .max = HTH_REQUESTS_MAX,
        .help = "Requests that may wait beside them; what comes after is told "
                "to come back later (HTTP 429)."),
    ROW("request-timeout", 0, INT, "SECONDS", .fallback = "600", .min = 0,
        .max = 86400,
        .help = "How long an HTTP request may take, waiting included; 0 is "
                "for ever."),
    ROW("alias", 0, TEXT, "NAME",
        .help = "The model's name for HTTP clients. Default: the file's."),
    FLAG("any-model", 0,
         .help = "Answer HTTP requests whatever model they name."),
    ROW("name", 0, TEXT, "NAME",
        .help = "This machine's name. Default: the host name."),
    ROW("wait", 0, INT, "SECONDS", .fallback = "60", .min = 1, .max = 86400,
        .help = "How long a request waits for missing devices."),
    ROW("grace", 0, INT, "SECONDS", .fallback = "10", .min = 1, .max = 86400,
        .help = "With automatic shares: how long to wait for a lost device "
                "before doing without it."),
    ROW_STATE_DIR,
    ROW_LOG_LEVEL("notice"),
    END,
};

static const struct hth_opt worker_opts[] = {
    ROW("join", 'j', TEXT, "HOST[:PORT]", .required = true,
        .help = "The coordinator, as its join line says. The port is 47470 "
                "unless given."),
    ROW("code", 0, TEXT, "CODE",
        .help = "The pairing code. Needed once: later starts use the "
                "certificate kept in the state directory. $HEARTH_CODE keeps "
                "it out of the process list."),
    ROW("name", 0, TEXT, "NAME",
        .help = "This device's name. Default: the host name."),
    ROW_THREADS,
    ROW_MEMORY,
    ROW("store", 0, DIR, "DIR",
        .help = "Where weights are kept. Workers may share one. Default: "
                "$XDG_CACHE_HOME/hearth/store."),
    ROW("kv-dir", 0, DIR, "DIR",
        .help = "Where this device's part of long contexts is kept, when the "
                "coordinator keeps contexts. Default: kv in the store."),
    ROW("store-limit", 0, SIZE, "SIZE",
        .help = "Let the store grow to this; what was used longest ago goes "
                "first. Default: no limit."),
    FLAG("verify-store", 0,
         .help = "Hash everything in the store again before using it."),
    ROW("state-dir", 0, DIR, "DIR",
        .help = "Key and certificate of this device. Two workers on one "
                "machine need one each. Default: "
                "$XDG_STATE_HOME/hearth/worker."),
    ROW_LOG_LEVEL("notice"),
    END,
};

static const struct hth_opt run_opts[] = {
    ROW("model", 'm', FILE, "FILE", .line_only = true,
        .help = "Answer with this GGUF file, without a running coordinator: "
                "in this process, or over the ranks that --local or --shares "
                "start."),
    ROW_LOCAL,
    ROW_SHARES_LOCAL,
    ROW("max-tokens", 'n', INT, "N", .fallback = "256", .min = 0,
        .max = HTH_CTX_MAX,
        .help = "Tokens to generate at most; 0 is until the end or a full "
                "context."),
    ROW("temp", 0, FLOAT, "T", .fallback = "0.8", .min = 0, .max = 100,
        .help = "Temperature; 0 always takes the likeliest token."),
    ROW("top-k", 0, INT, "K", .fallback = "40", .min = 0, .max = HTH_VOCAB_MAX,
        .help = "Choose among the K likeliest tokens; 0 is all."),
    ROW("top-p", 0, FLOAT, "P", .fallback = "0.95", .min = 0, .max = 1,
        .help = "Choose among the likeliest tokens that together have "
                "probability P."),
    ROW("min-p", 0, FLOAT, "P", .fallback = "0.05", .min = 0, .max = 1,
        .help = "Drop tokens less likely than P times the likeliest."),
    ROW("repeat-penalty", 0, FLOAT, "X", .fallback = "1", .min = 0.01,
        .max = 100, .help = "Divide the logits of recent tokens by X."),
    ROW("repeat-last-n", 0, INT, "N", .fallback = "64", .min = 0,
        .max = HTH_CTX_MAX, .help = "How many tokens count as recent."),
    ROW("frequency-penalty", 0, FLOAT, "X", .fallback = "0", .min = -100,
        .max = 100, .help = "Subtract X for each recent use of a token."),
    ROW("presence-penalty", 0, FLOAT, "X", .fallback = "0", .min = -100,
        .max = 100, .help = "Subtract X from recent tokens once."),
    ROW("seed", 0, INT, "N", .fallback = "-1", .min = -1, .max = 9e18,
        .help = "Seed of the random choices; -1 draws one. The same seed, "
                "prompt and plan give the same answer."),
    ROW("logit-bias", 0, TEXT, "ID=V,...", .repeats = true,
        .help = "Add V to the logit of token ID; -inf forbids it."),
    ROW("stop", 0, TEXT, "TEXT", .repeats = true,
        .help = "Stop before this text. May be given up to 16 times."),
    ROW_LORA_LOCAL,
    ROW_SPECIAL,
    FLAG("ignore-end", 0, .help = "Go on after an end-of-text token."),
    FLAG("ids", 0, .help = "Print token ids instead of text."),
    FLAG("json", 0,
         .help = "Print one JSON object at the end instead of text as it "
                 "comes."),
    FLAG("verbose", 'v', .help = "Statistics on standard error at the end."),
    ROW_WIRE,
    ROW_KV,
    ROW_PREFILL,
    ROW_CTX,
    ROW_THREADS,
    ROW_MEMORY,
    ROW_STORE_LOCAL,
    ROW_STATE_DIR,
    ROW_LOG_LEVEL("warn"),
    END,
};

static const struct hth_opt chat_opts[] = {
    ROW("model", 'm', FILE, "FILE", .line_only = true,
        .help = "Talk to this GGUF file, without a running coordinator."),
    ROW_LORA_LOCAL,
    ROW_LOCAL,
    ROW_SHARES_LOCAL,
    ROW("system", 0, TEXT, "TEXT", .help = "The system message."),
    ROW("max-tokens", 'n', INT, "N", .fallback = "0", .min = 0,
        .max = HTH_CTX_MAX,
        .help = "Tokens of one answer at most; 0 is until the end or a full "
                "context."),
    ROW("temp", 0, FLOAT, "T", .fallback = "0.8", .min = 0, .max = 100,
        .help = "Temperature; 0 always takes the likeliest token."),
    ROW("seed", 0, INT, "N", .fallback = "-1", .min = -1, .max = 9e15,
        .help = "Seed of every answer; -1 draws a new one each time."),
    FLAG("verbose", 'v', .help = "Statistics behind every answer."),
    ROW_WIRE,
    ROW_KV,
    ROW_PREFILL,
    ROW_CTX,
    ROW_THREADS,
    ROW_MEMORY,
    ROW_STORE_LOCAL,
    ROW_STATE_DIR,
    ROW_LOG_LEVEL("warn"),
    END,
};

static const struct hth_opt nodes_opts[] = {ROW_JSON, ROW_STATE_DIR, END};
static const struct hth_opt revoke_opts[] = {ROW_STATE_DIR, END};

static const struct hth_opt plan_opts[] = {
    ROW_MODEL,
    ROW("shares", 's', FLOATS, "A,B,...", .max = SHARE_MAX, .required = true,
        .line_only = true,
        .help = "Relative shares of the ranks, rank 0 (the coordinator) "
                "first."),
    ROW_WIRE,
    ROW_KV,
    ROW_PREFILL,
    ROW_CTX,
    ROW("memory", 0, SIZE, "SIZE",
        .help = "Say what each rank would keep and what it would stream in "
                "this much memory, and how fast, by `hearth profile`."),
    ROW_JSON,
    END,
};

static const struct hth_opt inspect_opts[] = {ROW_JSON, END};

static const struct hth_opt tokenize_opts[] = {
    ROW_MODEL,
    ROW_SPECIAL,
    FLAG("bos", 0,
         .help = "Put the token for the beginning of a text in front, where "
                 "the model wants one."),
    FLAG("json", 0, .help = "Print a JSON array."),
    END,
};

static const struct hth_opt detokenize_opts[] = {
    ROW_MODEL,
    FLAG("special", 0, .help = "Print control tokens as their texts."),
    END,
};

static const struct hth_opt template_opts[] = {
    ROW("file", 'f', FILE, "TEMPLATE", .line_only = true,
        .help = "The template, a Jinja file."),
    ROW("model", 'm', FILE, "FILE", .line_only = true,
        .help = "Take the template out of this GGUF file."),
    ROW("now", 0, TEXT, "TIME", .line_only = true,
        .help = "What the template's strftime_now shows, as \"2026-01-02 "
                "03:04:05\". Default: the clock."),
    END,
};

static const struct hth_opt logits_opts[] = {
    ROW_MODEL,
    ROW("tokens", 0, INTS, "ID,ID,...", .min = 0, .max = HTH_VOCAB_MAX,
        .required = true, .line_only = true,
        .help = "The sequence to run, as token ids."),
    ROW("output", 'o', FILE, "OUT", .required = true, .line_only = true,
        .help = "File for the result: little-endian f32, one row of the "
                "vocabulary's size per token."),
    ROW_LOCAL,
    ROW_SHARES_LOCAL,
    ROW_WIRE,
    ROW_KV,
    ROW_PREFILL,
    ROW_THREADS,
    ROW_MEMORY,
    ROW_STORE_LOCAL,
    ROW_LOG_LEVEL("warn"),
    END,
};

static const struct hth_opt perplexity_opts[] = {
    ROW_MODEL,
    ROW("file", 'f', FILE, "TEXT", .required = true, .line_only = true,
        .help = "The text to score."),
    ROW("chunks", 0, INT, "N", .fallback = "0", .min = 0, .max = 1e9,
        .help = "Score the first N chunks only; 0 is all."),
    ROW("ctx", 'c', INT, "N", .fallback = "512", .min = 8, .max = HTH_CTX_MAX,
        .help = "Tokens per chunk; the second half of each is scored."),
    ROW_LOCAL,
    ROW_SHARES_LOCAL,
    ROW_WIRE,
    ROW_KV,
    ROW_PREFILL,
    ROW_THREADS,
    ROW_MEMORY,
    ROW_STORE_LOCAL,
    ROW_JSON,
    ROW_LOG_LEVEL("warn"),
    END,
};

#define BENCH_TOKENS_MAX 1e6
static const struct hth_opt bench_opts[] = {
    ROW("model", 'm', FILE, "FILE", .line_only = true, .repeats = true,
        .help = "Measure this GGUF file, in this process or over the ranks "
                "that --local or --shares start. May be repeated. Without it, "
                "the coordinator running on this machine is measured."),
    ROW("n-prompt", 'p', INTS, "N,...", .fallback = "512",
        .max = BENCH_TOKENS_MAX, .help = "Prompt tokens; 0 is none."),
    ROW("n-gen", 'n', INTS, "N,...", .fallback = "128", .max = BENCH_TOKENS_MAX,
        .help = "Tokens to generate one by one; 0 is none."),
    ROW("pg", 0, INTS, "P,N", .max = BENCH_TOKENS_MAX, .repeats = true,
        .one_dash = true,
        .help = "A prompt of P tokens and N generated ones, timed together."),
    ROW("n-depth", 'd', INTS, "N,...", .fallback = "0", .max = BENCH_TOKENS_MAX,
        .help = "Tokens in the cache before what is timed begins."),
    ROW("threads", 't', INTS, "N,...", .fallback = "0", .max = HTH_THREADS_MAX,
        .help = "Threads of each rank; 0 divides the cores."),
    ROW("repetitions", 'r', INT, "N", .fallback = "5", .min = 1,
        .max = HTH_BENCH_REPETITIONS_MAX,
        .help = "How often each test is timed, after one run that is not."),
    ROW("output", 'o', CHOICE, "FORMAT", .fallback = "md",
        .choices = "md|json|jsonl|csv", .help = "How to print the figures."),
    FLAG("ops", 0,
         .help = "Also where rank 0's time went, by operation, and how near "
                 "each came to what the machine can do (hearth profile)."),
    ROW("http", 0, TEXT, "HOST:PORT", .fallback = "127.0.0.1:47480",
        .help = "bench serve: the HTTP service to load."),
    ROW("api-key", 0, TEXT, "KEY", .help = "bench serve: its API key."),
    ROW("requests", 0, INT, "N", .fallback = "32", .min = 1,
        .max = HTH_LOAD_REQUESTS_MAX,
        .help = "bench serve: how many, each with a prompt of its own."),
    ROW("concurrency", 0, INT, "N", .fallback = "1", .min = 1,
        .max = HTH_LOAD_IN_FLIGHT_MAX,
        .help = "bench serve: so many at a time (closed loop)."),
    ROW("rate", 0, FLOAT, "R", .fallback = "0", .min = 0, .max = 1e6,
        .help = "bench serve: they arrive at R per second on average, at "
                "random moments, whatever the server does (open loop, "
                "Poisson). 0 is a closed loop."),
    ROW("seed", 0, INT, "N", .fallback = "1", .min = 0, .max = 1e15,
        .help = "bench serve: of prompts and moments."),
    ROW("goodput", 0, TEXT, "GOAL,...",
        .help = "bench serve: count requests within these milliseconds, as in "
                "ttft:2000,tpot:200,e2el:60000."),
    ROW_LORA_LOCAL,
    ROW_LOCAL,
    ROW_SHARES_LOCAL,
    ROW_WIRE,
    ROW_KV,
    ROW_PREFILL,
    ROW_MEMORY,
    ROW_STORE_LOCAL,
    ROW_STATE_DIR,
    ROW_LOG_LEVEL("warn"),
    END,
};

static const struct hth_opt profile_opts[] = {
    ROW("threads", 't', INT, "N", .fallback = "0", .max = HTH_THREADS_MAX,
        .help = "Measure with up to N threads; 0 is one per core."),
    ROW("types", 0, TEXT, "TYPE,...", .line_only = true,
        .help = "Measure these weight formats only."),
    ROW("figure-ms", 0, INT, "MS", .fallback = "200", .min = 1, .max = 60000,
        .help = "Time spent on each figure."),
    ROW("disk", 0, FILE, "FILE", .line_only = true,
        .help = "Measure the disk too, by reading this large file past the "
                "page cache."),
    FLAG("show", 0, .help = "Print the profile that is kept; measure nothing."),
    FLAG("dry", 0, .help = "Measure and print; keep nothing."),
    ROW_JSON,
    END,
};

static const struct hth_opt synth_opts[] = {
    ROW("shape", 0, TEXT, "SHAPE",
        .help = "A preset (tiny, llama-1b, llama-8b, llama-70b, qwen3-0.6b, "
                "qwen3-30b-a3b) or d=...,layers=...,heads=...,kv=...,ff=...,"
                "vocab=..."),
    ROW("type", 0, TEXT, "TYPE", .fallback = "Q4_0",
        .help = "Type of the weights: F32, F16, BF16, Q8_0, Q4_0, Q4_K, "
                "Q5_K, Q6_K, Q4_K_M, Q5_K_M."),
    ROW("output", 'o', FILE, "FILE", .required = true, .line_only = true,
        .help = "The GGUF file to write."),
    ROW("seed", 0, INT, "N", .fallback = "1", .min = 0, .max = 9e18,
        .help = "The same seed gives the same file."),
    ROW("lora", 0, FILE, "MODEL", .line_only = true,
        .help =
            "Instead of a model, write a LoRA adapter of random numbers "
            "for all layers of this one; --type is F16 then, unless given."),
    ROW("rank", 0, INT, "N", .fallback = "8", .min = 1,
        .max = HTH_LORA_RANK_MAX, .help = "Rank of that adapter."),
    END,
};

static const struct hth_opt help_opts[] = {
    FLAG("man", 0, .line_only = true,
         .help = "Print the manual page as mdoc source, for man(1)."),
    END,
};

static const struct hth_opt no_opts[] = {END};
static const struct hth_opt version_opts[] = {ROW_JSON, END};

const struct hth_verb hth_verbs[] = {
    {.name = "serve",
     .summary = "Coordinate: hold a model over this machine and its workers.",
     .text = "Prints a join line for workers, then stays up and answers "
             "prompts until it is interrupted. Workers may join and leave at "
             "any time; each is sent only its slices of the model.",
     .opts = serve_opts,
     .run = hth_verb_serve},
    {.name = "worker",
     .summary = "Lend this device's cores and memory to a coordinator.",
     .text = "Connects to the coordinator and stays, reconnecting whenever it "
             "is away. The first start needs the pairing code of the join "
             "line.",
     .opts = worker_opts,
     .run = hth_verb_worker},
    {.name = "run",
     .operand = "[PROMPT]",
     .summary = "Continue a prompt and print what the model says.",
     .text = "The prompt is the operand, or standard input where there is "
             "none or it is -. Asks the coordinator running on this machine, "
             "unless -m names a model to bring up for this one answer. The "
             "first Ctrl-C stops the answer everywhere and exits with 130.",
     .opts = run_opts,
     .operands_max = 1,
     .run = hth_verb_run},
    {.name = "chat",
     .summary = "Talk with the model in the terminal.",
     .text = "Entries are lines, or texts of several lines between \"\"\" and "
             "\"\"\"; /? lists the commands. Ctrl-C stops an answer, Ctrl-D "
             "leaves. Asks the coordinator running on this machine, unless -m "
             "names a model.",
     .opts = chat_opts,
     .run = hth_verb_chat},
    {.name = "nodes",
     .summary = "List the devices of the cluster and what they do.",
     .opts = nodes_opts,
     .run = hth_verb_nodes},
    {.name = "pair",
     .summary = "Print a join line with a new pairing code.",
     .text = "The code works once and expires.",
     .opts = nodes_opts,
     .run = hth_verb_pair},
    {.name = "revoke",
     .operand = "DEVICE",
     .summary = "Shut a device out: its certificate is refused from now on.",
     .text = "DEVICE is an id or name from hearth nodes.",
     .opts = revoke_opts,
     .operands_min = 1,
     .operands_max = 1,
     .run = hth_verb_revoke},
    {.name = "plan",
     .summary = "Show what each rank would hold and send, without running it.",
     .opts = plan_opts,
     .run = hth_verb_plan},
    {.name = "inspect",
     .operand = "FILE",
     .summary = "Describe a GGUF file: keys, tensors, totals.",
     .opts = inspect_opts,
     .operands_min = 1,
     .operands_max = 1,
     .run = hth_verb_inspect},
    {.name = "tokenize",
     .summary = "Turn text on standard input into token ids on one line.",
     .opts = tokenize_opts,
     .run = hth_verb_tokenize},
    {.name = "detokenize",
     .operand = "[ID...]",
     .summary = "Turn token ids into text.",
     .text = "Ids are operands or, where there are none, standard input; "
             "spaces, commas and newlines separate them. The bytes of the "
             "tokens are printed as they are.",
     .opts = detokenize_opts,
     .operands_max = HTH_OPERANDS_MAX,
     .run = hth_verb_detokenize},
    {.name = "template",
     .summary = "Show the prompt that a conversation becomes.",
     .text = "Standard input is a JSON object with messages, and optionally "
             "tools, add_generation_prompt, bos_token, eos_token and kwargs "
             "(an object of further variables). The prompt is printed as it "
             "is, without a newline of our own.",
     .opts = template_opts,
     .run = hth_verb_template},
    {.name = "logits",
     .summary = "Write the logits after each token of a sequence to a file.",
     .opts = logits_opts,
     .run = hth_verb_logits},
    {.name = "perplexity",
     .summary = "Measure how well a model predicts a text.",
     .text = "Chunks of --ctx tokens are run one by one, a BOS token (where "
             "the model wants one) in place of each chunk's first; the "
             "perplexity is that of the second half of every chunk, as "
             "llama.cpp defines it.",
     .opts = perplexity_opts,
     .run = hth_verb_perplexity},
    {.name = "bench",
     .operand = "[serve]",
     .summary = "Measure tokens per second of a model or of the cluster.",
     .text = "The options and figures are those of llama.cpp's llama-bench: "
             "ppN is N prompt tokens, tgN is N tokens generated one by one, "
             "@ dN is with N tokens in the cache. Numbers are tokens per "
             "second, mean and standard deviation.\n"
             "bench serve loads an HTTP service with prompts of -p tokens and "
             "answers of -n, and prints time to first token (TTFT), time per "
             "further token (TPOT), gaps between chunks (ITL) and the whole "
             "(E2EL).",
     .opts = bench_opts,
     .operands_max = 1,
     .operand_choices = "serve",
     .run = hth_verb_bench},
    {.name = "profile",
     .summary = "Measure what this machine can do, and keep it.",
     .text = "Reading memory by number of threads, our own products by weight "
             "format (decode: one row, prefill: many), the disk. Kept in "
             "$XDG_STATE_HOME/hearth/profile; plans and hearth bench --ops "
             "use it. Measure on a machine that does nothing else.",
     .opts = profile_opts,
     .run = hth_verb_profile},
    {.name = "synth",
     .summary = "Write a model of random weights, for benchmarks and tests.",
     .opts = synth_opts,
     .run = hth_verb_synth},
    {.name = "completion",
     .operand = "SHELL",
     .summary = "Print a completion script for bash, zsh or fish.",
     .text = "For bash: eval \"$(hearth completion bash)\".",
     .opts = no_opts,
     .operands_min = 1,
     .operands_max = 1,
     .operand_choices = "bash|zsh|fish",
     .run = hth_verb_completion},
    {.name = "help",
     .operand = "[VERB]",
     .summary = "Explain hearth or one of its verbs.",
     .opts = help_opts,
     .operands_max = 1,
     .operand_choices = "(verbs)",
     .run = hth_verb_help},
    {.name = "version",
     .summary = "Print the version.",
     .opts = version_opts,
     .run = hth_verb_version},
    {.name = NULL},
};
