// `evc image`, `evc firmware`, `evc signer` and `evc allow`: what EVC knows, who may tell it, and what it lets pass.
import { createPrivateKey, type KeyObject } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { explain } from '../../machines/reasons.ts';
import type { CatalogueFirmware, CatalogueImage, Source } from '../images/catalogue.ts';
import { type Envelope, parseJson, seal } from '../images/envelope.ts';
import { CatalogueError } from '../images/error.ts';
import { payloadTypes, writeManifest } from '../images/manifest.ts';
import { type GrubFlavour, measureImage } from '../images/measure.ts';
import type { Signer } from '../images/signers.ts';
import type { AllowRule } from '../verify/allow.ts';
import type { KnownEntry } from '../verify/entries.ts';
import type { ApiClient, ClientOptions } from './client.ts';
import { exitCodes, Failure } from './failure.ts';
import { short, table } from './print.ts';

type Common = ClientOptions & { json?: boolean };

/** What main.ts has for commands that talk to a running EVC. */
export interface Remote {
  remote(command: Command): Command;
  ask<Value>(
    options: Common,
    question: (api: ApiClient) => Promise<Value>,
    text: (value: Value) => string,
  ): Promise<void>;
  say(line: string): void;
}

type ImageLine = Pick<CatalogueImage, 'version' | 'sha256' | 'size' | 'source'> & { measurements: number };
type FirmwareLine = Pick<CatalogueFirmware, 'firmware' | 'vendor' | 'source'> & { measurements: number };

export function addCatalogueCommands(program: Command, commands: Remote): void {
  imageCommands(
    program.command('image').description('The catalogue of images: what each version measures.'),
    commands,
  );
  firmwareCommands(
    program.command('firmware').description('The catalogue of firmware, by vendor and version.'),
    commands,
  );
  signerCommands(program.command('signer').description('Keys that may sign what is imported.'), commands);
  allowCommands(
    program.command('allow').description('Rules for events that vary without meaning.'),
    commands,
  );
}

function imageCommands(image: Command, { remote, ask, say }: Remote): void {
  remote(image.command('add').argument('<version>'))
    .description('Adds an image: its file, and what it measures (eve image pack, evc image measure).')
    .option('--log <file...>', 'log of a reference boot, one for each slot')
    .option('--measured <file>', 'what evc image measure wrote, instead of logs')
    .option('--file <file>', 'the image, for devices to fetch')
    .option('--more', 'keeps what is known of this version: another board, another slot')
    .action(
      (
        version: string,
        options: Common & { log?: string[]; measured?: string; file?: string; more?: boolean },
      ) =>
        ask(
          options,
          async (api) => {
            const { log, measured, more } = options;
            const wish = {
              version,
              ...(log === undefined ? {} : { logs: log.map(packed) }),
              ...(measured === undefined ? {} : { measured: packed(measured) }),
              ...(more ? { more } : {}),
            };
            const upload =
              options.file === undefined ? {} : { upload: (await api.upload(options.file)).upload };
            return api.send<ImageLine>('POST', '/api/v1/images', { ...wish, ...upload });
          },
          (added) => `image ${version}: ${added.measurements} measurements, ${added.size} bytes to fetch`,
        ),
    );

  image
    .command('measure')
    .argument('<path...>', 'folder of an image, or its files')
    .description('Computes what an image measures from its files alone; needs no running EVC.')
    .option('--version <version>', 'of the image; a folder says it itself')
    .addOption(
      new Option('--grub <flavour>', 'whose GRUB starts it').choices(['eve', 'upstream']).default('eve'),
    )
    .option('--cmdline <text...>', 'command line of the kernel, as GRUB puts it together')
    .option('--config <dir>', '/config of the devices that it is for (PCR 14)')
    .option('--machine <file>', 'what GRUB scripts find on the machine, as JSON')
    .option('-o, --out <file>', 'writes a manifest')
    .option('--key <file>', 'signs the manifest with this key, ECDSA P-256 in PEM')
    .option('--json', 'prints the measurements as JSON')
    .addHelpText('after', measureHelp)
    .action((paths: string[], options: MeasureWish) => measure(paths, options, say));

  remote(image.command('list'))
    .description('Lists the images.')
    .action((options: Common) =>
      ask(
        options,
        (api) => api.get<{ images: ImageLine[] }>('/api/v1/images'),
        ({ images }) =>
          table(
            ['VERSION', 'BYTES', 'MEASUREMENTS', 'KNOWN FROM', 'SHA-256'],
            images.map(({ version, size, measurements, source, sha256 }) => [
              version,
              `${size}`,
              `${measurements}`,
              sourceText(source),
              short(sha256),
            ]),
          ),
      ),
    );

  remote(image.command('show').argument('<version>'))
    .description('Shows what an image measures, event by event.')
    .action((version: string, options: Common) =>
      ask(
        options,
        (api) => api.get<CatalogueImage>(`/api/v1/images/${encodeURIComponent(version)}`),
        ({ entries }) => entriesText(entries),
      ),
    );

  transfer(image, { remote, ask }, { kind: 'images', items: 'version' });
}

