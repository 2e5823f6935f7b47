// What eve-attest promises, each as a sentence and the test of it. Asked in every state that is reached, with what happened on
// the way into it.
import type { AttestTaskContext } from '../../machines/attest-task.ts';
import type { BaseOsContext } from '../../machines/base-os.ts';
import type { DeviceRecordContext } from '../../machines/device-record.ts';
import type { Verdict } from '../../machines/flow.ts';
import type { ChartEvent, Standing } from './chart.ts';
import { foreign } from './device.ts';
import type { Fact, Situation } from './situation.ts';

export interface Promised {
  sentence: string;
  kept(situation: Situation, facts: readonly Fact[]): boolean;
}

/** Whether a chart stands in a state, named as `attestWait` or `attestWait.sending`. */
export function stands({ value }: Standing, ...states: string[]): boolean {
  return states.some((state) => {
    let inner: unknown = value;
    for (const name of state.split('.')) {
      if (inner === name) inner = undefined;
      else if (typeof inner === 'object' && inner !== null && name in inner)
        inner = (inner as Record<string, unknown>)[name];
      else return false;
    }
    return true;
  });
}

const attest = (standing: Standing) => standing.context as unknown as AttestTaskContext;
const record = (standing: Standing) => standing.context as unknown as DeviceRecordContext;

/** States that wait for an event and may: nothing is left to do in them. */
const resting: Record<string, string[]> = {
  'vault-manager': ['unlocked.idle'],
  'tpm-manager': ['ready.idle'],
  'info-task': ['idle'],
  'base-os': ['idle'],
  client: ['provisioned'],
};

type EventFact = Extract<Fact, { kind: 'event' }>;

function eventsOf(facts: readonly Fact[], chart: string, type: string): EventFact[] {
  return facts.filter(
    (fact): fact is EventFact =>
      fact.kind === 'event' && fact.chart.name === chart && fact.event.type === type,
  );
}

function verdictOf(event: ChartEvent): Verdict | null {
  return event.type === 'verdict.given' ? (event.verdict as Verdict) : null;
}

