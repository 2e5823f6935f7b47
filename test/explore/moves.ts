// What may happen next. Work of the device alone comes first, one port after the other, because it ends long before the next
// message: what can interrupt it is a fault of it, or the power. Everything else may happen in any order.
import type { DeviceRecordContext } from '../../machines/device-record.ts';
import { hour } from '../../machines/waiting.ts';
import { foreign, imageOf, newImage, oddImage, slotsOf } from './device.ts';
import { failed, judge } from './evc.ts';
import type { Message, Situation } from './situation.ts';
import { now } from './time.ts';

export interface Move {
  /** As a counterexample tells it. */
  name: string;
  /** Whether something goes wrong in it, or somebody does something that need not happen. */
  fault: boolean;
  /** `drop`: a message that nobody waits for ends. `wait`, `timer`: time passes. The rest happens by itself. */
  kind: 'work' | 'net' | 'evc' | 'late' | 'drop' | 'wait' | 'timer' | 'fault';
  /** Of what waits: the index of the chart, or the name of the timer. */
  whose?: number | string;
  make(situation: Situation): void;
}

/** A kind of fault that may happen as long as any may. */
export const any = -1;

/** Ports of the device that take their time, so that anything may come meanwhile. */
const slowPorts = new Set(['makeQuote', 'activateCredential', 'fetchImage']);
const remotePorts = new Set([
  ...['register', 'fetchUuid', 'sendCertificate', 'sendProof', 'requestNonce', 'sendQuote'],
  ...['storeKey', 'requestConfig', 'sendInfo', 'fetchCertificates'],
]);