const measureHelp = `
Examples:
  evc image measure ./image-1.1.0 -o 1.1.0.json
  evc image add 1.1.0 --file 1.1.0.tar --measured 1.1.0.json
  evc image measure shimx64.efi grubx64.efi vmlinuz --version 12 --grub upstream \\
      --cmdline '/vmlinuz root=/dev/sda2 quiet'

A folder with image.json is measured as EVE boots it, from either slot. Single files are
taken for what they are: a program (PCR 4, and PCR 9 as a file), a root file system (13),
a GRUB script *.cfg (8, 9), any other file that GRUB reads (9).

A script that asks the machine for something needs a file for --machine, such as
  {"variables": {"root": "hd0,gpt2", "smb_vendor": "QEMU"},
   "files": {"(hd0,gpt4)/grub.cfg": "config/grub.cfg", "(hd0,gpt4)/eve.dtb": null}}
with the variables that GRUB sets there, and the files that it looks for: the text of each
lies beside, and null says that it is absent. Measure once for each kind of machine, and add
the later ones with evc image add --more.`;

interface MeasureWish {
  version?: string;
  grub: GrubFlavour;
  cmdline?: string[];
  config?: string;
  machine?: string;
  out?: string;
  key?: string;
  json?: boolean;
}

async function measure(
  paths: readonly string[],
  wish: MeasureWish,
  say: (line: string) => void,
): Promise<void> {
  const { grub, cmdline: cmdlines = [], config, machine, out, json } = wish;
  try {
    const key = wish.key === undefined ? null : signingKey(wish.key);
    const found = await measureImage(paths, {
      grub,
      cmdlines,
      progress: tellLargeFiles,
      ...(config === undefined ? {} : { config }),
      ...(machine === undefined ? {} : { machine }),
    });
    const version = wish.version ?? found.version;
    if (version === null && (out !== undefined || json))
      throw new Failure('single files do not say what version they are of', {
        hint: 'give it with --version',
        exitCode: exitCodes.usage,
      });
    const image = { version: version ?? '', entries: found.entries };
    if (out !== undefined) {
      const manifest = writeManifest('images', [image]);
      writeFileSync(
        out,
        key === null ? manifest : `${JSON.stringify(seal(payloadTypes.images, manifest, key))}\n`,
      );
    }
    if (json) return say(JSON.stringify(image));
    say(entriesText(image.entries));
    if (out === undefined) return;
    const next =
      key === null ? `evc image add ${version} --measured ${out} --file …` : `evc image import ${out}`;
    say(`written to ${out}; next: ${next}`);
  } catch (error) {
    throw error instanceof CatalogueError ? localFailure(error) : error;
  }
}

/** Told about while they are read, and only to a person. */
const large = 64 * 1024 * 1024;

