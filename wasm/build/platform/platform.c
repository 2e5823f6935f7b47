// The machine this TPM sits in: NV memory, clock, entropy, locality, failure; and the functions its host calls.
// Last file of the translation unit, because it looks at the reference code's own state.
#include <stdlib.h>
#include <string.h>
#include "host.h"

#define EXPORT(name) __attribute__((export_name(name)))

// Contexts of objects and sessions have to fit in TPMS_CONTEXT_DATA: integrity, size and the larger structure.
#define CONTEXT_BLOB_SIZE \
  ((MAX(MAX(sizeof(HASH_OBJECT), sizeof(OBJECT)), sizeof(SESSION)) + 8 + 2 + CONTEXT_INTEGRITY_HASH_SIZE + 7) / 8 * 8)
_Static_assert(CONTEXT_BLOB_SIZE == MAX_CONTEXT_SIZE, "MAX_CONTEXT_SIZE in config.h has to match the profile");

unsigned char s_NV[NV_MEMORY_SIZE];
static bool s_nvTouched;
static uint32_t s_nvGeneration;

static uint8_t s_command[MAX_COMMAND_SIZE];
static uint8_t s_response[MAX_RESPONSE_SIZE];
static uint8_t s_locality;
static bool s_physicalPresence;

// Time (Part 1, Timing Components): ms since the last power on, at a rate that commands can adjust.
static double s_hostTime;
static uint64_t s_tpmTime;
static uint64_t s_ticksLeft;
static uint32_t s_ticksPerMs = CLOCK_NOMINAL;
static bool s_timerWasReset;

void _plat__TimerReset(void) {
  s_hostTime = host_now();
  s_tpmTime = 0;
  s_ticksLeft = 0;
  s_ticksPerMs = CLOCK_NOMINAL;
  s_timerWasReset = true;
}

uint64_t _plat__TimerRead(void) {
  double now = host_now();
  if (now < s_hostTime) s_hostTime = now;
  uint64_t elapsed = (uint64_t)(now - s_hostTime);
  s_hostTime += (double)elapsed;
  uint64_t ticks = elapsed * CLOCK_NOMINAL + s_ticksLeft;
  s_tpmTime += ticks / s_ticksPerMs;
  s_ticksLeft = ticks % s_ticksPerMs;
  return s_tpmTime;
}

bool _plat__TimerWasReset(void) {
  bool was = s_timerWasReset;
  s_timerWasReset = false;
  return was;
}

bool _plat__TimerWasStopped(void) { return _plat__TimerWasReset(); }

void _plat__ClockAdjustRate(int ticks) {
  int rate = (int)s_ticksPerMs + ticks;
  if (rate > CLOCK_NOMINAL + CLOCK_ADJUST_LIMIT) rate = CLOCK_NOMINAL + CLOCK_ADJUST_LIMIT;
  if (rate < CLOCK_NOMINAL - CLOCK_ADJUST_LIMIT) rate = CLOCK_NOMINAL - CLOCK_ADJUST_LIMIT;
  s_ticksPerMs = (uint32_t)rate;
}

// NV memory is here in whole; keeping it is the host's work.
static unsigned char *nv(unsigned int start, unsigned int size) {
  if (start > NV_MEMORY_SIZE || size > NV_MEMORY_SIZE - start) __builtin_trap();
  return s_NV + start;
}

int _plat__NVEnable(void *unused) { return 0; }
int _plat__IsNvAvailable(void) { return 0; }
int _plat__NvCommit(void) { return 0; }
void _plat__NvMemoryRead(unsigned int start, unsigned int size, void *data) { memcpy(data, nv(start, size), size); }
int _plat__NvIsDifferent(unsigned int start, unsigned int size, void *data) {
  return memcmp(nv(start, size), data, size) != 0;
}
bool _plat__NvMemoryWrite(unsigned int start, unsigned int size, void *data) {
  if (_plat__NvIsDifferent(start, size, data)) {
    memcpy(nv(start, size), data, size);
    s_nvTouched = true;
  }
  return true;
}
void _plat__NvMemoryClear(unsigned int start, unsigned int size) {
  memset(nv(start, size), 0xff, size);
  s_nvTouched = true;
}
void _plat__NvMemoryMove(unsigned int from, unsigned int to, unsigned int size) {
  memmove(nv(to, size), nv(from, size), size);
  s_nvTouched = true;
}

