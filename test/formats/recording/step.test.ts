import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type AnyStateMachine, createActor, transition } from 'xstate';
import { restoreRecord } from '../../../controller/record/snapshot.ts';
import type { Body } from '../../../formats/recording/format.ts';
import { Recorder, silent } from '../../../formats/recording/recorder.ts';
import { takeStep } from '../../../formats/recording/step.ts';
import {
  type DeviceRecordEvent,
  type DeviceRecordSnapshot,
  deviceRecord,
} from '../../../machines/device-record.ts';
import { recordsOf } from '../../kit/record-states.ts';

const request = { endpoint: 'attest', id: 'r' } as const;
const stamp = { at: 1_900_000_000_000, dice: 0.5 };
const verdict = {
  accepted: false,
  genuine: true,
  grounds: null,
  findings: [],
  pcrs: {},
  versions: null,
  clock: null,
  location: { moved: false, fix: null, vouched: false },
} as never;

/** What may reach a record, as far as the record makes something of it. */
function eventsFor({ context }: DeviceRecordSnapshot): DeviceRecordEvent[] {
  const attempt = { id: 'a', nonceHash: context.nonce?.hash ?? 'n', tokenHash: 't', request, at: stamp.at };
  return [
    { type: 'uuid.requested', request, ...stamp },
    { type: 'nonce.requested', request, salt: 's', nonceHash: 'n', ...stamp },
    { type: 'quote.received', attempt, ...stamp, at: (context.nonce?.until ?? stamp.at) - 1 },
    {
      type: 'verdict.given',
      attempt: context.attempt?.id ?? '',
      verdict,
      basis: context.basis,
      rotate: false,
      ...stamp,
    },
    { type: 'config.requested', request, tokenHash: context.token?.hash ?? null, version: 0, ...stamp },
    { type: 'info.received', request, key: 'device', body: { a: 1 }, ...stamp },
    { type: 'link.changed', online: true, ...stamp },
    { type: 'timer.due', timer: 'trust', ...stamp },
    { type: 'timer.due', timer: 'nonce', ...stamp },
    { type: 'rotation.asked', ...stamp },
    { type: 'device.retired', by: 'b', reason: 'r', ...stamp },
    { type: 'no.such.event', ...stamp } as never,
  ];
}

/** The lines of a running actor that is asked the same. */
function bodiesOfActor(
  chart: AnyStateMachine,
  before: object,
  event: { type: string },
  life: string,
): Body[] {
  const bodies: Body[] = [];
  const recorder = new Recorder(silent);
  recorder.follow((_, body) => {
    if (body.kind !== 'actor') bodies.push('actor' in body ? { ...body, actor: life } : body);
  });
  const tap = recorder.chart('', chart);
  const actor = createActor(chart, { snapshot: before as never, inspect: (seen) => tap.inspect(seen) });
  tap.restored();
  actor.start();
  actor.send(event as never);
  actor.stop();
  return bodies.filter(({ kind }) => kind !== 'stop');
}

test('a step comes out as XState makes it, and its lines as those of a running actor, in every state', () => {
  let compared = 0;
  for (const record of recordsOf(1)) {
    const before = restoreRecord(record);
    for (const event of eventsFor(before)) {
      const taken = takeStep(deviceRecord, before, event);
      const [after, actions] = transition(deviceRecord, before, event);
      const where = `${JSON.stringify(record.value)} ${event.type}`;
      assert.equal(taken.after.value, after.value, where);
      assert.equal(taken.after.context, after.context, where);
      assert.equal(
        taken.actions,
        actions.map(({ type, params }) => ({ type, params })),
        where,
      );
      assert.equal(taken.bodies('d'), bodiesOfActor(deviceRecord, before, event, 'd'), where);
      compared++;
    }
  }
  assert.ok(compared > 500, `${compared} steps`);
});

test('a step changes nothing of what it was made from', () => {
  for (const record of recordsOf(1)) {
    const before = restoreRecord(record);
    const text = JSON.stringify(deviceRecord.getPersistedSnapshot(before));
    for (const event of eventsFor(before)) takeStep(deviceRecord, before, event);
    assert.is(JSON.stringify(deviceRecord.getPersistedSnapshot(before)), text);
  }
});

test.run();
