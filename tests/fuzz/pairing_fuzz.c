/* pairing_fuzz.c - any bytes as pairing messages: each decoder, and the
 * coordinator's side of an exchange in which they come one after the other
 * (u16 length, bytes). The first byte chooses. What must hold: no crash, an
 * answer to every message, and nobody is paired. Seeds:
 * tests/fuzz/corpus/pairing. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/pair_proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static struct hth_pairing *g_pairing;

/* A coordinator in a directory that is removed as soon as it is open. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char *const files[] = {"device.key",  "device.crt",
                                        "ca.crt",      "ca.key",
                                        "cluster.crt", "identity.lock"};
    static struct hth_pairing_opts o = {
        .name = "fuzz", .control_port = 2, .data_port = 1};
    char dir[] = "/tmp/hearth-fuzz-XXXXXX";
    struct hth_identity *id = NULL;
    struct hth_ca *ca = NULL;
    char code[HTH_CODE_SIZE];
    char path[128];

    (void)argc;
    (void)argv;
    HTH_ASSERT(mkdtemp(dir) != NULL);
    HTH_ASSERT(hth_ca_open(&ca, dir, NULL) == HTH_OK);
    HTH_ASSERT(hth_identity_open(&id, dir, NULL) == HTH_OK);
    HTH_ASSERT(hth_ca_enroll(ca, id, NULL) == HTH_OK);
    snprintf(path, sizeof path, "%s/devices.json", dir);
    HTH_ASSERT(hth_registry_open(&o.registry, path, NULL) == HTH_OK);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
    o.ca = ca;
    o.identity = id;
    HTH_ASSERT(hth_pairing_open(&g_pairing, &o, NULL) == HTH_OK);
    HTH_ASSERT(hth_pairing_issue(g_pairing, 0, code, NULL) == HTH_OK);
    return 0;
}

static void run_server(const uint8_t *p, size_t n)
{
    static const uint8_t fingerprint[32];
    struct hth__pair_server *s;
    struct hth_buf reply;
    struct hth_cursor c;
    int rc = 0;

    HTH_ASSERT(hth__pair_server_open(&s, g_pairing, fingerprint) == HTH_OK);
    hth_buf_init(&reply, HTH_PAIRING_BYTES_MAX);
    hth_cursor_init(&c, p, n);
    while (rc == 0 && hth_cursor_left(&c) >= 2) {
        size_t len = hth_get_u16(&c);
        const uint8_t *msg = hth_get_bytes(&c, len);

        if (msg == NULL)
            break;
        hth_buf_reset(&reply);
        rc = hth__pair_server_input(s, msg, len, &reply, NULL);
        HTH_ASSERT(rc <= 0 && reply.len > 0);
    }
    hth_buf_fini(&reply);
    hth__pair_server_close(s);
}

/* What decodes must survive being encoded and decoded again. */
static void run_welcome(const uint8_t *p, size_t n)
{
    static struct hth__pair_welcome a, b;
    struct hth_buf out;

    if (hth__pair_welcome_decode(&a, p, n) != HTH_OK)
        return;
    hth_buf_init(&out, HTH_PAIRING_BYTES_MAX);
    hth__pair_welcome_encode(&a, &out);
    HTH_ASSERT(hth__pair_welcome_decode(&b, out.data, out.len) == HTH_OK);
    HTH_ASSERT(strcmp(a.cert_pem, b.cert_pem) == 0 &&
               a.data_port == b.data_port);
    hth_buf_fini(&out);
}

static void run_code(const uint8_t *p, size_t n)
{
    char typed[64] = "", shown[HTH_CODE_SIZE], again[HTH_CODE_SIZE];

    memcpy(typed, p, n < sizeof typed - 1 ? n : sizeof typed - 1);
    if (hth_code_normalise(typed, shown, NULL) != HTH_OK)
        return;
    HTH_ASSERT(hth_code_normalise(shown, again, NULL) == HTH_OK);
    HTH_ASSERT(strcmp(shown, again) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hth__pair_challenge challenge;
    struct hth__pair_hello hello;
    struct hth__pair_proof proof;
    char id[HTH_DEVICE_ID_SIZE];

    if (size == 0)
        return 0;
    switch (data[0] % 6) {
    case 0:
        run_server(data + 1, size - 1);
        break;
    case 1:
        run_welcome(data + 1, size - 1);
        break;
    case 2:
        (void)!hth__pair_challenge_decode(&challenge, data + 1, size - 1);
        break;
    case 3:
        (void)!hth__pair_proof_decode(&proof, data + 1, size - 1);
        break;
    case 4:
        if (hth__pair_hello_decode(&hello, data + 1, size - 1) == HTH_OK)
            (void)!hth_pubkey_id(hello.pubkey, hello.pubkey_len, id, NULL);
        break;
    default:
        run_code(data + 1, size - 1);
    }
    return 0;
}
