// Encryption of a file system by the kernel [Documentation/filesystems/fscrypt.rst]: version 2 policies, keys by identifier.
// Every call opens the folder for itself, and gives the name of errno as the code of its error.
#include "addon.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fscrypt.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define ERRNO(name) [name] = #name
static const char *const errno_names[] = {
    ERRNO(EPERM),      ERRNO(ENOENT),    ERRNO(EIO),       ERRNO(EBADF),   ERRNO(ENOMEM),      ERRNO(EACCES),
    ERRNO(EBUSY),      ERRNO(EEXIST),    ERRNO(ENODEV),    ERRNO(ENOTDIR), ERRNO(EINVAL),      ERRNO(EMFILE),
    ERRNO(ENOTTY),     ERRNO(ENOSPC),    ERRNO(EROFS),     ERRNO(ENOSYS),  ERRNO(ENOTEMPTY),   ERRNO(ELOOP),
    ERRNO(ENAMETOOLONG), ERRNO(ENODATA), ERRNO(ENOPKG),    ERRNO(EBADMSG), ERRNO(EOPNOTSUPP),  ERRNO(EDQUOT),
    ERRNO(ENOKEY),     ERRNO(EKEYREJECTED), ERRNO(EMSGSIZE), ERRNO(EUSERS), ERRNO(EOVERFLOW),
};

static napi_value throw_errno(napi_env env, int error, const char *call, const char *folder) {
  char message[PATH_MAX + 160];
  const char *name = error > 0 && (size_t)error < sizeof errno_names / sizeof *errno_names ? errno_names[error] : NULL;
  char number[16];
  snprintf(number, sizeof number, "E%d", error);
  snprintf(message, sizeof message, "%s: %s, %s '%s'", name != NULL ? name : number, strerror(error), call, folder);
  return throw_error(env, name != NULL ? name : number, message);
}

typedef struct {
  char folder[PATH_MAX];
  uint8_t *bytes;
  size_t size;
  int fd;
} request;