function tellLargeFiles(path: string, bytes: number): void {
  if (bytes >= large && process.stderr.isTTY)
    process.stderr.write(`reading ${path}, ${Math.round(bytes / 1024 / 1024)} MiB\n`);
}

function signingKey(path: string): KeyObject {
  try {
    const key = createPrivateKey(readFileSync(path));
    if (key.asymmetricKeyDetails?.namedCurve === 'prime256v1') return key;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).syscall !== undefined) throw cause;
  }
  throw new Failure(`${path} is no private key of ECDSA P-256`, {
    hint: 'make one with: openssl ecparam -name prime256v1 -genkey -noout -out key.pem',
    exitCode: exitCodes.usage,
    code: 'signer.key',
  });
}

function firmwareCommands(firmware: Command, { remote, ask }: Remote): void {
  remote(firmware.command('add').argument('<firmware>', 'as devices report it: vendor-version-date'))
    .description('Adds a firmware by the log of a boot with it: PCRs 0, 1, 2, 3, 6 and 7.')
    .requiredOption('--log <file...>', 'log of a boot in a place that is trusted')
    .option('--vendor <name>', 'who made it: what its name begins with')
    .option('--more', 'keeps what is known of it: other settings, another board')
    .action((name: string, options: Common & { log: string[]; vendor?: string; more?: boolean }) =>
      ask(
        options,
        (api) =>
          api.send<FirmwareLine>('POST', '/api/v1/firmware', {
            firmware: name,
            logs: options.log.map(packed),
            ...(options.vendor === undefined ? {} : { vendor: options.vendor }),
            ...(options.more ? { more: true } : {}),
          }),
        ({ measurements }) => `firmware ${name}: ${measurements} measurements`,
      ),
    );

  remote(firmware.command('list'))
    .description('Lists the firmware that is known.')
    .action((options: Common) =>
      ask(
        options,
        (api) => api.get<{ firmware: FirmwareLine[] }>('/api/v1/firmware'),
        ({ firmware: list }) =>
          table(
            ['FIRMWARE', 'VENDOR', 'MEASUREMENTS', 'KNOWN FROM'],
            list.map(({ firmware: name, vendor, measurements, source }) => [
              name,
              vendor || '-',
              `${measurements}`,
              sourceText(source),
            ]),
          ),
      ),
    );

  remote(firmware.command('show').argument('<firmware>'))
    .description('Shows what a firmware measures, event by event.')
    .action((name: string, options: Common) =>
      ask(
        options,
        (api) => api.get<CatalogueFirmware>(`/api/v1/firmware/${encodeURIComponent(name)}`),
        ({ entries }) => entriesText(entries),
      ),
    );

  transfer(firmware, { remote, ask }, { kind: 'firmware', items: 'firmware' });
}

/** Export and import, the same for both kinds. */
function transfer(
  command: Command,
  { remote, ask }: Pick<Remote, 'remote' | 'ask'>,
  { kind, items }: { kind: 'images' | 'firmware'; items: string },
): void {
  remote(command.command('export').argument(`[${items}...]`, 'all of them when none is named'))
    .description('Writes a manifest that EVC signed, for another EVC to import.')
    .requiredOption('-o, --out <file>', 'where to write it')
    .action((names: string[], options: Common & { out: string }) =>
      ask(
        options,
        async (api) => {
          const wanted = { [kind === 'images' ? 'versions' : 'firmware']: names };
          const envelope = await api.send<Envelope>('POST', `/api/v1/${kind}/export`, wanted);
          writeFileSync(options.out, `${JSON.stringify(envelope)}\n`);
          return { out: options.out, keyid: envelope.signatures[0]?.keyid ?? '' };
        },
        ({ out, keyid }) => `written to ${out}, signed by ${short(keyid)} (evc signer list shows that key)`,
      ),
    );

  remote(command.command('import').argument('<file>'))
    .description('Takes a manifest that is signed by a key that was added: evc signer add.')
    .option('--replace', 'takes it though other measurements are known already')
    .action((file: string, options: Common & { replace?: boolean }) =>
      ask(
        options,
        (api) =>
          api.send<Record<string, (ImageLine & FirmwareLine)[]>>('POST', `/api/v1/${kind}/import`, {
            manifest: localManifest(file),
            ...(options.replace ? { replace: true } : {}),
          }),
        (answer) =>
          (answer[kind] ?? [])
            .map(
              (item) =>
                `${item.version ?? item.firmware}: ${item.measurements} measurements, ${sourceText(item.source)}`,
            )
            .join('\n'),
      ),
    );
}

