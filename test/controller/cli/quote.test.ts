import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { quoteCommand } from '../../../controller/cli/quote.ts';
import { runCommand, type Said } from '../../kit/command.ts';
import { eventLogPath } from '../../kit/eventlogs.ts';
import { runToEnd } from '../../kit/process.ts';

const folder = mkdtempSync(join(tmpdir(), 'evc-quote-'));
test.after(() => rmSync(folder, { recursive: true }));

const quotePath = (name: string) => fileURLToPath(new URL(`../../fixtures/quotes/${name}`, import.meta.url));
const verify = (...args: string[]): Promise<Said> => runCommand(quoteCommand(), ['verify', ...args]);

interface Answer {
  genuine: boolean;
  accepted: boolean;
  reasons: { code: string; pcr?: number; text: string; remedy?: string }[];
}

async function answer(...args: string[]): Promise<Answer & { code: number; codes: string[] }> {
  const { stdout, code, stderr } = await verify(...args, '--json');
  assert.is(stderr, '');
  const said = JSON.parse(stdout) as Answer;
  return { ...said, code, codes: [...new Set(said.reasons.map((reason) => reason.code))] };
}

function changed(name: string, change: (quote: Record<string, unknown>) => void): string {
  const quote = JSON.parse(readFileSync(quotePath(`${name}.json`), 'utf8')) as Record<string, unknown>;
  change(quote);
  const path = join(folder, `${name}.json`);
  writeFileSync(path, JSON.stringify(quote));
  return path;
}

const cmc = ['--pcrs', 'sha256:1,4'];
const fixtures: [
  name: string,
  options: string[],
  verdict: [genuine: boolean, accepted: boolean],
  codes: string[],
][] = [
  ['valid-p256', [], [true, true], []],
  ['valid-p384', [], [true, true], []],
  ['valid-rsassa', [], [true, true], []],
  ['valid-rsapss', [], [true, true], []],
  ['cmc-valid', cmc, [true, true], []],
  ['cmc-valid', [], [true, false], ['evidence.quote.selection']],
  ['other-nonce', [], [false, false], ['evidence.quote.nonce']],
  ['fewer-pcrs', [], [true, false], ['evidence.quote.selection']],
  ['fewer-pcrs', ['--pcrs', 'sha256:0'], [true, true], []],
  ['certify', [], [false, false], ['evidence.quote.type', 'evidence.nonce.none']],
  ['sha1-only-bank', [], [true, false], ['evidence.quote.bank']],
  ['cmc-invalid-signature', cmc, [false, false], ['evidence.quote.signature']],
];
for (const [name, options, verdict, codes] of fixtures)
  test(`${[name, ...options].join(' ')}: ${codes.join(', ') || 'accepted'}`, async () => {
    const said = await answer(quotePath(`${name}.json`), ...options);
    assert.equal([said.genuine, said.accepted], verdict);
    assert.equal(said.codes, codes);
    assert.is(said.code, said.accepted ? 0 : 1);
    for (const { text } of said.reasons) assert.ok(text.length > 10);
    if (codes.length > 0) assert.ok(said.reasons.at(-1)?.remedy);
  });

test('the answer in words has the reason, its PCR, what was seen and allowed, and what to do', async () => {
  const { stdout } = await verify(quotePath('sha1-only-bank.json'));
  assert.is(
    stdout,
    `✗ refused: genuine, and not what the policy wants
  evidence.quote.bank
    The quote covers no PCR bank that the policy takes
    seen     sha1
    allowed  sha256
    remedy   Turn the SHA-256 bank on in the firmware setup of the device.
`,
  );
});

test('a quote without a nonce is refused, unless nobody wants to know when it was made', async () => {
  const path = changed('valid-p256', (quote) => {
    quote.nonce = null;
  });
  assert.equal((await answer(path)).codes, ['evidence.nonce.none']);
  assert.ok((await answer(path, '--any-nonce')).accepted);
  assert.ok((await answer(path, '--nonce', '00112233445566778899aabbccddeeff'.repeat(2))).accepted);
  const empty = changed('valid-p256', (quote) => {
    quote.nonce = '';
  });
  assert.equal((await answer(empty)).codes, ['evidence.quote.nonce']);
});

