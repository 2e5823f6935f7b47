// The device record: all that EVC knows and decides about one device. A pure transition: (snapshot, event) →
// (snapshot, effects). The runner commits both together and carries the effects out at least once; every effect bears
// the request or the attempt that it belongs to, so a repeat is harmless. One file a region, in record/.
import type { SnapshotFrom } from 'xstate';
import { enrolment } from './record/enrolment.ts';
import { escrow } from './record/escrow.ts';
import { integrity } from './record/integrity.ts';
import { link } from './record/link.ts';
import { location } from './record/location.ts';
import { record } from './record/setup.ts';
import { software } from './record/software.ts';

export type * from './record/events.ts';
export type * from './record/replies.ts';

export const deviceRecord = record.createMachine({
  id: 'deviceRecord',
  description: 'All that EVC knows and decides about one device.',
  meta: { secret: ['settings', 'proof'] },
  context: {
    active: false,
    uuid: '',
    serial: '',
    account: null,
    identity: null,
    pending: null,
    reenrol: false,
    refusedEnrolment: null,
    nonce: null,
    attempt: null,
    token: null,
    formerToken: null,
    baseline: null,
    history: [],
    candidate: null,
    acceptance: null,
    verdict: null,
    clock: null,
    place: { locked: null, seen: null },
    escrow: [],
    rotate: false,
    upgrade: null,
    upgraded: null,
    config: { version: 0, settings: {}, baseOs: null },
    info: {},
    basis: 0,
    seen: 0,
  },
  type: 'parallel',
  on: { '*': { actions: 'ignored' } },
  // In this order: integrity judges an attempt before the others look at the verdict.
  states: { enrolment, integrity, location, escrow, software, link },
});

export type DeviceRecordSnapshot = SnapshotFrom<typeof deviceRecord>;
