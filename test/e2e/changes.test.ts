// deadline: 240 s
// An operator changes what a device is told, and an administrator what an account may do: what would be otherwise is shown first, and
// what somebody else changed meanwhile is not written over. Whoever only looks sees why they may not.
import type { Browser, Page } from 'playwright-core';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { field, gone, openBrowser, openPage, picture, seen } from '../kit/browser.ts';
import { serveApi } from '../kit/traffic.ts';
import { inWorld, type World } from '../kit/world.ts';

let browser: Browser | null = null;
test.before(async () => {
  browser = await openBrowser();
});
test.after(async () => {
  await browser?.close();
});

/** In light and dark, on a desk and on a telephone, where nothing may be wider than it is. */
async function looked(page: Page, name: string): Promise<void> {
  for (const width of [390, 1280]) {
    await page.setViewportSize({ width, height: 800 });
    const wide = await page.evaluate('document.documentElement.scrollWidth');
    assert.ok((wide as number) <= width, `${name}: ${wide} pixels wide`);
    if (!process.env.EVE_ATTEST_PICTURES) continue;
    for (const theme of ['dark', 'light']) {
      await page.evaluate(`document.documentElement.dataset.theme = '${theme}'`);
      await picture(page, `${name}-${width}-${theme}`);
    }
  }
}

const tokenOf = async (world: World, name: string, role: 'viewer' | 'operator' | 'admin') =>
  (await world.evc.tokens.add({ name, role })).token;

test('settings of a device are changed by what was looked at, and those of others are kept', () =>
  inWorld(async (world) => {
    if (!browser) return;
    const device = await world.addDevice({ serial: 'edge-11' });
    await world.attested(device);
    const odd = 'one\r\ntwo\u200b';
    const { settings: given } = await world.evc.operator.settings(device.id);
    const before = { ...given, 'app.note': odd, debug: 'a=b' };
    await world.evc.operator.changeSettings(device.id, before);
    const { api, url } = await serveApi(world);
    const token = await tokenOf(world, 'ann', 'operator');
    const watched = await openPage(browser, `${url}#token=${token}&view=device&device=${device.id}`, {
      mayComplain: /412/,
    });
    const { page } = watched;
    const line = (name: string) =>
      page.locator('.setting-line').nth(Object.keys(before).sort().indexOf(name));
    try {
      await page.click('.to-change.settings');
      await seen(page, '.change .setting-line');
      assert.is(field(page, 'change'), 'settings');
      assert.is(await page.locator('.change .onward').isDisabled(), true, 'nothing is otherwise yet');
      await line('debug').locator('.remove-setting').click();
      await page.click('.add-setting');
      await page.keyboard.type('timer.config.interval');
      await page.locator('.setting-value').last().fill('60');
      await page.click('.add-setting');
      await page.keyboard.type('timer.config.interval');
      await seen(page, '.change [role=alert] >> text=timer.config.interval stands there twice');
      assert.is(await page.locator('.change .onward').isDisabled(), true);
      await page.locator('.remove-setting').last().click();
      await looked(page, 'settings');
      await page.click('.change .onward');
      await seen(page, '.changes >> text=timer.config.interval');
      assert.match(
        (await page.textContent('.changes')) ?? '',
        /debug\s*a=b → none\s*timer\.config\.interval\s*none → 60/,
      );
      assert.not.match((await page.textContent('.changes')) ?? '', /app\.note|hostname/);
      assert.not.match(page.url(), /interval|a%3Db/);
      await looked(page, 'settings-confirm');
      assert.equal((await world.evc.operator.settings(device.id)).settings, before, 'nothing is done yet');
      await page.click('.change .confirm');
      await seen(page, '.notice >> text=Changed');
      await gone(page, '.change');
      const { debug: _, ...kept } = before;
      const after = { ...kept, 'timer.config.interval': '60' };
      assert.equal((await world.evc.operator.settings(device.id)).settings, after);
      const [entry] = await world.evc.store.audits({ limit: 1, subject: device.id });
      assert.equal([entry?.by, entry?.what], ['ann', 'settings.changed']);

      // Somebody else is quicker: it is said, and the form begins with what stands there.
      await page.click('.to-change.settings');
      await page.locator('.setting-value').last().fill('90');
      await page.click('.change .onward');
      await seen(page, '.changes >> text=90');
      await world.evc.operator.changeSettings(device.id, { ...after, 'timer.config.interval': '75' });
      await seen(page, '.change .warn >> text=Somebody changed it meanwhile');
      await seen(page, '.setting-line');
      assert.is(await page.locator('.setting-value').last().inputValue(), '75');

      // A page that hears nothing of it is refused, and nothing is written over.
      await page.route('**/api/v1/events*', () => undefined);
      await page.reload();
      await seen(page, '.change .setting-line');
      await page.locator('.setting-value').last().fill('90');
      await page.click('.change .onward');
      await world.evc.operator.changeSettings(device.id, { ...after, 'timer.config.interval': '80' });
      await page.click('.change .confirm');
      await seen(page, '.refusal code >> text=precondition.failed');
      await looked(page, 'settings-refused');
      assert.is((await world.evc.operator.settings(device.id)).settings['timer.config.interval'], '80');
      await page.click('.change .look-again');
      await page.locator('.setting-value').last().fill('90');
      await page.click('.change .onward');
      await seen(page, '.changes >> text=80');
      await page.click('.change .confirm');
      await seen(page, '.notice >> text=Changed');
      assert.equal((await world.evc.operator.settings(device.id)).settings, {
        ...after,
        'timer.config.interval': '90',
      });
      watched.check();
    } finally {
      await watched.close();
      await api.close();
    }
  }));

