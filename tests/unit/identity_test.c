/* identity_test.c - keys, certificates, the CA and the device list. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/rng.h"
#include "net/statefile.h"
#include "net_cluster.h"

static void spoil(const char *path)
{
    FILE *f = fopen(path, "w");

    cr_assert_not_null(f);
    fputs("-----BEGIN nonsense", f);
    fclose(f);
}

static struct hth_cert cert_of(const struct tnet *t, unsigned i)
{
    const char *pem = hth_identity_cert_pem(t->id[i]);
    struct hth_cert c;

    cr_assert_eq(
        hth_cert_check(&c, pem, strlen(pem) + 1, hth_ca_pem(t->ca), NULL), 0);
    return c;
}

Test(identity, survives_reopening_with_the_same_id)
{
    struct hth_identity *again;
    struct stat st;
    struct tnet t;

    tnet_open(&t, 2);
    cr_assert(hth_device_id_valid(hth_identity_id(t.id[1])));
    cr_assert_eq(hth_identity_open(&again, tnet_path(&t, "d1"), NULL), 0);
    cr_assert_str_eq(hth_identity_id(again), hth_identity_id(t.id[1]));
    cr_assert(hth_identity_paired(again));
    cr_assert_str_eq(hth_identity_cert_pem(again),
                     hth_identity_cert_pem(t.id[1]));
    hth_identity_close(again);
    cr_assert_eq(stat(tnet_path(&t, "d1/device.key"), &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0600);
    cr_assert_eq(stat(tnet_path(&t, "d0/ca.key"), &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0600);
    cr_assert_eq(stat(tnet_path(&t, "d1"), &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0700);
    tnet_close(&t);
}

Test(identity, certificate_says_who_and_what)
{
    struct tnet t;
    struct hth_cert c;

    tnet_open(&t, 2);
    c = cert_of(&t, 0);
    cr_assert(c.coordinator);
    cr_assert_str_eq(c.id, hth_identity_id(t.id[0]));
    c = cert_of(&t, 1);
    cr_assert_not(c.coordinator);
    cr_assert_str_eq(c.id, hth_identity_id(t.id[1]));
    tnet_close(&t);
}

Test(identity, forget_keeps_the_key)
{
    char id[HTH_DEVICE_ID_SIZE];
    struct hth_identity *again;
    struct tnet t;

    tnet_open(&t, 2);
    snprintf(id, sizeof id, "%s", hth_identity_id(t.id[1]));
    cr_assert_eq(hth_identity_forget(t.id[1], NULL), 0);
    cr_assert_not(hth_identity_paired(t.id[1]));
    cr_assert_eq(hth_identity_open(&again, tnet_path(&t, "d1"), NULL), 0);
    cr_assert_str_eq(hth_identity_id(again), id);
    cr_assert_not(hth_identity_paired(again));
    cr_assert_null(hth_identity_cert_pem(again));
    hth_identity_close(again);
    tnet_close(&t);
}

Test(identity, coordinator_is_remembered)
{
    struct hth_membership m = {
        .coordinator = {.control_port = 47471, .data_port = 47470}};
    struct hth_identity *again;
    struct tnet t;

    tnet_open(&t, 2);
    m.cert_pem = hth_identity_cert_pem(t.id[1]);
    m.ca_pem = hth_identity_ca_pem(t.id[1]);
    snprintf(m.coordinator.id, sizeof m.coordinator.id, "%s",
             hth_identity_id(t.id[0]));
    snprintf(m.coordinator.name, sizeof m.coordinator.name, "desk \"big\"");
    snprintf(m.coordinator.host, sizeof m.coordinator.host, "192.168.1.10");
    cr_assert_eq(hth_identity_install(t.id[1], &m, NULL), 0);
    cr_assert_eq(hth_identity_open(&again, tnet_path(&t, "d1"), NULL), 0);
    cr_assert_str_eq(hth_identity_coordinator(again)->name, "desk \"big\"");
    cr_assert_eq(hth_identity_coordinator(again)->control_port, 47471);
    hth_identity_close(again);
    spoil(tnet_path(&t, "d1/coordinator.json"));
    cr_assert_eq(hth_identity_open(&again, tnet_path(&t, "d1"), NULL),
                 HTH_EFORMAT);
    tnet_close(&t);
}

Test(identity, damaged_files_are_named_and_kept)
{
    struct hth_identity *again;
    struct hth_ca *ca;
    struct hth_err err;
    struct tnet t;

    tnet_open(&t, 2);
    spoil(tnet_path(&t, "d1/device.key"));
    cr_assert_eq(hth_identity_open(&again, tnet_path(&t, "d1"), &err),
                 HTH_EFORMAT);
    cr_assert_not_null(strstr(err.text, "device.key"));
    cr_assert_eq(access(tnet_path(&t, "d1/device.key"), F_OK), 0);
    spoil(tnet_path(&t, "d0/ca.key"));
    cr_assert_eq(hth_ca_open(&ca, tnet_path(&t, "d0"), &err), HTH_EFORMAT);
    cr_assert_not_null(strstr(err.text, "ca.key"));
    tnet_close(&t);
}

/* Storing a membership was cut short: the device must count as not paired. */
Test(identity, half_a_membership_is_none)
{
    struct hth_identity *again;
    struct tnet t;

    tnet_open(&t, 2);
    unlink(tnet_path(&t, "d1/ca.crt"));
    cr_assert_eq(hth_identity_open(&again, tnet_path(&t, "d1"), NULL), 0);
    cr_assert_not(hth_identity_paired(again));
    hth_identity_close(again);
    tnet_close(&t);
}

