// A connection to a TPM through the TCG software stack's own loader of transports, which is opened at run time: nothing of
// it is needed to build, and a device without it still runs. Each call that can block is work on a thread of libuv.
// What belongs to a connection is touched by its own thread of JavaScript alone, save what a running job has been given:
// `tcti` and `owed`, of which the other keeps off while `busy`.
#include "addon.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

// [TCG TSS 2.0 TCTI, 3.4: TSS2_TCTI_CONTEXT_COMMON_V1]; this layout is frozen.
typedef struct tcti tcti;
typedef struct {
  int fd;
  short events;
  short revents;
} poll_handle;
struct tcti {
  uint64_t magic;
  uint32_t version;
  uint32_t (*transmit)(tcti *, size_t, const uint8_t *);
  uint32_t (*receive)(tcti *, size_t *, uint8_t *, int32_t);
  void (*finalize)(tcti *);
  uint32_t (*cancel)(tcti *);
  uint32_t (*get_poll_handles)(tcti *, poll_handle *, size_t *);
  uint32_t (*set_locality)(tcti *, uint8_t);
};

enum { for_ever = -1 };
enum { layer_mask = 0xffff, not_implemented = 2 };
enum { smallest_command = 10, largest_message = 4096, longest_name = 255, most_handles = 4 };
// For a TPM that was told to stop; most do at once.
enum { cancel_patience_ms = 2000 };

static struct {
  uint32_t (*initialize)(const char *, tcti **);
  void (*finalize)(tcti **);
  char problem[200];
} loader;
static pthread_once_t loader_once = PTHREAD_ONCE_INIT;

static void load_loader(void) {
  void *library = dlopen("libtss2-tctildr.so.0", RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    const char *why = dlerror();
    snprintf(loader.problem, sizeof loader.problem, "%s", why != NULL ? why : "libtss2-tctildr.so.0 does not load");
    return;
  }
  *(void **)&loader.initialize = dlsym(library, "Tss2_TctiLdr_Initialize");
  *(void **)&loader.finalize = dlsym(library, "Tss2_TctiLdr_Finalize");
  if (loader.initialize == NULL || loader.finalize == NULL) {
    loader.initialize = NULL;
    snprintf(loader.problem, sizeof loader.problem, "libtss2-tctildr.so.0 lacks Tss2_TctiLdr_Initialize");
  }
}

typedef struct {
  tcti *tcti;
  // Readable once somebody cancels.
  int wake;
  // Whether the wait for a response can end before the response comes.
  bool polls;
  // A job runs. One at a time.
  bool busy;
  // The response to a command that nobody waits for any more is still to come.
  bool owed;
  // One for the JavaScript object, one for a running job.
  int references;
} connection;

typedef enum { job_open, job_transmit, job_close } job_kind;

typedef struct {
  job_kind kind;
  connection *connection;
  napi_async_work work;
  napi_deferred deferred;
  int timeout;
  char name[longest_name + 1];
  size_t size;
  uint8_t message[largest_message];
  const char *code;
  char problem[256];
} job;

static const char *const rc_names[] = {
    [1] = "TCTI_GENERAL_FAILURE",   [2] = "TCTI_NOT_IMPLEMENTED",      [3] = "TCTI_BAD_CONTEXT",
    [4] = "TCTI_ABI_MISMATCH",      [5] = "TCTI_BAD_REFERENCE",        [6] = "TCTI_INSUFFICIENT_BUFFER",
    [7] = "TCTI_BAD_SEQUENCE",      [8] = "TCTI_NO_CONNECTION",        [9] = "TCTI_TRY_AGAIN",
    [10] = "TCTI_IO_ERROR",         [11] = "TCTI_BAD_VALUE",           [12] = "TCTI_NOT_PERMITTED",
    [17] = "TCTI_MALFORMED_RESPONSE", [19] = "TCTI_INSUFFICIENT_RESPONSE", [21] = "TCTI_NOT_SUPPORTED",
    [23] = "TCTI_MEMORY",
};

static void fail(job *j, const char *code, const char *problem) {
  j->code = code;
  snprintf(j->problem, sizeof j->problem, "%s", problem);
}

