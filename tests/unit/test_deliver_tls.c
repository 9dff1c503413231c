/* Delivery over TLS: who is trusted, connections that are kept, and answers that hide in a record behind another. */
/* depends: deliver ledger policy resolve journal inspect protocol mixpanel wire http json keyring seglog tlog yaml crypto model os base */
/* sources: deliver_kit.c journal_kit.c */
/* libs: ssl crypto */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "deliver_kit.h"

#include "os/clock.h"
#include "os/socket.h"

static struct kit_world world;

/* -- a vendor that speaks HTTP/1.1 over TLS: one thread, one connection at a time ------------------------------------------------------------------ */

static struct {
    SSL_CTX *context;
    int listener;
    uint16_t port;
    pthread_t thread;
    _Atomic bool stopping;
    _Atomic unsigned connections; /* with a finished handshake */
    _Atomic unsigned failed;
    _Atomic unsigned posts;
    _Atomic unsigned
        doubled; /* the next so many answers have another behind them in the same record */
    _Atomic bool redirects;
    _Atomic int version;
    char name[64]; /* that the last handshake asked for */
} server;

static EVP_PKEY *make_certificate(const char *names, const char *path) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);
    assert_int_equal(X509_set_version(cert, 2), 1);
    assert_int_equal(
        ASN1_INTEGER_set(X509_get_serialNumber(cert), (long)(os_mono_us() % 1000000) + 1), 1);
    (void)X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    (void)X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    assert_int_equal(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                                (const unsigned char *)"kit", -1, -1, 0),
                     1);
    assert_int_equal(X509_set_issuer_name(cert, name), 1);
    assert_int_equal(X509_set_pubkey(cert, key), 1);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(cert, extension, -1), 1);
    X509_EXTENSION_free(extension);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(PEM_write_X509(file, cert), 1);
    (void)fclose(file);
    assert_int_equal(SSL_CTX_use_certificate(server.context, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(server.context, key), 1);
    X509_free(cert);
    return key;
}

/* Waits for the socket as OpenSSL wants; false when the connection is over or the server stops. */
static bool again(SSL *ssl, int result) {
    int error = SSL_get_error(ssl, result);
    struct pollfd fd = {SSL_get_fd(ssl), (short)(error == SSL_ERROR_WANT_WRITE ? POLLOUT : POLLIN),
                        0};
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
        return false;
    }
    (void)poll(&fd, 1, 20);
    return !atomic_load(&server.stopping);
}

static bool write_record(SSL *ssl, const char *text) {
    int n;
    while ((n = SSL_write(ssl, text, (int)strlen(text))) <= 0) {
        if (!again(ssl, n)) {
            return false;
        }
    }
    return true;
}

/* Whole requests; heads and bodies are told apart by Content-Length. */
static void serve(SSL *ssl) {
    static const char yes[] = "{\"code\":200,\"num_records_imported\":10,\"status\":\"OK\"}";
    static char in[1 << 20];
    size_t have = 0;
    for (;;) {
        char *end = memmem(in, have, "\r\n\r\n", 4);
        const char *length = end != NULL ? memmem(in, have, "Content-Length:", 15) : NULL;
        size_t whole =
            length != NULL ? (size_t)(end + 4 - in) + strtoul(length + 15, NULL, 10) : SIZE_MAX;
        if (have < whole) {
            int n = SSL_read(ssl, in + have, (int)(sizeof in - have));
            if (n > 0) {
                have += (size_t)n;
            } else if (!again(ssl, n)) {
                return;
            }
            continue;
        }
        memmove(in, in + whole, have - whole);
        have -= whole;
        atomic_fetch_add(&server.posts, 1);
        char head[256];
        char body[1024];
        if (atomic_load(&server.redirects)) {
            (void)snprintf(
                head, sizeof head,
                "HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:%u/\r\nContent-Length: 0\r\n\r\n",
                world.vendor.port);
            if (!write_record(ssl, head)) {
                return;
            }
            continue;
        }
        (void)snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n",
                       strlen(yes));
        bool doubles = atomic_load(&server.doubled) != 0;
        if (doubles) {
            atomic_fetch_sub(&server.doubled, 1);
        }
        (void)snprintf(body, sizeof body, "%s%s%s", yes, doubles ? head : "", doubles ? yes : "");
        if (!write_record(ssl, head) || !write_record(ssl, body)) {
            return;
        }
    }
}

