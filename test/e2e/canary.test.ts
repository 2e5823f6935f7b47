// deadline: 120 s
// The page of EVC in a browser, with a fleet and a device's history on it: its heap, what it shows and what it keeps hold none of
// the secrets of the devices and of EVC, and its own token in memory alone.
import type { Browser, CDPSession } from 'playwright-core';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openBrowser, openPage } from '../kit/browser.ts';
import { Canary } from '../kit/canary.ts';
import { serveApi } from '../kit/traffic.ts';
import { inWorld } from '../kit/world.ts';

let browser: Browser | null = null;
test.before(async () => {
  browser = await openBrowser();
});
test.after(async () => {
  await browser?.close();
});

async function heapOf(session: CDPSession): Promise<string> {
  const chunks: string[] = [];
  session.on('HeapProfiler.addHeapSnapshotChunk', ({ chunk }) => chunks.push(chunk));
  await session.send('HeapProfiler.enable');
  await session.send('HeapProfiler.takeHeapSnapshot', { reportProgress: false });
  return chunks.join('');
}

test('the memory of the page holds no secret but the token that it was opened with', () =>
  inWorld(async (world) => {
    if (!browser) return;
    const device = await world.addDevice({ serial: 'edge-01' });
    await world.attested(device);
    const { api, token, url } = await serveApi(world);
    const other = await world.evc.tokens.add({ name: 'wall', role: 'viewer' });
    const watched = await openPage(browser, `${url}#token=${token}`);
    const { page } = watched;
    try {
      await page.waitForSelector('.device-row >> text=edge-01');
      await page.click('.device-row >> text=edge-01');
      await page.keyboard.press('Enter');
      await page.waitForSelector('.why-top .badge.good >> text=trusted');
      await device.node.reboot('test');
      await world.attested(device);
      await page.click('text=What people did');
      await page.waitForSelector('.audit-row');

      const canary = new Canary();
      for (const { what, bytes } of world.recordings.secretsOf(device)) canary.know(what, bytes);
      canary.know('the token of the page', token);
      canary.know('another API token', other.token);
      const heap = await heapOf(await page.context().newCDPSession(page));
      assert.match(heap, 'edge-01', 'it is the heap of this page');
      // A nonce that was used is part of the evidence, which the page shows.
      const own = ['the token of the page', 'a nonce'];
      canary.search('the heap of the page', heap, own);
      canary.search('what the page shows', await page.content());
      canary.search('the address of the page', page.url());
      const kept = await page.evaluate(
        'JSON.stringify({ local: { ...localStorage }, cookies: document.cookie, name: window.name })',
      );
      canary.search('what the page keeps', String(kept));
      console.log(canary.figures('canaries of the page'));
      assert.equal(canary.faults(['the token of the page in the heap of the page']), []);
      watched.check();
    } finally {
      await watched.close();
      await api.close();
    }
  }));

test.run();
