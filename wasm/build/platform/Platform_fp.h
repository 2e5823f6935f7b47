// The functions the reference code calls on its platform; platform.c has them.
#ifndef EVE_TPM_PLATFORM_FP_H
#define EVE_TPM_PLATFORM_FP_H

#include <stdbool.h>
#include <stdint.h>

int _plat__IsCanceled(void);
int _plat__WasPowerLost(void);
int _plat__PhysicalPresenceAsserted(void);
uint8_t _plat__LocalityGet(void);
int32_t _plat__GetEntropy(uint8_t *bytes, uint32_t size);
_Noreturn void _plat__Fail(void);

void _plat__TimerReset(void);
uint64_t _plat__TimerRead(void);
bool _plat__TimerWasReset(void);
bool _plat__TimerWasStopped(void);
void _plat__ClockAdjustRate(int ticks);

int _plat__NVEnable(void *unused);
int _plat__IsNvAvailable(void);
void _plat__NvMemoryRead(unsigned int start, unsigned int size, void *data);
int _plat__NvIsDifferent(unsigned int start, unsigned int size, void *data);
bool _plat__NvMemoryWrite(unsigned int start, unsigned int size, void *data);
void _plat__NvMemoryClear(unsigned int start, unsigned int size);
void _plat__NvMemoryMove(unsigned int from, unsigned int to, unsigned int size);
int _plat__NvCommit(void);

#endif
