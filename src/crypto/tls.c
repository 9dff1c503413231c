#include <openssl/ssl.h>

#include "crypto/crypto.h"

bool tls_has_unread(const void *ssl) {
    return SSL_has_pending((const SSL *)ssl) == 1;
}
