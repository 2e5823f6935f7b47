// deadline: 180 s
// Files that somebody made to do harm, or that are none: a sentence says what is wrong, and nothing of them is executed.
import type { Browser } from 'playwright-core';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { recordingFormat, recordingVersion } from '../../formats/recording/format.ts';
import { drop, openBrowser, openPage, pageFile } from '../kit/browser.ts';

let browser: Browser | null = null;
test.before(async () => {
  browser = await openBrowser();
});
test.after(async () => {
  await browser?.close();
});

const header = {
  recording: recordingFormat,
  version: recordingVersion,
  made: 1_795_000_000_000,
  by: 'test',
  device: 'd'.repeat(64),
};
const place = (n: number, component = 'lamp') => ({
  n,
  at: 1_795_000_000_000 + n * 10,
  mono: n * 10,
  component,
});
const text = (lines: readonly object[]) => `${lines.map((line) => JSON.stringify(line)).join('\n')}\n`;

const state = (id: string, key: string, more: object = {}) => ({
  id,
  key,
  type: 'atomic',
  order: 1,
  states: {},
  on: {},
  transitions: [],
  entry: [],
  exit: [],
  invoke: [],
  tags: [],
  initial: null,
  ...more,
});

/** A chart of two states, the second called as it is said. */
function recorded(name: string, steps: number): object[] {
  const to = {
    eventType: 'press',
    target: [`#lamp.${name}`],
    actions: [{ type: name }],
    guard: { type: name },
    reenter: false,
  };
  const definition = state('lamp', 'lamp', {
    type: 'compound',
    initial: { target: ['#lamp.off'], actions: [] },
    states: {
      off: state('lamp.off', 'off', { transitions: [to] }),
      [name]: state(`lamp.${name}`, name, { description: name, entry: [{ type: name }] }),
    },
  });
  const lines: object[] = [
    header,
    { ...place(1), kind: 'chart', chart: 'lamp', hash: 'h', definition },
    {
      ...place(2),
      kind: 'actor',
      actor: 'a',
      chart: 'lamp',
      hash: 'h',
      restored: false,
      value: 'off',
      context: { [name]: name },
    },
  ];
  for (let i = 0, n = 3; i < steps; i++, n += 2) {
    const value = i % 2 === 0 ? name : 'off';
    const bad = i === steps - 1 ? { error: { code: 'policy.software.unknown', text: name } } : {};
    lines.push({
      ...place(n),
      kind: 'event',
      actor: 'a',
      event: { type: i % 2 === 0 ? 'press' : name, ...bad },
    });
    lines.push({
      ...place(n + 1),
      kind: 'snapshot',
      actor: 'a',
      status: 'active',
      value,
      context: { i, [name]: `${name}${i}` },
    });
  }
  lines.push({
    ...place(10 + steps * 2, name),
    kind: 'message',
    link: 'bus',
    direction: 'shown',
    topic: `${name}/${name}`,
    size: 3,
    body: { [name]: name },
  });
  return lines;
}

const refused: Record<string, [content: string, says: RegExp]> = {
  rubbish: ['\u0000\u0001 no recording \uffff', /this is no recording/],
  'an empty file': ['', /it is empty/],
  'a picture': ['\x89PNG\r\n\x1a\n'.repeat(500), /this is no recording/],
  'JSON of something else': ['{"a":1}\n', /first line does not say/],
  'a version of tomorrow': [text([{ ...header, version: 99 }]), /version 99.*use a newer one/],
  'a huge line': [
    `${JSON.stringify(header)}\n{"n":1,"x":"${'x'.repeat(3 * 1024 * 1024)}"}\n`,
    /line 2 is longer than/,
  ],
  'a line that is none': [`${JSON.stringify(header)}\nrubbish\n{}\n`, /line 2 is not as it should be/],
  'numbers that go back': [
    text([header, { ...place(5), kind: 'stop', actor: 'a' }, { ...place(4), kind: 'stop', actor: 'a' }]),
    /number 4 comes after 5/,
  ],
};

