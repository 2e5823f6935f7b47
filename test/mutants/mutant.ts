// The mutants of files, all of them in one text of each file: which one is alive is asked at run time, so nothing is built twice.
import { readFileSync } from 'node:fs';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { API } from 'typescript/unstable/sync';
import { projectRoot } from '../kit/root.ts';
import { type Change, changesOf } from './operators.ts';

const root = fileURLToPath(projectRoot);

export interface Mutant {
  id: number;
  /** From the project's folder on. */
  file: string;
  line: number;
  column: number;
  /** The line that it begins on, without the space around. */
  context: string;
  original: string;
  /** Empty for a statement that is left out. */
  mutated: string;
}

export interface Mutated {
  mutants: Mutant[];
  /** What is compiled instead of each file, by its path. */
  sources: Map<string, string>;
}

/** @param files of the project, by their paths from its folder on; throws RangeError for one that it does not compile */
export function mutate(files: readonly string[]): Mutated {
  const api = new API({ cwd: root });
  try {
    const [project] = api.updateSnapshot({ openProject: 'tsconfig.json' }).getProjects();
    const mutants: Mutant[] = [];
    const sources = new Map<string, string>();
    for (const file of files) {
      const path = `${root}${file}`;
      const source = project?.program.getSourceFile(path);
      if (!source) throw new RangeError(`${file} is no source file of this project`);
      const text = readFileSync(path, 'utf8');
      const changes = changesOf(source);
      const first = mutants.length;
      for (const { start, end, text: mutated } of changes) {
        const before = text.slice(0, start).split('\n');
        const line = before.length;
        mutants.push({
          ...{
            id: mutants.length,
            file: relative(root, path),
            line,
            column: (before.at(-1) ?? '').length + 1,
          },
          ...{
            context: (text.split('\n')[line - 1] ?? '').trim(),
            original: text.slice(start, end),
            mutated,
          },
        });
      }
      const numbered = changes.map((change, i) => ({ ...change, id: first + i }));
      sources.set(path, withAll(text, numbered));
    }
    return { mutants, sources };
  } finally {
    api.close();
  }
}

type Numbered = Change & { id: number };

/** Whether a mutant is the one that is alive; asking also says that this place was reached. */
const ask = (id: number) => `globalThis.mutantLives(${id})`;

function withAll(text: string, changes: readonly Numbered[]): string {
  // From the outside in.
  const sorted = [...changes].sort((a, b) => a.start - b.start || b.end - a.end);
  let next = 0;
  const write = (from: number, to: number): string => {
    let written = '';
    let at = from;
    for (let first = sorted[next]; first && first.start < to; first = sorted[next]) {
      const { start, end, statement } = first;
      const here: Numbered[] = [];
      for (let one = sorted[next]; one && one.start === start && one.end === end; one = sorted[++next])
        here.push(one);
      written += text.slice(at, start);
      const original = write(start, end);
      at = end;
      written += statement
        ? `{ if (!${ask(first.id)}) ${original} }`
        : `(${here.map(({ id, text: other }) => `${ask(id)} ? (${other}) : `).join('')}(${original}))`;
    }
    return written + text.slice(at, to);
  };
  return write(0, text.length);
}