test('a device has a Location-Lock of its own, and is as its account again', () =>
  inWorld(async (world) => {
    if (!browser) return;
    const device = await world.addDevice({ serial: 'edge-12' });
    await world.attested(device);
    const { api, url } = await serveApi(world);
    const token = await tokenOf(world, 'ann', 'operator');
    const watched = await openPage(browser, `${url}#token=${token}&view=device&device=${device.id}`);
    const { page } = watched;
    try {
      const { lock: ofAccount } = await world.view(device);
      await page.click('.to-change.lock');
      await seen(page, '.change .of-own select');
      assert.is(await page.locator('.of-radius input').isDisabled(), true, 'it is as its account says');
      await page.selectOption('.of-own select', 'yes');
      await page.selectOption('.of-locationLock select', 'on');
      await page.selectOption('.of-moved select', 'block');
      await page.fill('.of-radius input', 'far');
      await seen(page, '.change [role=alert] >> text=metres, from 1 to 1000000');
      await page.fill('.of-radius input', '25.5');
      await looked(page, 'lock');
      await page.click('.change .onward');
      await seen(page, '.changes >> text=25.5 m');
      await looked(page, 'lock-confirm');
      await page.click('.change .confirm');
      await seen(page, '.card >> text=on: 25.5 m, moved: block');
      assert.equal((await world.view(device)).lock, { locationLock: true, radius: 25.5, moved: 'block' });
      const [entry] = await world.evc.store.audits({ limit: 1, subject: device.id });
      assert.equal([entry?.by, entry?.what], ['ann', 'device.lock']);

      await page.click('.to-change.lock');
      await seen(page, '.change .of-own select');
      assert.is(await page.inputValue('.of-own select'), 'yes');
      await page.selectOption('.of-own select', 'no');
      await page.click('.change .onward');
      await seen(page, '.changes >> text=as its account says');
      await page.click('.change .confirm');
      await gone(page, '.change');
      assert.equal((await world.view(device)).lock, ofAccount);
      assert.is(await world.evc.accounts.lockOf(device.id), null);
      watched.check();
    } finally {
      await watched.close();
      await api.close();
    }
  }));