static void fail_rc(job *j, const char *what, uint32_t rc) {
  uint32_t base = rc & layer_mask;
  const char *name = base < sizeof rc_names / sizeof *rc_names ? rc_names[base] : NULL;
  j->code = name != NULL ? name : "TCTI_GENERAL_FAILURE";
  snprintf(j->problem, sizeof j->problem, "%s: %s (0x%08x)", what, j->code, (unsigned)rc);
}

static void connection_finalize(connection *c) {
  if (c->tcti != NULL) loader.finalize(&c->tcti);
  c->tcti = NULL;
}

static void connection_release(connection *c) {
  if (--c->references > 0) return;
  connection_finalize(c);
  if (c->wake >= 0) close(c->wake);
  free(c);
}

static int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// ---- on a thread of libuv ----

typedef enum { wait_ready, wait_timeout, wait_cancelled } wait_result;

static size_t poll_handles(tcti *t, poll_handle *handles) {
  size_t count = 0;
  if (t->get_poll_handles == NULL || t->get_poll_handles(t, NULL, &count) != 0 || count == 0 ||
      count > most_handles || t->get_poll_handles(t, handles, &count) != 0)
    return 0;
  return count;
}

// Until the response can be read. A transport without handles to poll is always ready: its own receive blocks.
static wait_result wait_for_response(connection *c, int timeout, bool cancellable) {
  poll_handle handles[most_handles];
  size_t count = poll_handles(c->tcti, handles);
  if (count == 0) return wait_ready;
  struct pollfd fds[most_handles + 1];
  for (size_t i = 0; i < count; i++) fds[i] = (struct pollfd){.fd = handles[i].fd, .events = POLLIN};
  fds[count] = (struct pollfd){.fd = cancellable ? c->wake : -1, .events = POLLIN};
  int64_t end = now_ms() + timeout;
  for (;;) {
    int64_t left = end - now_ms();
    int ready = poll(fds, count + 1, timeout < 0 ? for_ever : left > 0 ? (int)left : 0);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return wait_timeout;
    return fds[count].revents != 0 ? wait_cancelled : wait_ready;
  }
}

static void drain(connection *c, job *j) {
  uint8_t late[largest_message];
  size_t size = sizeof late;
  uint32_t rc = c->tcti->receive(c->tcti, &size, late, for_ever);
  explicit_bzero(late, sizeof late);
  if (rc == 0) c->owed = false;
  else if (j != NULL) fail_rc(j, "the response to an earlier command cannot be read", rc);
}

static void give_up(connection *c, job *j, wait_result why) {
  uint32_t rc = c->tcti->cancel != NULL ? c->tcti->cancel(c->tcti) : not_implemented;
  if (rc == 0 && wait_for_response(c, cancel_patience_ms, false) == wait_ready) drain(c, NULL);
  if (why == wait_cancelled) fail(j, "TCTI_CANCELLED", "the command was cancelled");
  else fail(j, "TCTI_TIMEOUT", "the TPM gave no response in time");
}

static void run_transmit(job *j) {
  connection *c = j->connection;
  if (c->owed) {
    wait_result earlier = wait_for_response(c, j->timeout, true);
    if (earlier == wait_timeout) return fail(j, "TCTI_BUSY", "the TPM is still busy with an earlier command");
    if (earlier == wait_cancelled) return fail(j, "TCTI_CANCELLED", "the command was cancelled");
    drain(c, j);
    if (c->owed) return;
  }
  uint32_t rc = c->tcti->transmit(c->tcti, j->size, j->message);
  explicit_bzero(j->message, sizeof j->message);
  if (rc != 0) return fail_rc(j, "the command cannot be sent", rc);
  c->owed = true;
  wait_result waited = wait_for_response(c, j->timeout, true);
  if (waited != wait_ready) return give_up(c, j, waited);
  j->size = sizeof j->message;
  rc = c->tcti->receive(c->tcti, &j->size, j->message, for_ever);
  if (rc != 0) return fail_rc(j, "the response cannot be read", rc);
  c->owed = false;
  if (j->size > sizeof j->message) fail(j, "TCTI_MALFORMED_RESPONSE", "the response is longer than any may be");
}