Test(identity, others_certificate_is_not_installed)
{
    struct tnet t;
    struct hth_membership m;

    tnet_open(&t, 3);
    m = (struct hth_membership){.cert_pem = hth_identity_cert_pem(t.id[2]),
                                .ca_pem = hth_ca_pem(t.ca)};
    cr_assert_eq(hth_identity_install(t.id[1], &m, NULL), HTH_EAUTH);
    tnet_close(&t);
}

Test(identity, signatures)
{
    struct hth_cert c[2];
    struct hth_sig sig;
    struct tnet t;

    tnet_open(&t, 3);
    c[0] = cert_of(&t, 1);
    c[1] = cert_of(&t, 2);
    cr_assert_eq(hth_identity_sign(t.id[1], "nonce", 5, &sig, NULL), 0);
    cr_assert_eq(hth_cert_verify(&c[0], "nonce", 5, &sig, NULL), 0);
    cr_assert_eq(hth_cert_verify(&c[0], "nonCe", 5, &sig, NULL), HTH_EAUTH);
    cr_assert_eq(hth_cert_verify(&c[1], "nonce", 5, &sig, NULL), HTH_EAUTH);
    for (size_t i = 0; i < sig.len; i++) {
        sig.bytes[i] ^= 1;
        cr_assert_eq(hth_cert_verify(&c[0], "nonce", 5, &sig, NULL), HTH_EAUTH);
        sig.bytes[i] ^= 1;
    }
    sig.len = HTH_SIG_MAX + 1;
    cr_assert_eq(hth_cert_verify(&c[0], "nonce", 5, &sig, NULL), HTH_EAUTH);
    tnet_close(&t);
}

/* Random damage to a certificate never passes and never crashes. The one
 * exception: the encoding's slack that leaves all signed bytes alone. */
