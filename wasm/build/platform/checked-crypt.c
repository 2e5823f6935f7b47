// crypt/CryptUtil.c with the two checks it lacks. Its functions get another name, and ours with theirs stand
// in front, so that the file itself stays as it came.
#define CryptParameterDecryption uncheckedParameterDecryption
#define CryptSign uncheckedSign
#include "crypt/CryptUtil.c"
#undef CryptParameterDecryption
#undef CryptSign

// CVE-2023-1017 (write) and CVE-2023-1018 (read): the two bytes of the size field were taken for part of the
// parameter, so that decryption went two bytes past the end of the command.
TPM_RC CryptParameterDecryption(TPM_HANDLE handle, TPM2B *nonceCaller, UINT32 bufferSize,
                                UINT16 leadingSizeInByte, TPM2B_AUTH *extraKey, BYTE *buffer) {
  if (leadingSizeInByte == 2) {
    if (bufferSize < 2) return TPM_RC_INSUFFICIENT;
    if (BYTE_ARRAY_TO_UINT16(buffer) > bufferSize - 2) return TPM_RC_SIZE;
  }
  return uncheckedParameterDecryption(handle, nonceCaller, bufferSize, leadingSizeInByte, extraKey, buffer);
}

// CVE-2025-2884: a keyed-hash key used with an asymmetric scheme read the scheme's union as another type.
TPM_RC CryptSign(OBJECT *signKey, TPMT_SIG_SCHEME *signScheme, TPM2B_DIGEST *digest, TPMT_SIGNATURE *signature) {
  if (signKey != NULL && signKey->publicArea.type == ALG_KEYEDHASH_VALUE &&
      signScheme->scheme != ALG_NULL_VALUE && signScheme->scheme != ALG_HMAC_VALUE)
    return TPM_RC_SCHEME;
  return uncheckedSign(signKey, signScheme, digest, signature);
}
