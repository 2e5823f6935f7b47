// deadline: 480 s
// An operator brings an image to fifty devices from the page: sees the list before anything begins, watches the first share, and the
// roll-out halt by itself; looks why, lets it go on, stops it, ends it. All of the devices are real but for time.
import type { Browser, Page } from 'playwright-core';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { field, gone, openBrowser, openPage, picture, seen } from '../kit/browser.ts';
import { serveApi } from '../kit/traffic.ts';
import { inWorld, type WorldDevice } from '../kit/world.ts';

const minute = 60_000;
let browser: Browser | null = null;

test.before(async () => {
  browser = await openBrowser();
});
test.after(async () => {
  await browser?.close();
});

async function narrow(page: Page, name: string): Promise<void> {
  await page.setViewportSize({ width: 390, height: 800 });
  const wide = await page.evaluate('document.documentElement.scrollWidth');
  assert.ok((wide as number) <= 390, `${name} is ${wide} pixels wide`);
  await picture(page, `${name}-390`);
  await page.setViewportSize({ width: 1280, height: 800 });
}

test('an image goes to fifty devices share by share, and halts when too many of the first share fail', () =>
  inWorld(async (world) => {
    if (!browser) return;
    const devices: WorldDevice[] = [];
    for (let i = 1; i <= 50; i++)
      devices.push(await world.addDevice({ serial: `edge-${String(i).padStart(2, '0')}` }));
    for (const device of devices) await world.attested(device);
    // The first three that boot the new image lose EVC with it, and fall back to the old one.
    let cut = 0;
    for (const device of devices)
      device.onBooted = () => {
        const boot = device.events.findLast(({ kind }) => kind === 'boot');
        if (boot?.kind === 'boot' && boot.boot.image === '2.0.0' && cut++ < 3) device.net.up = false;
      };
    const other = await world.addDevice({ serial: 'gate-01' });
    await world.attested(other);
    await world.offerImage({ version: '2.0.0' });
    const { api, url } = await serveApi(world);
    const { token } = await world.evc.tokens.add({ name: 'ann', role: 'operator' });
    const watched = await openPage(browser, `${url}#token=${token}&view=rollouts`);
    const { page } = watched;
    try {
      await seen(page, 'text=There is no roll-out yet');
      await page.keyboard.press('n');
      await seen(page, '.start .meant >> text=51 devices would get it');
      assert.is(await page.locator('.start .onward').isDisabled(), true, 'without an image there is nothing');
      await page.selectOption('.start select', '2.0.0');
      await page.fill('.start .filter', 'name:edge');
      await seen(page, '.start .meant >> text=50 devices would get it');
      await page.fill('.start .shares input', '20, 10');
      await seen(page, '.start [role="alert"] >> text=/Shares: .*ascend/');
      assert.is(await page.locator('.start .onward').isDisabled(), true);
      await page.fill('.start .shares input', '20, all');
      await page.fill('.start .test input', '2m');
      await page.fill('.start .once input', '10');
      await seen(page, '.start .way >> text=10 devices first, then all 50; it halts when more than 10 %');
      await picture(page, 'rollout-new');
      await narrow(page, 'rollout-new');
      assert.is((await world.evc.rollouts.list()).length, 0, 'looking begins nothing');
      await page.focus('.start .onward');
      await page.keyboard.press('Enter');
      await seen(page, '.start .meant >> text=Exactly these 50 devices');
      assert.is(await page.locator('.start .confirm').isDisabled(), true, 'a reason is wanted first');
      await page.keyboard.type('security fixes, ticket 9');
      await picture(page, 'rollout-why');
      await page.keyboard.press('Control+Enter');
      await seen(page, '.rollout-head .badge.busy >> text=running');
      await seen(page, '.notice >> text=2.0.0 goes to 50 devices');

      const [rollout] = await world.evc.rollouts.list();
      const id = rollout?.id ?? '';
      assert.equal(
        [rollout?.by, rollout?.reason, rollout?.stages],
        ['ann', 'security fixes, ticket 9', [20, 100]],
      );
      assert.is(field(page, 'rollout'), id);
      const underWay = async () =>
        (await world.evc.rollouts.get(id)).devices.filter(({ progress }) => progress === 'assigned');
      await world.until(
        'the first share is begun',
        async () => (await underWay()).length === 10,
        30 * minute,
      );
      await seen(page, '.rollout-head >> text=0 of 50 done, 10 under way');
      await picture(page, 'rollout-first');
      await world.until(
        'some are through',
        async () => (await world.evc.rollouts.get(id)).counts.committed > 0,
        60 * minute,
      );
      await seen(page, '.rollout-head >> text=/[1-7] of 50 done/');
      const state = async () => (await world.evc.rollouts.get(id)).state;
      await world.until('it halts', async () => (await state()) === 'halted', 240 * minute);
      await seen(page, '.rollout-head .badge.bad >> text=halted');
      await seen(page, '.rollout-head .bad >> text=/[2-3] of 10 devices failed, and 10 % may/');
      await seen(page, '.progress-row .bad >> text=failed');
      await picture(page, 'rollout-halted');
      await narrow(page, 'rollout-halted');
      await page.keyboard.press('t');
      await picture(page, 'rollout-halted-dark');
      await page.keyboard.press('t');

      for (const device of devices) device.net.up = true;
      await turn(page, 'Resume', 'the switch was repaired');
      await seen(page, '.rollout-head .badge.busy >> text=running');
      await world.until(
        'the next share is begun',
        async () => (await world.evc.rollouts.get(id)).stage === 1,
        240 * minute,
      );
      await seen(page, '.rollout-head >> text=share 2 of 2');
      await turn(page, 'Stop', 'enough for today');
      await seen(page, '.rollout-head .badge.warn >> text=stopped');
      await turn(page, 'Cancel', 'another image comes');
      await seen(page, '.rollout-head .badge >> text=cancelled');
      await gone(page, '.turns .turn');
      await world.until(
        'those under way are through',
        async () => (await underWay()).length === 0,
        240 * minute,
      );
      await seen(page, '.rollout-head >> text=20 of 50 done, 30 skipped');
      const audit = await world.evc.store.audits({ limit: 10, subject: id });
      assert.equal(audit.map(({ what, by, reason }) => [what, by, reason]).reverse(), [
        ['rollout.started', 'ann', 'security fixes, ticket 9'],
        ['rollout.halted', 'evc', audit.at(-2)?.reason],
        ['rollout.resumed', 'ann', 'the switch was repaired'],
        ['rollout.stopped', 'ann', 'enough for today'],
        ['rollout.cancelled', 'ann', 'another image comes'],
      ]);
      watched.check();
    } finally {
      await watched.close();
      await api.close();
    }
  }));

