// Text for people: tables that fit 80 columns, ages, and colour that is never the only sign.

import type { Finding } from '../../machines/flow.ts';

const codes = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;
export type Style = keyof typeof codes;

/** Colour on a terminal alone, and not with NO_COLOR (no-color.org). */
export function painter(
  stream: { isTTY?: boolean } = process.stdout,
): (style: Style, text: string) => string {
  const on = stream.isTTY === true && !process.env.NO_COLOR && process.env.TERM !== 'dumb';
  return (style, text) => (on ? `\u001b[${codes[style]}m${text}\u001b[0m` : text);
}

export const tableWidth = 80;

/** What devices chose to say, made harmless for a terminal: control characters and invisible ones become blanks. */
export function plain(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ');
}

/** Columns as wide as they need to be, and the last one cut where the line would pass the width. */
export function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  width = tableWidth,
): string {
  const cells = rows.map((row) => row.map(plain));
  const widths = head.map((title, column) =>
    Math.max(title.length, ...cells.map((row) => (row[column] ?? '').length)),
  );
  const line = (row: readonly string[]) => {
    const text = row
      .map((cell, column) => (column === head.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
      .join('  ');
    return text.length > width ? `${text.slice(0, width - 1)}…` : text.trimEnd();
  };
  return [head, ...cells].map(line).join('\n');
}

/** `3h 12m`, of ms. */
export function ageOf(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${s % 60}s`;
  if (s < 86_400) return `${Math.floor(s / 3600)}h ${Math.floor((s % 3600) / 60)}m`;
  return `${Math.floor(s / 86_400)}d ${Math.floor((s % 86_400) / 3600)}h`;
}

/** A digest as people compare it: its ends. */
export function short(hex: string): string {
  return hex.length > 16 ? `${hex.slice(0, 8)}…${hex.slice(-4)}` : hex;
}

/** Each finding with PCR, event, seen and allowed, over as many lines as it takes. */
export function findingLines(findings: readonly Finding[], most = 20): string[] {
  const lines = findings.slice(0, most).flatMap((finding) => {
    const { code, text, pcr, event, seen, allowed, remedy } = finding;
    const where = [pcr === undefined ? '' : `PCR ${pcr}`, event === undefined ? '' : `event ${event}`].filter(
      Boolean,
    );
    return [
      `  ${code}${where.length > 0 ? `  ${where.join(', ')}` : ''}`,
      ...wrap(text, '    '),
      ...(seen ? [`    seen     ${cut(seen)}`] : []),
      ...(allowed ? [`    allowed  ${cut(allowed)}`] : []),
      ...(remedy
        ? wrap(remedy, ' '.repeat(13)).map((line, i) => (i === 0 ? `    remedy   ${line.trim()}` : line))
        : []),
    ];
  });
  return findings.length > most
    ? [...lines, `  … and ${findings.length - most} more (--json shows all)`]
    : lines;
}

const longestText = 400;

/** Text in lines of the width of a table, each after the indent; the end of a very long one is left out. */
export function wrap(given: string, indent: string): string[] {
  const whole = plain(given);
  const text = whole.length > longestText ? `${whole.slice(0, longestText)}…` : whole;
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && indent.length + line.length + 1 + word.length > tableWidth) {
      lines.push(indent + line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return line === '' ? lines : [...lines, indent + line];
}

function cut(given: string): string {
  const text = plain(given);
  return text.length > tableWidth - 13 ? `${text.slice(0, tableWidth - 14)}…` : text;
}
