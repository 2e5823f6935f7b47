// SECURITY.md promises nothing that no test keeps: each that it names is there, by file and by name.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { projectRoot } from '../kit/root.ts';

const root = fileURLToPath(projectRoot);
const text = readFileSync(join(root, 'SECURITY.md'), 'utf8').replaceAll(/\s+/g, ' ');

/** `file` › name, up to what ends a name in that place: the end of a cell or of a bracket, a full stop, a semicolon. */
function promisesIn(document: string): { file: string; rest: string }[] {
  return [...document.matchAll(/`(test\/[^`]+\.test\.ts)` › /g)].map((match) => ({
    file: match[1] ?? '',
    rest: document.slice(match.index + match[0].length),
  }));
}

/** Names of tests, as they are written in a file. */
function namesIn(source: string): string[] {
  return [...source.matchAll(/\btest\(\s*(['"`])((?:(?!\1)[^\\\n]|\\.)*)\1/g)].map(([, , name = '']) => name);
}

/** The test that a promise begins with; undefined when no test has that name. */
const kept = ({ rest }: { rest: string }, names: readonly string[]) =>
  names.find(
    (name) => name.length > 10 && rest.startsWith(name) && /^(\)| \||\.|;|$)/.test(rest.slice(name.length)),
  );

test('every test that is named is there', () => {
  const promises = promisesIn(text);
  assert.ok(promises.length >= 30, `${promises.length} promises`);
  for (const promise of promises) {
    const path = join(root, promise.file);
    assert.ok(existsSync(path), promise.file);
    const names = namesIn(readFileSync(path, 'utf8'));
    assert.ok(kept(promise, names) !== undefined, `${promise.file}: ${promise.rest.slice(0, 80)}`);
  }
  console.log(`FIGURES: SECURITY.md names ${promises.length} tests that keep its promises`);
});

test('a test that is not there is missed', () => {
  const [promise] = promisesIn('| `test/a.test.ts` › a door is shut |');
  assert.ok(promise);
  if (!promise) return;
  assert.is(kept(promise, ['a door is shut']), 'a door is shut');
  for (const names of [[], ['a door is'], ['a door is shut tight'], ['a door']])
    assert.is(kept(promise, names), undefined);
  assert.equal(namesIn(`test('one', () => 1);\n  test("two's", x);\ntest(\n  'three', y);`), [
    'one',
    "two's",
    'three',
  ]);
});

test('every command that is named is one', () => {
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>;
  };
  const named = [...text.matchAll(/`npm run ([a-z:]+)`/g)].map(([, name = '']) => name);
  assert.ok(named.length > 2);
  assert.equal(
    named.filter((name) => !(name in scripts)),
    [],
  );
});

test.run();
