#include "addon.h"

#include <string.h>

napi_value make_error(napi_env env, const char *code, const char *message) {
  napi_value code_value, message_value, error;
  if (napi_create_string_utf8(env, code, NAPI_AUTO_LENGTH, &code_value) != napi_ok ||
      napi_create_string_utf8(env, message, NAPI_AUTO_LENGTH, &message_value) != napi_ok ||
      napi_create_error(env, code_value, message_value, &error) != napi_ok)
    return NULL;
  return error;
}

napi_value throw_error(napi_env env, const char *code, const char *message) {
  napi_throw_error(env, code, message);
  return NULL;
}

bool get_bytes(napi_env env, napi_value value, size_t least, size_t most, uint8_t **bytes, size_t *size) {
  bool is_typed = false;
  napi_typedarray_type type;
  void *data = NULL;
  if (napi_is_typedarray(env, value, &is_typed) == napi_ok && is_typed &&
      napi_get_typedarray_info(env, value, &type, size, &data, NULL, NULL) == napi_ok &&
      type == napi_uint8_array && data != NULL && *size >= least && *size <= most) {
    *bytes = data;
    return true;
  }
  napi_throw_range_error(env, "ERR_OUT_OF_RANGE", "a Uint8Array of a size that fits");
  return false;
}

napi_value make_bytes(napi_env env, const uint8_t *bytes, size_t size) {
  void *data;
  napi_value buffer, array;
  if (napi_create_arraybuffer(env, size, &data, &buffer) != napi_ok) return NULL;
  memcpy(data, bytes, size);
  return napi_create_typedarray(env, napi_uint8_array, size, buffer, 0, &array) == napi_ok ? array : NULL;
}

bool get_text(napi_env env, napi_value value, char *text, size_t most) {
  size_t size = 0;
  if (napi_get_value_string_utf8(env, value, NULL, 0, &size) == napi_ok && size >= 1 && size <= most &&
      napi_get_value_string_utf8(env, value, text, most + 1, &size) == napi_ok && strlen(text) == size)
    return true;
  napi_throw_range_error(env, "ERR_OUT_OF_RANGE", "a text of a length that fits, without NUL");
  return false;
}

bool set_function(napi_env env, napi_value object, const char *name, napi_callback function) {
  napi_value value;
  return napi_create_function(env, name, NAPI_AUTO_LENGTH, function, NULL, &value) == napi_ok &&
         napi_set_named_property(env, object, name, value) == napi_ok;
}

bool set_number(napi_env env, napi_value object, const char *name, double number) {
  napi_value value;
  return napi_create_double(env, number, &value) == napi_ok &&
         napi_set_named_property(env, object, name, value) == napi_ok;
}

NAPI_MODULE_INIT() {
  if (!set_number(env, exports, "revision", EVE_ADDON_REVISION) || !export_tcti(env, exports) ||
      !export_fscrypt(env, exports))
    return throw_error(env, "ERR_ADDON", "the addon could not be set up");
  return exports;
}
