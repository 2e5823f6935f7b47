// A change that is tried before somebody decides: what is asked of EVC, and what came of it, for people. Pure.
import type { Said, TrialPage, TrialVerdict } from './answers.ts';

export const trialKinds = ['accept', 'images', 'policy'] as const;
export type TrialKind = (typeof trialKinds)[number];

/** As it is typed, and stands in the address; the policy alone does not. */
export interface TrialText {
  kind: TrialKind;
  /** Of `accept`: what this device shows, of all; empty: of each what it shows. */
  shown: string;
  /** Of `images`, split by commas. */
  versions: string;
  /** Of `policy`, JSON. */
  policy: string;
  filter: string;
  attempts: string;
}

/** What POST /api/v1/trials takes, without the page. */
export interface TrialWish {
  filter?: string;
  attempts: number;
  accept?: { device?: string };
  images?: string[];
  policy?: object;
}

/** Attempts that EVC keeps of each device. */
export const mostAttempts = 8;
const mostImages = 100;

/** A wish, or what is wrong in it. */
export function readTrial(
  text: TrialText,
): { wish: TrialWish; problem: '' } | { wish: null; problem: string } {
  const wrong = (problem: string) => ({ wish: null, problem });
  const attempts = /^\d$/.test(text.attempts.trim()) ? Number(text.attempts) : 0;
  if (attempts < 1 || attempts > mostAttempts) return wrong(`attempts: a number from 1 to ${mostAttempts}`);
  const devices = { attempts, ...(text.filter.trim() === '' ? {} : { filter: text.filter }) };
  if (text.kind === 'accept') {
    const device = text.shown.trim();
    return { wish: { ...devices, accept: device === '' ? {} : { device } }, problem: '' };
  }
  if (text.kind === 'images') {
    const images = text.versions.split(',').flatMap((one) => (one.trim() === '' ? [] : [one.trim()]));
    if (images.length === 0) return wrong('images: name at least one version of the catalogue');
    if (images.length > mostImages) return wrong(`images: ${mostImages} versions at the most`);
    return { wish: { ...devices, images }, problem: '' };
  }
  let policy: unknown;
  try {
    policy = JSON.parse(text.policy);
  } catch (error) {
    return wrong(`policy: ${text.policy.trim() === '' ? 'write one as JSON' : (error as Error).message}`);
  }
  if (typeof policy !== 'object' || policy === null || Array.isArray(policy))
    return wrong('policy: an object of JSON');
  return { wish: { ...devices, policy }, problem: '' };
}

/** Pages so far, as one. */
export type Trial = Omit<TrialPage, 'next'>;
export const nothingTried: Trial = { devices: 0, verdicts: [], skipped: [] };

export function withPage(trial: Trial, page: TrialPage): Trial {
  return {
    devices: trial.devices + page.devices,
    verdicts: [...trial.verdicts, ...page.verdicts],
    skipped: [...trial.skipped, ...page.skipped],
  };
}

/** What is trusted and would be refused: what somebody has to know first. */
export const isLost = ({ before, after }: Pick<TrialVerdict, 'before' | 'after'>) =>
  before.accepted && !after.accepted;
const isGained = ({ before, after }: TrialVerdict) => !before.accepted && after.accepted;

/** Those that change, the ones that would be refused first; or all. */
export function shownVerdicts({ verdicts }: Trial, all: boolean): TrialVerdict[] {
  const urgency = (one: TrialVerdict) => (isLost(one) ? 0 : isGained(one) ? 1 : one.changes ? 2 : 3);
  return verdicts
    .filter(({ changes }) => all || changes)
    .map((one) => [urgency(one), one] as const)
    .sort(([one], [other]) => one - other)
    .map(([, one]) => one);
}

/** `3 of 40 verdicts of 20 devices would be otherwise: 2 refused that are trusted, 1 trusted that is refused`. */
export function trialText(trial: Trial): string {
  const { devices, verdicts } = trial;
  const changed = verdicts.filter(({ changes }) => changes);
  const [lost, gained] = [changed.filter(isLost).length, changed.filter(isGained).length];
  const of = `${verdicts.length} verdicts of ${devices === 1 ? '1 device' : `${devices} devices`}`;
  if (changed.length === 0) return `Nothing would change in ${of}.`;
  const are = (count: number) => `that ${count === 1 ? 'is' : 'are'}`;
  return `${changed.length} of ${of} would be otherwise: ${lost} refused ${are(lost)} trusted, ${gained} trusted ${are(gained)} refused.`;
}

export function saidText({ accepted, genuine, grounds, finding }: Said): string {
  if (accepted) return `trusted (${grounds ?? 'none'})`;
  return `${genuine ? '' : 'not genuine: '}${finding?.code ?? 'refused'}`;
}

/** By reason: how many could not be judged again. */
export function skippedBy({ skipped }: Trial): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { why } of skipped) counts.set(why, (counts.get(why) ?? 0) + 1);
  return counts;
}
