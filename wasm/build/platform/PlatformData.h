// What the reference code wants to know about the platform's clock and memory.
#ifndef EVE_TPM_PLATFORM_DATA_H
#define EVE_TPM_PLATFORM_DATA_H

#include "TpmProfile.h"

// Ticks per ms, and how far TPM2_ClockRateAdjust moves them: 1 %, 0.1 %, the least, and the bound of all moves.
#define CLOCK_NOMINAL 30000
#define CLOCK_ADJUST_COARSE 300
#define CLOCK_ADJUST_MEDIUM 30
#define CLOCK_ADJUST_FINE 1
#define CLOCK_ADJUST_LIMIT 5000

extern unsigned char s_NV[NV_MEMORY_SIZE];

#endif