/** By the keyboard alone. */
async function turn(page: Page, name: string, reason: string): Promise<void> {
  await page.focus(`.turns .turn >> text=${name} …`);
  await page.keyboard.press('Enter');
  await seen(page, '.turns .why-box:focus');
  await page.keyboard.type(reason);
  await page.keyboard.press('Control+Enter');
  await page.waitForSelector('.turns .why-form', { state: 'hidden', timeout: 20_000 });
}

test('a token that only looks sees the roll-outs and the list, and may begin nothing', () =>
  inWorld(async (world) => {
    if (!browser) return;
    const device = await world.addDevice({ serial: 'edge-01' });
    await world.attested(device);
    await world.offerImage({ version: '2.0.0' });
    const { id } = await world.evc.rollouts.add(
      {
        ...{ version: '2.0.0', devices: [device.id], stages: [100], haltAt: 10, atOnce: 1, accounts: null },
        ...{ window: 60 * minute, testWindow: 10 * minute },
      },
      { by: 'ann', reason: 'x' },
    );
    const { api, url } = await serveApi(world);
    const { token } = await world.evc.tokens.add({ name: 'wall', role: 'viewer' });
    const watched = await openPage(browser, `${url}#token=${token}&view=rollouts&rollout=${id}&turn=stop`);
    const { page } = watched;
    try {
      await seen(page, '.turns .hindered >> text=the token wall is of viewer');
      assert.is(await page.locator('.turns .turn >> nth=0').isDisabled(), true);
      await page.goto(`${url}#view=rollouts&new=image&version=2.0.0&step=reason`);
      await seen(page, '.start .meant >> text=Exactly this 1 device');
      await page.fill('.start textarea', 'let me');
      await seen(page, '.start .hindered >> text=the token wall is of viewer');
      assert.is(await page.locator('.start .confirm').isDisabled(), true);
      watched.check();
    } finally {
      await watched.close();
      await api.close();
    }
  }));

test.run();
