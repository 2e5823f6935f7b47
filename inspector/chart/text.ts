// How wide a text will be, without a font: the widths of DejaVu Sans, which is wider than what most have, so that what is laid
// out here fits everywhere.

/** Of 1000 units an em; what is not listed is as wide as an `m`. */
const groups: readonly [width: number, characters: string][] = [
  [278, "iljI|’'.,:;"],
  [318, ' !'],
  [337, '/\\'],
  [361, '-'],
  [392, 'tf()[]r'],
  [500, '_*"'],
  [521, 's'],
  [525, 'zJ'],
  [549, 'c'],
  [592, 'kvxy'],
  [612, 'aeogqpbd'],
  [634, 'hnu0123456789EFLST'],
  [684, 'ABKPRVXYZ'],
  [698, 'CG'],
  [770, 'DHNOQU'],
  [818, 'w+=→'],
  [863, 'M'],
  [989, 'W'],
];
const widths = new Map(
  groups.flatMap(([width, characters]) => [...characters].map((one) => [one, width] as const)),
);
const wide = 974;

/** Width in px at a size in px; bold is a tenth wider. */
export function textWidth(text: string, size: number, bold = false): number {
  let sum = 0;
  for (const character of text) sum += widths.get(character) ?? wide;
  return Math.ceil((sum * size * (bold ? 1.12 : 1)) / 1000);
}

/** Words in lines of at most so many characters; a word that is longer stays whole. */
export function wrapWords(words: readonly string[], most: number): string[] {
  const lines: string[] = [];
  for (const word of words) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= most)
      lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}
