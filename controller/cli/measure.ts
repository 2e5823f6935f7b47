// `evc image measure`: what an image measures, from its files alone, without a running EVC.
import { createPrivateKey, type KeyObject } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { explain } from '../../machines/reasons.ts';
import { seal } from '../images/envelope.ts';
import { CatalogueError } from '../images/error.ts';
import { payloadTypes, writeManifest } from '../images/manifest.ts';
import { type GrubFlavour, measureImage } from '../images/measure.ts';
import type { KnownEntry } from '../verify/entries.ts';
import { exitCodes, Failure } from './failure.ts';
import { short, table } from './print.ts';

export function measureCommand(image: Command, say: (line: string) => void): void {
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

/** The measurements of a version, for people. */
export function entriesText(entries: readonly KnownEntry[]): string {
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

/** What went wrong with a file here, with what to do. */
export function localFailure(error: CatalogueError): Failure {
  const { code, message } = error;
  return new Failure(message, { code, hint: explain(code).remedy, cause: error });
}
