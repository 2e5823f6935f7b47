import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { version } from '../../formats/version.ts';
import { projectRoot } from '../kit/root.ts';

test('the program and its package have one version', () => {
  assert.is(version, JSON.parse(readFileSync(new URL('package.json', projectRoot), 'utf8')).version);
});

test.run();
