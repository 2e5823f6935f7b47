// `evc image` and `evc firmware`: what EVC knows of each version, and how it goes in and out.
import { readFileSync, writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { CatalogueFirmware, CatalogueImage, Source } from '../images/catalogue.ts';
import { type Envelope, parseJson } from '../images/envelope.ts';
import { CatalogueError } from '../images/error.ts';
import { entriesText, localFailure, measureCommand } from './measure.ts';
import { short, table } from './print.ts';
import { ask, type Common, remote, say } from './remote.ts';
import { allowCommands, signerCommands } from './rules.ts';

type ImageLine = Pick<CatalogueImage, 'version' | 'sha256' | 'size' | 'source'> & { measurements: number };
type FirmwareLine = Pick<CatalogueFirmware, 'firmware' | 'vendor' | 'source'> & { measurements: number };

export function addCatalogueCommands(program: Command): void {
  imageCommands(program.command('image').description('The catalogue of images: what each version measures.'));
  firmwareCommands(
    program.command('firmware').description('The catalogue of firmware, by vendor and version.'),
  );
  signerCommands(program.command('signer').description('Keys that may sign what is imported.'));
  allowCommands(program.command('allow').description('Rules for events that vary without meaning.'));
}

function imageCommands(image: Command): void {
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

  measureCommand(image, say);

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

  transfer(image, { kind: 'images', items: 'version' });
}

function firmwareCommands(firmware: Command): void {
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

  transfer(firmware, { kind: 'firmware', items: 'firmware' });
}

/** Export and import, the same for both kinds. */
function transfer(command: Command, { kind, items }: { kind: 'images' | 'firmware'; items: string }): void {
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