static void *run_server(void *unused) {
    (void)unused;
    while (!atomic_load(&server.stopping)) {
        struct os_peer peer;
        int fd = -1;
        if (os_accept(server.listener, &fd, &peer) != 0) {
            os_sleep_us(200);
            continue;
        }
        SSL *ssl = SSL_new(server.context);
        assert_int_equal(SSL_set_fd(ssl, fd), 1);
        int r;
        bool good = false;
        while (!(good = (r = SSL_accept(ssl)) == 1) && again(ssl, r)) {
        }
        const char *name = good ? SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) : NULL;
        (void)snprintf(server.name, sizeof server.name, "%s", name != NULL ? name : "");
        atomic_store(&server.version, good ? SSL_version(ssl) : 0);
        atomic_fetch_add(good ? &server.connections : &server.failed, 1);
        if (good) {
            serve(ssl);
        }
        SSL_free(ssl);
        os_close(fd);
    }
    return NULL;
}

static void start_server(const char *names) {
    struct err err = {0};
    memset(&server, 0, sizeof server);
    server.context = SSL_CTX_new(TLS_server_method());
    (void)snprintf(world.ca, sizeof world.ca, "%s/cert.pem", world.dir);
    EVP_PKEY_free(make_certificate(names, world.ca));
    assert_int_equal(os_listen("127.0.0.1:0", false, &server.listener, &err), 0);
    assert_int_equal(os_local_port(server.listener, &server.port), 0);
    assert_int_equal(pthread_create(&server.thread, NULL, run_server, NULL), 0);
    (void)snprintf(world.endpoint, sizeof world.endpoint, "https://127.0.0.1:%u", server.port);
}

/* -- a resolver that says what the test wants ------------------------------------------------------------------------------------- */

static pthread_mutex_t names_lock = PTHREAD_MUTEX_INITIALIZER;
static char addresses_of_vendor[128]; /* of vendor.test and below, apart by spaces */

static void resolve_to(const char *addresses) {
    (void)pthread_mutex_lock(&names_lock);
    (void)snprintf(addresses_of_vendor, sizeof addresses_of_vendor, "%s", addresses);
    (void)pthread_mutex_unlock(&names_lock);
}

/* In place of libc's. */
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **ret) {
    struct answer {
        struct addrinfo info;
        struct sockaddr_storage address;
    };
    struct addrinfo **end = ret;
    char text[sizeof addresses_of_vendor];
    (void)service;
    (void)hints;
    *ret = NULL;
    (void)pthread_mutex_lock(&names_lock);
    memcpy(text, addresses_of_vendor, sizeof text);
    (void)pthread_mutex_unlock(&names_lock);
    char *rest = text;
    char *word;
    while (strstr(host, "vendor.test") != NULL && (word = strtok_r(rest, " ", &rest)) != NULL) {
        struct answer *one = calloc(1, sizeof *one);
        struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&one->address;
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)&one->address;
        bool is_v4 = inet_pton(AF_INET, word, &v4->sin_addr) == 1;
        one->address.ss_family = is_v4 ? AF_INET : AF_INET6;
        if (!is_v4) {
            assert_int_equal(inet_pton(AF_INET6, word, &v6->sin6_addr), 1);
        }
        one->info = (struct addrinfo){.ai_family = one->address.ss_family,
                                      .ai_socktype = SOCK_STREAM,
                                      .ai_addrlen = is_v4 ? sizeof *v4 : sizeof *v6,
                                      .ai_addr = (struct sockaddr *)&one->address};
        *end = &one->info;
        end = &one->info.ai_next;
    }
    return *ret != NULL ? 0 : EAI_NONAME;
}

