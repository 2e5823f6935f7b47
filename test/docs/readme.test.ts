// deadline: 180 s
// The README, walked: the commands of its `console` blocks, in order, in one shell, and what they print beside what it shows.
// What differs from run to run is told apart by sight: see `plainOf`. A line of `…` alone stands for any number of lines.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { projectRoot } from '../kit/root.ts';

const root = fileURLToPath(projectRoot);
const readme = readFileSync(join(root, 'README.md'), 'utf8');
/** Where the reader of the README has the project. */
const there = '/home/ann/eve-attest';
/** Commands that only look: who sees something else yet looks again. */
const looking = /^evc (status|why|journal|audit|device show|attempt list|rollout (list|show))\b/;
/** ms that something may take to come true. */
const patience = 30_000;

interface Step {
  /** Line of the README. */
  line: number;
  command: string;
  shown: string[];
}

/** The blocks that are meant to be walked. */
function stepsOf(text: string): Step[] {
  const steps: Step[] = [];
  let inside = false;
  for (const [index, line] of text.split('\n').entries()) {
    if (line.startsWith('```')) inside = line === '```console';
    else if (!inside) continue;
    else if (line.startsWith('$ ')) steps.push({ line: index + 1, command: line.slice(2), shown: [] });
    else steps.at(-1)?.shown.push(line);
  }
  return steps;
}

/** Without what differs from run to run: hashes and ids, tokens, times, ports, and how wide a column became by them. */
function plainOf(line: string): string {
  return line
    .replace(/evc_[a-z0-9]+_[\w-]+/g, '<token>')
    .replace(/\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{3}Z)?/g, '<time>')
    .replace(/\b(\d+[dhms] )?\d+[dhms] ago\b/g, '<age> ago')
    .replace(/\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/g, '<id>')
    .replace(/\b[0-9a-f]{8,}(…([0-9a-f]{4,}\b)?)?/g, '<hex>')
    .replace(/localhost:\d+/g, 'localhost:<port>')
    .replace(/ {2,}/g, ' ')
    .trim();
}

function fits(shown: readonly string[], said: readonly string[]): boolean {
  const [line, ...rest] = shown;
  if (line === undefined) return said.length === 0;
  if (line.trim() === '…')
    return Array.from({ length: said.length + 1 }, (_, left) => left).some((left) =>
      fits(rest, said.slice(left)),
    );
  return said.length > 0 && plainOf(line) === plainOf(said[0] as string) && fits(rest, said.slice(1));
}

/** A shell as a reader has it: jobs, aliases, and one output for all. */
class Shell {
  readonly #process: ChildProcess;
  readonly #folder: string;
  #output = '';
  #commands = 0;

  constructor(folder: string) {
    this.#folder = folder;
    this.#process = spawn('bash', ['--noprofile', '--norc'], {
      cwd: folder,
      env: { ...process.env, NO_COLOR: '1' },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#process.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#output += text;
    });
    // Jobs have groups of their own, so they end with the shell alone if it ends them.
    this.#write("set -m; shopt -s expand_aliases; exec 2>&1; trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT");
  }

  /** Lines that were printed. A job goes on, and has printed what is shown or what it printed in the time it had. */
  async run({ command, shown }: Step): Promise<string[]> {
    const mark = `-- ${++this.#commands} is over`;
    const from = this.#output.length;
    this.#write(`${command.replace(/\bevc serve\b/, '$& --mqtt-port 0 --https-port 0')}\necho '${mark}'`);
    const said = () => this.#output.slice(from).replaceAll(this.#folder, there).split('\n').slice(0, -1);
    await this.#until(() => said().includes(mark));
    const lines = () => said().filter((line) => line !== mark);
    if (command.endsWith('&')) await this.#until(() => fits(shown, lines()));
    return lines();
  }

  async end(): Promise<void> {
    const ended = new Promise((resolve) => this.#process.once('close', resolve));
    this.#process.stdin?.end();
    await ended;
  }

  #write(text: string): void {
    this.#process.stdin?.write(`${text}\n`);
  }

  /** Looks whenever something was printed, until the shell ends or patience does. */
  async #until(holds: () => boolean): Promise<void> {
    const { stdout } = this.#process;
    if (!stdout) return;
    const over = AbortSignal.timeout(patience);
    const ended = this.#process.exitCode === null ? once(this.#process, 'close', { signal: over }) : null;
    while (!holds() && ended !== null) {
      const printed = once(stdout, 'data', { signal: over });
      // Whichever comes later is nobody's matter.
      for (const one of [printed, ended]) one.catch(() => undefined);
      const more = await Promise.race([printed.then(() => true), ended.then(() => false)]).catch(() => false);
      if (!more) return;
    }
  }
}

