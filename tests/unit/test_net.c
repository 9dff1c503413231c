/* Addresses: read as the C library reads them, written so that it reads the same, and public only where a vendor may be. */
/* depends: base */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "random_kit.h"

#include "base/compiler.h"
#include "base/net.h"

static void ranges_hold_their_addresses(void **state) {
    (void)state;
    static const struct {
        const char *net;
        const char *in;
        const char *out; /* NULL: all are in */
    } good[] = {{"192.0.2.7", "192.0.2.7", "192.0.2.6"},
                {"192.0.2.0/24", "192.0.2.255", "192.0.3.0"},
                {"10.0.0.0/9", "10.127.1.1", "10.128.0.0"},
                {"2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::"},
                {"::1", "::1", "::2"},
                {"::/0", "203.0.113.9", NULL},
                {"0.0.0.0/0", "203.0.113.9", "2001:db8::1"},
                {"::ffff:192.0.2.0/120", "192.0.2.9", "192.0.3.9"}};
    static const char *const bad[] = {
        "",       "/8",          "192.0.2.0/",    "192.0.2.0/33", "192.0.2.1/24", "::1/129",
        "::1/64", "example.com", "192.0.2.0/24 ", "192.0.2",      "-1/8"};
    for (size_t i = 0; i < BH_COUNT(good); i++) {
        struct net net;
        struct net one;
        assert_true(net_parse(span_str(good[i].net), &net));
        assert_true(net_parse(span_str(good[i].in), &one));
        assert_true(net_has(&net, one.address));
        if (good[i].out != NULL) {
            assert_true(net_parse(span_str(good[i].out), &one));
            assert_false(net_has(&net, one.address));
        }
    }
    for (size_t i = 0; i < BH_COUNT(bad); i++) {
        struct net net;
        assert_false(net_parse(span_str(bad[i]), &net));
    }
}

/* What inet_pton reads, and nothing else, as the same bytes. */
static bool oracle(const char *text, uint8_t out[16]) {
    memset(out, 0, 16);
    out[10] = out[11] = 0xff;
    return inet_pton(AF_INET, text, out + 12) == 1 || inet_pton(AF_INET6, text, out) == 1;
}

static void reads_as_the_library(void **state) {
    (void)state;
    static const char signs[] = "0123456789abcdefF:::::...0000125x%";
    unsigned good = 0;
    for (unsigned round = 0; round < 2000000; round++) {
        char text[24];
        size_t n = random_below(sizeof text - 1);
        for (size_t i = 0; i < n; i++) {
            text[i] = signs[random_below(sizeof signs - 1)];
        }
        text[n] = '\0';
        uint8_t expected[16];
        struct net net;
        bool is_one = oracle(text, expected);
        if (net_parse(span_of(text, n), &net) != is_one) {
            print_error("%s: %d by the library\n", text, is_one);
            fail();
        }
        if (is_one) {
            good++;
            assert_memory_equal(net.address, expected, 16);
        }
    }
    assert_true(good > 1000);
}

static void writes_what_it_reads(void **state) {
    (void)state;
    for (unsigned round = 0; round < 200000; round++) {
        uint8_t address[16];
        for (unsigned i = 0; i < 16; i++) {
            address[i] = random_below(2) == 0 ? 0 : (uint8_t)random_below(256);
        }
        if (random_below(4) == 0) {
            memset(address, 0, 10);
            address[10] = address[11] = 0xff;
        }
        char text[NET_TEXT_MAX];
        uint8_t again[16];
        struct net net;
        struct buf b = buf_of(text, sizeof text - 1);
        net_put_address(address, &b);
        assert_false(b.full);
        text[b.n] = '\0';
        assert_true(net_parse(buf_span(&b), &net));
        assert_memory_equal(net.address, address, 16);
        assert_true(oracle(text, again));
        assert_memory_equal(again, address, 16);
    }
}

static void is_public(const char *text, bool expected) {
    struct net net;
    assert_true(net_parse(span_str(text), &net));
    if (net_is_public(net.address) != expected) {
        print_error("%s should%s be public\n", text, expected ? "" : " not");
        fail();
    }
}

static void public_is_what_a_vendor_may_have(void **state) {
    (void)state;
    static const char *const closed[] = {
        /* IPv4, first and last of each range */
        "0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255",
        "100.100.100.200", "127.0.0.1", "127.255.255.255", "168.63.129.16", "169.254.0.0",
        "169.254.169.254", "169.254.255.255", "172.16.0.0", "172.31.255.255", "192.0.0.0",
        "192.0.0.192", "192.0.0.255", "192.0.2.1", "192.88.99.1", "192.168.0.0", "192.168.255.255",
        "198.18.0.0", "198.19.255.255", "198.51.100.7", "203.0.113.255", "224.0.0.1",
        "239.255.255.255", "240.0.0.0", "255.255.255.255",
        /* the same within IPv6 */
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "64:ff9b::10.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b:1::8.8.8.8", "2002:7f00:1::1",
        "2002:a00:1::", "2002:808:808::1", "2001:0:a00:1::1", "2001::1", "::127.0.0.1", "::8.8.8.8",
        "::ffff:0:8.8.8.8",
        /* IPv6 */
        "::", "::1", "100::1", "2001:2::1", "2001:10::1", "2001:20::1",
        "2001:1ff:ffff::", "2001:db8::1", "3fff::1", "3fff:fff::1", "4000::1", "5f00::1", "fc00::1",
        "fd00:ec2::254", "fd20:ce::254", "fdff::1", "fe80::1", "febf::1", "fec0::1", "ff02::1",
        "ff0e::1"};
    static const char *const open[] = {"1.1.1.1",
                                       "8.8.8.8",
                                       "9.255.255.255",
                                       "11.0.0.0",
                                       "100.63.255.255",
                                       "100.128.0.0",
                                       "126.255.255.255",
                                       "128.0.0.0",
                                       "168.63.129.15",
                                       "168.63.129.17",
                                       "169.253.255.255",
                                       "169.255.0.0",
                                       "172.15.255.255",
                                       "172.32.0.0",
                                       "192.0.1.0",
                                       "192.0.3.0",
                                       "192.167.255.255",
                                       "192.169.0.0",
                                       "198.17.255.255",
                                       "198.20.0.0",
                                       "223.255.255.255",
                                       "::ffff:8.8.8.8",
                                       "64:ff9b::8.8.8.8",
                                       "2001:200::1",
                                       "2001:4860:4860::8888",
                                       "2000::1",
                                       "2001:db7::1",
                                       "2001:db9::1",
                                       "2003::1",
                                       "2606:4700::1",
                                       "2a00:1450::1",
                                       "3ffe::1"};
    for (size_t i = 0; i < BH_COUNT(closed); i++) {
        is_public(closed[i], false);
    }
    for (size_t i = 0; i < BH_COUNT(open); i++) {
        is_public(open[i], true);
    }
}

int main(void) {
    random_start(20261124);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_hold_their_addresses),
        cmocka_unit_test(reads_as_the_library),
        cmocka_unit_test(writes_what_it_reads),
        cmocka_unit_test(public_is_what_a_vendor_may_have),
    };
    cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
