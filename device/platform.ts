// What a distribution plugs in to let its machine reboot and change slots: programs in one folder, each with one task. Their
// contract is in `platform/README.md`.
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { Refusal } from './refusal.ts';

/** Each program with the time that it may take, ms. */
const programs = {
  'slot-current': 10_000,
  'slot-write': 30 * 60_000,
  'slot-activate': 30_000,
  'slot-commit': 30_000,
  'self-test': 5 * 60_000,
  reboot: 60_000,
} as const;

export type PlatformProgram = keyof typeof programs;

/** Those that a platform has to have for upgrades. */
export const requiredPrograms: readonly PlatformProgram[] = [
  'slot-current',
  'slot-write',
  'slot-activate',
  'slot-commit',
  'reboot',
];

/** Bytes of output that are kept, of either kind. */
const longestOutput = 64 * 1024;
/** Characters of a reason. */
const longestReason = 300;

export class Platform {
  readonly directory: string;
  readonly #environment: Record<string, string>;
  readonly #patience: Partial<Record<PlatformProgram, number>>;

  /** @param environment what the programs are told besides PATH */
  constructor(
    directory: string,
    environment: Record<string, string> = {},
    patience: Partial<Record<PlatformProgram, number>> = {},
  ) {
    this.directory = directory;
    this.#environment = environment;
    this.#patience = patience;
  }

  has(program: PlatformProgram): boolean {
    try {
      accessSync(join(this.directory, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  }

  /** The first line that the program prints. Throws Refusal platform.missing, platform.failed, platform.timeout. */
  run(program: PlatformProgram, ...args: string[]): Promise<string> {
    const path = join(this.directory, program);
    if (!this.has(program)) {
      const text = `there is no program ${path}`;
      return Promise.reject(new Refusal('platform.missing', text));
    }
    const patience = this.#patience[program] ?? programs[program];
    const { PATH = '/usr/sbin:/usr/bin:/sbin:/bin' } = process.env;
    return new Promise((resolve, reject) => {
      // A group of its own, so that all that it started ends with it when its time is up.
      const child = spawn(path, args, {
        cwd: '/',
        env: { PATH, LC_ALL: 'C', ...this.#environment },
        stdio: ['ignore', 'pipe', 'pipe'],
        detached: true,
      });
      const kill = () => {
        try {
          if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
        } catch {
          // It has ended by itself.
        }
      };
      let late = false;
      const timer = setTimeout(() => {
        late = true;
        kill();
      }, patience);
      const said = [child.stdout, child.stderr].map((stream) => {
        const output = { text: '' };
        stream.setEncoding('utf8');
        // Read on though it is not kept: a full pipe would stop the program.
        stream.on('data', (chunk: string) => {
          output.text = (output.text + chunk).slice(0, longestOutput);
        });
        return output;
      });
      const [out = { text: '' }, err = { text: '' }] = said;
      const end = (code: string, what: string) => {
        clearTimeout(timer);
        reject(new Refusal(code, `${program} ${what}`));
      };
      child.once('error', ({ message }) => end('platform.failed', `does not start: ${line(message)}`));
      // What it leaves running may hold its pipes: its own end counts, and a moment for what is in them.
      child.once('exit', (code, signal) => {
        setImmediate(() => {
          if (late) end('platform.timeout', `took longer than ${patience / 1000} s, and was ended`);
          else if (code !== 0) end('platform.failed', why(code, signal, err.text || out.text));
          else {
            clearTimeout(timer);
            resolve(line(out.text.split('\n')[0] ?? ''));
          }
          child.stdout.destroy();
          child.stderr.destroy();
        });
      });
    });
  }
}

/** The last line of what it said is the one about its end. */
function why(code: number | null, signal: string | null, said: string): string {
  const last = line(said.trim().split('\n').at(-1) ?? '');
  return `ended with ${code === null ? signal : `exit code ${code}`}${last === '' ? '' : `: ${last}`}`;
}

/** For logs and terminals: one line, nothing that draws. */
function line(text: string): string {
  return text
    .replace(/[\p{C}\p{Zl}\p{Zp}]+/gu, ' ')
    .trim()
    .slice(0, longestReason);
}
