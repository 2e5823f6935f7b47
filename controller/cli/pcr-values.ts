// PCR values and selections as people and tools write them.
import { digestSize, type HashName } from '../../formats/tpm2/hash.ts';
import { pcrCount } from '../../formats/tpm2/pcrs.ts';
import type { StatedPcrs } from '../verify/quote.ts';
import { nameOf, readInput, unusable } from './input.ts';

const banks: readonly HashName[] = ['sha1', 'sha256', 'sha384', 'sha512'];

/**
 * Values of a file: JSON `{"sha256":{"0":"…"}}`, the YAML of tpm2_pcrread, or lines `0 HEX` of one bank, told by the
 * length of its values. Throws Failure input.pcrs.
 */
export function readPcrs(path: string): StatedPcrs {
  const text = readInput(path).toString('utf8');
  try {
    return text.trimStart().startsWith('{') ? pcrsOfJson(JSON.parse(text)) : pcrsOfLines(text);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : 'unreadable';
    throw unusable(`${nameOf(path)} has no PCR values: ${why}`, {
      code: 'input.pcrs',
      hint: 'write them as {"sha256":{"0":"<hex>"}}, or as lines: 0 <hex>',
      cause,
    });
  }
}

/** `{"sha256":{"0":"…"}}`. Throws TypeError. */
export function pcrsOfJson(value: unknown): StatedPcrs {
  if (typeof value !== 'object' || value === null) throw new TypeError('no object of banks');
  const stated: StatedPcrs = {};
  for (const [bank, values] of Object.entries(value)) {
    const name = banks.find((known) => known === bank.toLowerCase());
    if (!name || typeof values !== 'object' || values === null) continue;
    stated[name] = new Map(Object.entries(values).map(([pcr, hex]) => statedValue(name, pcr, hex)));
  }
  return stated;
}

function pcrsOfLines(text: string): StatedPcrs {
  const stated: Partial<Record<HashName, Map<number, Uint8Array>>> = {};
  for (const line of text.split('\n')) {
    const [, pcr = '', hex = ''] = /^\s*(\d{1,2})\s*[: ]\s*(?:0x)?([0-9a-fA-F]{40,128})\s*$/.exec(line) ?? [];
    const bank = banks.find((one) => 2 * digestSize(one) === hex.length);
    if (!bank) {
      if (line.trim() === '' || /^\s*\w+\s*:?\s*$/.test(line)) continue;
      throw new TypeError(`no PCR value: ${JSON.stringify(line.slice(0, 60))}`);
    }
    const [number, value] = statedValue(bank, pcr, hex);
    stated[bank] = (stated[bank] ?? new Map()).set(number, value);
  }
  if (Object.keys(stated).length === 0) throw new TypeError('it is empty');
  return stated;
}

function statedValue(bank: HashName, pcr: string, hex: unknown): [number, Uint8Array] {
  const number = Number(pcr);
  const text = typeof hex === 'string' ? hex.replace(/^0x/, '') : '';
  if (!/^\d{1,2}$/.test(pcr) || number >= pcrCount)
    throw new TypeError(`there is no PCR ${pcr.slice(0, 20)}`);
  if (text.length !== 2 * digestSize(bank) || !/^[0-9a-f]*$/i.test(text))
    throw new TypeError(`PCR ${pcr} is no ${bank} value`);
  return [number, new Uint8Array(Buffer.from(text, 'hex'))];
}