Test(identity, damaged_certificates_are_refused)
{
    struct hth_rng r;
    struct hth_cert c;
    struct tnet t;
    char pem[HTH_PEM_MAX];
    size_t n;

    tnet_open(&t, 2);
    n = strlen(hth_identity_cert_pem(t.id[1]));
    hth_rng_init(&r, 5);
    for (int i = 0; i < 400; i++) {
        size_t at = hth_rng_u64(&r) % n;

        memcpy(pem, hth_identity_cert_pem(t.id[1]), n + 1);
        pem[at] ^= (char)(1u << hth_rng_u64(&r) % 7);
        if (hth_cert_check(&c, pem, n + 1, hth_ca_pem(t.ca), NULL) == 0)
            cr_assert_str_eq(c.id, hth_identity_id(t.id[1]));
    }
    for (size_t k = 0; k <= n; k += 7)
        cr_assert_lt(hth_cert_check(&c, pem, k, hth_ca_pem(t.ca), NULL), 0);
    cr_assert_eq(hth_cert_check(&c, hth_ca_pem(t.ca),
                                strlen(hth_ca_pem(t.ca)) + 1, hth_ca_pem(t.ca),
                                NULL),
                 HTH_EAUTH, "the CA is no device");
    tnet_close(&t);
}

Test(identity, public_keys_from_peers)
{
    uint8_t pub[HTH_PUBKEY_MAX + 1] = {0};
    char id[HTH_DEVICE_ID_SIZE];
    struct hth_issued issued;
    struct tnet t;
    size_t n;

    tnet_open(&t, 2);
    n = hth_identity_pubkey(t.id[1], pub);
    cr_assert_eq(hth_pubkey_id(pub, n, id, NULL), 0);
    cr_assert_str_eq(id, hth_identity_id(t.id[1]));
    pub[n - 1] ^= 1; /* no point of the curve any more */
    cr_assert_eq(hth_pubkey_id(pub, n, id, NULL), HTH_EFORMAT);
    cr_assert_eq(hth_ca_sign(t.ca, pub, n, &issued, NULL), HTH_EFORMAT);
    for (size_t k = 0; k < n; k++)
        cr_assert_eq(hth_pubkey_id(pub, k, id, NULL), HTH_EFORMAT);
    cr_assert_eq(hth_pubkey_id(pub, sizeof pub, id, NULL), HTH_EFORMAT);
    tnet_close(&t);
}

Test(identity, ids_and_names)
{
    static const char *bad[] = {"",
                                "ABCD",
                                "ABCD-EFGH-IJKL-MNO1",
                                "ABCD-EFGH-IJKL-MNOPQ",
                                "abcd-efgh-ijkl-mnop",
                                "ABCDE-FGH-IJKL-MNOP"};
    static const struct {
        const char *in, *out;
    } names[] = {{"desk", "desk"},
                 {"", "unnamed"},
                 {"a\nb\x1b[31m", "a?b?[31m"},
                 {"K\xc3\xbc"
                  "che",
                  "K\xc3\xbc"
                  "che"},
                 {"\xff\xc3", "??"},
                 {"\xe2\x80\xae"
                  "x",
                  "???x"}};
    char out[HTH_NAME_MAX];
    char longer[200];

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert_not(hth_device_id_valid(bad[i]), "%s", bad[i]);
    cr_assert(hth_device_id_valid("ABCD-EFGH-IJKL-MNOP"));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        hth_name_clean(out, names[i].in);
        cr_assert_str_eq(out, names[i].out);
    }
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    memcpy(longer + 62, "\xc3\xbc", 2); /* would be cut in the middle */
    hth_name_clean(out, longer);
    cr_assert_eq(strlen(out), 62);
}

/* ---- the device list ----------------------------------------------------- */