static void run_open(job *j) {
  pthread_once(&loader_once, load_loader);
  if (loader.initialize == NULL) return fail(j, "TCTI_NO_LOADER", loader.problem);
  connection *c = j->connection;
  uint32_t rc = loader.initialize(j->name, &c->tcti);
  if (rc != 0) {
    c->tcti = NULL;
    return fail_rc(j, "the TPM cannot be opened", rc);
  }
  if (c->tcti == NULL || c->tcti->version < 1 || c->tcti->transmit == NULL || c->tcti->receive == NULL)
    return fail(j, "TCTI_ABI_MISMATCH", "the transport has no functions to send and receive");
  poll_handle handles[most_handles];
  c->polls = poll_handles(c->tcti, handles) > 0;
}

static void execute(napi_env env, void *data) {
  (void)env;
  job *j = data;
  if (j->kind == job_open) run_open(j);
  else if (j->kind == job_transmit) run_transmit(j);
  else connection_finalize(j->connection);
}

// ---- on the thread of JavaScript ----

static const napi_type_tag connection_tag = {0x6576652d61747465, 0x73742d7463746900};

static void free_job(job *j) {
  explicit_bzero(j, sizeof *j);
  free(j);
}

static void forget_connection(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  connection *c = data;
  // A job that still runs has nobody left to tell; a wake-up that fails only lets it wait longer.
  if (c->busy) (void)!eventfd_write(c->wake, 1);
  connection_release(c);
}

static connection *this_connection(napi_env env, napi_callback_info info, size_t *count, napi_value *arguments) {
  napi_value self;
  void *data = NULL;
  bool tagged = false;
  if (napi_get_cb_info(env, info, count, arguments, &self, NULL) == napi_ok &&
      napi_check_object_type_tag(env, self, &connection_tag, &tagged) == napi_ok && tagged &&
      napi_unwrap(env, self, &data) == napi_ok)
    return data;
  napi_throw_type_error(env, "ERR_INVALID_THIS", "this is no connection");
  return NULL;
}

static napi_value transmit(napi_env env, napi_callback_info info);
static napi_value cancel(napi_env env, napi_callback_info info);
static napi_value close_connection(napi_env env, napi_callback_info info);

static napi_value make_connection(napi_env env, connection *c) {
  napi_value object, polls;
  if (napi_create_object(env, &object) != napi_ok || napi_get_boolean(env, c->polls, &polls) != napi_ok ||
      napi_set_named_property(env, object, "polls", polls) != napi_ok ||
      !set_function(env, object, "transmit", transmit) || !set_function(env, object, "cancel", cancel) ||
      !set_function(env, object, "close", close_connection) ||
      napi_type_tag_object(env, object, &connection_tag) != napi_ok ||
      napi_wrap(env, object, c, forget_connection, NULL, NULL) != napi_ok)
    return NULL;
  c->references++;
  return object;
}

static napi_value result_of(napi_env env, job *j) {
  napi_value value = NULL;
  if (j->kind == job_open) return make_connection(env, j->connection);
  if (j->kind == job_transmit) return make_bytes(env, j->message, j->size);
  napi_get_undefined(env, &value);
  return value;
}

// Where the environment is being torn down every call fails, and there is nothing to do but to free.
static void complete(napi_env env, napi_status status, void *data) {
  job *j = data;
  connection *c = j->connection;
  c->busy = false;
  if (status != napi_ok && j->code == NULL) fail(j, "TCTI_CANCELLED", "the work never began");
  napi_value value = j->code == NULL ? result_of(env, j) : NULL;
  if (value != NULL) napi_resolve_deferred(env, j->deferred, value);
  else {
    napi_value error = make_error(env, j->code != NULL ? j->code : "ERR_ADDON", j->problem);
    if (error != NULL) napi_reject_deferred(env, j->deferred, error);
  }
  napi_delete_async_work(env, j->work);
  connection_release(c);
  free_job(j);
}

static napi_value start(napi_env env, job *j) {
  napi_value promise, label;
  if (napi_create_promise(env, &j->deferred, &promise) == napi_ok &&
      napi_create_string_utf8(env, "eve:tcti", NAPI_AUTO_LENGTH, &label) == napi_ok &&
      napi_create_async_work(env, NULL, label, execute, complete, j, &j->work) == napi_ok) {
    if (napi_queue_async_work(env, j->work) == napi_ok) {
      j->connection->references++;
      j->connection->busy = true;
      return promise;
    }
    napi_delete_async_work(env, j->work);
  }
  free_job(j);
  return throw_error(env, "ERR_ADDON", "no work can be queued");
}

