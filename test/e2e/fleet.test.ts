// deadline: 240 s
// An operator: finds the device that is not trusted, reads why, accepts it with a reason, and watches it become trusted; is refused
// with code and remedy where EVC refuses; and may not, with a token that only looks. Roll-outs, images and the audit log stand by.
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createImage } from '../../device/boot/image.ts';
import { field, gone, openBrowser, openPage, picture, seen } from '../kit/browser.ts';
import { serveApi } from '../kit/traffic.ts';
import { inWorld, type World, type WorldDevice } from '../kit/world.ts';

const minute = 60_000;
let browser: Browser | null = null;

test.before(async () => {
  browser = await openBrowser();
});
test.after(async () => {
  await browser?.close();
});

/** Somebody with hands on the disk puts another kernel into the running slot. */
async function tamper(world: World, device: WorldDevice): Promise<void> {
  const other = join(device.folder, 'other');
  await createImage(other, { version: '6.6.6' });
  cpSync(join(other, 'kernel'), join(device.slots.directory(device.slots.read().current.label), 'kernel'));
  rmSync(other, { recursive: true });
  await device.node.reboot('test');
  await world.until('the device is UUD', async () => (await world.trust(device)) === 'uud', 10 * minute);
}

test('the device that is not trusted is found, its reasons read, accepted with a reason, and seen to become trusted', () =>
  inWorld(async (world) => {
    if (!browser) return;
    const good = await world.addDevice({ serial: 'edge-01' });
    const bad = await world.addDevice({ serial: 'edge-02' });
    await world.attested(good);
    await world.attested(bad);
    const { api, token, url } = await serveApi(world);
    const watched = await openPage(browser, `${url}#token=${token}`);
    const { page } = watched;
    try {
      await seen(page, '.device-row .trust.good');
      await seen(page, '.chip.good >> text=trusted 2');
      await tamper(world, bad);
      await seen(page, '.chip.bad >> text=UUD 1');
      await seen(page, '.device-row[data-row="0"] >> text=edge-02');

      // The filter is the one of the command, and stands in the address.
      await page.keyboard.press('/');
      await page.keyboard.type('trust:uud pcr:9');
      await gone(page, '.device-row >> text=edge-01');
      await seen(page, '.device-row .why >> text=/PCR 9/');
      assert.is(field(page, 'filter'), 'trust:uud pcr:9');
      await page.keyboard.type(' colour:red');
      await seen(page, '.filter-problem >> text=there is no key colour:');
      await page.fill('.filter', 'trust:uu');
      await page.keyboard.press('Tab');
      assert.is(field(page, 'filter'), 'trust:uud');
      await page.keyboard.press('Enter');
      await seen(page, '.device-row.chosen >> text=edge-02');
      await page.keyboard.press('Enter');

      await seen(page, '.why-top .badge.bad >> text=UUD');
      assert.is(field(page, 'device'), bad.id);
      await seen(page, '.finding code >> text=policy.software.unknown');
      const finding = page.locator('.finding', { hasText: 'policy.pcr.unexpected' }).first();
      const words = (await finding.textContent()) ?? '';
      assert.match(words, /PCR9/);
      assert.match(words, /seen.*allowed/s);

      await page.click('text=Accept what it shows …');
      await seen(page, '.accept .changes >> text=PCR 9');
      assert.is(field(page, 'accept'), 'software');
      assert.is(await page.locator('.accept .confirm').isVisible(), false, 'first what changed');
      await page.click('.accept .onward');
      await seen(page, '.accept .confirm');
      assert.is(
        await page.locator('.accept .confirm').isDisabled(),
        true,
        'without a reason nothing is done',
      );
      assert.is((await world.view(bad)).baseline?.grounds, 'first-boot');
      await page.fill('.accept textarea', 'the kernel is ours: <b>ticket 7</b>');
      await page.click('.accept .confirm');
      await seen(page, '.notice >> text=Accepted');
      await gone(page, '.accept');

      await world.until('it is trusted', async () => (await world.trust(bad)) === 'trusted', 30 * minute);
      await seen(page, '.why-top .badge.good >> text=trusted');
      await seen(page, '.history >> text=accepted by a person');
      await seen(page, '.history >> text=the kernel is ours: <b>ticket 7</b>');

      await page.click('text=What people did');
      await seen(page, '.audit-row .what >> text=state.accepted');
      await page.click('.audit-row[data-row="0"]');
      await seen(page, '.detail.open >> text=the kernel is ours: <b>ticket 7</b>');
      await page.click('.detail .buttons button');
      await seen(page, '.why-top .badge.good');
      watched.check();
    } finally {
      await watched.close();
      await api.close();
    }
  }));

