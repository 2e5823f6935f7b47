// What of the memory of each chart decides what it can do from here on. Left out is what no guard, no port and no reader of a
// publication ever looks at: numbers of tries, the time, reasons, and what the state that the chart is in has no use for.
import type { AttestTaskContext } from '../../machines/attest-task.ts';
import type { BaseOsContext, Slots } from '../../machines/base-os.ts';
import type { ClientContext } from '../../machines/client.ts';
import type { ConfigTaskContext } from '../../machines/config-task.ts';
import type { DeviceRecordContext } from '../../machines/device-record.ts';
import type { BaseOsConfig } from '../../machines/flow.ts';
import type { InfoTaskContext } from '../../machines/info-task.ts';
import type { TpmManagerContext } from '../../machines/tpm-manager.ts';
import type { VaultManagerContext } from '../../machines/vault-manager.ts';
import { now } from './time.ts';

function regionOf(value: unknown): string {
  return typeof value === 'string' ? value : (Object.keys(value as object)[0] ?? '');
}

export const essences = {
  'attest-task': (context: AttestTaskContext, value: unknown) => {
    const { cert, certified, challenge, proof, nonce, tokenHash, trusted, keyId, escrowed, key } = context;
    const state = regionOf(value);
    // An attempt begins with neither nonce nor token, and what it knew is forgotten with it.
    const attempting = state === 'internalQuoteWait' || state === 'attestWait';
    return [
      [cert, certified, context.restartPending, context.rotate, trusted?.tokenHash, keyId],
      [escrowed?.keyId, escrowed?.version, key?.keyId, key?.version],
      state === 'none' ? [challenge?.id, proof] : [],
      attempting ? [nonce, tokenHash] : [],
    ];
  },
  'tpm-manager': ({ cert, quote, activation, ...context }: TpmManagerContext) => [
    [cert?.name, quote?.nonce, quote && 'error' in quote],
    [activation?.challenge, activation && 'error' in activation],
    [context.quoteRequest, context.challenge?.id, context.quoting, context.activating?.id],
  ],
  // Tokens are compared with the one that is here, and with nothing else.
  'vault-manager': (context: VaultManagerContext) => [
    [context.unlockedBy, context.exported?.keyId, context.exported?.rotating, context.received?.keyId],
    [context.tokenHash, context.storedToken === context.tokenHash, context.rotatedFor === context.tokenHash],
    [context.rotate, context.committed],
  ],
  'info-task': ({ pending, sending, key, request, escrowing, escrowed, refused }: InfoTaskContext) => [
    [pending, sending, key?.keyId, request?.keyId, request?.tokenHash],
    [escrowing?.keyId, escrowing?.tokenHash, escrowed, refused?.keyId],
  ],
  'config-task': (context: ConfigTaskContext, value: unknown) => [
    [context.tokenHash, context.asked, context.pushed, context.version, context.source],
    // Shown in one state alone, and made anew with each entry to it.
    [imageOf(context.baseOs), context.full > 0, value === 'forbidden' ? context.forbidden.tokenHash : null],
    context.reply && [context.reply.kind, context.reply.version, imageOf(context.reply.baseOs)],
  ],
  'base-os': (context: BaseOsContext) => [
    [context.slots && slotsOf(context.slots), imageOf(context.wanted), imageOf(context.installing)],
    [context.reboot, context.committed],
  ],
  client: ({ certificates, registered, uuid }: ClientContext) => [certificates, registered, uuid !== null],
  'device-record': (context: DeviceRecordContext) => {
    const { pending, nonce, attempt, token, verdict, escrow, upgrade, config } = context;
    return [
      [context.active, context.identity?.akName, context.reenrol, context.account?.id],
      pending && [pending.challenge, pending.until > now, pending.tries, pending.identity.akName],
      nonce && [nonce.hash, nonce.until > now],
      attempt && [attempt.id, attempt.tokenHash, attempt.request.id],
      token && [token.hash, token.until > now],
      [context.baseline?.versions.image, context.candidate?.versions.image, context.acceptance?.pcrs],
      verdict && [verdict.accepted, verdict.genuine, verdict.pcrs],
      [escrow[0]?.keyId, escrow[0]?.version, context.rotate],
      [upgrade?.to, upgrade?.baseOs.retryCounter, config.version, imageOf(config.baseOs)],
    ];
  },
} as const;

function imageOf(baseOs: BaseOsConfig | null): string {
  return baseOs ? `${baseOs.version} ${baseOs.retryCounter}` : '';
}

function slotsOf({ current, other, trial, failed }: Slots): unknown {
  return [current, other, trial !== null, failed?.version, failed?.retryCounter];
}