test('[N44] a key that is not restricted, or is not given, vouches for nothing', async () => {
  const unrestricted = changed('valid-p256', (quote) => {
    // Without TPMA_OBJECT restricted.
    quote.akPublic = { attrs: '0x40072' };
  });
  assert.equal((await answer(unrestricted)).codes, ['evidence.identity.key']);
  const keyless = changed('valid-p256', (quote) => {
    quote.akPem = null;
    quote.akPublic = null;
  });
  assert.equal((await answer(keyless)).codes, ['evidence.identity.unknown']);
  assert.equal((await answer(quotePath('valid-p256.json'), '--key', quotePath('unr.pub.tpm2b'))).codes, [
    'evidence.identity.key',
  ]);
  assert.ok((await answer(keyless, '--key', quotePath('ak-p256.pub.tpm2b'))).accepted);
});

const boot = 'ovmf/deb2022-crb-shim-grub-sb';
const raw = (bank: string, values: string) => [
  eventLogPath(`${boot}/quote.${bank}.msg`),
  ...['--signature', eventLogPath(`${boot}/quote.${bank}.sig`)],
  ...['--key', eventLogPath(`${boot}/ak.tpm2b_public`)],
  ...['--nonce', readFileSync(eventLogPath(`${boot}/nonce.hex`), 'utf8').trim()],
  ...['--values', eventLogPath(`${boot}/${values}`)],
];
const log = ['--log', eventLogPath(`${boot}/binary_bios_measurements`)];

test('a raw quote of a machine, its log, and the policy that wants Secure Boot', async () => {
  const text = raw('sha256', 'pcrs.sha256.txt');
  assert.ok((await answer(...text, ...log)).accepted);
  const policy = join(folder, 'policy.json');
  writeFileSync(policy, JSON.stringify({ pcrs: 'sha256:0-9,14', log: true, secureBoot: 'on' }));
  assert.ok((await answer(...text, ...log, '--policy', policy)).accepted);
  assert.equal((await answer(...text, '--policy', policy)).codes, ['evidence.log.absent']);
  const other = eventLogPath('ovmf/deb2022-crb-shim-grub-sb-cmdline/binary_bios_measurements');
  const wrong = await answer(...text, '--log', other, '--policy', policy);
  assert.equal(
    [wrong.genuine, wrong.reasons.map(({ code }) => code)],
    [false, ['evidence.log.mismatch', 'evidence.log.mismatch']],
  );
});

test('a log that contradicts a value beside the policy is refused: the quote covers it', async () => {
  const other = eventLogPath('ovmf/deb2022-crb-shim-grub-sb-cmdline/binary_bios_measurements');
  const { genuine, reasons } = await answer(...raw('sha256', 'pcrs.sha256.txt'), '--log', other);
  assert.equal(
    [genuine, reasons.map(({ code, pcr }) => [code, pcr])],
    [
      false,
      [
        ['evidence.log.mismatch', 8],
        ['evidence.log.mismatch', 9],
      ],
    ],
  );
});

test('a policy with values: one of several, and another', async () => {
  const text = raw('sha256', 'pcrs.sha256.txt');
  const { quote } = (await answer(...text)) as unknown as { quote: { pcrs: Record<string, string> } };
  const policy = join(folder, 'values.json');
  const write = (values: object) => writeFileSync(policy, JSON.stringify({ values: { sha256: values } }));
  write({ 7: ['00'.repeat(32), quote.pcrs[7]], 4: quote.pcrs[4]?.toUpperCase() });
  assert.ok((await answer(...text, '--policy', policy)).accepted);
  write({ 7: '00'.repeat(32) });
  const refused = await answer(...text, '--policy', policy);
  assert.equal([refused.genuine, refused.codes], [true, ['policy.pcr.unexpected']]);
});