function signerCommands(signer: Command, { remote, ask }: Remote): void {
  remote(signer.command('add').argument('<name>'))
    .description('Lets a key sign what is imported.')
    .requiredOption('--key <file>', 'its public key or certificate, PEM')
    .requiredOption('--reason <text>', 'why; it is kept')
    .addOption(
      new Option('--for <kind>', 'what it may sign').choices(['images', 'firmware']).default('images'),
    )
    .option('--vendor <name>', 'whose firmware alone it may sign')
    .action((name: string, options: Common & { key: string; reason: string; for: string; vendor?: string }) =>
      ask(
        options,
        (api) => {
          const { reason, vendor } = options;
          const wish = { name, signs: options.for, key: readFileSync(options.key, 'utf8'), reason };
          return api.send<Signer>(
            'POST',
            '/api/v1/signers',
            vendor === undefined ? wish : { ...wish, vendor },
          );
        },
        ({ id, signs }) => `${name} may sign ${signs}: ${id}`,
      ),
    );

  remote(signer.command('list'))
    .description("Lists the keys, and EVC's own for others to add.")
    .action((options: Common) =>
      ask(
        options,
        (api) => api.get<{ own: { id: string; publicKey: string }; signers: Signer[] }>('/api/v1/signers'),
        ({ own, signers }) =>
          [
            table(
              ['NAME', 'SIGNS', 'VENDOR', 'KEY', 'WHY'],
              signers.map(({ name, signs, vendor, id, reason, removed }) => [
                name,
                removed ? 'nothing' : signs,
                vendor || '-',
                short(id),
                removed ? `removed: ${removed.reason}` : reason,
              ]),
            ),
            `\nThis EVC signs with ${own.id}:\n${own.publicKey.trim()}`,
          ].join('\n'),
      ),
    );

  remote(signer.command('remove').argument('<name>'))
    .description('Takes that right from a key; what it signed before stays.')
    .requiredOption('--reason <text>', 'why; it is kept')
    .action((name: string, options: Common & { reason: string }) =>
      ask(
        options,
        (api) =>
          api.send<Signer>('POST', `/api/v1/signers/${encodeURIComponent(name)}/remove`, {
            reason: options.reason,
          }),
        () => `${name} may sign nothing any more`,
      ),
    );
}

interface RuleOptions extends Common {
  pcr: string;
  event?: string;
  about?: string;
  slotAttributes?: boolean;
  digest?: string[];
  account?: string;
  removal?: boolean;
  reason: string;
}

