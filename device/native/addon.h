// What the files of the addon share. Plain C against Node-API 8: one build serves every Node, glibc and musl alike, and
// nothing here belongs to one thread, so that worker threads may load it as well.
#ifndef EVE_ADDON_H
#define EVE_ADDON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#ifndef NAPI_VERSION
#define NAPI_VERSION 8
#endif
#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Raised with each change of what the addon offers; addon.ts refuses another one.
#define EVE_ADDON_REVISION 1

// Sets a pending exception with this code and returns NULL.
napi_value throw_error(napi_env env, const char *code, const char *message);

// An Error with this code; NULL when there is no way to make one any more.
napi_value make_error(napi_env env, const char *code, const char *message);

// Bytes of a Uint8Array of least to most bytes; throws RangeError and returns false otherwise.
bool get_bytes(napi_env env, napi_value value, size_t least, size_t most, uint8_t **bytes, size_t *size);

// A Uint8Array with a copy of the bytes, NULL on failure. No Buffer: its slice() is a view, and that of all others a copy.
napi_value make_bytes(napi_env env, const uint8_t *bytes, size_t size);

// A string of 1 to most bytes without NUL into a buffer of most + 1; throws and returns false otherwise.
bool get_text(napi_env env, napi_value value, char *text, size_t most);

bool set_function(napi_env env, napi_value object, const char *name, napi_callback function);
bool set_number(napi_env env, napi_value object, const char *name, double number);

bool export_tcti(napi_env env, napi_value exports);
bool export_fscrypt(napi_env env, napi_value exports);

#endif
