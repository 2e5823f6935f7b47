// An appraisal policy as a file.
import * as v from 'valibot';
import { digestSize, type HashName } from '../../formats/tpm2/hash.ts';
import type { AppraisalPolicy } from '../verify/appraisal.ts';
import { parsePcrList } from './eventlog.ts';
import { readInput, unusable } from './input.ts';

const banks = ['sha256', 'sha384', 'sha512'] as const;
const hexText = v.pipe(v.string(), v.regex(/^[0-9a-f]+$/i, 'no value in hex'));
const PolicyJson = v.strictObject({
  pcrs: v.optional(v.string()),
  values: v.optional(
    v.record(
      v.picklist(banks),
      v.record(v.pipe(v.string(), v.regex(/^\d{1,2}$/)), v.union([hexText, v.array(hexText)])),
    ),
    {},
  ),
  log: v.optional(v.boolean(), false),
  secureBoot: v.optional(v.literal('on')),
});

export const defaultSelection = 'sha256:0-7';

/**
 * The policy of a file, or the default: PCRs 0 to 7 of SHA-256.
 *
 * @param selection wins over that of the file
 * @throws Failure input.policy, input.selection
 */
export function readPolicy(path: string | undefined, selection: string | undefined): AppraisalPolicy {
  const { pcrs, values, log, secureBoot } = path === undefined ? v.parse(PolicyJson, {}) : parse(path);
  return {
    pcrs: selectionOf(selection ?? pcrs ?? defaultSelection),
    values: Object.entries(values).flatMap(([bank, of]) =>
      Object.entries(of).map(([pcr, allowed]) => ({
        bank: bank as HashName,
        pcr: Number(pcr),
        allowed: [allowed].flat().map((hex) => sized(bank as HashName, hex.toLowerCase())),
      })),
    ),
    log,
    secureBoot: secureBoot === 'on',
  };
}

function parse(path: string): v.InferOutput<typeof PolicyJson> {
  try {
    return v.parse(PolicyJson, JSON.parse(readInput(path).toString('utf8')));
  } catch (cause) {
    const issue = cause instanceof v.ValiError ? cause.issues[0] : undefined;
    if (!issue && !(cause instanceof SyntaxError)) throw cause;
    const why = issue ? `${v.getDotPath(issue) ?? 'policy'}: ${issue.message}` : (cause as Error).message;
    throw unusable(`${path} is no policy: ${why}`, {
      code: 'input.policy',
      hint: 'evc quote verify --help shows one',
      cause,
    });
  }
}

/** `sha256:0-7,14+sha384:0`. */
function selectionOf(text: string): ReadonlyMap<HashName, readonly number[]> {
  const parts = text.split('+').map((part) => {
    const [bank, list = ''] = part.split(':');
    const pcrs = parsePcrList(list);
    const name = banks.find((known) => known === bank);
    if (name && pcrs) return [name, pcrs] as const;
    throw unusable(`no selection of PCRs: ${text}`, {
      code: 'input.selection',
      hint: 'write it as sha256:0-7,14+sha384:0; SHA-1 vouches for nothing',
    });
  });
  return new Map(parts);
}

function sized(bank: HashName, hex: string): string {
  if (hex.length === 2 * digestSize(bank)) return hex;
  throw unusable(`no value of ${bank}: ${hex.slice(0, 80)}`, { code: 'input.policy' });
}