void freeaddrinfo(struct addrinfo *list) {
    while (list != NULL) {
        struct addrinfo *next = list->ai_next;
        free(list);
        list = next;
    }
}

static int set_up(void **state) {
    (void)state;
    kit_world_new(&world);
    start_server("IP:127.0.0.1, DNS:vendor.test");
    resolve_to("127.0.0.1");
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    kit_world_free(&world);
    atomic_store(&server.stopping, true);
    (void)pthread_join(server.thread, NULL);
    os_close(server.listener);
    SSL_CTX_free(server.context);
    return 0;
}

/* -- tests --------------------------------------------------------------------------------------------------------------------------------------------- */

/* A connection serves window after window. */
static void keeps_connections(void **state) {
    (void)state;
    kit_reload(&world);
    kit_restore(&world, true);
    for (unsigned i = 0; i < 3; i++) {
        (void)kit_put(&world, 10, EVENT_TRACK);
        assert_true(kit_drained(&world, 10000));
    }
    assert_int_equal(atomic_load(&server.posts), 3);
    assert_int_equal(atomic_load(&server.connections), 1);
}

/* Who is not trusted gets no request. */
static void distrusts(void **state) {
    (void)state;
    world.ca[0] = '\0';
    kit_reload(&world);
    kit_restore(&world, true);
    (void)kit_put(&world, 10, EVENT_TRACK);
    assert_true(kit_until(&server.failed, 1, 10000));
    uint64_t us = 0;
    assert_int_equal(courier_cut(world.courier, "test", "", &us, &us), 0);
    os_sleep_us(1300000);
    assert_int_equal(atomic_load(&server.posts), 0);
    /* And as nothing left, nothing is possible. */
    assert_int_equal(kit_ledger(&world).possible, 0);
    (void)snprintf(world.ca, sizeof world.ca, "%s/cert.pem", world.dir);
    kit_reload(&world);
    kit_restore(&world, true);
    assert_true(kit_drained(&world, 10000));
    assert_int_equal(kit_ledger(&world).certain, 10);
}

static void wants_the_right_name(void **state) {
    (void)state;
    atomic_store(&server.stopping, true);
    (void)pthread_join(server.thread, NULL);
    os_close(server.listener);
    SSL_CTX_free(server.context);
    start_server("IP:127.0.0.2, DNS:vendor.test");
    kit_reload(&world);
    kit_restore(&world, true);
    (void)kit_put(&world, 10, EVENT_TRACK);
    assert_true(kit_until_state(&world, VENDOR_RETRYING, 5000));
    os_sleep_us(1000000);
    assert_int_equal(atomic_load(&server.posts), 0);
    assert_int_equal(kit_status_of(&world).accepted_events, 0);
}

/* An answer that lies behind another in one record is nobody's, and the one before it no answer. */
static void answers_in_one_record(void **state) {
    (void)state;
    kit_reload(&world);
    kit_restore(&world, true);
    for (unsigned i = 0; i < 5; i++) {
        unsigned posts = atomic_load(&server.posts);
        unsigned connections = atomic_load(&server.connections);
        atomic_store(&server.doubled, 1);
        (void)kit_put(&world, 10, EVENT_TRACK);
        assert_true(kit_drained(&world, 10000));
        assert_int_equal(atomic_load(&server.posts), posts + 2);
        assert_in_range(atomic_load(&server.connections), connections + 1, connections + 2);
    }
}

/* -- where it may go ---------------------------------------------------------------------------------------------------------------- */

static void use_name(void) {
    (void)snprintf(world.endpoint, sizeof world.endpoint, "https://vendor.test:%u", server.port);
}

static void use_lines(const char *lines) {
    (void)snprintf(world.extra, sizeof world.extra, "%s", lines);
    kit_reload(&world);
}

static bool parked_for(const char *part) {
    struct courier_status status = kit_status_of(&world);
    return status.state == VENDOR_PARKED && strstr(status.parked_because, part) != NULL;
}