export function movesFrom(situation: Situation): Move[] {
  const { cast, standings, rest } = situation;
  const { left } = rest;
  const moves: Move[] = [];
  const add = (kind: Move['kind'], name: string, make: Move['make'], whose?: number | string) =>
    moves.push({ name, fault: false, kind, make, ...(whose === undefined ? {} : { whose }) });
  const fault = (kind: string, name: string, make: Move['make']) => {
    // What a person does is counted one by one, and what goes wrong in all.
    const count = left[kind] === any ? 'faults' : kind;
    if (left[kind] === undefined || (left[count] ?? 0) <= 0) return;
    const spent = (next: Situation) => {
      const budget = next.owned('left');
      budget[count] = (budget[count] ?? 0) - 1;
      make(next);
    };
    moves.push({ name, fault: true, kind: 'fault', make: spent });
  };
  const powerMoves = () => {
    fault('power', 'the power goes, and comes back', (next) => next.powerOn('power'));
    fault('tamper', 'the power goes, and other software boots', (next) => {
      const slots = next.owned('device').slots as {
        booted: 'IMGA' | 'IMGB';
        slots: Record<string, { version: string }>;
      };
      const slot = slots.slots[slots.booted];
      if (slot) slot.version = foreign;
      next.powerOn('tampered');
    });
  };

  if (situation.has('base-os') && (situation.of('base-os').shown.RebootRequest ?? 'null') !== 'null') {
    add('work', 'the device reboots', (next) => next.powerOn('reboot'));
    powerMoves();
    return moves;
  }

  const slow: Move[] = [];
  for (const [index, { invoked }] of standings.entries()) {
    for (const port of invoked) {
      if (remotePorts.has(port.port)) continue;
      const name = `${cast.charts[index]?.name} ${port.port}`;
      if (slowPorts.has(port.port)) {
        slow.push({
          name: `${name} is done`,
          fault: false,
          kind: 'work',
          make: (next) => next.perform(index, port),
        });
        fault('device', `${name} fails`, (next) => next.answer(index, port.id, failed('tpm.failed')));
        continue;
      }
      add('work', `${name} is done`, (next) => next.perform(index, port));
      fault('device', `${name} fails`, (next) => next.answer(index, port.id, failed('internal.error')));
      powerMoves();
      return moves;
    }
  }
  moves.push(...slow);
  powerMoves();

  for (const [place, message] of rest.net.entries()) messageMoves(message, place);
  for (const [index, { invoked }] of standings.entries()) {
    for (const { id, port } of invoked) {
      if (!remotePorts.has(port)) continue;
      const name = `${cast.charts[index]?.name} ${port}`;
      if (port === 'fetchCertificates') {
        add('work', `${name} is done`, (next) => next.answer(index, id, { ok: null }));
        continue;
      }
      const out = rest.net.findIndex(
        (message) =>
          message.chart === index && message.port === id && message.awaited && answered(situation, message),
      );
      if (out < 0)
        add('late', `${name} is not answered in time`, (next) =>
          next.answer(index, id, failed('link.timeout')),
        );
      else if (rest.net[out]?.at !== 'down') {
        fault('late', `${name} is given up, and the request goes on`, (next) => {
          next.abandon((message) => message.chart === index && message.port === id);
          next.answer(index, id, failed('link.timeout'));
        });
      }
    }
  }

  for (const { attempt } of rest.evc.judging) {
    add('evc', `EVC judges ${attempt.id}`, (next) => judgeNow(next, attempt.id, 0));
    fault('evc', `EVC judges ${attempt.id}, is killed, and judges it again`, (next) => {
      const { judging } = next.rest.evc;
      judgeNow(next, attempt.id, 0);
      next.owned('evc').judging = judging;
    });
    fault('race', `EVC judges ${attempt.id} by what was so before`, (next) => judgeNow(next, attempt.id, 1));
  }
  for (const timer of Object.keys(rest.evc.timers).sort()) {
    // The window is longer than the trials that fit into it: that it closes before is a decision of its own.
    if (timer === 'upgrade') {
      fault('window', 'the window of the upgrade closes', (next) => next.timerFires(timer));
      continue;
    }
    add('timer', `the timer of the ${timer} is due`, (next) => next.timerFires(timer), timer);
  }
  for (const [index, standing] of standings.entries()) {
    const name = cast.charts[index]?.name ?? '';
    if (standing.sleeps) {
      const what = (standing.context.waiting as { for: string } | null)?.for ?? 'something';
      add(
        'wait',
        `${name} has waited for ${what}`,
        (next) => next.answer(index, 'wait', { ok: null }),
        index,
      );
    }
    fault('restart', `${name} dies, and starts again`, (next) => next.restart(index));
  }
  if (rest.device.link) fault('cut', 'the connection breaks', (next) => next.cutLink());
  else add('net', 'the connection is back', (next) => next.relink());
  personMoves();
  return moves;

  function messageMoves(message: Message, place: number): void {
    const of = (next: Situation) => next.rest.net[place] as Message;
    const name = `${cast.charts[message.chart]?.name ?? 'EVC'} ${message.port || String(message.body)}`;
    const state = message.awaited ? '' : ', late';
    switch (message.at) {
      case 'up':
        add('net', `${name} reaches EVC${state}`, (next) => next.arrive(of(next)));
        fault('repeat', `${name} reaches EVC twice`, (next) => {
          next.repeat(of(next));
          next.arrive(of(next));
        });
        if (message.awaited) fault('loss', `${name} is lost`, (next) => next.drop(of(next)));
        else add('drop', `${name} is never delivered`, (next) => next.drop(of(next)));
        break;
      case 'down':
        add('net', `${name} is answered`, (next) => next.take(of(next)));
        fault('loss', `the answer to ${name} is lost`, (next) => next.drop(of(next)));
        break;
      case 'push':
        add('net', `${name} is pushed`, (next) => push(next, of(next)));
        fault('loss', `the push of ${name} is lost`, (next) => next.drop(of(next)));
        break;
    }
  }

  function personMoves(): void {
    const context = situation.recordContext;
    const { integrity } = situation.record.value as { integrity: string };
    const assign = (next: Situation, version: string) => {
      const { current } = slotsOf(next.rest.device).read();
      const upgrade = {
        id: 'u1',
        from: current.version,
        to: version,
        until: now + 4 * hour,
        baseOs: imageOf(version),
      };
      next.tellRecord({ type: 'upgrade.assigned', upgrade });
    };
    if (context.active && !context.upgrade) {
      fault('upgrade', 'a person assigns an upgrade', (next) => assign(next, newImage));
      fault('bad upgrade', 'a person assigns an image that is not what it seems', (next) =>
        assign(next, oddImage),
      );
    }
    if (integrity === 'uud' && context.verdict?.genuine)
      fault('accept', 'a person accepts what was shown', (next) => accept(next));
    fault('rotate', 'a person asks for a new master key', (next) =>
      next.tellRecord({ type: 'rotation.asked' }),
    );
    fault('settings', 'a person changes the settings', (next) =>
      next.tellRecord({ type: 'settings.changed', settings: {} }),
    );
    fault('ask', 'a person asks for a new attestation', (next) =>
      next.send(next.indexOf('attest-task'), { type: 'restart' }),
    );
  }
}

export function accept(next: Situation): void {
  const { verdict } = next.recordContext as DeviceRecordContext;
  next.tellRecord({
    type: 'state.accepted',
    attempt: verdict?.attempt ?? '',
    by: 'a person',
    reason: 'it is right',
  });
}

/** Whether an answer is still to come. */
function answered({ rest, recordContext }: Situation, { at, id }: Message): boolean {
  if (at !== 'with-evc') return true;
  return rest.evc.judging.some(({ attempt }) => attempt.id === id) && recordContext.attempt?.id === id;
}

function push(next: Situation, message: Message): void {
  const what = String(message.body);
  next.drop(message);
  const [to, event] = what === 'attest' ? ['attest-task', 'restart'] : ['config-task', 'config.pushed'];
  if (next.indexOf(to) >= 0 && next.rest.device.link) next.send(next.indexOf(to), { type: event });
}

/** @param behind how many changes of the record the verdict does not know of */
function judgeNow(next: Situation, id: string, behind: number): void {
  const evc = next.owned('evc');
  const judging = evc.judging.find(({ attempt }) => attempt.id === id);
  if (!judging) return;
  evc.judging = evc.judging.filter((other) => other !== judging);
  const { basis, rotate } = next.recordContext;
  next.tellRecord(
    {
      type: 'verdict.given',
      attempt: id,
      verdict: judge(judging.software, next.recordContext),
      basis: basis - behind,
      rotate,
    },
    judging.software,
  );
}
