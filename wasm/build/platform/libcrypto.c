// What the few files taken from OpenSSL want from the rest of it.
#include <stdlib.h>
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include "ec_local.h"
#include "host.h"

#pragma clang diagnostic ignored "-Wunused-parameter"

void *CRYPTO_malloc(size_t size, const char *file, int line) { return size ? malloc(size) : NULL; }
void *CRYPTO_zalloc(size_t size, const char *file, int line) { return size ? calloc(1, size) : NULL; }
void *CRYPTO_realloc(void *block, size_t size, const char *file, int line) { return realloc(block, size); }
void CRYPTO_free(void *block, const char *file, int line) { free(block); }
void CRYPTO_clear_free(void *block, size_t size, const char *file, int line) {
  if (!block) return;
  OPENSSL_cleanse(block, size);
  free(block);
}
void *CRYPTO_secure_zalloc(size_t size, const char *file, int line) { return CRYPTO_zalloc(size, file, line); }
void CRYPTO_secure_clear_free(void *block, size_t size, const char *file, int line) {
  CRYPTO_clear_free(block, size, file, line);
}
char *CRYPTO_strdup(const char *text, const char *file, int line) { return strdup(text); }

// One thread only.
int CRYPTO_atomic_add(int *value, int amount, int *result, CRYPTO_RWLOCK *lock) {
  *result = *value += amount;
  return 1;
}
void CRYPTO_THREAD_lock_free(CRYPTO_RWLOCK *lock) {}

// The TPM looks at results, never at the error queue.
void ERR_new(void) {}
void ERR_set_debug(const char *file, int line, const char *function) {}
void ERR_set_error(int library, int reason, const char *format, ...) {}
int ERR_set_mark(void) { return 1; }
int ERR_pop_to_mark(void) { return 1; }

// Scalar multiplication blinds with these; the TPM makes its keys and nonces with its own DRBG.
int RAND_bytes_ex(OSSL_LIB_CTX *context, unsigned char *bytes, size_t size, unsigned int strength) {
  host_blinding(bytes, (uint32_t)size);
  return 1;
}
int RAND_priv_bytes_ex(OSSL_LIB_CTX *context, unsigned char *bytes, size_t size, unsigned int strength) {
  return RAND_bytes_ex(context, bytes, size, strength);
}

// OpenSSL's tables of curve methods name these. The TPM uses points, never EC_KEY, so a call is a fault.
size_t ossl_ec_key_simple_priv2oct(const EC_KEY *key, unsigned char *out, size_t size) { abort(); }
int ossl_ec_key_simple_oct2priv(EC_KEY *key, const unsigned char *in, size_t size) { abort(); }
int ossl_ec_key_simple_generate_key(EC_KEY *key) { abort(); }
int ossl_ec_key_simple_generate_public_key(EC_KEY *key) { abort(); }
int ossl_ec_key_simple_check_key(const EC_KEY *key) { abort(); }
int ossl_ecdh_simple_compute_key(unsigned char **out, size_t *size, const EC_POINT *point, const EC_KEY *key) {
  abort();
}
int ossl_ecdsa_simple_sign_setup(EC_KEY *key, BN_CTX *context, BIGNUM **k, BIGNUM **r) { abort(); }
ECDSA_SIG *ossl_ecdsa_simple_sign_sig(const unsigned char *digest, int size, const BIGNUM *k, const BIGNUM *r,
                                      EC_KEY *key) {
  abort();
}
int ossl_ecdsa_simple_verify_sig(const unsigned char *digest, int size, const ECDSA_SIG *signature, EC_KEY *key) {
  abort();
}