/* A name that leads into the own network parks the vendor, which says what and how; a reload of that line opens it. */
static void a_private_address_parks(void **state) {
    (void)state;
    use_name();
    kit_reload(&world);
    (void)kit_put(&world, 10, EVENT_TRACK);
    kit_restore(&world, true);
    assert_true(kit_until_state(&world, VENDOR_PARKED, 10000));
    assert_true(parked_for("the address 127.0.0.1 is closed; egress: [public, 127.0.0.1] in "
                           "vendors/mixpanel.yaml opens it"));
    assert_int_equal(atomic_load(&server.connections) + atomic_load(&server.failed), 0);
    /* Nothing left, so nothing is possible, and no attempt is repeated while it is parked. */
    assert_int_equal(kit_ledger(&world).possible, 0);
    assert_int_equal(kit_status_of(&world).attempts, 1);
    use_lines("egress: [public, 127.0.0.1]\n");
    assert_true(kit_drained(&world, 10000));
    assert_int_equal(kit_ledger(&world).certain, 10);
    assert_int_equal(kit_status_of(&world).parked_because[0], 0);
}

/* A connection that is kept is no way around a line that was taken away. */
static void a_kept_connection_is_judged_again(void **state) {
    (void)state;
    use_name();
    use_lines("egress: [127.0.0.0/8]\n");
    kit_restore(&world, true);
    (void)kit_put(&world, 10, EVENT_TRACK);
    assert_true(kit_drained(&world, 10000));
    assert_int_equal(atomic_load(&server.posts), 1);
    use_lines("egress: [public]\n");
    (void)kit_put(&world, 10, EVENT_TRACK);
    assert_true(kit_until_state(&world, VENDOR_PARKED, 10000));
    assert_int_equal(atomic_load(&server.posts), 1);
}

/* What only looks like another address. */
static void other_spellings_of_an_address_park(void **state) {
    (void)state;
    static const char *const spellings[] = {"::1",
                                            "::ffff:127.0.0.1",
                                            "64:ff9b::7f00:1",
                                            "2002:7f00:1::1",
                                            "fe80::1",
                                            "fd00:ec2::254",
                                            "169.254.169.254",
                                            "0.0.0.0",
                                            "10.0.0.1 192.168.1.1 ::1"};
    (void)kit_put(&world, 5, EVENT_TRACK);
    for (size_t i = 0; i < BH_COUNT(spellings); i++) {
        uint64_t us = 0;
        /* Another name each time: addresses are remembered for a minute. */
        (void)snprintf(world.endpoint, sizeof world.endpoint, "https://a%zu.vendor.test:%u", i,
                       server.port);
        resolve_to(spellings[i]);
        kit_reload(&world);
        kit_restore(&world, true);
        if (!kit_until_state(&world, VENDOR_PARKED, 10000)) {
            fail_msg("%s: %s", spellings[i], vendor_state_word(kit_status_of(&world).state));
        }
        assert_int_equal(courier_cut(world.courier, "test", "", &us, &us), 0);
    }
    assert_int_equal(atomic_load(&server.connections) + atomic_load(&server.failed), 0);
}

/* Of several addresses those that are open are used. */
static void an_open_address_among_closed_ones_serves(void **state) {
    (void)state;
    use_name();
    resolve_to("10.255.255.1 ::1 169.254.169.254 127.0.0.1");
    use_lines("egress: [127.0.0.1]\n");
    kit_restore(&world, true);
    (void)kit_put(&world, 10, EVENT_TRACK);
    assert_true(kit_drained(&world, 10000));
    assert_int_equal(kit_ledger(&world).certain, 10);
}

/* -- who is believed -------------------------------------------------------------------------------------------------------------------- */

static void pin_of(EVP_PKEY *key, char out[64]) {
    unsigned char *der = NULL;
    int n = i2d_PUBKEY(key, &der);
    unsigned char hash[32];
    assert_true(n > 0);
    assert_int_equal(EVP_Digest(der, (size_t)n, hash, NULL, EVP_sha256(), NULL), 1);
    OPENSSL_free(der);
    memcpy(out, "sha256//", 8);
    assert_int_equal(EVP_EncodeBlock((unsigned char *)out + 8, hash, sizeof hash), 44);
}

