// Time stands still in the exploration: every stamp is the same. What has an end may end at any moment, in any order, whatever
// numbers the charts put into it; so every order of events that some clock could bring about is among those that are tried.

/** ms since the epoch. */
export const now = Date.UTC(2026, 0, 1);

/** Later than anything that was set to end. */
export const tooLate = now + 365 * 24 * 3600 * 1000;
