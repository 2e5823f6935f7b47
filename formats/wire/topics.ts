// The only place where topics between EVE and EVC exist.
//   eve/v2/{device}/up/{endpoint}/{request}     a device asks
//   eve/v2/{device}/down/{endpoint}/{request}   EVC answers
//   eve/v2/{device}/down/push/{number}          EVC has news
//   eve/v2/events/{device}/{account}/{event}    EVC tells others what happened, as CloudEvents
import { WireError } from './wire-error.ts';

/** EVE's API v2, by its path names. */
export const endpoints = ['certs', 'register', 'uuid', 'attest', 'config', 'info'] as const;
export type Endpoint = (typeof endpoints)[number];

export interface Topic {
  /** SHA-256 of the device certificate, hex. */
  device: string;
  direction: 'up' | 'down';
  endpoint: Endpoint | 'push';
  /** Id that the asking side chose; in a push, a number of EVC. */
  request: string;
}

const prefix = 'eve/v2';
const deviceId = /^[0-9a-f]{64}$/;
const requestId = /^[A-Za-z0-9_-]{1,32}$/;
const accountId = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const eventName = /^[a-z]{1,32}\.[a-z]{1,32}$/;

export function formatTopic(topic: Topic): string {
  const { device, direction, endpoint, request } = topic;
  if (!deviceId.test(device) || !requestId.test(request)) {
    throw new TypeError('a topic needs a device id of 64 hex digits and a request id of 1 to 32 letters');
  }
  return `${prefix}/${device}/${direction}/${endpoint}/${request}`;
}

/** Throws WireError wire.topic for everything that is no topic of ours. */
export function parseTopic(text: string): Topic {
  const parts = text.length <= 160 ? text.split('/') : [];
  const [eve, version, device = '', direction, endpoint = '', request = ''] = parts;
  const known =
    parts.length === 6 &&
    `${eve}/${version}` === prefix &&
    deviceId.test(device) &&
    requestId.test(request) &&
    ((direction === 'up' && isEndpoint(endpoint)) ||
      (direction === 'down' && (isEndpoint(endpoint) || endpoint === 'push')));
  if (!known) throw new WireError('wire.topic', `no topic of this protocol: ${printable(text)}`);
  return { device, direction, endpoint: endpoint as Topic['endpoint'], request };
}

/** null for what is no topic of ours. */
export function readTopic(text: string): Topic | null {
  try {
    return parseTopic(text);
  } catch {
    return null;
  }
}

/** What others are told of; no device id is called `events`, so no such topic is one of a device. */
export interface EventTopic {
  device: string;
  account: string;
  event: string;
}

const events = `${prefix}/events`;

/** null where one of its parts is no level of a topic. */
export function formatEventTopic({ device, account, event }: EventTopic): string | null {
  const topic = `${events}/${device}/${account}/${event}`;
  return parseEventTopic(topic) ? topic : null;
}

/** null for any other topic. */
export function parseEventTopic(text: string): EventTopic | null {
  const [device = '', account = '', event = '', ...more] = below(text);
  const known =
    more.length === 0 && deviceId.test(device) && accountId.test(account) && eventName.test(event);
  return known ? { device, account, event } : null;
}

/** Whether a filter asks for events and nothing else [MQTT 3.1.1, 4.7.1]. */
export function isEventFilter(text: string): boolean {
  const levels = below(text);
  const last = levels.at(-1);
  const forms = [deviceId, accountId, eventName];
  if (levels.length > forms.length || (last !== '#' && levels.length < forms.length)) return false;
  return levels.every(
    (level, i) =>
      level === '+' || (level === '#' && i === levels.length - 1) || (forms[i] as RegExp).test(level),
  );
}

/** The levels under `eve/v2/events`; none for what is elsewhere, or too long to be there. */
function below(text: string): string[] {
  return text.length <= 256 && text.startsWith(`${events}/`) ? text.slice(events.length + 1).split('/') : [];
}

/** What a device listens to. */
export function downFilter(device: string): string {
  return `${prefix}/${device}/down/#`;
}

/** What a device says anything on. */
export function upFilterOf(device: string): string {
  return `${prefix}/${device}/up/#`;
}

/** What EVC listens to. */
export const upFilter = upFilterOf('+');
/** All of it. */
export const everyTopic = `${prefix}/#`;

export function isDeviceId(text: string): boolean {
  return deviceId.test(text);
}

function isEndpoint(text: string): text is Endpoint {
  return (endpoints as readonly string[]).includes(text);
}

/** The peer chose these characters: short, and nothing that a terminal obeys. */
function printable(text: string): string {
  return JSON.stringify(text.slice(0, 80).replace(/[^\x20-\x7e]/g, '?'));
}
