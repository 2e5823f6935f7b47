// The commands that a GRUB script runs on a machine, as GRUB measures them: words put together by single blanks, variables
// and functions done, branches taken. What only the machine can say has to be told; nothing is guessed.
import { grubError, parseGrub, type Script, type Statement, type Word } from './grub-script.ts';

export interface GrubEvent {
  readonly kind: 'command' | 'kernel-command-line';
  readonly text: string;
}

/** What a script finds out about the machine that runs it. */
export interface GrubMachine {
  /** Variables that GRUB or its commands set from the machine: root, grub_cpu, what `smbios --set` and `probe --set` find. */
  readonly variables: ReadonlyMap<string, string>;
  /** Files that a script looks for, by GRUB's path: the text of those that it may run, null for those that are absent. */
  readonly files: ReadonlyMap<string, string | null>;
}

export const noMachine: GrubMachine = { variables: new Map(), files: new Map() };

/** Set by GRUB itself before any script runs. */
const builtIn = new Set([
  'root',
  'prefix',
  'cmdpath',
  'cmddevice',
  'grub_cpu',
  'grub_platform',
  'net_default_mac',
]);
const starters = new Set(['linux', 'linux16', 'linuxefi']);
const mostCommands = 20_000;
const deepest = 50;
const longest = 64 * 1024;

/**
 * The events of a script, and of the first of its menu's entries. Throws CatalogueError image.grub with the line where a
 * script is malformed, runs for ever, or depends on something that the machine was not said to have.
 */
export function grubEvents(source: string, path: string, machine: GrubMachine = noMachine): GrubEvent[] {
  const run = new Run(path, machine);
  run.script(parseGrub(source, path));
  run.menu();
  return run.events;
}

type Command = Extract<Statement, { kind: 'command' }>;
interface Argument {
  readonly text: string;
  readonly block?: Script;
}

class Run {
  readonly events: GrubEvent[] = [];
  readonly #path: string;
  readonly #machine: GrubMachine;
  /** null: the machine set it, and nobody said to what. */
  readonly #variables = new Map<string, string | null>();
  readonly #functions = new Map<string, Script>();
  readonly #entries: { title: string[]; body: Script; line: number }[] = [];
  #parameters: readonly string[] = [];
  #depth = 0;
  #line = 1;

  constructor(path: string, machine: GrubMachine) {
    this.#path = path;
    this.#machine = machine;
    for (const [name, value] of machine.variables) this.#variables.set(name, value);
    for (const name of builtIn) if (!this.#variables.has(name)) this.#variables.set(name, null);
  }

  /** Whether its last command succeeded. */
  script(script: Script): boolean {
    if (++this.#depth > deepest) throw this.#error(`commands call one another deeper than ${deepest}`);
    let ok = true;
    for (const statement of script) ok = this.#statement(statement);
    this.#depth--;
    return ok;
  }

  /** The entry that boots when nobody touches a key. */
  menu(): void {
    if (this.#entries.length === 0) return;
    const wanted = this.#variables.get('default') ?? '0';
    const index = /^\d+$/.test(wanted) ? Number(wanted) : 0;
    const entry = this.#entries[index] ?? this.#entries[0];
    if (!entry) return;
    this.#line = entry.line;
    this.#measure(['setparams', ...entry.title]);
    this.#parameters = entry.title;
    this.script(entry.body);
  }

  #statement(statement: Statement): boolean {
    switch (statement.kind) {
      case 'command':
        return this.#command(statement);
      case 'function':
        this.#functions.set(statement.name, statement.body);
        return true;
      case 'if': {
        const branch = statement.branches.find(({ condition }) => this.script(condition));
        return this.script(branch?.body ?? statement.otherwise);
      }
    }
  }

  #command({ line, words }: Command): boolean {
    this.#line = line;
    const found = words.flatMap((word) => this.#expand(word));
    const args = found.map(({ text }) => text);
    const [name, ...rest] = args;
    if (name === undefined) return true;
    this.#measure(args);
    const body = this.#functions.get(name);
    if (body) return this.#call(body, rest);
    const [, assigned, value = ''] =
      /^([A-Za-z_]\w*)=(.*)$/s.exec(name === 'set' ? (rest[0] ?? '') : name) ?? [];
    if (assigned !== undefined) return this.#set(assigned, value);
    switch (name) {
      case '[':
      case 'test':
        return this.#test(name === '[' && rest.at(-1) === ']' ? rest.slice(0, -1) : rest);
      case 'false':
        return false;
      case 'unset':
        return this.#set(rest[0] ?? '', '');
      case 'regexp':
        return this.#regexp(rest);
      case 'source':
      case '.':
      case 'configfile':
        return this.#source(rest[0] ?? '');
      case 'menuentry':
      case 'submenu':
        return this.#entry(found.slice(1));
      default:
        if (starters.has(name)) this.#event('kernel-command-line', rest.map(escaped).join(' '));
        for (const variable of setBy(name, rest)) this.#askMachine(variable);
        return true;
    }
  }

  #measure(args: readonly string[]): void {
    this.#event('command', args.join(' '));
  }

  #event(kind: GrubEvent['kind'], text: string): void {
    if (text.length > longest) throw this.#error(`a command of ${text.length} characters`);
    if (this.events.push({ kind, text }) > mostCommands)
      throw this.#error(`it runs more than ${mostCommands} commands`);
  }

