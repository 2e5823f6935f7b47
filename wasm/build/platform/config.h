// The profile of this TPM. Included before every file of the reference code, so that no source needs an edit.
#ifndef EVE_TPM_CONFIG_H
#define EVE_TPM_CONFIG_H

// The reference code does not know wasm32; this has to match OpenSSL's BN_LLONG (THIRTY_TWO_BIT).
#define RADIX_BITS 32
#define USE_BIT_FIELD_STRUCTURES 0
#define HASH_LIB Exact

#define SIMULATION 0
#define DEBUG 0
#define VTPM 0
#define CERTIFYX509_DEBUG 0
// These checks print; platform.c asserts the one size that depends on this profile.
#define COMPILER_CHECKS 0
#define RUNTIME_SIZE_CHECKS 0
// TPM2_GetTestResult tells where the code failed.
#define FAIL_TRACE 1

// Without it each power loss counts as a failed authorization, and three of them lock the TPM out. With it the
// first use of a DA-protected object after Startup answers TPM_RC_RETRY (Part 1, Dictionary Attack Protection), as other TPMs do.
#define USE_DA_USED 1
// TPM_PT_MODES must not claim FIPS 140-2.
#define FIPS_COMPLIANT 0

#define ALG_SHA512 1
#define ECC_NIST_P521 1
#define RSA_3072 1
#define NV_MEMORY_SIZE (64 * 1024)
#define MIN_EVICT_OBJECTS 8
#define MAX_CONTEXT_SIZE 1808

// Nothing is attached, and nothing tests the vendor command.
#define CC_AC_GetCapability 0
#define CC_AC_Send 0
#define CC_Policy_AC_SendSelect 0
#define CC_Vendor_TCG_Test 0

#define _VENDOR_STRING_H
#define MANUFACTURER "WASM"
#define VENDOR_STRING_1 "eve-"
#define VENDOR_STRING_2 "atte"
#define VENDOR_STRING_3 "st\0\0"
#define FIRMWARE_V1 0x00010000
#define FIRMWARE_V2 0x00000000

// All of the TPM is one translation unit. Two of its headers give their types to one file only, named here.
#define _CRYPT_HASH_C_
#define _X509_SPT_

#endif
