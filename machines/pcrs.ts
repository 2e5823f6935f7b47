// Which PCRs EVE works with, SHA-256 bank.

/** What a quote covers: all that the static root of trust measures. */
export const eveQuotePcrs: readonly number[] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/** EVE's default seal: without 5, whose GPT attributes change with the slots, and 15, which is the OS's own. */
export const eveSealPcrs: readonly number[] = [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14];

/** What a baseline holds a device to: firmware, boot loader, kernel, root file system, /config. */
export const evePolicyPcrs: readonly number[] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14];
