// deadline: 180 s
// The catalogue at the command line: what is measured without EVC, and what goes in and out of a running one.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createPki } from '../../../controller/pki.ts';
import { createImage } from '../../../device/boot/image.ts';
import { buildPe } from '../../kit/pe.ts';
import { Running, runToEnd } from '../../kit/process.ts';

const folder = mkdtempSync(join(tmpdir(), 'evc-catalogue-'));
const data = join(folder, 'evc');
const image = join(folder, 'image');
const path = (name: string) => join(folder, name);
let evc: Running;

test.before(async () => {
  await createImage(image, { version: '2.0.0' });
  await createPki(path('keys'), ['localhost'], Date.now());
  await runToEnd('evc', ['init', '--data', data]);
  evc = new Running('evc', ['serve', '--json', '--data', data, '--mqtt-port', '0', '--https-port', '0']);
  await evc.line(/"kind":"serving"/);
});

test.after(async () => {
  assert.is(await evc.stop(), 0);
  rmSync(folder, { recursive: true });
});

async function run(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await runToEnd('evc', args, { EVC_DATA: data });
  assert.is(code, 0, `evc ${args.join(' ')}: ${stderr}`);
  return stdout;
}

async function fails(exit: number, code: string, ...args: string[]): Promise<string> {
  const ended = await runToEnd('evc', args, { EVC_DATA: data });
  assert.is(ended.code, exit, `evc ${args.join(' ')}: ${ended.stderr}`);
  assert.match(ended.stderr, `[${code}]`);
  assert.match(ended.stderr, /\nhint: ./);
  return ended.stderr;
}

test('image measure needs no EVC, and prints, writes or signs what it found', async () => {
  const nowhere = { EVC_DATA: path('none') };
  const printed = await runToEnd('evc', ['image', 'measure', image], nowhere);
  assert.is(printed.code, 0, printed.stderr);
  assert.match(printed.stdout, /^PCR +SHA-256 +WHEN +WHAT\n4 .*program PciRoot/m);
  assert.match(printed.stdout, /^13 +\S+ +always +root file system with SHA-256/m);
  assert.match(printed.stdout, /^8 +\S+ +IMGB +GRUB command: set root=hd0,gpt3/m);
  const json = JSON.parse((await runToEnd('evc', ['image', 'measure', image, '--json'], nowhere)).stdout) as {
    version: string;
    entries: { digests: Record<string, string> }[];
  };
  assert.is(json.version, '2.0.0');
  assert.equal(Object.keys(json.entries[0]?.digests ?? {}).sort(), ['sha1', 'sha256', 'sha384']);
  const written = await run('image', 'measure', image, '-o', path('2.json'));
  assert.match(written, /next: evc image add 2\.0\.0 --measured .*2\.json --file/);
  const manifest = JSON.parse(readFileSync(path('2.json'), 'utf8')) as { format: string; version: number };
  assert.equal([manifest.format, manifest.version], ['eve-attest images', 1]);
});

test('single files are measured for what they are, under a version that is given', async () => {
  writeFileSync(path('shim.efi'), buildPe().bytes);
  writeFileSync(path('grub.cfg'), 'set timeout=0\n');
  const args = [
    'image',
    'measure',
    path('shim.efi'),
    path('grub.cfg'),
    '--grub',
    'upstream',
    '--cmdline',
    '/vmlinuz quiet',
  ];
  const stdout = await run(...args);
  assert.match(stdout, /^4 .*program shim\.efi/m);
  assert.match(stdout, /^9 .*file \/shim\.efi/m);
  assert.match(stdout, /^8 .*GRUB command: set timeout=0/m);
  assert.match(stdout, /^8 .*kernel command line: \/vmlinuz quiet/m);
  await fails(2, 'failed', ...args, '--json');
  assert.is(
    (JSON.parse(await run(...args, '--json', '--version', '12')) as { version: string }).version,
    '12',
  );
});

test('what cannot be measured says which file, where, and what to do', async () => {
  writeFileSync(path('cut.efi'), buildPe().bytes.subarray(0, 1000));
  assert.match(await fails(1, 'image.file', 'image', 'measure', path('cut.efi')), /cut\.efi: PE\.\w+/);
  writeFileSync(path('menu.cfg'), 'echo $root\n');
  assert.match(await fails(1, 'image.grub', 'image', 'measure', path('menu.cfg')), /only the machine knows/);
  await fails(1, 'image.file', 'image', 'measure', path('nothing'));
  writeFileSync(path('no.key'), 'x');
  await fails(2, 'signer.key', 'image', 'measure', image, '-o', path('x.json'), '--key', path('no.key'));
});

test('images: added from their files, listed, shown, exported and imported', async () => {
  const tar = path('2.tar');
  execFileSync('tar', ['-cf', tar, '-C', image, '.']);
  assert.match(
    await run('image', 'add', '2.0.0', '--file', tar, '--measured', path('2.json')),
    /image 2\.0\.0: \d+ measurements, \d+ bytes/,
  );
  assert.match(await run('image', 'list'), /^2\.0\.0 +\d+ +\d+ +its files +[0-9a-f]{8}…/m);
  assert.match(await run('image', 'show', '2.0.0'), /^9 .*always +kernel grub_linuxefi Kernel/m);
  await fails(4, 'catalogue.nothing', 'image', 'add', '3.0.0', '--file', tar);
  await fails(4, 'manifest.malformed', 'image', 'add', '3.0.0', '--measured', path('2.json'));
  await fails(4, 'image.unknown', 'image', 'show', '3.0.0');
  assert.match(await run('image', 'export', '-o', path('all.json')), /signed by [0-9a-f]{8}…/);
  await fails(4, 'manifest.signer', 'image', 'import', path('all.json'));
  await fails(4, 'manifest.unsigned', 'image', 'import', path('2.json'));
  writeFileSync(path('deep.json'), '['.repeat(1000));
  await fails(1, 'manifest.malformed', 'image', 'import', path('deep.json'));
});

