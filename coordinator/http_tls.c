/* http_tls.c - mbedTLS as a filter between a socket and the HTTP parser. */
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/http_internal.h"

#define PLAIN_BYTES 16384u

struct hth__http_tls_setup {
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    mbedtls_x509_crt cert;
    mbedtls_pk_context key;
    mbedtls_ssl_config config;
};

struct hth__http_tls {
    mbedtls_ssl_context ssl;
    struct conn *c; /* of the call under way */
    const char *in; /* encrypted bytes not yet taken */
    size_t in_bytes;
    void (*plain)(void *ctx, const char *p, size_t n);
    bool open;
};

static int fail(struct hth_err *err, int status, const char *what, int rv)
{
    char text[128];

    mbedtls_strerror(rv, text, sizeof text);
    return hth_fail(err, status, "%s: %s", what, text);
}

void hth__http_tls_setup_close(struct hth__http_tls_setup *s)
{
    if (s == NULL)
        return;
    mbedtls_ssl_config_free(&s->config);
    mbedtls_pk_free(&s->key);
    mbedtls_x509_crt_free(&s->cert);
    mbedtls_ctr_drbg_free(&s->random);
    mbedtls_entropy_free(&s->entropy);
    free(s);
}

static int read_files(struct hth__http_tls_setup *s, const char *cert_path,
                      const char *key_path, struct hth_err *err)
{
    int rv = mbedtls_x509_crt_parse_file(&s->cert, cert_path);

    if (rv != 0)
        return fail(
            err, rv == MBEDTLS_ERR_X509_FILE_IO_ERROR ? HTH_EIO : HTH_EFORMAT,
            cert_path, rv);
    rv = mbedtls_pk_parse_keyfile(&s->key, key_path, NULL);
    if (rv != 0)
        return fail(err,
                    rv == MBEDTLS_ERR_PK_FILE_IO_ERROR ? HTH_EIO : HTH_EFORMAT,
                    key_path, rv);
    if (mbedtls_pk_check_pair(&s->cert.pk, &s->key) != 0)
        return hth_fail(err, HTH_EFORMAT, "%s is not the key of %s", key_path,
                        cert_path);
    return HTH_OK;
}

