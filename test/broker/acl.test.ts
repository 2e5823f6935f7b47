import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Action, allowed, type Peer } from '../../broker/acl.ts';

const mine = 'a'.repeat(64);
const other = 'b'.repeat(64);
const device: Peer = { kind: 'device', device: mine };
const controller: Peer = { kind: 'controller' };
const reader: Peer = { kind: 'reader', accounts: ['plant-7'] };

/** Everything that is allowed; all other pairs of the topics and filters below are not. */
const granted: [Peer, Action, string][] = [
  [device, 'publish', `eve/v2/${mine}/up/attest/r1`],
  [device, 'publish', `eve/v2/${mine}/up/certs/r1`],
  [device, 'receive', `eve/v2/${mine}/down/attest/r1`],
  [device, 'receive', `eve/v2/${mine}/down/push/n1`],
  [device, 'subscribe', `eve/v2/${mine}/down/#`],
  [controller, 'publish', `eve/v2/${mine}/down/attest/r1`],
  [controller, 'publish', `eve/v2/${mine}/down/push/n1`],
  [controller, 'publish', `eve/v2/${other}/down/attest/r1`],
  [controller, 'publish', `eve/v2/${other}/down/push/n1`],
  [controller, 'receive', `eve/v2/${mine}/up/attest/r1`],
  [controller, 'receive', `eve/v2/${mine}/up/certs/r1`],
  [controller, 'receive', `eve/v2/${other}/up/attest/r1`],
  [controller, 'receive', `eve/v2/${other}/up/certs/r1`],
  [controller, 'subscribe', 'eve/v2/+/up/#'],
  [reader, 'receive', `eve/v2/events/${mine}/plant-7/verdict.given`],
  [reader, 'receive', `eve/v2/events/${other}/plant-7/link.changed`],
  [reader, 'subscribe', `eve/v2/events/${mine}/plant-7/verdict.given`],
  [reader, 'subscribe', `eve/v2/events/${other}/plant-7/link.changed`],
  // What is not of its accounts is not delivered, whatever it asks for.
  [reader, 'subscribe', `eve/v2/events/${mine}/other/verdict.given`],
  [reader, 'subscribe', 'eve/v2/events/#'],
  [reader, 'subscribe', 'eve/v2/events/+/plant-7/#'],
  [reader, 'subscribe', 'eve/v2/events/+/+/verdict.given'],
  [reader, 'subscribe', `eve/v2/events/${mine}/#`],
];

const hostile = [
  'eve/v2/events',
  'eve/v2/events/',
  'eve/v2/events/+',
  'eve/v2/events/+/+',
  'eve/v2/events/#/+',
  'eve/v2/events/+/+/+/#',
  'eve/v2/events/x/plant-7/#',
  'eve/v2/events/+/plant 7/#',
  `eve/v2/events/${mine}/plant-7`,
  `eve/v2/events/${mine}/plant-7/verdict.given/more`,
  `eve/v2/events/${mine}/plant-7/verdict`,
  `eve/v2/events/${mine}/up/attest`,
  `eve/v2/events/${mine}//verdict.given`,
  `eve/v2/events/+/plant-7/${'x'.repeat(70_000)}`,
  '$share/evc/eve/v2/events/#',
  '',
  '#',
  '+',
  '/',
  'eve',
  'eve/#',
  'eve/v2/#',
  'eve/v2/+/down/#',
  'eve/v2/+/up/#',
  'eve/v2/+/+/#',
  `eve/v2/${mine}`,
  `eve/v2/${mine}/#`,
  `eve/v2/${mine}/+/#`,
  `eve/v2/${mine}/down`,
  `eve/v2/${mine}/down/+/+`,
  `eve/v2/${mine}/down/push/+`,
  `eve/v2/${mine}/down/#/`,
  `eve/v2/${mine}/up/#`,
  `eve/v2/${mine}/up/push/n1`,
  `eve/v2/${mine}/up/attest`,
  `eve/v2/${mine}/up/attest/`,
  `eve/v2/${mine}/up/attest/r1/more`,
  `eve/v2/${mine}/up/attest/${'r'.repeat(33)}`,
  `eve/v2/${mine}/up/attest/r 1`,
  `eve/v2/${mine}/up/attest/r1\0`,
  `eve/v2/${mine}/up/attest/r1\n`,
  `eve/v2/${mine}/up/\x1b[2J/r1`,
  `eve/v2/${mine}/up/format/r1`,
  `eve/v2/${mine}/up/__proto__/r1`,
  `eve/v2/${mine}/UP/attest/r1`,
  `eve/v2/${mine.toUpperCase()}/up/attest/r1`,
  `eve/v2/${mine.slice(1)}/up/attest/r1`,
  `/eve/v2/${mine}/up/attest/r1`,
  `eve/v1/${mine}/up/attest/r1`,
  `eve/v2/${other}/down/#`,
  `eve/v2/${other}/up/attest/r1`,
  `eve/v2/${other}/up/certs/r1`,
  `eve/v2/${other}/down/attest/r1`,
  `eve/v2/${other}/down/push/n1`,
  `$share/evc/eve/v2/${mine}/down/#`,
  '$share/evc/eve/v2/+/up/#',
  '$SYS/#',
  '$SYS/+/heartbeat',
  `eve/v2/${mine}/up/attest/${'x'.repeat(70_000)}`,
  'x/'.repeat(40_000),
];

const texts = new Set([...hostile, ...granted.map(([, , text]) => text)]);
const key = (peer: Peer, action: Action, text: string) => `${peer.kind} ${action} ${text}`;
const right = new Set(granted.map(([peer, action, text]) => key(peer, action, text)));

for (const peer of [device, controller, reader])
  for (const action of ['publish', 'subscribe', 'receive'] as const)
    test(`a ${peer.kind} may ${action} what is its own, and nothing else`, () => {
      for (const text of texts) {
        const may = right.has(key(peer, action, text));
        assert.is(
          allowed(peer, action, text),
          may,
          `${peer.kind} ${action} ${JSON.stringify(text.slice(0, 200))}`,
        );
      }
    });

test('a reader of all accounts is told of each, and says nothing', () => {
  const all: Peer = { kind: 'reader', accounts: null };
  const topic = `eve/v2/events/${mine}/other/verdict.given`;
  assert.equal([allowed(all, 'receive', topic), allowed(all, 'publish', topic)], [true, false]);
  assert.not(allowed({ kind: 'reader', accounts: [] }, 'receive', topic));
  assert.not(allowed(all, 'receive', `eve/v2/${mine}/down/attest/r1`));
});

test.run();