function allowCommands(allow: Command, { remote, ask }: Remote): void {
  remote(allow.command('add'))
    .description('Allows one thing to differ from the baseline.')
    .requiredOption('--pcr <number>', 'the PCR that it is measured into')
    .option('--event <type>', 'type of the event: EV_EFI_VARIABLE_BOOT, EV_EFI_ACTION, EV_IPL …')
    .option('--about <text>', 'name of the variable, words of the action or command, path of the file')
    .option('--slot-attributes', "EVE's slots in the partition table (PCR 5)")
    .option('--digest <sha256...>', 'exact digests: the one of the baseline, and those that it may become')
    .option('--account <name>', 'only for devices of this account')
    .option('--removal', 'the event may also be missing')
    .requiredOption('--reason <text>', 'why; it is kept, and shown with each event that it allows')
    .action((options: RuleOptions) =>
      ask(
        options,
        (api) => {
          const { account, removal, reason } = options;
          return api.send<AllowRule>('POST', '/api/v1/allow-rules', {
            pcr: Number(options.pcr),
            match: matchOf(options),
            reason,
            ...(account === undefined ? {} : { account }),
            ...(removal ? { removal } : {}),
          });
        },
        (rule) => `rule ${rule.id}: PCR ${rule.pcr}, ${matchText(rule)}`,
      ),
    );

  remote(allow.command('list'))
    .description('Lists the rules that hold.')
    .option('--account <name>', 'those that hold for this account')
    .action((options: Common & { account?: string }) =>
      ask(
        options,
        (api) => {
          const query =
            options.account === undefined ? '' : `?account=${encodeURIComponent(options.account)}`;
          return api.get<{ rules: AllowRule[] }>(`/api/v1/allow-rules${query}`);
        },
        ({ rules }) =>
          table(
            ['RULE', 'ACCOUNT', 'PCR', 'ALLOWS', 'BY', 'WHY'],
            rules.map((rule) => [
              rule.id,
              rule.account ?? 'all',
              `${rule.pcr}`,
              matchText(rule),
              rule.by,
              rule.reason,
            ]),
            120,
          ),
      ),
    );

  remote(allow.command('remove').argument('<rule>'))
    .description('Takes a rule back; devices that need it are untrusted when they attest next.')
    .requiredOption('--reason <text>', 'why; it is kept')
    .action((id: string, options: Common & { reason: string }) =>
      ask(
        options,
        (api) =>
          api.send<AllowRule>('POST', `/api/v1/allow-rules/${encodeURIComponent(id)}/remove`, {
            reason: options.reason,
          }),
        () => `rule ${id} allows nothing any more`,
      ),
    );
}

function matchOf({ event, about, slotAttributes, digest }: RuleOptions): AllowRule['match'] {
  const matches: AllowRule['match'][] = [
    ...(event === undefined && about === undefined
      ? []
      : [{ kind: 'event' as const, type: event ?? '', subject: about ?? '' }]),
    ...(slotAttributes ? [{ kind: 'slot-attributes' as const }] : []),
    ...(digest === undefined ? [] : [{ kind: 'digests' as const, sha256: digest }]),
  ];
  const [match, ...more] = matches;
  const half = (event === undefined) !== (about === undefined);
  if (!match || more.length > 0 || half)
    throw new Failure('a rule allows one thing', {
      hint: 'give --event with --about, or --slot-attributes, or --digest',
      exitCode: exitCodes.usage,
    });
  return match;
}

function matchText({ match, removal }: Pick<AllowRule, 'match' | 'removal'>): string {
  const gone = removal ? ', or gone' : '';
  switch (match.kind) {
    case 'event':
      return `${match.type} ${match.subject}${gone}`;
    case 'slot-attributes':
      return 'attributes of the slots';
    case 'digests':
      return `${match.sha256.map(short).join(', ')}${gone}`;
  }
}

function sourceText(source: Source): string {
  switch (source.kind) {
    case 'log':
      return 'boot log';
    case 'files':
      return 'its files';
    case 'manifest':
      return `signed by ${source.signer}`;
  }
}

function entriesText(entries: readonly KnownEntry[]): string {
  const sorted = entries.toSorted((a, b) => a.pcr - b.pcr);
  return table(
    ['PCR', 'SHA-256', 'WHEN', 'WHAT'],
    sorted.map(({ pcr, digests, required, alternative, text }) => [
      `${pcr}`,
      short(digests.sha256),
      required ? 'always' : (alternative ?? ''),
      text,
    ]),
    120,
  );
}

function packed(path: string): string {
  return readFileSync(path).toString('base64');
}

function localManifest(path: string): unknown {
  try {
    return parseJson(readFileSync(path));
  } catch (error) {
    throw error instanceof CatalogueError ? localFailure(error) : error;
  }
}

function localFailure(error: CatalogueError): Failure {
  const { code, message } = error;
  return new Failure(message, { code, hint: explain(code).remedy, cause: error });
}