test('what EVC refuses is shown with its code and remedy, and decided anew after another look', () =>
  inWorld(async (world) => {
    if (!browser) return;
    const device = await world.addDevice({ serial: 'edge-03' });
    await world.attested(device);
    await tamper(world, device);
    const { api, token, url } = await serveApi(world);
    const watched = await openPage(browser, `${url}#token=${token}`, { mayComplain: /412/ });
    const { page } = watched;
    try {
      await seen(page, '.device-row .trust.bad');
      // From here on it hears of nothing, so that it decides on what it saw.
      await page.route('**/api/v1/events*', () => undefined);
      await page.goto(`${url}#view=device&device=${device.id}&accept=software&step=reason`);
      await seen(page, '.accept .changes >> text=PCR 9');
      await page.fill('.accept textarea', 'the kernel is ours');
      await world.evc.operator.changeSettings(device.id, { 'timer.config.interval': '60' });
      await page.click('.accept .confirm');
      await seen(page, '.refusal code >> text=precondition.failed');
      await seen(page, '.refusal .remedy >> text=Look again');
      assert.is((await world.view(device)).verdict?.accepted, false);
      assert.is(
        (await world.evc.store.audits({ limit: 10, subject: device.id }))[0]?.what,
        'settings.changed',
      );

      await page.click('.accept >> text="Look again"');
      await page.click('.accept .onward');
      await page.click('.accept .confirm');
      await seen(page, '.notice >> text=Accepted');
      const [entry] = await world.evc.store.audits({ limit: 10, subject: device.id });
      assert.equal([entry?.what, entry?.reason], ['state.accepted', 'the kernel is ours']);
      watched.check();
    } finally {
      await watched.close();
      await api.close();
    }
  }));

test('a token that only looks sees everything, and why it may not accept', () =>
  inWorld(async (world) => {
    if (!browser) return;
    const device = await world.addDevice({ serial: 'edge-04' });
    await world.attested(device);
    await tamper(world, device);
    const { api, url } = await serveApi(world);
    const { token } = await world.evc.tokens.add({ name: 'wall', role: 'viewer' });
    const watched = await openPage(browser, `${url}#token=${token}&view=device&device=${device.id}`, {
      viewport: { width: 390, height: 800 },
    });
    const { page } = watched;
    try {
      await seen(page, '.finding code >> text=policy.software.unknown');
      await seen(page, '.hindered >> text=the token wall is of viewer');
      assert.is(await page.locator('text=Accept what it shows …').isDisabled(), true);
      await page.goto(`${page.url()}&accept=software&step=reason`);
      await seen(page, '.accept .changes >> text=PCR 9');
      await page.fill('.accept textarea', 'let me');
      assert.is(await page.locator('.accept .confirm').isDisabled(), true);
      const wide = await page.evaluate('document.documentElement.scrollWidth');
      assert.ok((wide as number) <= 390, `${wide} pixels wide`);
      watched.check();
    } finally {
      await watched.close();
      await api.close();
    }
  }));

