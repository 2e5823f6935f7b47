// Debian's Chromium, and the inspector's page in it. A page that talks to anybody but its own server, or that fails, fails the test.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import * as assert from 'uvu/assert';
import { needDebian } from './debian.ts';
import { projectRoot } from './root.ts';

const flags =
  '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync';
const root = fileURLToPath(projectRoot);
const built = join(root, 'dist/inspector');

/** The page as a file, for nobody serves it. */
export const pageFile = pathToFileURL(join(built, 'index.html')).href;

/** null where there is no Chromium, which was said. */
export async function openBrowser(): Promise<Browser | null> {
  if (!(await needDebian(['chromium'], ['chromium']))) return null;
  if (!existsSync(join(built, 'app.js')))
    spawnSync(process.execPath, [join(root, 'build.js')], { stdio: 'inherit' });
  return chromium.launch({ executablePath: '/usr/bin/chromium', args: flags.split(' ') });
}

export interface Watched {
  page: Page;
  /** Addresses that were asked for, without the page's own. */
  foreign: string[];
  /** Throws when the page failed, said something to the console, or asked somebody else. */
  check(): void;
  close(): Promise<void>;
}

/** @param own beginning of the addresses that the page may ask for */
export async function openPage(
  browser: Browser,
  url: string,
  options: BrowserContextOptions & { mayComplain?: RegExp } = {},
): Promise<Watched> {
  const { mayComplain = /$^/, ...rest } = options;
  const context = await browser.newContext({
    ignoreHTTPSErrors: true,
    viewport: { width: 1280, height: 800 },
    ...rest,
  });
  const page = await context.newPage();
  const complaints: string[] = [];
  const foreign: string[] = [];
  const own = url.startsWith('file:') ? 'file:' : new URL(url).origin;
  page.on('console', (message) => complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(String(error.stack)));
  page.on('dialog', (dialog) => {
    complaints.push(`dialog ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('request', (request) => {
    if (!request.url().startsWith(own) && !/^(blob|data):/.test(request.url())) foreign.push(request.url());
  });
  await page.goto(url);
  return {
    page,
    foreign,
    check() {
      assert.equal(foreign, []);
      assert.equal(
        complaints.filter((text) => !mayComplain.test(text)),
        [],
      );
    },
    close: () => context.close(),
  };
}

/** Resolves when the page shows it; rejects when it does not in 20 s. */
export const seen = (page: Page, what: string) => page.waitForSelector(what, { timeout: 20_000 });

/** Resolves when the page shows it no more. */
export const gone = (page: Page, what: string) =>
  page.waitForSelector(what, { timeout: 20_000, state: 'detached' });

/** Of the address, which is the view; null where it is not there. */
export const field = (page: Page, name: string) =>
  new URLSearchParams(new URL(page.url()).hash.slice(1)).get(name);

/** What stands there, for people to look at: only where a folder is named for it. */
export async function picture(page: Page, name: string): Promise<void> {
  const folder = process.env.EVE_ATTEST_PICTURES;
  if (folder) await page.screenshot({ path: join(folder, `${name}.png`) });
}

/** Drops files on the page, as a hand does. */
export async function drop(page: Page, files: { name: string; text: string }[]): Promise<void> {
  const transfer = await page.evaluateHandle(
    `(() => { const transfer = new DataTransfer(); for (const { name, text } of ${JSON.stringify(files)}) transfer.items.add(new File([text], name)); return transfer; })()`,
  );
  await page.dispatchEvent('body', 'drop', { dataTransfer: transfer });
}