static job *new_job(job_kind kind, connection *c) {
  job *j = calloc(1, sizeof *j);
  if (j == NULL) return NULL;
  j->kind = kind;
  j->connection = c;
  return j;
}

// Whether the loader may be asked for it: it would open any library by this name, and run any program [tctildr(3)].
static bool allowed(const char *name) {
  static const char *const known[] = {"device", "swtpm", "mssim", "tabrmd"};
  size_t length = strcspn(name, ":");
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (strlen(known[i]) == length && strncmp(name, known[i], length) == 0) return true;
  return false;
}

// openTcti(name) → Promise of a connection
static napi_value open_tcti(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  char name[longest_name + 1];
  if (napi_get_cb_info(env, info, &count, &argument, NULL, NULL) != napi_ok ||
      !get_text(env, argument, name, longest_name))
    return NULL;
  if (!allowed(name)) return throw_error(env, "TCTI_NOT_ALLOWED", "known: device, swtpm, mssim, tabrmd");
  connection *c = calloc(1, sizeof *c);
  job *j = c != NULL ? new_job(job_open, c) : NULL;
  if (j == NULL) {
    free(c);
    return throw_error(env, "ERR_MEMORY_ALLOCATION_FAILED", "out of memory");
  }
  c->references = 1;
  c->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  memcpy(j->name, name, sizeof name);
  napi_value promise = NULL;
  if (c->wake < 0) {
    free_job(j);
    throw_error(env, "EMFILE", "too many open files");
  } else promise = start(env, j);
  connection_release(c);
  return promise;
}

// transmit(command, timeout) → Promise of the response; a timeout in ms, -1 for ever
static napi_value transmit(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  uint8_t *command;
  size_t size;
  int32_t timeout;
  connection *c = this_connection(env, info, &count, arguments);
  if (c == NULL || !get_bytes(env, arguments[0], smallest_command, largest_message, &command, &size)) return NULL;
  if (napi_get_value_int32(env, arguments[1], &timeout) != napi_ok)
    return throw_error(env, "ERR_INVALID_ARG_TYPE", "a timeout in ms");
  if (c->tcti == NULL) return throw_error(env, "TCTI_CLOSED", "the connection is closed");
  if (c->busy) return throw_error(env, "TCTI_BUSY", "a command runs already");
  job *j = new_job(job_transmit, c);
  if (j == NULL) return throw_error(env, "ERR_MEMORY_ALLOCATION_FAILED", "out of memory");
  // What was cancelled before is over.
  eventfd_t before;
  if (eventfd_read(c->wake, &before) != 0) before = 0;
  memcpy(j->message, command, size);
  j->size = size;
  j->timeout = timeout;
  return start(env, j);
}

// cancel(): ends the wait of the command that runs, where the transport lets it end
static napi_value cancel(napi_env env, napi_callback_info info) {
  size_t count = 0;
  connection *c = this_connection(env, info, &count, NULL);
  if (c != NULL && c->busy && eventfd_write(c->wake, 1) != 0)
    return throw_error(env, "ERR_ADDON", "the command cannot be cancelled");
  return NULL;
}

// close() → Promise; the kernel may keep it waiting for a command that nobody waits for any more
static napi_value close_connection(napi_env env, napi_callback_info info) {
  size_t count = 0;
  connection *c = this_connection(env, info, &count, NULL);
  if (c == NULL) return NULL;
  if (c->busy) return throw_error(env, "TCTI_BUSY", "a command runs; cancel it first");
  job *j = new_job(job_close, c);
  return j != NULL ? start(env, j) : throw_error(env, "ERR_MEMORY_ALLOCATION_FAILED", "out of memory");
}

// tctiProblem() → why no TCTI can be opened on this machine, null when there is no reason
static napi_value tcti_problem(napi_env env, napi_callback_info info) {
  (void)info;
  napi_value value = NULL;
  pthread_once(&loader_once, load_loader);
  if (loader.initialize == NULL) napi_create_string_utf8(env, loader.problem, NAPI_AUTO_LENGTH, &value);
  else napi_get_null(env, &value);
  return value;
}

bool export_tcti(napi_env env, napi_value exports) {
  return set_function(env, exports, "openTcti", open_tcti) &&
         set_function(env, exports, "tctiProblem", tcti_problem);
}