// (folder[, bytes]): opens the folder; throws and returns false when it does not.
static bool open_request(napi_env env, napi_callback_info info, request *r, size_t least, size_t most) {
  size_t count = 2;
  napi_value arguments[2];
  if (napi_get_cb_info(env, info, &count, arguments, NULL, NULL) != napi_ok ||
      !get_text(env, arguments[0], r->folder, sizeof r->folder - 1) ||
      (most > 0 && !get_bytes(env, arguments[1], least, most, &r->bytes, &r->size)))
    return false;
  r->fd = open(r->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (r->fd < 0) throw_errno(env, errno, "open", r->folder);
  return r->fd >= 0;
}

// Asks the kernel, and closes the folder. Returns errno, or 0.
static int ask(request *r, unsigned long command, void *argument) {
  // glibc wants an unsigned long here and musl an int; the kernel looks at 32 bits.
  int error = ioctl(r->fd, (int)command, argument) != 0 ? errno : 0;
  close(r->fd);
  return error;
}

static napi_value identifier_of(napi_env env, const uint8_t *identifier) {
  return make_bytes(env, identifier, FSCRYPT_KEY_IDENTIFIER_SIZE);
}

static napi_value number_of(napi_env env, uint32_t number) {
  napi_value value = NULL;
  napi_create_uint32(env, number, &value);
  return value;
}

// addKey(folder, key of 32 to 64 bytes) → its identifier
static napi_value add_key(napi_env env, napi_callback_info info) {
  request r;
  if (!open_request(env, info, &r, 32, FSCRYPT_MAX_KEY_SIZE)) return NULL;
  union {
    struct fscrypt_add_key_arg arg;
    uint8_t room[sizeof(struct fscrypt_add_key_arg) + FSCRYPT_MAX_KEY_SIZE];
  } key;
  memset(&key, 0, sizeof key);
  key.arg.key_spec.type = FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER;
  key.arg.raw_size = (uint32_t)r.size;
  memcpy(key.room + offsetof(struct fscrypt_add_key_arg, raw), r.bytes, r.size);
  int error = ask(&r, FS_IOC_ADD_ENCRYPTION_KEY, &key.arg);
  napi_value value = error != 0 ? throw_errno(env, error, "FS_IOC_ADD_ENCRYPTION_KEY", r.folder)
                                : identifier_of(env, key.arg.key_spec.u.identifier);
  explicit_bzero(&key, sizeof key);
  return value;
}

// (folder, identifier) → what the kernel says about that key, by removing it or by looking
static napi_value ask_about_key(napi_env env, napi_callback_info info, bool remove) {
  request r;
  if (!open_request(env, info, &r, FSCRYPT_KEY_IDENTIFIER_SIZE, FSCRYPT_KEY_IDENTIFIER_SIZE)) return NULL;
  struct fscrypt_key_specifier key = {.type = FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER};
  memcpy(key.u.identifier, r.bytes, r.size);
  struct fscrypt_remove_key_arg removal = {.key_spec = key};
  struct fscrypt_get_key_status_arg status = {.key_spec = key};
  int error = remove ? ask(&r, FS_IOC_REMOVE_ENCRYPTION_KEY, &removal) : ask(&r, FS_IOC_GET_ENCRYPTION_KEY_STATUS, &status);
  if (error != 0)
    return throw_errno(env, error, remove ? "FS_IOC_REMOVE_ENCRYPTION_KEY" : "FS_IOC_GET_ENCRYPTION_KEY_STATUS", r.folder);
  return number_of(env, remove ? removal.removal_status_flags : status.status);
}

// removeKey(folder, identifier) → FSCRYPT_KEY_REMOVAL_STATUS_FLAG_*
static napi_value remove_key(napi_env env, napi_callback_info info) {
  return ask_about_key(env, info, true);
}

// keyStatus(folder, identifier) → FSCRYPT_KEY_STATUS_*
static napi_value key_status(napi_env env, napi_callback_info info) {
  return ask_about_key(env, info, false);
}

// setPolicy(folder, identifier): the empty folder, and all that will be in it, under this key
static napi_value set_policy(napi_env env, napi_callback_info info) {
  request r;
  if (!open_request(env, info, &r, FSCRYPT_KEY_IDENTIFIER_SIZE, FSCRYPT_KEY_IDENTIFIER_SIZE)) return NULL;
  struct fscrypt_policy_v2 policy = {
      .version = FSCRYPT_POLICY_V2,
      .contents_encryption_mode = FSCRYPT_MODE_AES_256_XTS,
      .filenames_encryption_mode = FSCRYPT_MODE_AES_256_CTS,
      .flags = FSCRYPT_POLICY_FLAGS_PAD_32,
  };
  memcpy(policy.master_key_identifier, r.bytes, r.size);
  int error = ask(&r, FS_IOC_SET_ENCRYPTION_POLICY, &policy);
  if (error != 0) throw_errno(env, error, "FS_IOC_SET_ENCRYPTION_POLICY", r.folder);
  return NULL;
}

// getPolicy(folder) → identifier of its key; null where nothing encrypts it
static napi_value get_policy(napi_env env, napi_callback_info info) {
  request r;
  napi_value none = NULL;
  if (!open_request(env, info, &r, 0, 0)) return NULL;
  struct fscrypt_get_policy_ex_arg arg = {.policy_size = sizeof arg.policy};
  int error = ask(&r, FS_IOC_GET_ENCRYPTION_POLICY_EX, &arg);
  if (error == ENODATA) {
    napi_get_null(env, &none);
    return none;
  }
  if (error != 0) return throw_errno(env, error, "FS_IOC_GET_ENCRYPTION_POLICY_EX", r.folder);
  if (arg.policy.version != FSCRYPT_POLICY_V2)
    return throw_errno(env, EINVAL, "FS_IOC_GET_ENCRYPTION_POLICY_EX (version 2 expected)", r.folder);
  return identifier_of(env, arg.policy.v2.master_key_identifier);
}

bool export_fscrypt(napi_env env, napi_value exports) {
  return set_function(env, exports, "addKey", add_key) && set_function(env, exports, "removeKey", remove_key) &&
         set_function(env, exports, "keyStatus", key_status) && set_function(env, exports, "setPolicy", set_policy) &&
         set_function(env, exports, "getPolicy", get_policy);
}