for (const [what, [content, says]] of Object.entries(refused)) {
  test(`${what} gets a clear message, and the page goes on`, async () => {
    if (!browser) return;
    const watched = await openPage(browser, pageFile);
    await drop(watched.page, [{ name: 'file.jsonl', text: content }]);
    await watched.page.waitForSelector('.notice.refused');
    assert.match((await watched.page.textContent('.notice')) ?? '', says);
    await drop(watched.page, [{ name: 'good.jsonl', text: text(recorded('on', 4)) }]);
    await watched.page.waitForSelector('.step-row');
    watched.check();
    await watched.close();
  });
}

test('what is cut off at the end is left out, and it is said', async () => {
  if (!browser) return;
  const watched = await openPage(browser, pageFile);
  await drop(watched.page, [{ name: 'cut.jsonl', text: text(recorded('on', 4)).slice(0, -40) }]);
  await watched.page.waitForSelector('.step-row');
  assert.match((await watched.page.textContent('.notice')) ?? '', /is cut off/);
  watched.check();
  await watched.close();
});

const names: Record<string, string> = {
  HTML: '<img src=x onerror="window.harmed=1"><script>window.harmed=1</script>',
  'an address that runs': 'javascript:window.harmed=1',
  SVG: '</text></svg><svg onload="window.harmed=1"><foreignObject><iframe src="https://example.org"></iframe>',
  'a style':
    '"><style>@import url(https://example.org/x.css)</style><b style="background:url(https://example.org/y)">',
  escapes: '\u001b[31m\u0007\u0000\r\n\t',
  'overrides of the direction': 'on\u202egnp.exe\u2066\u200b',
  'a prototype': '__proto__',
  'very long': 'x'.repeat(100_000),
};

for (const [what, name] of Object.entries(names)) {
  test(`${what} in every name is text, and nothing else`, async () => {
    if (!browser) return;
    const watched = await openPage(browser, pageFile);
    const { page } = watched;
    await drop(page, [
      { name: `${name.slice(0, 50).replaceAll('/', '')}.jsonl`, text: text(recorded(name, 5)) },
    ]);
    await page.waitForSelector('.step-row');
    await page.keyboard.press('r');
    for (const view of ['1', '2', '3', '4', '5']) {
      await page.keyboard.press(view);
      await page.waitForTimeout(150);
      if (view === '1') await page.waitForSelector('.stage svg, .chart-note:not(:empty)');
    }
    await page.keyboard.press('3');
    for (const tab of ['line', 'context', 'change']) await page.click(`.tab >> text=${tab}`);
    assert.is(await page.evaluate('window.harmed'), undefined);
    assert.is(await page.locator('iframe, img, foreignObject, style, b[style]').count(), 0);
    const shown = (await page.evaluate('document.body.innerText')) as string;
    assert.not.match(shown, /[\u202a-\u202e\u2066-\u2069\u200b]/, 'what cannot be seen is written out');
    watched.check();
    await watched.close();
  });
}

test('a hundred thousand lines open, scroll and step without a halt', async () => {
  if (!browser) return;
  const watched = await openPage(browser, pageFile);
  const { page } = watched;
  await drop(page, [{ name: 'long.jsonl', text: text(recorded('on', 50_000)) }]);
  await page.waitForSelector('.step-row', { timeout: 60_000 });
  assert.match((await page.textContent('.place')) ?? '', /\/ 100003/);
  for (const view of ['2', '3']) {
    await page.keyboard.press(view);
    const list = view === '2' ? '.msc-scroll' : '.rows';
    await page.waitForSelector(list);
    for (const part of [0, 0.5, 1]) {
      await page.evaluate(
        `(() => { const list = document.querySelector('${list}'); list.scrollTop = list.scrollHeight * ${part}; })()`,
      );
      await page.waitForTimeout(50);
      const rows = await page.locator(view === '2' ? '.arrow' : '.step-row').count();
      assert.ok(rows > 5 && rows < 120, `${rows} rows are there, of 100 003`);
    }
  }
  await page.keyboard.press('r');
  await page.waitForSelector('.detail .reason');
  for (let i = 0; i < 20; i++) await page.keyboard.press('ArrowLeft');
  watched.check();
  await watched.close();
});

test.run();