  #call(body: Script, parameters: readonly string[]): boolean {
    const before = this.#parameters;
    this.#parameters = parameters;
    const ok = this.script(body);
    this.#parameters = before;
    return ok;
  }

  #set(name: string, value: string): boolean {
    this.#variables.set(name, value);
    return true;
  }

  #askMachine(name: string): void {
    this.#variables.set(name, this.#machine.variables.get(name) ?? null);
  }

  #expand(word: Word): Argument[] {
    if (word.kind === 'block') return [{ text: word.text, block: word.script }];
    const args: string[] = [];
    let current: string | undefined;
    const add = (text: string) => {
      current = (current ?? '') + text;
    };
    const end = () => {
      if (current !== undefined) args.push(current);
      current = undefined;
    };
    for (const part of word.parts)
      if (part.kind === 'text') {
        if (part.text !== '' || part.quoted) add(part.text);
      } else if (part.name === '@' || part.name === '*') {
        // "$@" is as many words as there are parameters, and none where there are none.
        if (this.#parameters.length === 0 && current === '') current = undefined;
        for (const [i, parameter] of this.#parameters.entries()) {
          if (i > 0) end();
          add(parameter);
        }
      } else if (part.quoted) add(this.#value(part.name));
      else
        for (const [i, piece] of this.#value(part.name)
          .split(/[ \t\n]+/)
          .entries()) {
          if (i > 0) end();
          if (piece !== '') add(piece);
        }
    end();
    return args.map((text) => ({ text }));
  }

  #value(name: string): string {
    if (/^\d+$/.test(name)) return this.#parameters[Number(name) - 1] ?? '';
    if (name === '#') return `${this.#parameters.length}`;
    const value = name === '?' ? null : this.#variables.get(name);
    if (value === null) throw this.#error(`only the machine knows $${name}`);
    return value ?? '';
  }

  #file(path: string): string | null {
    const text = this.#machine.files.get(path);
    if (text === undefined) throw this.#error(`only the machine knows whether there is a file ${path}`);
    return text;
  }

  #source(path: string): boolean {
    const text = this.#file(path);
    if (text === null) return false;
    const line = this.#line;
    const ok = this.script(parseGrub(text, path));
    this.#line = line;
    return ok;
  }

  #entry(args: readonly Argument[]): boolean {
    const body = args.at(-1)?.block;
    if (!body) throw this.#error('an entry of a menu without a block');
    const titles = args.slice(0, -1).map(({ text }) => text);
    // Options of an entry, such as --class NAME, come with their values and are no part of its title.
    const [title = ''] = titles.filter(
      (text, i) => !text.startsWith('--') && !(titles[i - 1] ?? '').startsWith('--'),
    );
    this.#entries.push({ title: [title], body, line: this.#line });
    return true;
  }

  #regexp(args: readonly string[]): boolean {
    const rest = args.filter((arg) => arg !== '--');
    const at = rest.indexOf('--set');
    const [target] = at < 0 ? [undefined] : rest.splice(at, 2).slice(1);
    const [pattern = '', subject = ''] = rest;
    if (subject.length > 1000 || pattern.length > 200)
      throw this.#error('a regular expression of such a length');
    let found: RegExpExecArray | null;
    try {
      found = new RegExp(pattern).exec(subject);
    } catch {
      throw this.#error(`the regular expression ${pattern} cannot be read`);
    }
    if (found && target !== undefined) {
      const [, index = '1', name = target] = /^(\d+):(.+)$/.exec(target) ?? [];
      this.#set(name, found[Number(index)] ?? '');
    }
    return found !== null;
  }

  /** `test`: -o binds less than -a, and that less than a primary [GRUB manual, "test"]. */
  #test(args: readonly string[]): boolean {
    const or = args.indexOf('-o');
    if (or > 0) return this.#test(args.slice(0, or)) || this.#test(args.slice(or + 1));
    const and = args.indexOf('-a');
    if (and > 0) return this.#test(args.slice(0, and)) && this.#test(args.slice(and + 1));
    const [first = '', second, third] = args;
    if (first === '!' && args.length > 1) return !this.#test(args.slice(1));
    if (args.length <= 1) return first !== '';
    if (args.length === 2) {
      switch (first) {
        case '-z':
          return second === '';
        case '-n':
          return second !== '';
        case '-e':
        case '-f':
        case '-s':
          return this.#file(second ?? '') !== null;
      }
    }
    const compare = comparisons[second ?? ''];
    if (args.length === 3 && compare) return compare(first, third ?? '');
    throw this.#error(`the test ${args.join(' ').slice(0, 100)} is not understood`);
  }

  #error(why: string) {
    return grubError(this.#path, this.#line, why);
  }
}

