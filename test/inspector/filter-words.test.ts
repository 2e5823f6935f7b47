import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { filterKeys } from '../../formats/filter/filter.ts';
import { completions, readFilter, trustsOf, withTrust } from '../../inspector/filter-words.ts';

test('what is no filter is told as the API tells it, with its place', () => {
  assert.is(readFilter('trust:uud').problem, '');
  const { filter, problem } = readFilter('pcr:8 colour:red');
  assert.is(filter, null);
  assert.match(problem, /there is no key colour:; known: trust, .*at character 7/);
});

test('a click on a trust asks for it, a second one for any, and the other terms stay', () => {
  assert.is(withTrust('', 'uud'), 'trust:uud');
  assert.is(withTrust('pcr:8 trust:stale,umd -label:lab', 'uud'), 'trust:uud pcr:8 -label:lab');
  assert.is(withTrust('trust:uud pcr:8', 'uud'), 'pcr:8');
  assert.is(withTrust('trust:uud pcr:8', ''), 'pcr:8');
  assert.is(withTrust('-trust:retired', 'uud'), 'trust:uud -trust:retired');
  assert.is(withTrust('colour:red', 'uud'), 'trust:uud', 'what nobody can read does not stay');
});

test('a filter asks for the trusts that it does not deny', () => {
  const of = (text: string) => [...trustsOf(readFilter(text).filter ?? [])];
  assert.equal(of('trust:uud,umd -trust:retired edge'), ['uud', 'umd']);
  assert.equal(of('pcr:8'), []);
});

test('what is typed is completed to filters that begin with it', () => {
  assert.equal(completions('tru'), ['trust:']);
  assert.equal(completions('pcr:8 -la'), ['pcr:8 -label:']);
  assert.equal(completions('trust:u'), ['trust:uud', 'trust:umd', 'trust:unattested']);
  assert.equal(completions('a trust:uud,um'), ['a trust:uud,umd']);
  assert.equal(completions('link:o'), ['link:online', 'link:offline']);
  assert.equal(completions('link:online'), []);
  assert.equal(completions('account:pl'), [], 'names are not known here');
  assert.is(completions('').length, filterKeys.length - 1, 'every key but that of a word without one');
  for (const text of ['', 'pcr:8 ', 'trust:', '-']) {
    for (const one of completions(text)) assert.ok(one.startsWith(text), `${text} → ${one}`);
  }
});

test.run();