export const promises: readonly Promised[] = [
  {
    sentence: 'no key is released without a trusted verdict on the evidence that asked for it',
    kept: (_, facts) =>
      facts.every((fact) => {
        if (fact.kind !== 'reply' || fact.reply.body?.kind !== 'verdict' || fact.reply.body.key === null)
          return true;
        const verdict = verdictOf(fact.event);
        return verdict?.genuine === true && verdict.accepted;
      }),
  },
  {
    sentence: 'no full configuration goes out without the token of the last trusted verdict',
    kept: ({ cast }, facts) =>
      facts.every((fact) => {
        if (fact.kind !== 'event' || fact.chart !== cast.record || fact.event.type !== 'config.requested')
          return true;
        const full = fact.step.actions.some(({ type, params }) => {
          const { body, status } = params as { body?: { partial?: boolean }; status?: string };
          return type === 'reply' && (status === 'unchanged' || body?.partial === false);
        });
        const { token, verdict } = record(fact.before);
        return !full || (verdict?.accepted === true && token !== null && token.hash === fact.event.tokenHash);
      }),
  },
  {
    sentence: 'software that nobody accepted gets no full configuration from EVC',
    kept: ({ rest: { device }, recordContext }) =>
      device.software !== foreign ||
      device.applied !== 'full' ||
      recordContext.baseline?.versions.image === foreign,
  },
  {
    sentence: 'software that nobody accepted never opens the vault',
    kept: (situation) =>
      situation.rest.device.software !== foreign ||
      !stands(situation.of('vault-manager'), 'unlocked') ||
      situation.recordContext.baseline?.versions.image === foreign,
  },
  {
    sentence: 'EVC trusts what it accepted, and nothing else',
    kept: ({ record: standing }) => {
      const { baseline, candidate, verdict, upgraded } = record(standing);
      const shown = verdict?.pcrs['0'];
      // An approval outlives its window: the next attestation decides.
      const wanted = [baseline, candidate].map((state) => state?.versions.image);
      return !stands(standing, 'integrity.trusted') || wanted.includes(shown) || upgraded?.to === shown;
    },
  },
  {
    sentence: 'a device never waits for ever',
    kept: ({ cast, standings }) =>
      standings.every((standing, index) => {
        const chart = cast.charts[index]?.name ?? '';
        return standing.sleeps || standing.invoked.length > 0 || stands(standing, ...(resting[chart] ?? []));
      }),
  },
  { sentence: 'no event breaks a chart', kept: ({ rest }) => rest.broken === null },
  {
    sentence: 'a restart that is asked for counts, whenever it comes',
    kept: (_, facts) =>
      eventsOf(facts, 'attest-task', 'restart').every(
        ({ step: { to } }) => attest(to).restartPending || stands(to, 'none', 'nonceWait', 'restartWait'),
      ),
  },
  {
    sentence: 'a restart that waits is begun as soon as nothing is in flight',
    kept: (situation) => {
      const standing = situation.of('attest-task');
      const inFlight =
        standing.invoked.length > 0 ||
        stands(standing, 'internalQuoteWait.quoting', 'attestEscrowWait.escrowing');
      // Who asks for a nonce is at the beginning.
      return !attest(standing).restartPending || inFlight || stands(standing, 'none', 'nonceWait');
    },
  },
  {
    sentence: 'a quote that EVC refused is never sent again',
    kept: (_, facts) =>
      eventsOf(facts, 'attest-task', 'xstate.done.actor.sendQuote').every(({ event, step: { to } }) => {
        const { code } = (event.output as { value: { code: string } }).value;
        return code === 'success' || !stands(to, 'attestWait');
      }),
  },
  {
    sentence: 'a quote is believed for the nonce that it bears, and for no other',
    kept: (_, facts) =>
      eventsOf(facts, 'attest-task', 'quote.made').every(
        ({ event, before, step: { to } }) =>
          !stands(to, 'attestWait') || stands(before, 'attestWait') || attest(before).nonce === event.nonce,
      ),
  },
  {
    sentence: 'a device that is complete has its key with EVC',
    kept: (situation) => {
      const standing = situation.of('attest-task');
      const { keyId, escrowed } = attest(standing);
      return !stands(standing, 'complete') || keyId === null || escrowed?.keyId === keyId;
    },
  },
  {
    sentence: 'a device that is complete attests again by itself, before trust ends',
    kept: (situation) => {
      const standing = situation.of('attest-task');
      const { waiting, trusted } = attest(standing);
      return (
        !stands(standing, 'complete') ||
        (standing.sleeps && waiting !== null && waiting.until < (trusted?.until ?? Infinity))
      );
    },
  },
  {
    sentence: 'the key that EVC would send opens the vault',
    kept: ({ recordContext, rest: { device } }) => {
      const [newest] = recordContext.escrow;
      return (
        newest === undefined ||
        device.vault.present !== 'present' ||
        device.vault.admits.includes(newest.keyId)
      );
    },
  },
  {
    sentence: 'a vault that was made can be opened: by a seal for what is in a slot, or by EVC',
    kept: ({ recordContext, rest: { device } }) => {
      const { present, current, previous, admits, open } = device.vault;
      if (present !== 'present' || open !== null) return true;
      const images = Object.values(
        (device.slots as { slots: Record<string, { version: string }> }).slots,
      ).map(({ version }) => version);
      const sealed = [current, previous].some(
        (seal) => seal && admits.includes(seal.key) && images.includes(seal.software),
      );
      return (
        sealed || recordContext.escrow.some(({ keyId }) => admits.includes(keyId)) || images.includes(foreign)
      );
    },
  },
  {
    sentence: 'a trial ends when it was said to end, whatever EVC answers',
    kept: (situation) => {
      const standing = situation.of('base-os');
      const { waiting, slots } = standing.context as unknown as BaseOsContext;
      return !stands(standing, 'testing.unapproved') || waiting?.until === slots?.trial?.until;
    },
  },
];

/** Asked by running on without faults: it has no test of its own. */
export const getsThere =
  'once nothing goes wrong any more, a good device gets to complete, and to its configuration';