#define OTHER_PIN "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

/* A certificate that is good, with another key than the contract's: no request, parked; one of several pins is enough. */
static void a_pin_is_one_of_the_keys(void **state) {
    (void)state;
    char pin[64];
    char lines[256];
    pin_of(SSL_CTX_get0_privatekey(server.context), pin);
    use_lines("pin: " OTHER_PIN "\n");
    kit_restore(&world, true);
    (void)kit_put(&world, 10, EVENT_TRACK);
    assert_true(kit_until_state(&world, VENDOR_PARKED, 10000));
    assert_true(parked_for("none of the contract's pins"));
    assert_int_equal(atomic_load(&server.posts), 0);
    assert_int_equal(kit_ledger(&world).possible, 0);
    (void)snprintf(lines, sizeof lines, "pin: [" OTHER_PIN ", %.52s]\n", pin);
    use_lines(lines);
    assert_true(kit_drained(&world, 10000));
    assert_int_equal(kit_ledger(&world).certain, 10);
}

/* The right key does not make a certificate good that nobody vouches for. */
static void a_pin_replaces_no_verification(void **state) {
    (void)state;
    char pin[64];
    char lines[128];
    pin_of(SSL_CTX_get0_privatekey(server.context), pin);
    (void)snprintf(lines, sizeof lines, "pin: %.52s\n", pin);
    world.ca[0] = '\0';
    use_lines(lines);
    kit_restore(&world, true);
    (void)kit_put(&world, 10, EVENT_TRACK);
    assert_true(kit_until(&server.failed, 1, 10000));
    os_sleep_us(300000);
    assert_int_equal(kit_status_of(&world).state, VENDOR_RETRYING);
    assert_int_equal(atomic_load(&server.posts), 0);
}

/* The handshake names the vendor (SNI), and takes nothing older than TLS 1.2. */
static void names_itself_by_tls_12(void **state) {
    (void)state;
    assert_int_equal(SSL_CTX_set_min_proto_version(server.context, TLS1_VERSION), 1);
    assert_int_equal(SSL_CTX_set_max_proto_version(server.context, TLS1_1_VERSION), 1);
    assert_int_equal(SSL_CTX_set_cipher_list(server.context, "ALL:@SECLEVEL=0"), 1);
    use_name();
    use_lines("egress: [127.0.0.1]\n");
    kit_restore(&world, true);
    (void)kit_put(&world, 10, EVENT_TRACK);
    assert_true(kit_until(&server.failed, 1, 10000));
    assert_int_equal(atomic_load(&server.posts), 0);
    assert_int_equal(SSL_CTX_set_max_proto_version(server.context, TLS1_2_VERSION), 1);
    assert_true(kit_drained(&world, 20000));
    assert_int_equal(atomic_load(&server.version), TLS1_2_VERSION);
    assert_string_equal(server.name, "vendor.test");
}

/* A redirect is an answer; nobody goes there. */
static void follows_no_redirect(void **state) {
    (void)state;
    atomic_store(&server.redirects, true);
    kit_reload(&world);
    kit_restore(&world, true);
    (void)kit_put(&world, 10, EVENT_TRACK);
    assert_true(kit_until_state(&world, VENDOR_PARKED, 20000));
    assert_true(parked_for("redirects (status 307)"));
    assert_int_equal(atomic_load(&server.posts), 2);
    assert_int_equal(atomic_load(&world.vendor.connections), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(keeps_connections),
        TEST(distrusts),
        TEST(wants_the_right_name),
        TEST(answers_in_one_record),
        TEST(a_private_address_parks),
        TEST(a_kept_connection_is_judged_again),
        TEST(other_spellings_of_an_address_park),
        TEST(an_open_address_among_closed_ones_serves),
        TEST(a_pin_is_one_of_the_keys),
        TEST(a_pin_replaces_no_verification),
        TEST(names_itself_by_tls_12),
        TEST(follows_no_redirect),
#undef TEST
    };
    cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
