// `evc up`: EVC and devices on this machine, and the sequences as they happen.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { DeviceView } from '../operator.ts';
import { statusTable } from './devices.ts';
import { exitCodes, explain, Failure } from './failure.ts';
import { Fleet } from './fleet.ts';
import { Narrator } from './narrator.ts';
import { findingLines, painter } from './print.ts';
import { type StoryPlan, stories, storiesCalled } from './stories.ts';

export interface UpOptions {
  story?: string;
  exit?: boolean;
  json?: boolean;
  data?: string;
  store?: string;
  broker?: string;
  httpsPort?: string;
}

/** Findings that a summary shows of each device that is not trusted. */
const shownFindings = 4;

/** Resolves with the exit code: 0 only if every story ended as it must. */
export async function up(options: UpOptions): Promise<number> {
  if (options.story === 'list') {
    for (const [name, { title }] of Object.entries(stories))
      process.stdout.write(`${name.padEnd(20)} ${title}\n`);
    return exitCodes.done;
  }
  const chosen = storiesCalled(options.story);
  const { folder, temporary } = folderOf(options.data);
  const narrator = new Narrator(options.json ?? false);
  const playing = new Map<string, string>();
  const interrupted = interruption();
  const broken = new AbortController();
  const fleet = new Fleet(
    folder,
    (step) => {
      const story = playing.get(step.device);
      if (story === undefined) return;
      narrator.step(story, step);
    },
    (failure) => broken.abort(failure),
    options,
  );
  const stopped = Promise.race([
    interrupted.promise,
    new Promise<never>((_, reject) => {
      broken.signal.addEventListener('abort', () => reject(broken.signal.reason as Error));
    }),
  ]);
  stopped.catch(() => undefined);
  let code: number = exitCodes.done;
  try {
    const began = Date.now();
    narrator.say(
      `EVC and ${new Set(chosen.map((name) => planOf(name).device)).size} devices come up in ${folder}`,
    );
    const played = play(fleet, narrator, playing, chosen);
    played.catch(() => undefined);
    const result = await Promise.race([played, stopped]);
    if (result === 'interrupted') return 130;
    code = (result as number) === 0 ? exitCodes.done : exitCodes.failed;
    await summary(fleet, narrator, options, (Date.now() - began) / 1000, chosen.length, result as number);
    if (!options.exit) {
      narrator.say(explore(fleet));
      await stopped;
    }
    return code;
  } catch (error) {
    const { text, hint, code: why } = explain(error);
    process.stderr.write(`evc up: ${text}  [${why}]\n${hint === '' ? '' : `hint: ${hint}\n`}`);
    return exitCodes.failed;
  } finally {
    interrupted.stop();
    await fleet.stop();
    if (temporary) rmSync(folder, { recursive: true, force: true });
  }
}

/** Resolves with the number of stories that did not end as they must. */
async function play(
  fleet: Fleet,
  narrator: Narrator,
  playing: Map<string, string>,
  chosen: readonly string[],
): Promise<number> {
  // The operator's side comes up while the factory makes the images.
  const images = chosen.map((name) => fleet.image(...planOf(name).image));
  for (const image of images) image.catch(() => undefined);
  await fleet.startEvc();
  narrator.say(`watch it: ${fleet.page}`);
  if (chosen.some((name) => planOf(name).account === 'locked'))
    await fleet.api.send('POST', '/api/v1/accounts', { id: 'locked', locationLock: true });
  for (const name of chosen) narrator.begin(name, `${planOf(name).title} · ${planOf(name).device}`);

  let failed = 0;
  const tell = async (name: string) => {
    const plan = planOf(name);
    const device = fleet.devices.find((candidate) => candidate.name === plan.device);
    if (!device) throw new Failure(`${plan.device} was never onboarded`);
    playing.set(plan.device, name);
    try {
      narrator.end(name, { ok: true, text: await plan.play(fleet, device) });
    } catch (error) {
      failed++;
      narrator.end(name, { ok: false, text: explain(error).text });
    } finally {
      playing.delete(plan.device);
    }
  };

  const firsts = chosen.filter((name) => planOf(name).after === undefined);
  const ready = new Map<string, Promise<void>>();
  for (const name of firsts) {
    const onboarding = onboard(fleet, narrator, playing, name);
    onboarding.catch(() => undefined);
    ready.set(name, onboarding);
  }
  // A device that could not be onboarded is the failure of its own story alone.
  const onboarded = async (name: string): Promise<boolean> => {
    try {
      await ready.get(name);
      return true;
    } catch (error) {
      failed++;
      narrator.end(name, { ok: false, text: `onboarding: ${explain(error).text}` });
      return false;
    }
  };

  const line = chosen.filter((name) => planOf(name).device === planOf(chosen[0] ?? '').device);
  const others = firsts.filter((name) => !line.includes(name));
  const good = await onboarded(line[0] ?? '');
  for (const name of others)
    for (const image of planOf(name).later ?? []) fleet.image(...image).catch(() => undefined);
  for (const name of line.filter((story) => !planOf(story).alone)) if (good) await tell(name);
  const settled = await Promise.all(others.map(async (name) => ((await onboarded(name)) ? [name] : [])));
  // EVC is stopped in this one, so nobody else is in the middle of something.
  for (const name of line.filter((story) => planOf(story).alone)) if (good) await tell(name);
  if (!good) failed += line.length - 1;
  // What EVC pushes to a device that is not back yet would wait for the device's next poll.
  for (const device of fleet.devices) await device.until('it reaches EVC', () => device.linked);
  await Promise.all(settled.flat().map(tell));
  return failed;
}

