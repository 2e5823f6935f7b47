import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { variableData } from '../../../formats/eventlog/build.ts';
import { bootFacts } from '../../../formats/eventlog/facts.ts';
import { EventType } from '../../../formats/eventlog/types.ts';
import { EFI_GLOBAL_VARIABLE, EFI_IMAGE_SECURITY_DATABASE } from '../../../formats/eventlog/variables.ts';
import { checkedFixture, checkedLog, checkedReplay, type MadeEvent } from '../../kit/eventlogs.ts';

test('an EVE node: firmware, Secure Boot, command line, root file system, files of /config', () => {
  const facts = bootFacts(checkedFixture('eve/empty_uri.last_failed_log.bin'));
  assert.is(facts.firmwareVersion, '546bfb1e-1d0c-4055-a4ad-4ef4bf17b83a');
  assert.is(facts.secureBoot, 'off');
  assert.is(facts.kernelCommandLines.length, 1);
  assert.match(facts.kernelCommandLines[0] ?? '', /^\/boot\/kernel console=tty0 /);
  assert.is(facts.rootfsHash, 'eaf5a7072ace17c4c95c08641c8cf6d4dc47ddf6b69db083e81ab358ed2e75d0');
  assert.is(facts.configFiles.length, 16);
  assert.equal(
    facts.configFiles.find(({ path }) => path === '/config/server'),
    {
      path: '/config/server',
      exists: true,
      contentHash: '0a24b79ed482d60e95a9d1f5f2ed32cc6cf18fc13af51c1c66bc6c4de0d57939',
    },
  );
  assert.equal(
    facts.configFiles.find(({ path }) => path === '/config/tpm_credential'),
    { path: '/config/tpm_credential', exists: true },
  );
});

test('Secure Boot of a boot that has it, the command line of upstream GRUB', () => {
  const facts = bootFacts(checkedReplay('ovmf/deb2022-crb-shim-grub-sb/binary_bios_measurements'));
  assert.is(facts.secureBoot, 'on');
  assert.equal(facts.kernelCommandLines, ['/vmlinuz console=ttyS0 panic=-1 quiet']);
  assert.is(facts.rootfsHash, undefined);
});

const secureBoot = (on: boolean): MadeEvent => ({
  pcr: 7,
  type: EventType.EV_EFI_VARIABLE_DRIVER_CONFIG,
  data: variableData(EFI_GLOBAL_VARIABLE, 'SecureBoot', Uint8Array.of(on ? 1 : 0)),
});
const separator: MadeEvent = { pcr: 7, type: EventType.EV_SEPARATOR, data: new Uint8Array(4) };
const secureBootOf = (...events: MadeEvent[]) => bootFacts(checkedLog(events)).secureBoot;

test('Secure Boot counts where the firmware states it once, before it hands over', () => {
  assert.is(secureBootOf(secureBoot(true), separator), 'on');
  assert.is(secureBootOf(secureBoot(false), separator), 'off');
  assert.is(secureBootOf(secureBoot(false), separator, secureBoot(true)), 'off');
  assert.is(secureBootOf(separator, secureBoot(true)), 'unknown');
  assert.is(secureBootOf(secureBoot(true), secureBoot(true), separator), 'unknown');
  assert.is(secureBootOf(secureBoot(true)), 'unknown');
});

test('[N20, N21] an event whose type or data was edited states nothing', () => {
  assert.is(secureBootOf({ ...secureBoot(true), type: EventType.EV_EFI_ACTION }, separator), 'unknown');
  const off = secureBoot(false).data;
  assert.is(secureBootOf({ ...secureBoot(true), measured: off }, separator), 'unknown');
  const file: MadeEvent = {
    pcr: 14,
    type: EventType.EV_EFI_ACTION,
    data: 'file:/config/server exist:true',
    measured: 'x',
  };
  assert.equal(bootFacts(checkedLog([file])).configFiles, []);
});

test('[N20, N22] the end of the firmware is told by its digest: a retyped separator moves nothing', () => {
  const retyped = { ...separator, type: EventType.EV_POST_CODE };
  const hidden = { ...secureBoot(false), type: EventType.EV_POST_CODE };
  assert.is(secureBootOf(hidden, retyped, secureBoot(true), separator), 'unknown');
  assert.is(secureBootOf(secureBoot(false), retyped, secureBoot(true), separator), 'off');
});

test('Secure Boot keys, authorities, boot order and boot chain of a boot that has them', () => {
  const facts = bootFacts(checkedReplay('ovmf/deb2022-crb-shim-grub-sb/binary_bios_measurements'));
  assert.equal(
    Object.entries(facts.secureBootKeys).map(([name, keys]) => [name, keys.map(({ type }) => type)]),
    [
      ['PK', ['x509']],
      ['KEK', ['x509', 'x509']],
      ['db', ['x509', 'x509']],
      ['dbx', ['sha256']],
    ],
  );
  assert.equal(
    facts.authorities.map(({ name, signature }) => [name, signature.type]),
    [
      ['db', 'x509'],
      ['MokListRT', 'x509'],
    ],
  );
  assert.equal(facts.bootOrder, [1, 0, 2]);
  assert.equal(
    facts.bootChain.map(({ pcr, event }) => [pcr, event]),
    [24, 30, 35, 40, 41, 42, 45].map((event) => [[35, 40, 45].includes(event) ? 9 : 4, event]),
  );
});

test('Secure Boot keys that are stated twice are no fact', () => {
  const db: MadeEvent = {
    pcr: 7,
    type: EventType.EV_EFI_VARIABLE_DRIVER_CONFIG,
    data: variableData(EFI_IMAGE_SECURITY_DATABASE, 'db', new Uint8Array()),
  };
  assert.equal(bootFacts(checkedLog([db, separator])).secureBootKeys, { db: [] });
  assert.equal(bootFacts(checkedLog([db, db, separator])).secureBootKeys, {});
});

test('two root file systems are no fact', () => {
  const root = (digit: string): MadeEvent => ({
    pcr: 13,
    type: EventType.EV_IPL,
    data: `squash4 ${digit.repeat(64)}\0`,
    measured: Buffer.alloc(32, Number.parseInt(digit.repeat(2), 16)),
  });
  assert.is(bootFacts(checkedLog([root('a')])).rootfsHash, 'a'.repeat(64));
  assert.is(bootFacts(checkedLog([root('a'), root('b')])).rootfsHash, undefined);
});

test.run();
