// The commands that a GRUB script runs, as GRUB measures them: each with its words put together by single blanks.
import { CatalogueError } from './error.ts';

export interface GrubEvent {
  readonly kind: 'command' | 'kernel-command-line';
  readonly text: string;
}

/** Words after which the way through a script depends on the machine that runs it. */
const control = new Set([
  'if',
  'elif',
  'else',
  'fi',
  'for',
  'while',
  'until',
  'do',
  'done',
  'case',
  'esac',
  'function',
  'menuentry',
  'submenu',
]);
const starters = new Set(['linux', 'linux16', 'linuxefi']);
const mostLines = 20_000;

/**
 * The events of a script that runs from its first line to its last. Throws CatalogueError image.grub with the line for one
 * that branches, defines menus, or names variables that it does not set: what it does is known by a reference boot alone.
 */
export function grubEvents(script: string, path: string): GrubEvent[] {
  const lines = script.split('\n');
  const variables = new Map<string, string>();
  const refuse = (index: number, why: string): never => {
    throw new CatalogueError(
      'image.grub',
      `${path}, line ${index + 1}: ${why}; what this script measures depends on the machine, so add the log of a reference boot`,
    );
  };
  if (lines.length > mostLines) refuse(mostLines, `more than ${mostLines} lines`);
  return lines.flatMap((line, index) => {
    const words = wordsOf(line, variables, (why) => refuse(index, why));
    const [name, ...rest] = words;
    if (name === undefined) return [];
    if (control.has(name)) refuse(index, `“${name}”`);
    const [, variable, value] = name === 'set' ? (/^([A-Za-z_]\w*)=(.*)$/s.exec(rest[0] ?? '') ?? []) : [];
    if (variable !== undefined) variables.set(variable, value ?? '');
    const command: GrubEvent = { kind: 'command', text: words.join(' ') };
    return starters.has(name) ? [command, { kind: 'kernel-command-line', text: rest.join(' ') }] : [command];
  });
}

/** The words of a line, quotes taken off and variables put in [GRUB manual, "Shell-like scripting"]. */
function wordsOf(
  line: string,
  variables: ReadonlyMap<string, string>,
  refuse: (why: string) => never,
): string[] {
  const words: string[] = [];
  let word: string | undefined;
  const add = (text: string) => {
    word = (word ?? '') + text;
  };
  const end = () => {
    if (word !== undefined) words.push(word);
    word = undefined;
  };
  const pattern =
    /\s+|#|'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)|\$(?:\{(\w+)\}|(\w+|[?@*#]))|([^\s'"\\$#;&|<>(){}]+|[(){}])|(.)/gy;
  for (const [text, single, double, escaped, braced, bare, plain, other] of line.matchAll(pattern)) {
    if (/^\s/.test(text)) end();
    else if (text === '#') {
      if (word === undefined) break;
      add(text);
    } else if (single !== undefined) add(single);
    else if (double !== undefined) add(unquoted(double, variables, refuse));
    else if (escaped !== undefined) add(escaped);
    else if (braced !== undefined || bare !== undefined) {
      // An unquoted variable is split at blanks; a word that becomes empty is none.
      const parts = valueIn(braced ?? bare ?? '', variables, refuse).split(/\s+/);
      for (const [i, part] of parts.entries()) {
        if (i > 0) end();
        if (part !== '') add(part);
      }
    } else if (plain !== undefined) add(plain);
    else if (other === ';') refuse('“;”');
    else refuse(`“${other}”`);
  }
  end();
  return words;
}

function unquoted(
  text: string,
  variables: ReadonlyMap<string, string>,
  refuse: (why: string) => never,
): string {
  return text.replace(/\\(["\\$])|\$(?:\{(\w+)\}|(\w+))/g, (_, escaped, braced, bare) =>
    escaped !== undefined ? escaped : valueIn(braced ?? bare, variables, refuse),
  );
}

function valueIn(
  name: string,
  variables: ReadonlyMap<string, string>,
  refuse: (why: string) => never,
): string {
  return variables.get(name) ?? refuse(`“$${name}” is not set`);
}
