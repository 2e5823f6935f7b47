// `evc serve --log json`: what happens, a line each, with the ids that join it to a device, its request, its attempt and its trace.
import { readTopic } from '../../formats/wire/topics.ts';
import type { Attempt, Reply } from '../../machines/device-record.ts';
import { explain } from '../../machines/reasons.ts';
import { traceOf } from '../../telemetry/spans.ts';
import type { Shed } from '../admission.ts';
import type { RunnerEvent } from '../record/runner.ts';

export type Level = 'debug' | 'info' | 'warn' | 'error';

/** A line. What is not known is left out. */
export interface LogLine {
  /** RFC 3339, UTC. */
  time: string;
  level: Level;
  /**
   * What happened: an event of a record, or `serving`, `stopping`, `stopped`, `certificates`, `refused`,
   * `overload`, `broker`.
   */
  event: string;
  device?: string;
  serial?: string;
  account?: string;
  /** Id of the request, as its topic has it. */
  request?: string;
  attempt?: string;
  /** Of the spans of the attempt, hex. */
  trace?: string;
  /** One of the reasons. */
  code?: string;
  text?: string;
}

/** Characters of what somebody else wrote. */
const longest = 500;

const levels = { info: 'info', warning: 'warn', error: 'error', critical: 'error' } as const;

export function lineOf(at: number, level: Level, event: string, more: Partial<LogLine> = {}): LogLine {
  return { time: new Date(at).toISOString(), level, event, ...more };
}

export function stepLine({ device, at, event, ignored, effects, snapshot }: RunnerEvent): LogLine {
  const { serial, account } = snapshot.context;
  const ids = idsOf(event as Loose, effects);
  const why = whyOf(event as Loose, effects);
  const level = why ? levelOf(why.code) : ignored ? 'debug' : 'info';
  return lineOf(at, level, event.type, {
    device,
    ...(serial ? { serial } : {}),
    ...(account ? { account: account.id } : {}),
    ...ids,
    ...(why ? { code: why.code, text: why.text.slice(0, longest) } : {}),
  });
}

/** @param what topic of a message, or name of who was refused */
export function refusedLine(at: number, what: string, code: string, text: string): LogLine {
  const topic = readTopic(what);
  const ids = topic ? { device: topic.device, request: topic.request } : {};
  const said = text || explain(code).title;
  return lineOf(at, levelOf(code), 'refused', { ...ids, code, text: said.slice(0, longest) });
}

export function shedLine(at: number, { putOff, dropped }: Shed): LogLine {
  const text = `${putOff} requests put off, ${dropped} dropped`;
  return lineOf(at, 'warn', 'overload', { code: 'limit.overload', text });
}

interface Loose {
  type: string;
  request?: { id: string };
  attempt?: Attempt | string;
  nonceHash?: string;
  verdict?: { accepted: boolean; findings: readonly { code: string; text: string }[] };
}

function idsOf({ request, attempt, nonceHash }: Loose, effects: RunnerEvent['effects']): Partial<LogLine> {
  const whole = typeof attempt === 'object' ? attempt : null;
  // A verdict concludes the request that it answers.
  const asked = request?.id ?? whole?.request.id ?? replyOf(effects)?.request.id;
  const id = whole?.id ?? (typeof attempt === 'string' ? attempt : undefined);
  const hash = nonceHash ?? whole?.nonceHash;
  return {
    ...(asked === undefined ? {} : { request: asked }),
    ...(id === undefined ? {} : { attempt: id }),
    ...(hash === undefined ? {} : { trace: traceOf(hash).trace }),
  };
}

function whyOf({ verdict }: Loose, effects: RunnerEvent['effects']): { code: string; text: string } | null {
  if (verdict && !verdict.accepted)
    return verdict.findings[0] ?? { code: 'internal.error', text: 'refused without a finding' };
  const body = replyOf(effects)?.body;
  return body?.kind === 'refused' ? body.why : null;
}

function replyOf(effects: RunnerEvent['effects']): Reply | undefined {
  return effects.find(({ type }) => type === 'reply')?.params as Reply | undefined;
}

function levelOf(code: string): Level {
  return levels[explain(code).severity];
}
