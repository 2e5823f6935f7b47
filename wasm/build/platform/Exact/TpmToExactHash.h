// OpenSSL's hashes with the exact types of the reference code's method table. There the library's functions
// are cast (`int f()` to `void f()`, memcpy's result dropped), which machines forgive and WebAssembly traps on.
#ifndef EVE_TPM_EXACT_HASH_H
#define EVE_TPM_EXACT_HASH_H

#include <string.h>
#include "Ossl/TpmToOsslHash.h"

#define EXACT_HASH(name, context)                                                                        \
  static void exactStart_##name(void *state) { name##_Init((context *)state); }                          \
  static void exactData_##name(void *state, const unsigned char *data, size_t size) {                    \
    name##_Update((context *)state, data, size);                                                         \
  }                                                                                                      \
  static void exactEnd_##name(unsigned char *digest, void *state) { name##_Final(digest, (context *)state); }
EXACT_HASH(SHA1, SHA_CTX)
EXACT_HASH(SHA256, SHA256_CTX)
EXACT_HASH(SHA384, SHA512_CTX)
EXACT_HASH(SHA512, SHA512_CTX)

static void exactCopy(void *to, const void *from, size_t size) { memcpy(to, from, size); }

#undef tpmHashStart_SHA1
#undef tpmHashData_SHA1
#undef tpmHashEnd_SHA1
#undef tpmHashStateCopy_SHA1
#undef tpmHashStateExport_SHA1
#undef tpmHashStateImport_SHA1
#define tpmHashStart_SHA1 exactStart_SHA1
#define tpmHashData_SHA1 exactData_SHA1
#define tpmHashEnd_SHA1 exactEnd_SHA1
#define tpmHashStateCopy_SHA1 exactCopy
#define tpmHashStateExport_SHA1 exactCopy
#define tpmHashStateImport_SHA1 exactCopy

#undef tpmHashStart_SHA256
#undef tpmHashData_SHA256
#undef tpmHashEnd_SHA256
#undef tpmHashStateCopy_SHA256
#undef tpmHashStateExport_SHA256
#undef tpmHashStateImport_SHA256
#define tpmHashStart_SHA256 exactStart_SHA256
#define tpmHashData_SHA256 exactData_SHA256
#define tpmHashEnd_SHA256 exactEnd_SHA256
#define tpmHashStateCopy_SHA256 exactCopy
#define tpmHashStateExport_SHA256 exactCopy
#define tpmHashStateImport_SHA256 exactCopy

#undef tpmHashStart_SHA384
#undef tpmHashData_SHA384
#undef tpmHashEnd_SHA384
#undef tpmHashStateCopy_SHA384
#undef tpmHashStateExport_SHA384
#undef tpmHashStateImport_SHA384
#define tpmHashStart_SHA384 exactStart_SHA384
#define tpmHashData_SHA384 exactData_SHA384
#define tpmHashEnd_SHA384 exactEnd_SHA384
#define tpmHashStateCopy_SHA384 exactCopy
#define tpmHashStateExport_SHA384 exactCopy
#define tpmHashStateImport_SHA384 exactCopy

#undef tpmHashStart_SHA512
#undef tpmHashData_SHA512
#undef tpmHashEnd_SHA512
#undef tpmHashStateCopy_SHA512
#undef tpmHashStateExport_SHA512
#undef tpmHashStateImport_SHA512
#define tpmHashStart_SHA512 exactStart_SHA512
#define tpmHashData_SHA512 exactData_SHA512
#define tpmHashEnd_SHA512 exactEnd_SHA512
#define tpmHashStateCopy_SHA512 exactCopy
#define tpmHashStateExport_SHA512 exactCopy
#define tpmHashStateImport_SHA512 exactCopy

#endif