test('a manifest signed where the image is built is taken once its key was added', async () => {
  const [key, certificate] = [path('keys/signing.key.pem'), path('keys/signing.cert.pem')];
  assert.match(
    await run('image', 'measure', image, '-o', path('signed.json'), '--key', key),
    /next: evc image import/,
  );
  await fails(4, 'manifest.signer', 'image', 'import', path('signed.json'));
  await fails(4, 'signer.key', 'signer', 'add', 'builder', '--key', key, '--reason', 'our build machine');
  assert.match(
    await run('signer', 'add', 'builder', '--key', certificate, '--reason', 'our build machine'),
    /builder may sign images: [0-9a-f]{64}/,
  );
  assert.match(
    await run('signer', 'list'),
    /^builder +images +- +[0-9a-f]{8}….*our build machine[\s\S]*BEGIN PUBLIC KEY/m,
  );
  assert.match(
    await run('image', 'import', path('signed.json')),
    /2\.0\.0: \d+ measurements, signed by builder/,
  );
  const envelope = JSON.parse(readFileSync(path('signed.json'), 'utf8')) as { payload: string };
  writeFileSync(
    path('changed.json'),
    JSON.stringify({ ...envelope, payload: `${envelope.payload.slice(0, -4)}AAAA` }),
  );
  await fails(4, 'manifest.signature', 'image', 'import', path('changed.json'));
  await run('signer', 'remove', 'builder', '--reason', 'replaced');
  await fails(4, 'manifest.signer', 'image', 'import', path('signed.json'));
});

test('openssl checks the signature as well', async () => {
  await run('image', 'measure', image, '-o', path('signed.json'), '--key', path('keys/signing.key.pem'));
  const { payload, payloadType, signatures } = JSON.parse(readFileSync(path('signed.json'), 'utf8')) as {
    payload: string;
    payloadType: string;
    signatures: { sig: string }[];
  };
  const bytes = Buffer.from(payload, 'base64');
  // The pre-authentication encoding of DSSE, written down here by hand.
  const signed = Buffer.concat([
    Buffer.from(`DSSEv1 ${payloadType.length} ${payloadType} ${bytes.length} `),
    bytes,
  ]);
  writeFileSync(path('pae'), signed);
  writeFileSync(path('sig'), Buffer.from(signatures[0]?.sig ?? '', 'base64'));
  execFileSync('openssl', [
    'x509',
    '-in',
    path('keys/signing.cert.pem'),
    '-pubkey',
    '-noout',
    '-out',
    path('pub.pem'),
  ]);
  const said = execFileSync(
    'openssl',
    ['dgst', '-sha256', '-verify', path('pub.pem'), '-signature', path('sig'), path('pae')],
    {
      encoding: 'utf8',
    },
  );
  assert.match(said, 'Verified OK');
});

test('firmware: by the name that devices report, slashes and blanks and all', async () => {
  await runToEnd('eve', ['image', 'measure', image, '--output', folder]);
  const name = 'Acme Inc.-2.1-03/14/2026';
  const add = ['firmware', 'add', name, '--log', path('2.0.0.1.log')];
  assert.match(
    await run(...add, '--vendor', 'Acme Inc.'),
    /firmware Acme Inc\.-2\.1-03\/14\/2026: \d+ measurements/,
  );
  await fails(4, 'firmware.name', ...add, '--vendor', 'Other');
  assert.match(await run('firmware', 'list'), /^Acme Inc\.-2\.1-03\/14\/2026 +Acme Inc\. +\d+ +boot log/m);
  const shown = await run('firmware', 'show', name);
  assert.match(shown, /^0 .*firmware version/m);
  assert.not.match(shown, /^(4|5|8|9|13) /m);
  await fails(4, 'firmware.unknown', 'firmware', 'show', 'none');
  await run('firmware', 'export', '-o', path('firmware.json'));
  await fails(4, 'manifest.signer', 'firmware', 'import', path('firmware.json'));
  await fails(4, 'manifest.malformed', 'image', 'import', path('firmware.json'));
});

test('allow rules: added with a reason, listed, removed, and none that is wide', async () => {
  const order = ['--event', 'EV_EFI_VARIABLE_BOOT', '--about', 'BootOrder', '--reason', 'sticks come and go'];
  const added = await run('allow', 'add', '--pcr', '1', ...order, '--account', 'default', '--json');
  const { id } = JSON.parse(added) as { id: string };
  const list = await run('allow', 'list');
  assert.match(list, /^slots +all +5 +attributes of the slots +EVC/m);
  assert.match(list, new RegExp(`^${id} +default +1 +EV_EFI_VARIABLE_BOOT BootOrder +admin +sticks`, 'm'));
  assert.match(
    await fails(4, 'allow.too-wide', 'allow', 'add', '--pcr', '4', ...order),
    /only exact digests/,
  );
  await fails(4, 'request.invalid', 'allow', 'add', '--pcr', '99', ...order);
  await fails(4, 'allow.account', 'allow', 'add', '--pcr', '1', ...order, '--account', 'nobody');
  await fails(2, 'failed', 'allow', 'add', '--pcr', '1', '--reason', 'x');
  await fails(2, 'failed', 'allow', 'add', '--pcr', '1', '--about', 'BootOrder', '--reason', 'x');
  await run('allow', 'remove', id, '--reason', 'no sticks any more');
  await fails(4, 'allow.unknown', 'allow', 'remove', id, '--reason', 'again');
  assert.not.match(await run('allow', 'list'), id);
});

test.run();