test('a change is tried on kept evidence before anybody decides, and nothing is done', () =>
  inWorld(async (world) => {
    if (!browser) return;
    const good = await world.addDevice({ serial: 'edge-06' });
    const bad = await world.addDevice({ serial: 'edge-07' });
    await world.attested(good);
    await world.attested(bad);
    await tamper(world, bad);
    const { api, token, url } = await serveApi(world);
    const watched = await openPage(browser, `${url}#token=${token}`, { mayComplain: /404/ });
    const { page } = watched;
    try {
      await seen(page, '.device-row .trust.bad');
      await page.keyboard.press('a');
      await page.waitForSelector('.trials .try:enabled');
      await page.fill('.trials .filter', 'name:edge');
      await page.keyboard.press('Control+Enter');
      await seen(
        page,
        '.trial-said >> text=/^[1-9] of [3-9] verdicts of 2 devices .* [1-9] trusted that (is|are) refused.*Nothing was done/',
      );
      await seen(page, '.trial-row.row[data-row="0"] >> text=edge-07');
      await seen(page, '.trial-row .good >> text=trusted (acceptance)');
      await page.click('text=also what stays as it is');
      await seen(page, '.trial-row[data-row="2"] >> text=the same');
      await picture(page, 'trials');
      await page.setViewportSize({ width: 390, height: 800 });
      const wide = await page.evaluate('document.documentElement.scrollWidth');
      assert.ok((wide as number) <= 390, `${wide} pixels wide`);
      await picture(page, 'trials-390');
      await page.setViewportSize({ width: 1280, height: 800 });

      // As what the bad one shows were the only baseline: the good one would be refused.
      await page.click('.kinds >> text=another policy');
      await page.fill('.trials textarea', '{ "baseline": ');
      await seen(page, '.trial-form [role="alert"] >> text=/^policy: /');
      const { attempt = '' } = (await world.view(bad)).verdict ?? {};
      await page.fill('.trials textarea', JSON.stringify({ baseline: { attempt } }));
      await page.keyboard.press('Control+Enter');
      await seen(page, '.trial-said >> text=/[1-9] refused that (is|are) trusted/');
      await seen(page, '.trial-row[data-row="0"] .bad >> text=policy.software.unknown');
      await page.locator('.trials textarea').blur();
      await page.keyboard.press('t');
      await picture(page, 'trials-policy');

      await page.click('.kinds >> text=images');
      await page.fill('.trials [aria-label="versions"]', '7.7.7');
      await page.keyboard.press('Control+Enter');
      await seen(page, '.refusal code >> text=image.unknown');
      assert.is((await world.evc.runner.read(bad.id))?.context.acceptance, null);
      assert.is(await world.trust(bad), 'uud');
      watched.check();
    } finally {
      await watched.close();
      await api.close();
    }
  }));

test('a roll-out is followed to its end, and its image stands in the catalogue', () =>
  inWorld(async (world) => {
    if (!browser) return;
    const device = await world.addDevice({ serial: 'edge-05' });
    await world.attested(device);
    const { api, token, url } = await serveApi(world);
    const watched = await openPage(browser, `${url}#token=${token}&view=rollouts`);
    const { page } = watched;
    try {
      await seen(page, 'text=There is no roll-out yet');
      await world.offerImage({ version: '2.0.0' });
      await world.evc.rollouts.add(
        {
          version: '2.0.0',
          devices: [device.id],
          stages: [100],
          haltAt: 10,
          atOnce: 1,
          window: 60 * minute,
          testWindow: 2 * minute,
          accounts: null,
        },
        { by: 'ann', reason: 'new kernel' },
      );
      await world.until(
        'the new image is committed',
        async () => (await world.evc.rollouts.list())[0]?.state === 'done',
        120 * minute,
      );
      await seen(page, '.rollout-head .badge.good >> text=done');
      await seen(page, '.rollout-head >> text=1 of 1 done');
      await seen(page, '.progress-row .good >> text=done');
      await page.keyboard.press('8');
      await seen(page, '.image-row >> text=2.0.0');
      await page.click('.image-row[data-row="0"]');
      await seen(page, '.device-row >> text=edge-05');
      assert.is(field(page, 'filter'), 'image:2.0.0');
      watched.check();
    } finally {
      await watched.close();
      await api.close();
    }
  }));

test.run();