/** Walks, and says where the README is wrong; null where it is right. */
async function walk(steps: readonly Step[]): Promise<string | null> {
  // As the name that a shell has for it.
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'readme-')));
  symlinkSync(join(root, 'bin'), join(folder, 'bin'));
  const shell = new Shell(folder);
  try {
    for (const step of steps) {
      const late = performance.now() + patience;
      let said = await shell.run(step);
      while (!fits(step.shown, said) && looking.test(step.command) && performance.now() < late)
        said = await shell.run(step);
      if (!fits(step.shown, said))
        return [
          `README.md:${step.line}: $ ${step.command}`,
          '--- shows',
          ...step.shown,
          '--- prints',
          ...said,
        ].join('\n');
    }
    return null;
  } finally {
    await shell.end();
    rmSync(folder, { recursive: true, force: true });
  }
}

test('a reader of the README alone comes from evc init to an accepted device', async () => {
  const steps = stepsOf(readme);
  const said = steps.map(({ command }) => command).join('\n');
  for (const part of [
    'evc init',
    'evc serve',
    'evc key add',
    'eve run',
    'evc upgrade',
    'evc why',
    'evc accept',
  ])
    assert.ok(said.includes(part), `the README walks through ${part}`);
  assert.is(await walk(steps), null);
});

test('a block that shows something else is found', async () => {
  const steps = stepsOf(
    '```console\n$ evc=$PWD/bin/evc.js\n$ $evc init\n/home/ann/eve-attest/evc-data is set up for mars\n…\n```',
  );
  assert.match(
    (await walk(steps)) ?? '',
    /README\.md:3: \$ \$evc init\n--- shows\n.* mars\n…\n--- prints\n.* localhost\n/,
  );
});

test('commands and options that are named in the blocks exist', () => {
  const program = (name: string, ...args: string[]) =>
    execFileSync(process.execPath, [join(root, `bin/${name}.js`), ...args], { encoding: 'utf8' });
  const offers = new Map(
    [...program('evc', 'completion', 'bash').matchAll(/^ {4}'(.+)'\) words='(.*)' ;;$/gm)].map(
      ([, path, words]) => [path, (words as string).split(' ')] as const,
    ),
  );
  let looked = 0;
  for (const [, name, rest] of readme.matchAll(/^(?:\$ )?(evc|eve) (.+)$/gm)) {
    const words = (rest as string)
      .replace(/"[^"]*"|'[^']*'/g, '…')
      .replace(/ +(#|&|>|\|).*$/, '')
      .split(/ +/);
    const options = words.filter((word) => word.startsWith('--'));
    const end = words.findIndex((word) => !/^[a-z][a-z-]*$/.test(word));
    const path = [name, ...words.slice(0, end < 0 ? undefined : end)] as string[];
    let known: string | string[] | undefined;
    if (name === 'eve') known = program('eve', ...path.slice(1), '--help');
    else {
      // What comes behind a command may be a word of its own.
      while (!offers.has(path.join(' ')) && path.length > 2) path.pop();
      known = offers.get(path.join(' '));
    }
    assert.ok(known, `there is ${path.join(' ')}`);
    for (const option of options) assert.ok(known.includes(option), `${path.join(' ')} has ${option}`);
    looked++;
  }
  assert.ok(looked > 40, `${looked} commands were looked at`);
});

test.run();
