// GRUB's shell-like scripts, parsed: commands, branches, functions and the blocks of menus [GRUB manual, "Shell-like scripting"].
import { CatalogueError } from './error.ts';

export type Script = readonly Statement[];

export type Statement =
  | { readonly kind: 'command'; readonly line: number; readonly words: readonly Word[] }
  | { readonly kind: 'if'; readonly branches: readonly Branch[]; readonly otherwise: Script }
  | { readonly kind: 'function'; readonly name: string; readonly body: Script };

/** `if` and each `elif`: what decides, and what is run then. */
export interface Branch {
  readonly condition: Script;
  readonly body: Script;
}

/** The parts of one word, or a block in braces with its text as it stands in the file. */
export type Word =
  | { readonly kind: 'word'; readonly parts: readonly Part[] }
  | { readonly kind: 'block'; readonly text: string; readonly script: Script };

export type Part =
  | { readonly kind: 'text'; readonly text: string; readonly quoted: boolean }
  /** `@` for all parameters. Unquoted, the value is split at blanks. */
  | { readonly kind: 'variable'; readonly name: string; readonly quoted: boolean };

const deepest = 50;
const reserved = new Set(['if', 'then', 'elif', 'else', 'fi', 'function', '}']);
const unsupported = new Set(['for', 'while', 'until', 'case', 'select', 'time']);
const variableName = /(?:\{([A-Za-z_]\w*|[0-9]+|[@?*#])\}|([A-Za-z_]\w*|[0-9]+|[@?*#]))/y;

/** Throws CatalogueError image.grub with file and line. */
export function parseGrub(source: string, path: string): Script {
  const parser = new Parser(source, path);
  const script = parser.statements([]);
  parser.end();
  return script;
}

export function grubError(path: string, line: number, why: string): CatalogueError {
  return new CatalogueError('image.grub', `${path}, line ${line}: ${why}`);
}

class Parser {
  readonly #source: string;
  readonly #path: string;
  #at = 0;
  #line = 1;
  #depth = 0;

  constructor(source: string, path: string) {
    this.#source = source;
    this.#path = path;
  }

  /** Up to one of these words where a command would begin; it is left where it is. */
  statements(ends: readonly string[]): Statement[] {
    if (++this.#depth > deepest) throw this.#error(`nested deeper than ${deepest}`);
    const found: Statement[] = [];
    for (;;) {
      this.#skip(/[\s;]/);
      const word = this.#peekWord();
      if (this.#at === this.#source.length || ends.includes(word)) break;
      found.push(this.#statement(word));
    }
    this.#depth--;
    return found;
  }

  end(): void {
    if (this.#at < this.#source.length) throw this.#error('nothing begins this');
  }

  #statement(word: string): Statement {
    if (word === 'if') return this.#if();
    if (word === 'function') return this.#function();
    if (unsupported.has(word)) throw this.#error(`“${word}” depends on the machine that runs it`);
    if (reserved.has(word)) throw this.#error(`“${word}” begins nothing here`);
    return this.#command();
  }

  #if(): Statement {
    const branches: Branch[] = [];
    this.#take('if');
    for (;;) {
      const condition = this.statements(['then']);
      this.#take('then');
      branches.push({ condition, body: this.statements(['elif', 'else', 'fi']) });
      if (this.#peekWord() !== 'elif') break;
      this.#take('elif');
    }
    let otherwise: Script = [];
    if (this.#peekWord() === 'else') {
      this.#take('else');
      otherwise = this.statements(['fi']);
    }
    this.#take('fi');
    return { kind: 'if', branches, otherwise };
  }

  #function(): Statement {
    this.#take('function');
    this.#skip(/\s/);
    const name = this.#peekWord();
    if (!/^[A-Za-z_][\w.-]*$/.test(name)) throw this.#error('a function needs a name');
    this.#take(name);
    this.#skip(/\s/);
    this.#take('{');
    const body = this.statements(['}']);
    this.#take('}');
    return { kind: 'function', name, body };
  }

  #command(): Statement {
    const line = this.#line;
    const words: Word[] = [];
    for (;;) {
      this.#skip(/[^\S\n]/);
      const next = this.#source[this.#at];
      if (next === undefined || next === '\n' || next === ';') break;
      if (next === '{' && words.length > 0) words.push(this.#block());
      else words.push({ kind: 'word', parts: this.#word() });
    }
    return { kind: 'command', line, words };
  }

  #block(): Word {
    const start = this.#at;
    this.#take('{');
    const script = this.statements(['}']);
    this.#take('}');
    return { kind: 'block', text: this.#source.slice(start, this.#at), script };
  }

  #word(): Part[] {
    const parts: Part[] = [];
    for (;;) {
      const next = this.#source[this.#at];
      if (next === undefined || /[\s;]/.test(next)) return parts;
      if (/[&|<>]/.test(next)) throw this.#error(`“${next}” is no part of a word`);
      if (next === "'") parts.push(text(this.#quoted("'"), true));
      else if (next === '"') parts.push(...this.#doubleQuoted());
      else if (next === '\\') parts.push(text(this.#escaped(), true));
      else if (next === '$') parts.push(this.#variable(false));
      else parts.push(text(this.#run(/[^\s;'"\\$&|<>]/), false));
    }
  }

  /** A backslash takes the meaning from what follows; at the end of a line it takes the line's end away. */
  #escaped(): string {
    const next = this.#source[this.#at + 1];
    if (next === undefined) throw this.#error('nothing follows a backslash');
    this.#move(2);
    return next === '\n' ? '' : next;
  }

  #quoted(quote: string): string {
    const end = this.#source.indexOf(quote, this.#at + 1);
    if (end < 0) throw this.#error(`nothing closes “${quote}”`);
    const inside = this.#source.slice(this.#at + 1, end);
    this.#move(end + 1 - this.#at);
    return inside;
  }

  #doubleQuoted(): Part[] {
    const parts: Part[] = [text('', true)];
    const line = this.#line;
    this.#move(1);
    for (;;) {
      const next = this.#source[this.#at];
      if (next === undefined) throw grubError(this.#path, line, 'nothing closes “"”');
      if (next === '"') break;
      if (next === '$') parts.push(this.#variable(true));
      else if (next === '\\' && /["\\$\n]/.test(this.#source[this.#at + 1] ?? ''))
        parts.push(text(this.#escaped(), true));
      else {
        parts.push(text(next, true));
        this.#move(1);
      }
    }
    this.#move(1);
    return parts;
  }

  #variable(quoted: boolean): Part {
    variableName.lastIndex = this.#at + 1;
    const found = variableName.exec(this.#source);
    if (!found) {
      this.#move(1);
      return text('$', quoted);
    }
    this.#move(1 + found[0].length);
    return { kind: 'variable', name: found[1] ?? found[2] ?? '', quoted };
  }

  /** The word that stands next, unquoted and without variables; empty where there is none. */
  #peekWord(): string {
    const word = /^(?:[{}](?=[\s;]|$)|[^\s;'"\\$&|<>]+(?=[\s;]|$))/.exec(
      this.#source.slice(this.#at, this.#at + 200),
    );
    return word?.[0] ?? '';
  }

  #take(word: string): void {
    this.#skip(/[\s;]/);
    if (!this.#source.startsWith(word, this.#at)) throw this.#error(`“${word}” is missing`);
    this.#move(word.length);
  }

  #run(kind: RegExp): string {
    const start = this.#at;
    while (this.#at < this.#source.length && kind.test(this.#source[this.#at] as string)) this.#move(1);
    return this.#source.slice(start, this.#at);
  }

  /** Blanks of a kind, and comments. */
  #skip(kind: RegExp): void {
    for (;;) {
      this.#run(kind);
      const next = this.#source[this.#at];
      if (next === '#') this.#run(/[^\n]/);
      else if (next === '\\' && this.#source[this.#at + 1] === '\n') this.#move(2);
      else return;
    }
  }

  #move(count: number): void {
    for (let i = 0; i < count; i++) if (this.#source[this.#at++] === '\n') this.#line++;
  }

  #error(why: string): CatalogueError {
    return grubError(this.#path, this.#line, why);
  }
}

function text(content: string, quoted: boolean): Part {
  return { kind: 'text', text: content, quoted };
}
