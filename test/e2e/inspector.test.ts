// deadline: 180 s
// A person looks: a device attests and is tampered with, in the page one sees it happen, keeps it as a file, and opens that on a
// page without a network.
import { cpSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createImage } from '../../device/boot/image.ts';
import { serveInspector } from '../../device/inspect.ts';
import { drop, openBrowser, openPage, pageFile, seen } from '../kit/browser.ts';
import { serveApi } from '../kit/traffic.ts';
import { inWorld, type WorldDevice } from '../kit/world.ts';

let browser: Browser | null = null;
const files: { name: string; text: string }[] = [];

test.before(async () => {
  browser = await openBrowser();
});
test.after(async () => {
  await browser?.close();
});

/** Somebody with hands on the disk puts another kernel into the running slot. */
async function tamper(device: WorldDevice): Promise<void> {
  const other = join(device.folder, 'other');
  await createImage(other, { version: '6.6.6' });
  cpSync(join(other, 'kernel'), join(device.slots.directory(device.slots.read().current.label), 'kernel'));
  rmSync(other, { recursive: true });
  await device.node.reboot('test');
}

const active = (state: string) => `.state.active[data-id="${state}"]`;

test('EVC’s page follows a device, shows why it is refused, and gives its attempts away as files', () =>
  inWorld(async (world) => {
    if (!browser) return;
    const device = await world.addDevice({ serial: 'edge-01' });
    await world.attested(device);
    const { api, token, url } = await serveApi(world);
    const watched = await openPage(browser, `${url}#token=${token}`, { acceptDownloads: true });
    const { page } = watched;
    try {
      await seen(page, '.device-row >> text=edge-01');
      await seen(page, '.trust.good');
      await seen(page, '.chip >> text=charts of other programs');
      assert.not.match(page.url(), token, 'the token does not stay in the address');
      assert.is(await page.evaluate('sessionStorage.length'), 1);
      await page.click('.device-row[data-row="0"]');
      await seen(page, '.why-top .badge.good');
      await page.click('text=Live charts');
      await seen(page, active('deviceRecord.integrity.trusted'));

      await tamper(device);
      await world.until('the device is UUD', async () => (await world.trust(device)) === 'uud', 600_000);
      await seen(page, active('deviceRecord.integrity.uud'));
      assert.is(await page.locator(active('deviceRecord.integrity.trusted')).count(), 0);
      await page.click('.state[data-id="deviceRecord.integrity.uud"] .title');
      await seen(page, '.detail.open >> text=active');

      await page.keyboard.press('3');
      await seen(page, '.arrow.refused');
      await page.keyboard.press('5');
      await seen(page, '.stamp.bad >> text=Refused');
      await seen(page, '.finding code >> text=policy.software.unknown');
      await seen(page, '.pcrs tr.differs >> text=9');
      await seen(page, '.event-row.added');
      await seen(page, '.event-row.removed');

      await page.keyboard.press('6');
      for (const [attempt, outcome] of [
        [0, 'policy.software.unknown'],
        [1, 'trusted'],
      ] as const) {
        const card = page.locator('.card').nth(attempt);
        assert.match((await card.textContent()) ?? '', outcome);
        const [download] = await Promise.all([
          page.waitForEvent('download'),
          card.locator('text=Download').click(),
        ]);
        files.push({ name: download.suggestedFilename(), text: readFileSync(await download.path(), 'utf8') });
      }
      watched.check();
    } finally {
      await watched.close();
      await api.close();
    }
  }));

test('a recording is dropped on a fresh page without a network, stepped to the refusal, and compared', async () => {
  if (!browser) return;
  const watched = await openPage(browser, pageFile, { offline: true });
  {
    const { page } = watched;
    await drop(page, [files[0] as { name: string; text: string }]);
    await seen(page, '.step-row');
    await page.keyboard.press('Home');
    await page.keyboard.press('r');
    await seen(page, '.detail .reason code >> text=policy.software.unknown');
    const place = await page.textContent('.place');
    await page.keyboard.press('ArrowRight');
    await page.waitForFunction(`document.querySelector('.place').textContent !== ${JSON.stringify(place)}`);
    await page.waitForSelector('.diff .change');
    await page.keyboard.press('1');
    await seen(page, '.chart .state');
    assert.ok((await page.locator('.state.active').count()) > 3);

    await drop(page, [files[1] as { name: string; text: string }]);
    await seen(page, '.step-row');
    await page.keyboard.press('5');
    await page.locator('.card').nth(0).locator('text=Compare').click();
    await page.locator('.card').nth(1).locator('text=Compare').click();
    await seen(page, '.compare >> text=/steps differ; the first is step/');
    await seen(page, '.pair-row.other');
    watched.check();
    await watched.close();
  }
});

test('a device shows its own charts on its machine as they move', () =>
  inWorld(async (world) => {
    if (!browser) return;
    const device = await world.addDevice({ serial: 'edge-02' });
    const inspector = await serveInspector(device.recorder, 0, () => world.clock.now());
    const watched = await openPage(browser, inspector.url);
    const { page } = watched;
    try {
      await seen(page, '.chart-item >> text=attest-task');
      await world.attested(device);
      await page.click('.chart-item >> text=attest-task');
      await seen(page, active('complete'));
      await seen(page, '.chart-item[aria-current] >> text=waits for the next attestation');
      await page.click('text=charts of other programs');
      await seen(page, '.chart-note >> text=No program shows charts here yet');
      await page.click('text=this device');
      await seen(page, '.chart-item >> text=attest-task');
      watched.check();
    } finally {
      await watched.close();
      await inspector.close();
    }
  }));

test('without the token the page asks for it, once', () =>
  inWorld(async (world) => {
    if (!browser) return;
    await world.addDevice({ serial: 'edge-03' });
    const { api, token, url } = await serveApi(world);
    const watched = await openPage(browser, url, { mayComplain: /401/ });
    try {
      await watched.page.fill('dialog input', 'wrong');
      await watched.page.keyboard.press('Enter');
      await watched.page.waitForSelector('dialog input >> visible=true');
      await watched.page.fill('dialog input', token);
      await watched.page.keyboard.press('Enter');
      await seen(watched.page, '.device-row >> text=edge-03');
      await watched.page.reload();
      await seen(watched.page, '.device-row >> text=edge-03');
      assert.is(await watched.page.locator('dialog[open]').count(), 0);
      watched.check();
    } finally {
      await watched.close();
      await api.close();
    }
  }));

test.run();