static int configure(struct hth__http_tls_setup *s, struct hth_err *err)
{
    int rv = mbedtls_ctr_drbg_seed(&s->random, mbedtls_entropy_func,
                                   &s->entropy, NULL, 0);

    if (rv == 0)
        rv = mbedtls_ssl_config_defaults(&s->config, MBEDTLS_SSL_IS_SERVER,
                                         MBEDTLS_SSL_TRANSPORT_STREAM,
                                         MBEDTLS_SSL_PRESET_DEFAULT);
    if (rv != 0)
        return fail(err, HTH_EINTERNAL, "http: tls", rv);
    mbedtls_ssl_conf_rng(&s->config, mbedtls_ctr_drbg_random, &s->random);
    mbedtls_ssl_conf_min_version(&s->config, MBEDTLS_SSL_MAJOR_VERSION_3,
                                 MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_ca_chain(&s->config, s->cert.next, NULL);
    rv = mbedtls_ssl_conf_own_cert(&s->config, &s->cert, &s->key);
    return rv == 0 ? HTH_OK : fail(err, HTH_EINTERNAL, "http: tls", rv);
}

int hth__http_tls_setup_open(struct hth__http_tls_setup **out,
                             const char *cert_path, const char *key_path,
                             struct hth_err *err)
{
    struct hth__http_tls_setup *s;
    int status;

    if (cert_path == NULL || key_path == NULL)
        return hth_fail(err, HTH_EUSAGE,
                        "TLS needs both, --tls-cert and --tls-key");
    s = calloc(1, sizeof *s);
    if (s == NULL)
        return hth_fail(err, HTH_ENOMEM, "http: out of memory");
    mbedtls_entropy_init(&s->entropy);
    mbedtls_ctr_drbg_init(&s->random);
    mbedtls_x509_crt_init(&s->cert);
    mbedtls_pk_init(&s->key);
    mbedtls_ssl_config_init(&s->config);
    if ((status = read_files(s, cert_path, key_path, err)) != HTH_OK ||
        (status = configure(s, err)) != HTH_OK) {
        hth__http_tls_setup_close(s);
        return status;
    }
    *out = s;
    return HTH_OK;
}

/* ---- one connection ------------------------------------------------------ */

static int on_send(void *ctx, const unsigned char *p, size_t n)
{
    struct hth__http_tls *t = ctx;

    hth__conn_send_raw(t->c, p, n);
    return t->c->phase == CONN_CLOSED ? MBEDTLS_ERR_SSL_CONN_EOF : (int)n;
}

static int on_receive(void *ctx, unsigned char *p, size_t n)
{
    struct hth__http_tls *t = ctx;

    if (t->in_bytes == 0)
        return MBEDTLS_ERR_SSL_WANT_READ;
    if (n > t->in_bytes)
        n = t->in_bytes;
    memcpy(p, t->in, n);
    t->in += n;
    t->in_bytes -= n;
    return (int)n;
}

int hth__http_tls_open(struct hth__http_tls **out,
                       struct hth__http_tls_setup *s,
                       void (*plain)(void *ctx, const char *p, size_t n))
{
    struct hth__http_tls *t = calloc(1, sizeof *t);

    if (t == NULL)
        return HTH_ENOMEM;
    mbedtls_ssl_init(&t->ssl);
    t->plain = plain;
    if (mbedtls_ssl_setup(&t->ssl, &s->config) != 0) {
        hth__http_tls_close(t);
        return HTH_ENOMEM;
    }
    mbedtls_ssl_set_bio(&t->ssl, t, on_send, on_receive, NULL);
    *out = t;
    return HTH_OK;
}

void hth__http_tls_close(struct hth__http_tls *t)
{
    if (t == NULL)
        return;
    mbedtls_ssl_free(&t->ssl);
    free(t);
}

static bool wants(int rv)
{
    return rv == MBEDTLS_ERR_SSL_WANT_READ || rv == MBEDTLS_ERR_SSL_WANT_WRITE;
}

/* The bytes live in the server's read buffer, which nobody refills before
 * this returns. */
int hth__http_tls_feed(struct hth__http_tls *t, struct conn *c, const char *p,
                       size_t n)
{
    unsigned char plain[PLAIN_BYTES];
    int rv = 0;

    t->c = c;
    t->in = p;
    t->in_bytes = n;
    if (!t->open) {
        rv = mbedtls_ssl_handshake(&t->ssl);
        if (rv != 0)
            return wants(rv) ? HTH_OK : HTH_EAUTH;
        t->open = true;
    }
    while (c->phase != CONN_CLOSED) {
        rv = mbedtls_ssl_read(&t->ssl, plain, sizeof plain);
        if (rv <= 0)
            break;
        t->plain(c, (const char *)plain, (size_t)rv);
    }
    return c->phase == CONN_CLOSED || wants(rv) ? HTH_OK : HTH_EPEER;
}

void hth__http_tls_send(struct hth__http_tls *t, struct conn *c, const void *p,
                        size_t n)
{
    const unsigned char *from = p;
    int rv;

    t->c = c;
    while (n > 0 && c->phase != CONN_CLOSED) {
        rv = mbedtls_ssl_write(&t->ssl, from, n);
        if (rv <= 0) {
            hth__conn_close(c);
            return;
        }
        from += rv;
        n -= (size_t)rv;
    }
}

void hth__http_tls_bye(struct hth__http_tls *t, struct conn *c)
{
    t->c = c;
    if (t->open)
        (void)!mbedtls_ssl_close_notify(&t->ssl);
}