test('an account is changed by an administrator, and its devices follow', () =>
  inWorld(async (world) => {
    if (!browser) return;
    const device = await world.addDevice({ serial: 'edge-13' });
    await world.attested(device);
    const { account } = await world.view(device);
    await world.evc.accounts.add({
      ...(await world.evc.accounts.get(account)),
      id: 'plant-7',
      radius: 40,
      locationLock: true,
    });
    const { api, token, url } = await serveApi(world);
    const watched = await openPage(browser, `${url}#token=${token}`, { mayComplain: /412/ });
    const { page } = watched;
    try {
      await seen(page, '.device-row .trust.good');
      await page.keyboard.press('c');
      await seen(page, '.account-row >> text=on: 40 m, moved: report');
      await looked(page, 'accounts');
      await page.click(`.account-row[data-row] >> text="${account}"`);
      await seen(page, '.account-box');
      assert.is(field(page, 'account'), account);
      await page.click('.change-account');
      await seen(page, '.change .of-radius input');
      await page.selectOption('.of-locationLock select', 'on');
      await page.selectOption('.of-approval select', 'on');
      await page.fill('.of-radius input', '250');
      await looked(page, 'account');
      await page.click('.change .onward');
      await seen(page, '.changes >> text=1 device follows.');
      await seen(page, '.changes >> text=wait until a person approves');
      await looked(page, 'account-confirm');
      await world.evc.accounts.change(account, { moved: 'block' });
      await page.click('.change .confirm');
      await seen(page, '.refusal code >> text=precondition.failed');
      assert.is((await world.evc.accounts.get(account)).approval ?? false, false);

      await page.click('.change .look-again');
      await page.waitForSelector('.of-moved option[value=block]:checked', { state: 'attached' });
      await page.selectOption('.of-approval select', 'on');
      await page.selectOption('.of-locationLock select', 'on');
      await page.fill('.of-radius input', '250');
      await page.click('.change .onward');
      await page.click('.change .confirm');
      await seen(page, '.notice >> text=its devices follow');
      await seen(page, '.account-box >> text=on: 250 m, moved: block');
      const { locationLock, radius, moved, approval } = await world.evc.accounts.get(account);
      assert.equal([locationLock, radius, moved, approval], [true, 250, 'block', true]);
      assert.equal((await world.view(device)).lock, { locationLock: true, radius: 250, moved: 'block' });
      const [entry] = await world.evc.store.audits({ limit: 1, subject: account });
      assert.equal(entry?.what, 'account.changed');
      await page.click('.account-box >> text="Its devices"');
      await seen(page, '.device-row >> text=edge-13');
      assert.is(field(page, 'filter'), `account:${account}`);
      watched.check();
    } finally {
      await watched.close();
      await api.close();
    }
  }));

test('whoever only looks reads what stands there, and why they may not change it; secrets are not asked for', () =>
  inWorld(async (world) => {
    if (!browser) return;
    const device = await world.addDevice({ serial: 'edge-14' });
    await world.attested(device);
    const { account } = await world.view(device);
    const { api, url } = await serveApi(world);
    for (const role of ['viewer', 'operator'] as const) {
      const token = await tokenOf(world, `of-${role}`, role);
      const watched = await openPage(browser, `${url}#token=${token}&view=accounts&account=${account}`);
      const { page } = watched;
      try {
        await seen(
          page,
          `.hindered >> text=This is for the role admin, and the token of-${role} is of ${role}`,
        );
        assert.is(await page.locator('.change-account').isDisabled(), true);
        await page.goto(`${page.url()}&change=account&step=confirm`);
        await seen(page, '.change .hindered');
        assert.is(await page.locator('.change .confirm').isVisible(), false);
        assert.is(await page.locator('.change .onward').isDisabled(), true);
        await looked(page, `account-${role}`);
        if (role === 'operator') continue;
        await page.goto(`${url}#view=device&device=${device.id}&change=settings`);
        await seen(page, '.change .hindered >> text=This is for the role operator');
        assert.is(await page.locator('.to-change.settings').isDisabled(), true);
        assert.is(await page.locator('.to-change.lock').isDisabled(), true);
        assert.is(await page.locator('.setting-line').count(), 0);
        await looked(page, 'settings-viewer');
      } finally {
        watched.check();
        await watched.close();
      }
    }
    await api.close();
  }));

test.run();
