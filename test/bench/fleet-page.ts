// How long somebody waits for the table of devices: Chromium opens EVC's page, EVC is a process of its own with so many records. A
// page that is opened for the first time, one that is opened with a filter, and one that comes back to the table.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { openBrowser, openPage } from '../kit/browser.ts';
import { enrolled } from '../kit/enrolled.ts';
import { fillLibsql } from './load/filled.ts';
import { ServedEvc } from './load/served.ts';
import type { BenchTable } from './main.ts';

const rounds = 9;
/** ms; a new window of Chromium runs scripts of its own (its address bar is a page) for most of a second, on the same cores. */
const settled = 1500;
/** Records in the store; `EVE_BENCH_RECORDS=1000,100000` for others. */
const sizes = (process.env.EVE_BENCH_RECORDS ?? '100,10000').split(',').map(Number);

/** ms since the address was asked for, as the page's own clock has them. */
interface Times {
  /** The script runs, before it has asked EVC for anything. */
  page: number;
  rows: number;
  whole: number;
}

/** Runs before the page's own script, and looks at each frame. */
const watch = `
window.times = {};
const look = () => {
  const now = performance.now();
  if (document.querySelector('header')) times.page ??= now;
  if (document.querySelector('.rows .device-row')) times.rows ??= now;
  if (times.rows && document.querySelector('.devices [role=status]')?.hidden) times.whole ??= now;
  if (times.whole === undefined) requestAnimationFrame(look);
};
requestAnimationFrame(look);
`;

/** The first time that a browser sees the page, and the third: from the second on it keeps what it compiled. */
async function opened(
  browser: Browser,
  url: string,
  token: string,
  filter: string,
): Promise<[first: Times, again: Times]> {
  // The browser looks for an icon of the icon. What waits in the page is no script of the page.
  const watched = await openPage(browser, `${url}icon.svg`, { bypassCSP: true, mayComplain: /404/ });
  const { page } = watched;
  await page.evaluate(`sessionStorage.setItem('evc-token', ${JSON.stringify(token)})`);
  await page.addInitScript(watch);
  await page.waitForTimeout(settled);
  const seen: Times[] = [];
  for (let visit = 0; visit < 3; visit++) {
    await page.goto(`${url}icon.svg`);
    await page.goto(`${url}#view=devices${filter === '' ? '' : `&filter=${encodeURIComponent(filter)}`}`);
    await page.waitForFunction('window.times?.whole !== undefined', undefined, { timeout: 60_000 });
    seen.push((await page.evaluate('window.times')) as Times);
  }
  watched.check();
  await watched.close();
  return [seen[0] as Times, seen[2] as Times];
}

/** ms from the key that leads back to the table until its rows are there. */
async function back(page: Page): Promise<number> {
  await page.keyboard.press('9');
  await page.waitForSelector('.audit-row.head');
  return (await page.evaluate(`new Promise((resolve) => {
    const begun = performance.now();
    const look = () => document.querySelector('.rows .device-row') ? resolve(performance.now() - begun) : requestAnimationFrame(look);
    dispatchEvent(new KeyboardEvent('keydown', { key: '1' }));
    requestAnimationFrame(look);
  })`)) as number;
}

const median = (values: number[]) => values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

export async function bench(): Promise<BenchTable> {
  const browser = await openBrowser();
  if (!browser) throw new Error('there is no Chromium on this machine');
  const folder = mkdtempSync(join(tmpdir(), 'evc-bench-'));
  const rows: BenchTable['rows'] = [];
  for (const size of sizes) {
    const data = join(folder, String(size));
    await enrolled(data, 1);
    await fillLibsql(join(data, 'evc.db'), size, () => undefined);
    const evc = await ServedEvc.start(data);
    const url = `https://localhost:${evc.httpsPort}/`;
    const token = readFileSync(join(data, 'token'), 'utf8').trim();
    for (const filter of ['', 'serial:fill-7*']) {
      const visits: [first: Times, again: Times][] = [];
      for (let i = 0; i < rounds; i++) visits.push(await opened(browser, url, token, filter));
      for (const [which, what] of ['seen first', 'seen before'].entries()) {
        const all = visits.map((visit) => visit[which] as Times);
        rows.push({
          devices: `${size}${filter === '' ? '' : `, ${filter}`}, ${what}`,
          'page, ms': median(all.map(({ page }) => page)),
          'first rows, ms': median(all.map((one) => one.rows)),
          'of these EVC and table, ms': median(all.map((one) => one.rows - one.page)),
          'all of them, ms': median(all.map(({ whole }) => whole)),
        });
      }
    }
    const watched = await openPage(browser, `${url}#token=${token}`);
    await watched.page.waitForSelector('.rows .device-row');
    const again: number[] = [];
    for (let i = 0; i < rounds; i++) again.push(await back(watched.page));
    rows.push({
      devices: `${size}, come back to`,
      'page, ms': '',
      'first rows, ms': median(again),
      'of these EVC and table, ms': median(again),
      'all of them, ms': '',
    });
    await watched.close();
    await evc.stop();
  }
  await browser.close();
  rmSync(folder, { recursive: true });
  return {
    title: 'How long somebody waits for the table of devices, from the address to what is drawn',
    rows,
    notes: [`medians of ${rounds}; Chromium without a GPU on the same machine, TLS`],
  };
}
