// The border to OpenSSL's libcrypto, which computes SHA-256.
#ifndef KINSHIP_CCRYPTO_H
#define KINSHIP_CCRYPTO_H
#include <openssl/crypto.h>
#include <openssl/evp.h>

#if OPENSSL_VERSION_MAJOR < 3
#error "Kinship is written against OpenSSL 3 (Debian 12: libssl-dev 3.0)"
#endif

#endif
