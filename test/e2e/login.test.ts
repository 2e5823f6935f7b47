// deadline: 120 s
// People log in with a browser: at the provider, back where they were, with what their role lets them do; and out again.
import type { Browser, Page } from 'playwright-core';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ApiBench } from '../kit/api.ts';
import { openBrowser, openPage, picture, seen } from '../kit/browser.ts';
import { clientId, clientSecret, LocalProvider } from '../kit/provider.ts';

let browser: Browser | null = null;
test.before(async () => {
  browser = await openBrowser();
});
test.after(async () => {
  await browser?.close();
});

const logIn = async (page: Page, person: string, button = '.log-in') => {
  await page.click(`dialog.token ${button}`);
  await seen(page, 'input[name=person]');
  await page.fill('input[name=person]', person);
  await page.click('button');
};

test('a person logs in, is back where they were, decides under their name, and logs out', async () => {
  if (!browser) return;
  const api = await ApiBench.open(Date.now());
  const { board } = await api.devices();
  const people = { ann: { groups: ['evc-admins'] }, cat: { groups: ['staff'] } };
  const provider = await LocalProvider.start({
    redirectUris: [`${api.url}/oidc/callback`],
    logoutUris: [`${api.url}/`],
    people,
  });
  try {
    const roles = [{ value: 'evc-admins', role: 'operator', accounts: null }];
    const wish = { issuer: provider.issuer, clientId, clientSecret, roles, publicUrl: api.url };
    assert.is((await api.call('PUT', '/api/v1/oidc', { body: wish })).status, 200);
    // A browser says that it was not let in, and that a form of the provider has no icon.
    const watched = await openPage(browser, `${api.url}/#view=audit`, { mayComplain: /401|404/ });
    const { page } = watched;
    try {
      await seen(page, 'dialog.token .log-in');
      await picture(page, 'login');
      await logIn(page, 'cat');
      await seen(page, '.notice.refused >> text=oidc.no-role');
      await logIn(page, 'ann', '.log-in-other');
      await seen(page, '.audit-row .what >> text=session.began');
      assert.match(page.url(), /#view=audit$/);
      await seen(page, '.audit-row >> text=oidc:ann');
      await picture(page, 'logged-in');
      const kept = await page.context().cookies(api.url);
      const session = kept.find(({ name }) => name === '__Host-evc-session');
      assert.equal([session?.httpOnly, session?.secure, session?.sameSite], [true, true, 'Strict']);
      const readable = await page.evaluate('[document.cookie, JSON.stringify(sessionStorage)]');
      assert.not.match(JSON.stringify(readable), /evc_/);
      // What has no end is read with the session, too.
      await page.click('.view-tab >> text=devices');
      await seen(page, '.chip.bad >> text=UUD 1');
      await page.click('.device-row[data-row="0"]');
      await page.click('.leave');
      // The provider asks, ends its session, and leads back.
      await page.click('button[name=logout]');
      await seen(page, 'dialog.token .log-in');
      assert.equal(new URL(page.url()).origin, api.url);
      assert.equal((await api.call('GET', '/api/v1/sessions')).json.sessions, []);
      // It knows nobody of this browser any more: it asks who it is.
      await page.click('dialog.token .log-in');
      await seen(page, 'input[name=person]');
      const foreign = watched.foreign.filter((url) => !url.startsWith(provider.issuer));
      assert.equal(foreign, []);
    } finally {
      await watched.close();
    }
  } finally {
    await provider.close();
    await api.close();
    await board.close();
  }
});

test.run();
