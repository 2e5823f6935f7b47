// What the page asks for first is asked before its own script is there, and taken once; a view that is still being read does not
// come over the one that somebody chose after it.
import type { Browser } from 'playwright-core';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openBrowser, openPage, seen } from '../kit/browser.ts';
import { serveApi } from '../kit/traffic.ts';
import { inWorld } from '../kit/world.ts';

let browser: Browser | null = null;

test.before(async () => {
  browser = await openBrowser();
});
test.after(async () => {
  await browser?.close();
});

const ofTable = (address: string) => /api\/v1\/devices\?.*limit=100\b/.test(address);

for (const [what, filter, shown] of [
  ['with a filter', 'serial:edge-0*', '.device-row >> text=edge-01'],
  ['with a filter that is none', 'colour:red', '.chip >> text=all 1'],
] as const) {
  test(`the first rows ${what} are asked for before the script of the page is there`, () =>
    inWorld(async (world) => {
      if (!browser) return;
      await world.attested(await world.addDevice({ serial: 'edge-01' }));
      const { api, token, url } = await serveApi(world);
      const watched = await openPage(browser, `${url}icon.svg`, { mayComplain: /404/ });
      const { page } = watched;
      try {
        const requests: string[] = [];
        page.on('request', (request) => requests.push(request.url()));
        const early = page.waitForRequest(
          (request) => ofTable(request.url()) && request.headers().authorization === `Bearer ${token}`,
        );
        await page.route('**/app.js', async (route) => {
          await early;
          await route.continue();
        });
        await page.goto(`${url}#token=${token}&filter=${encodeURIComponent(filter)}`);
        await seen(page, shown);
        assert.is(requests.filter(ofTable).length, 1);
        assert.is(requests.filter((one) => one.endsWith('inspector.json')).length, 1);
        assert.not.match(page.url(), token);
        watched.check();
      } finally {
        await watched.close();
        await api.close();
      }
    }));
}

test('of views that are chosen faster than they are read, the last is shown', () =>
  inWorld(async (world) => {
    if (!browser) return;
    const { api, token, url } = await serveApi(world);
    const watched = await openPage(browser, `${url}#token=${token}`);
    const { page } = watched;
    try {
      await seen(page, 'main > .devices');
      await page.evaluate(`for (const key of ['2', '3', '4', 'c', '1'])
        dispatchEvent(new KeyboardEvent('keydown', { key }))`);
      await page.waitForFunction(`location.hash.includes('view=devices')`);
      await seen(page, 'main > .devices');
      await page.keyboard.press('c');
      await seen(page, 'main > .accounts');
      assert.is(await page.locator('main > *').count(), 1);
      watched.check();
    } finally {
      await watched.close();
      await api.close();
    }
  }));

test.run();
