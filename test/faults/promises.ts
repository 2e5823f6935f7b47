// What has to be so after every run, whatever went wrong in it.
import * as assert from 'uvu/assert';
import type { Reply } from '../../machines/device-record.ts';
import type { World, WorldDevice } from '../kit/world.ts';

const mostLines = 5000;

/** Of a record's state. */
type Regions = { integrity: string };

/** Throws AssertionError with the promise that was broken. */
export async function keptPromises(world: World, device: WorldDevice): Promise<void> {
  noVerdictTwice(world);
  nothingReleasedUnproven(world);
  await recordAndJournalAgree(world, device);
  // A boot that a disk or TPM does not allow is tried again by the watchdog.
  const died = device.events.flatMap((event) =>
    event.kind === 'failed' && (event.component !== 'board' || event.text.startsWith('internal.'))
      ? [`${event.component}: ${event.text}`]
      : [],
  );
  assert.ok(died.length === 0, `a component died: ${died.join('; ')}`);
}

function noVerdictTwice(world: World): void {
  const taken = world.steps.filter(({ event, ignored }) => event.type === 'verdict.given' && !ignored);
  // Where the record changed while the evidence was judged, it is judged again, and nobody hears of the first verdict.
  const outdated = taken.filter(({ after }) => (after as Regions).integrity === 'verifying');
  for (const { effects } of outdated)
    assert.equal(
      effects.map(({ type }) => type),
      ['verify'],
      'a verdict that is thrown away is told to nobody',
    );
  const given = taken.flatMap((step) =>
    outdated.includes(step) || step.event.type !== 'verdict.given' ? [] : [step.event.attempt],
  );
  assert.is(new Set(given).size, given.length, 'no verdict is given twice');
}

/** Keys and whole configurations go out to a device that was found trusted, and to no other. */
function nothingReleasedUnproven(world: World): void {
  for (const { event, effects, after, snapshot } of world.steps) {
    for (const { type, params } of effects) {
      const body = type === 'reply' ? (params as Reply).body : null;
      if (body?.kind === 'verdict' && body.key !== null) {
        assert.is(event.type, 'verdict.given', 'a key goes out with a verdict alone');
        assert.ok(snapshot.context.verdict?.accepted, 'a key goes out with a verdict of trust alone');
        assert.is((after as Regions).integrity, 'trusted');
      }
      if (body?.kind === 'config' && !body.partial)
        assert.ok(snapshot.context.token, 'a whole configuration goes out for a token that was confirmed');
    }
  }
}

async function recordAndJournalAgree(world: World, device: WorldDevice): Promise<void> {
  const { store, runner } = world.evc;
  const row = await store.load(device.id);
  const journal = await store.journal(device.id, mostLines);
  assert.is(journal.length, row?.version, 'each step stands in the journal once');
  const context = (await runner.read(device.id))?.context;
  assert.ok(context, 'there is a record');
  for (const { version, keyId } of context.escrow)
    assert.is(
      (await store.escrowed(device.id, version))?.keyId,
      keyId,
      'each key of the record is in escrow',
    );
  assert.equal(await store.pending(10), [], 'nothing is left to be done');
}