test('a quote of two banks: both are covered, or what is missing is named', async () => {
  const both = join(folder, 'both.json');
  const values = (bank: string) =>
    Object.fromEntries(
      readFileSync(eventLogPath(`${boot}/pcrs.${bank}.txt`), 'utf8')
        .trim()
        .split('\n')
        .map((line) => line.split(' ') as [string, string]),
    );
  writeFileSync(both, JSON.stringify({ sha256: values('sha256'), sha384: values('sha384') }));
  const mixed = [...raw('mixed', 'pcrs.sha256.txt').slice(0, -1), both];
  assert.ok((await answer(...mixed, '--pcrs', 'sha256:0,7+sha384:0,7')).accepted);
  const more = await answer(...mixed, '--pcrs', 'sha256:0,7+sha384:0,7,23');
  assert.equal(more.codes, ['evidence.quote.selection']);
  assert.equal((await answer(...mixed, '--pcrs', 'sha256:0+sha512:0')).codes, ['evidence.quote.bank']);
});

test('values as tpm2_quote writes them', async () => {
  const { accepted } = await answer(...raw('sha256', 'quote.sha256.pcrs'), ...log);
  assert.ok(accepted);
});

test('an earlier quote of the same TPM: its counters may not run back', async () => {
  const earlier = quotePath('valid-p256.json');
  assert.ok((await answer(earlier, '--last', earlier)).accepted);
  const cmcQuote = quotePath('cmc-valid.json');
  assert.equal((await answer(earlier, '--last', cmcQuote)).codes, [
    'evidence.clock.reset-count',
    'evidence.tpm.firmware-changed',
  ]);
});

const valid = quotePath('valid-p256.json');
const write = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};
const unusable: [what: string, args: () => string[], code: string][] = [
  ['no JSON', () => [write('broken', '{"attest":')], 'input.quote'],
  ['JSON that is no quote', () => [write('other', '{"hello":1}')], 'input.quote'],
  ['hex that is none', () => [changed('valid-p256', (quote) => (quote.attest = 'xyz'))], 'input.quote'],
  [
    'a PCR that does not exist',
    () => [changed('valid-p256', (q) => (q.pcrs = { sha256: { 99: '' } }))],
    'input.quote',
  ],
  ['raw bytes alone', () => [eventLogPath(`${boot}/quote.sha256.msg`)], 'input.quote'],
  ['a selection of SHA-1', () => [valid, '--pcrs', 'sha1:0-7'], 'input.selection'],
  ['a selection of nothing', () => [valid, '--pcrs', 'sha256:'], 'input.selection'],
  ['a selection of PCR 24', () => [valid, '--pcrs', 'sha256:0-24'], 'input.selection'],
  ['a nonce that is no hex', () => [valid, '--nonce', 'now'], 'input.nonce'],
  ['a key that is none', () => [valid, '--key', write('key', 'x')], 'input.key'],
  ['a policy that is none', () => [valid, '--policy', write('policy', '{"pcr":1}')], 'input.policy'],
  [
    'a value of another size',
    () => [valid, '--policy', write('size', '{"values":{"sha256":{"0":"00"}}}')],
    'input.policy',
  ],
  ['no earlier quote', () => [valid, '--last', write('last', '{}')], 'input.quote'],
];
for (const [what, args, code] of unusable)
  test(`${what} is unusable input: ${code}`, async () => {
    const said = await verify(...args());
    assert.is(said.code, 2, said.stdout);
    assert.match(said.stderr, `[${code}]`);
    assert.is(said.stdout, '');
  });

test('bytes that cannot be a quote are refused, not unusable: somebody sent them as one', async () => {
  const short = changed('valid-p256', (quote) => (quote.attest = 'ff544347801800'));
  assert.equal((await answer(short)).codes, ['evidence.quote.malformed']);
  const none = changed('valid-p256', (quote) => (quote.attest = ''));
  assert.equal((await answer(none)).codes, ['evidence.quote.absent']);
});

test('the process ends with the same codes', async () => {
  assert.is((await runToEnd('evc', ['quote', 'verify', valid])).code, 0);
  assert.is((await runToEnd('evc', ['quote', 'verify', quotePath('other-nonce.json')])).code, 1);
  assert.is((await runToEnd('evc', ['quote', 'verify', '--pcrs', 'x', valid])).code, 2);
});

test.run();
