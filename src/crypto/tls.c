#include <openssl/ssl.h>

#include "crypto/crypto.h"

bool tls_has_unread(const void *ssl) {
    return SSL_pending((const SSL *)ssl) > 0 || SSL_has_pending((const SSL *)ssl) == 1;
}