async function onboard(
  fleet: Fleet,
  narrator: Narrator,
  playing: Map<string, string>,
  name: string,
): Promise<void> {
  const plan = planOf(name);
  const image = await fleet.image(...plan.image);
  const device = await fleet.device(plan.device, plan.account);
  if (plan.onboards) playing.set(plan.device, name);
  if (plan.place !== undefined) device.moveTo(plan.place);
  device.start(image);
  await device.attested();
  await device.until('its key is escrowed', () => device.record.escrow === 'held');
  if (!plan.onboards)
    narrator.note(name, `${plan.device} is onboarded as in S1, and trusted on ${device.image}`);
}

async function summary(
  fleet: Fleet,
  narrator: Narrator,
  options: UpOptions,
  seconds: number,
  count: number,
  failed: number,
): Promise<void> {
  const views: DeviceView[] = await Promise.all(fleet.devices.map((device) => device.view()));
  if (options.json) {
    for (const view of views) {
      const { serial, trust, baseline, upgraded, verdict } = view;
      const why = verdict?.accepted ? verdict.grounds : verdict?.findings;
      const line = { kind: 'device', serial, trust, version: baseline?.versions.image, upgraded, why };
      process.stdout.write(`${JSON.stringify(line)}\n`);
    }
    process.stdout.write(`${JSON.stringify({ kind: 'summary', stories: count, failed, seconds })}\n`);
    return;
  }
  const paint = painter();
  narrator.say(`\n${statusTable(views, Date.now())}`);
  for (const view of views.filter(({ trust }) => trust === 'uud')) {
    const findings = view.verdict?.findings ?? [];
    const explained = findings.filter(({ event, seen }) => event !== undefined && seen);
    narrator.say(`\nwhy ${paint('bold', view.serial)} is UUD:`);
    for (const text of findingLines(explained.length > 0 ? explained : findings, shownFindings))
      narrator.say(text);
  }
  const result =
    failed === 0
      ? `all ${count} stories ended as they must`
      : `${failed} of ${count} stories did NOT end as they must`;
  narrator.say(`\n${paint(failed === 0 ? 'green' : 'red', result)}, in ${seconds.toFixed(1)} s`);
}

function explore(fleet: Fleet): string {
  const [device] = fleet.devices;
  const other = fleet.devices.find(({ record }) => record.integrity === 'uud') ?? device;
  return `
EVC and the devices stay up. In a browser:
  ${fleet.page}
${fleet.devices.map(({ name, page }) => (page === '' ? '' : `  ${page.padEnd(25)} the charts of ${name} itself\n`)).join('')}In another terminal, in this folder:
  export EVC_DATA=${fleet.evcFolder}
  npx evc status
  npx evc why ${other?.name ?? ''}
  npx evc accept ${other?.name ?? ''} --reason "we know this one"
  npx evc journal ${device?.name ?? ''}
  npx eve status --state ${device?.folder ?? ''}
Ctrl-C ends everything.`;
}

function planOf(name: string): StoryPlan {
  const plan = stories[name];
  if (!plan) throw new TypeError(`no story ${name}`);
  return plan;
}

function folderOf(data: string | undefined): { folder: string; temporary: boolean } {
  if (data === undefined) return { folder: mkdtempSync(join(tmpdir(), 'evc-up-')), temporary: true };
  const folder = resolve(data);
  // EVC may be set up in it, as a broker of somebody else's needs it.
  if (existsSync(folder) && readdirSync(folder).some((name) => name !== 'evc')) {
    throw new Failure(`${folder} is not empty`, {
      hint: 'give a new folder, one in which evc init made DIR/evc and nothing else is, or none for a temporary one',
      exitCode: exitCodes.usage,
    });
  }
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  return { folder, temporary: false };
}

/** Ctrl-C, once: the devices get time to end in order. */
function interruption(): { promise: Promise<'interrupted'>; stop(): void } {
  let stop = () => {};
  const promise = new Promise<'interrupted'>((done) => {
    let asked = false;
    const end = () => {
      if (asked) process.exit(130);
      asked = true;
      done('interrupted');
    };
    const names = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
    for (const name of names) process.on(name, end);
    stop = () => {
      for (const name of names) process.off(name, end);
    };
  });
  return { promise, stop };
}
