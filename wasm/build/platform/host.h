// All that the module imports.
#ifndef EVE_TPM_HOST_H
#define EVE_TPM_HOST_H

#include <stdint.h>

#define HOST(name) __attribute__((import_module("host"), import_name(name)))

// Fills the buffer with random bytes that become seeds, keys and nonces.
HOST("entropy") void host_entropy(uint8_t *bytes, uint32_t size);
// The same for numbers that only blind a computation and never reach a result. Apart from the other, because
// how many of them OpenSSL draws must not change what a seeded TPM answers.
HOST("blinding") void host_blinding(uint8_t *bytes, uint32_t size);
// Milliseconds since any epoch, never backwards.
HOST("now") double host_now(void);
// Leaves the TPM by an exception: name of the function, line, failure code.
HOST("fail") _Noreturn void host_fail(uint32_t function, uint32_t line, uint32_t code);

#endif
