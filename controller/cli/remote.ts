// What commands have in common that talk to a running EVC: their options, one question and its answer, and watching.
import { type Command, Option } from 'commander';
import { ApiClient, type ClientOptions } from './client.ts';
import { exitCodes, Failure } from './failure.ts';

export type Common = ClientOptions & { json?: boolean; watch?: boolean };

/** On a terminal, ages move on though nothing happens, ms. */
const refresh = 10_000;
/** Between two looks, however much happens, ms. */
const pause = 500;

export const dataOption = () => new Option('--data <dir>', "EVC's data folder");

/** A command that talks to a running EVC. */
export function remote(command: Command): Command {
  return command
    .addOption(dataOption())
    .option('--url <url>', 'where EVC is: https://HOST:PORT')
    .option('--root <file>', "EVC's root certificate, where its data folder is not here")
    .option('--json', 'prints the answer as JSON');
}

/** One that may go on looking. */
export function watchable(command: Command): Command {
  return remote(command).option('--watch', 'looks again whenever something happens, until Ctrl-C');
}

export function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Asks, and prints the answer; with --watch again whenever something happens. Rejects with Failure. */
export async function ask<Value>(
  options: Common,
  question: (api: ApiClient) => Promise<Value>,
  text: (value: Value) => string,
): Promise<void> {
  const api = ApiClient.open(options);
  const answer = async () => {
    const value = await question(api);
    return options.json ? JSON.stringify(value) : text(value);
  };
  try {
    if (options.watch) await watch(api, answer);
    else say(await answer());
  } finally {
    api.close();
  }
}

async function watch(api: ApiClient, answer: () => Promise<string>): Promise<void> {
  const screen = process.stdout.isTTY === true;
  let ended: 'asked' | 'evc' | null = null;
  let wake = () => {};
  let happened = true;
  const notice = () => {
    happened = true;
    wake();
  };
  const end = (why: 'asked' | 'evc') => {
    ended ??= why;
    wake();
  };
  const asked = () => end('asked');
  process.once('SIGINT', asked);
  process.once('SIGTERM', asked);
  const events = await api.events(notice, () => end('evc'));
  let last = '';
  try {
    for (let next = 0; ended === null; ) {
      if (happened || (screen && Date.now() >= next)) {
        happened = false;
        const now = await answer();
        // Home, and nothing left below: a terminal shows the answer in place.
        if (screen) process.stdout.write(`\u001b[H\u001b[J${now}\n`);
        else if (now !== last) say(now);
        last = now;
        next = Date.now() + refresh;
        await new Promise((resolve) => setTimeout(resolve, pause));
        continue;
      }
      await new Promise<void>((resolve) => {
        const timer = screen ? setTimeout(resolve, next - Date.now()) : undefined;
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
        if (happened || ended !== null) wake();
      });
    }
  } finally {
    process.removeListener('SIGINT', asked);
    process.removeListener('SIGTERM', asked);
    events.close();
  }
  if (ended === 'evc') throw endedByEvc();
}

/** EVC went away, or lets this token read no longer. */
export function endedByEvc(): Failure {
  return new Failure('EVC ended what it told', {
    code: 'evc.unreachable',
    hint: 'see whether it runs: evc status',
    exitCode: exitCodes.unreachable,
  });
}