int _plat__IsCanceled(void) { return 0; }
int _plat__WasPowerLost(void) { return 1; }
int _plat__PhysicalPresenceAsserted(void) { return s_physicalPresence; }
uint8_t _plat__LocalityGet(void) { return s_locality; }
int32_t _plat__GetEntropy(uint8_t *bytes, uint32_t size) {
  if (size) host_entropy(bytes, size);
  return (int32_t)size;
}
_Noreturn void _plat__Fail(void) { host_fail(s_failFunction, s_failLine, s_failCode); }

static void countNvChange(void) {
  if (s_nvTouched) s_nvGeneration++;
  s_nvTouched = false;
}

EXPORT("tpm_command") uint8_t *tpm_command(void) { return s_command; }
EXPORT("tpm_response") uint8_t *tpm_response(void) { return s_response; }
EXPORT("tpm_nv") uint8_t *tpm_nv(void) { return s_NV; }
EXPORT("tpm_nv_generation") uint32_t tpm_nv_generation(void) { return s_nvGeneration; }
EXPORT("tpm_in_failure_mode") uint32_t tpm_in_failure_mode(void) { return g_inFailureMode; }

// New seeds, empty NV memory. Returns 0 when done.
EXPORT("tpm_manufacture") int32_t tpm_manufacture(void) {
  memset(s_NV, 0xff, sizeof s_NV);
  s_nvTouched = true;
  _plat__TimerReset();
  TPM_TearDown();
  int result = TPM_Manufacture(TRUE);
  countNvChange();
  return result;
}

// The host has filled tpm_nv() with a memory that was manufactured before.
EXPORT("tpm_adopt_nv") void tpm_adopt_nv(void) { g_manufactured = TRUE; }

// _TPM_Init. Returns 0 when the TPM waits for Startup.
EXPORT("tpm_power_on") int32_t tpm_power_on(void) {
  if (!g_manufactured) return 1;
  g_inFailureMode = FALSE;
  s_locality = 0;
  _plat__TimerReset();
  _TPM_Init();
  countNvChange();
  return g_inFailureMode ? 2 : 0;
}

// Runs the command of `size` bytes in tpm_command(); returns the size of the response in tpm_response().
EXPORT("tpm_execute") uint32_t tpm_execute(uint32_t size, uint32_t locality, uint32_t physicalPresence) {
  unsigned char *response = s_response;
  uint32_t responseSize = sizeof s_response;
  if (size > sizeof s_command) size = sizeof s_command;
  s_locality = (uint8_t)locality;
  s_physicalPresence = physicalPresence != 0;
  ExecuteCommand(size, s_command, &responseSize, &response);
  if (response != s_response) memcpy(s_response, response, responseSize);
  countNvChange();
  return responseSize;
}

// The D-RTM event sequence (Part 1, Dynamic Root of Trust Measurement): locality 4, data from tpm_command().
EXPORT("tpm_hash_start") void tpm_hash_start(void) {
  s_locality = 4;
  _TPM_Hash_Start();
  countNvChange();
}
EXPORT("tpm_hash_data") void tpm_hash_data(uint32_t size) {
  if (size > sizeof s_command) size = sizeof s_command;
  s_locality = 4;
  _TPM_Hash_Data(size, s_command);
}
EXPORT("tpm_hash_end") void tpm_hash_end(void) {
  s_locality = 4;
  _TPM_Hash_End();
  countNvChange();
}

// The numbers that decide whether an NV memory can be read by this build: where its parts lie and how large
// they are, and which source it was built from. After the last one: 0.
EXPORT("tpm_layout") uint32_t tpm_layout(uint32_t index) {
  static const uint32_t layout[] = {
      NV_MEMORY_SIZE,       NV_PERSISTENT_DATA,        NV_STATE_RESET_DATA,       NV_STATE_CLEAR_DATA,
      NV_ORDERLY_DATA,      NV_INDEX_RAM_DATA,         NV_USER_DYNAMIC,           sizeof(PERSISTENT_DATA),
      sizeof(ORDERLY_DATA), sizeof(STATE_RESET_DATA),  sizeof(STATE_CLEAR_DATA),  sizeof(OBJECT),
      sizeof(NV_INDEX),     MAX_NV_INDEX_SIZE,         MAX_CONTEXT_SIZE,          REFERENCE_SOURCE,
  };
  return index < sizeof layout / sizeof *layout ? layout[index] : 0;
}