Test(registry, remembers_and_revokes)
{
    struct hth_device d, list[4];
    struct hth_registry *r;
    struct tnet t;
    const char *id;

    tnet_open(&t, 3);
    id = hth_identity_id(t.id[1]);
    cr_assert(hth_registry_allowed(t.registry, id));
    cr_assert_not(hth_registry_allowed(t.registry, "ABCD-EFGH-IJKL-MNOP"));
    cr_assert_eq(hth_registry_revoke(t.registry, "device1", &d, NULL), 0);
    cr_assert_str_eq(d.id, id);
    cr_assert_not(hth_registry_allowed(t.registry, id));
    cr_assert_eq(hth_registry_open(&r, tnet_path(&t, "devices.json"), NULL), 0);
    cr_assert_not(hth_registry_allowed(r, id), "also after a restart");
    cr_assert(hth_registry_allowed(r, hth_identity_id(t.id[2])));
    cr_assert_eq(hth_registry_list(r, list, 4), 2);
    cr_assert_str_eq(list[0].name, "device1");
    cr_assert(list[0].revoked);
    cr_assert_eq(hth_registry_revoke(r, "nobody", NULL, NULL), HTH_ENOTFOUND);
    d.revoked = false; /* paired again, under a name that exists */
    snprintf(d.name, sizeof d.name, "device2");
    cr_assert_eq(hth_registry_put(r, &d, NULL), 0);
    cr_assert(hth_registry_allowed(r, id));
    cr_assert_eq(hth_registry_revoke(r, "device2", NULL, NULL), HTH_EINVAL);
    cr_assert_eq(hth_registry_revoke(r, id, NULL, NULL), 0);
    hth_registry_close(r);
    tnet_close(&t);
}

Test(registry, refuses_to_guess)
{
    static const char *bad[] = {
        "",
        "{}",
        "[]",
        "{\"version\":2,\"devices\":[]}",
        "{\"version\":1,\"devices\":{}}",
        "{\"version\":1,\"devices\":[{}]}",
        "{\"version\":1,\"devices\":[{\"id\":\"x\",\"name\":\"a\","
        "\"serial\":\"00\",\"paired_ms\":1,\"revoked\":false}]}",
        "{\"version\":1,\"devices\":[{\"id\":\"ABCD-EFGH-IJKL-MNOP\","
        "\"name\":\"a\",\"serial\":\"00\",\"paired_ms\":1}]}",
    };
    struct hth_registry *r;
    struct hth_err err;
    struct tnet t;

    tnet_open(&t, 1);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct hth__file f = {tnet_path(&t, "bad.json"), bad[i], strlen(bad[i]),
                              0600};

        cr_assert_eq(hth__file_write(&f, NULL), 0);
        cr_assert_eq(hth_registry_open(&r, f.path, &err), HTH_EFORMAT, "%s",
                     bad[i]);
        cr_assert_not_null(strstr(err.text, "bad.json"));
    }
    tnet_close(&t);
}

Test(registry, is_bounded)
{
    struct hth_device d = {.name = "x", .serial = "00"};
    struct tnet t;
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

    tnet_open(&t, 1);
    for (unsigned i = 0; i <= HTH_DEVICES_MAX; i++) {
        snprintf(d.id, sizeof d.id, "ABCD-EFGH-IJKL-M%c%cP", letters[i % 32],
                 letters[i / 32]);
        cr_assert_eq(hth_registry_put(t.registry, &d, NULL),
                     i < HTH_DEVICES_MAX ? 0 : HTH_ELIMIT);
    }
    snprintf(d.id, sizeof d.id, "nonsense");
    cr_assert_eq(hth_registry_put(t.registry, &d, NULL), HTH_EINVAL);
    tnet_close(&t);
}

/* A directory that cannot be written: the change is refused, not half made. */
Test(registry, a_failed_write_changes_nothing)
{
    struct hth_device d = {.id = "ABCD-EFGH-IJKL-MNOP", .name = "x"};
    struct hth_registry *r;
    struct tnet t;

    tnet_open(&t, 1);
    cr_assert_eq(
        hth_registry_open(&r, tnet_path(&t, "gone/devices.json"), NULL), 0);
    cr_assert_eq(hth_registry_put(r, &d, NULL), HTH_EIO);
    cr_assert_not(hth_registry_allowed(r, d.id));
    cr_assert_eq(hth_registry_list(r, NULL, 0), 0);
    hth_registry_close(r);
    tnet_close(&t);
}