const comparisons: Record<string, (a: string, b: string) => boolean> = {
  '=': (a, b) => a === b,
  '==': (a, b) => a === b,
  '!=': (a, b) => a !== b,
  '-eq': (a, b) => Number(a) === Number(b),
  '-ne': (a, b) => Number(a) !== Number(b),
  '-lt': (a, b) => Number(a) < Number(b),
  '-le': (a, b) => Number(a) <= Number(b),
  '-gt': (a, b) => Number(a) > Number(b),
  '-ge': (a, b) => Number(a) >= Number(b),
};

/** Variables that a command sets from what it finds on the machine. */
function setBy(name: string, args: readonly string[]): string[] {
  const after = (...options: string[]) =>
    options.flatMap((option) => args.flatMap((arg, i) => (arg === option ? [args[i + 1] ?? ''] : [])));
  const joined = args.flatMap((arg) => /^--set=(.+)$/.exec(arg)?.[1] ?? []);
  const short = name === 'smbios' ? [] : after('-s');
  const gptprio = name === 'gptprio.next' ? after('-d', '-u') : [];
  // search.fs_label LABEL VARIABLE
  const search = /^search\./.test(name) ? args.slice(1, 2) : [];
  return [...after('--set'), ...joined, ...short, ...gptprio, ...search].filter(
    (variable) => variable !== '',
  );
}

/** As GRUB puts a command line together: what holds a blank is quoted. */
function escaped(arg: string): string {
  const plain = arg.replace(/[\\'"]/g, '\\$&');
  return arg.includes(' ') ? `"${plain}"` : plain;
}
