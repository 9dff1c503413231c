#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>

#include "crypto/crypto.h"

struct tls {
    SSL *ssl;
    struct tls_io io;
    int fd;
};

struct tls_context {
    SSL_CTX *ssl;
};

bool tls_has_unread(const void *ssl) {
    return SSL_pending((const SSL *)ssl) > 0 || SSL_has_pending((const SSL *)ssl) == 1;
}

/* -- the socket, as OpenSSL sees it -------------------------------------------------------------- */

static int take_result(BIO *bio, long n, int retry) {
    BIO_clear_retry_flags(bio);
    if (n == BH_E_AGAIN) {
        BIO_set_flags(bio, retry | BIO_FLAGS_SHOULD_RETRY);
    }
    return n >= 0 ? (int)n : -1;
}

static int on_read(BIO *bio, char *p, int n) {
    const struct tls *tls = BIO_get_data(bio);
    return take_result(bio, n > 0 ? tls->io.recv(tls->fd, p, (size_t)n) : 0, BIO_FLAGS_READ);
}

static int on_write(BIO *bio, const char *p, int n) {
    const struct tls *tls = BIO_get_data(bio);
    return take_result(bio, n > 0 ? tls->io.send(tls->fd, p, (size_t)n) : 0, BIO_FLAGS_WRITE);
}

static long on_control(BIO *bio, int command, long number, void *p) {
    (void)bio;
    (void)number;
    (void)p;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

/* One for all connections, which outlive the context that they began with. */
static BIO_METHOD *method;
static CRYPTO_ONCE method_once = CRYPTO_ONCE_STATIC_INIT;

static void make_method(void) {
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "bulkhead");
    if (method != NULL &&
        (BIO_meth_set_read(method, on_read) != 1 || BIO_meth_set_write(method, on_write) != 1 ||
         BIO_meth_set_ctrl(method, on_control) != 1)) {
        BIO_meth_free(method);
        method = NULL;
    }
}

/* -- contexts ------------------------------------------------------------------------------------ */

/* One protocol is spoken here; a client that offers others only is told so. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_size,
                           const unsigned char *in, unsigned in_size, void *context) {
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *chosen = NULL;
    (void)ssl;
    (void)context;
    int found = SSL_select_next_proto(&chosen, out_size, ours, sizeof ours - 1, in, in_size);
    *out = chosen;
    return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void set_options(SSL_CTX *ssl) {
    (void)SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_CLEANSE_PLAINTEXT |
                                       SSL_OP_CIPHER_SERVER_PREFERENCE);
    (void)SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    (void)SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF); /* tickets serve to resume */
    SSL_CTX_set_alpn_select_cb(ssl, choose_protocol, NULL);
}

static int fail(struct err *err, const char *file, const char *what) {
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    int r = err_set(err, BH_E_CONFIG, "%s: %s%s%s", file, what, reason != NULL ? ": " : "",
                    reason != NULL ? reason : "");
    ERR_clear_error();
    return r;
}

int tls_context_new(const char *certificate_file, const char *key_file,
                    struct tls_context **ret_context, struct err *err) {
    struct tls_context *context = calloc(1, sizeof *context);
    (void)CRYPTO_THREAD_run_once(&method_once, make_method);
    if (context != NULL) {
        context->ssl = SSL_CTX_new(TLS_server_method());
    }
    if (context == NULL || context->ssl == NULL || method == NULL ||
        SSL_CTX_set_min_proto_version(context->ssl, TLS1_2_VERSION) != 1) {
        tls_context_free(context);
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    set_options(context->ssl);
    ERR_clear_error();
    int r = 0;
    if (SSL_CTX_use_certificate_chain_file(context->ssl, certificate_file) != 1) {
        r = fail(err, certificate_file, "not a certificate in PEM form");
    } else if (SSL_CTX_use_PrivateKey_file(context->ssl, key_file, SSL_FILETYPE_PEM) != 1) {
        r = fail(err, key_file, "not the key of that certificate, in PEM form without a password");
    } else if (SSL_CTX_check_private_key(context->ssl) != 1) {
        r = fail(err, key_file, "not the key of that certificate");
    }
    if (r != 0) {
        tls_context_free(context);
        return r;
    }
    *ret_context = context;
    return 0;
}

void tls_context_free(struct tls_context *context) {
    if (context != NULL) {
        SSL_CTX_free(context->ssl);
        free(context);
    }
}

/* -- connections ---------------------------------------------------------------------------------- */

struct tls *tls_accept(struct tls_context *context, const struct tls_io *io, int fd) {
    struct tls *tls = calloc(1, sizeof *tls);
    BIO *bio = BIO_new(method);
    SSL *ssl = SSL_new(context->ssl);
    if (tls == NULL || bio == NULL || ssl == NULL) {
        SSL_free(ssl);
        (void)BIO_free(bio);
        free(tls);
        return NULL;
    }
    *tls = (struct tls){ssl, *io, fd};
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_accept_state(ssl);
    return tls;
}

void tls_free(struct tls *tls) {
    if (tls != NULL) {
        SSL_free(tls->ssl);
        free(tls);
    }
}

static long result_of(struct tls *tls, int n) {
    switch (SSL_get_error(tls->ssl, n)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return BH_E_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        ERR_clear_error();
        return BH_E_CLOSED;
    }
}

long tls_recv(struct tls *tls, void *p, size_t n) {
    ERR_clear_error();
    int got = SSL_read(tls->ssl, p, n < INT32_MAX ? (int)n : INT32_MAX);
    return got > 0 ? got : result_of(tls, got);
}

long tls_send(struct tls *tls, const void *p, size_t n) {
    if (n == 0) {
        return 0;
    }
    ERR_clear_error();
    int put = SSL_write(tls->ssl, p, n < INT32_MAX ? (int)n : INT32_MAX);
    return put > 0 ? put : result_of(tls, put);
}

bool tls_has_pending(const struct tls *tls) {
    return SSL_pending(tls->ssl) > 0;
}

void tls_shutdown_send(struct tls *tls) {
    ERR_clear_error();
    (void)SSL_shutdown(tls->ssl);
    ERR_clear_error();
}
