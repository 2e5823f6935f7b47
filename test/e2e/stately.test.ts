// deadline: 120 s
// A page with an unmodified @statelyai/inspect client opens the inspector in a window, and its charts are seen there.
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { serveInspector } from '../../device/inspect.ts';
import { DeviceRecorder } from '../../device/recorder.ts';
import { openBrowser } from '../kit/browser.ts';
import { projectRoot } from '../kit/root.ts';

const client = (url: string) => `
import { createBrowserInspector } from '@xstate/inspect';
import { createActor, createMachine } from 'xstate';
const inspector = createBrowserInspector({ url: ${JSON.stringify(url)} });
const machine = createMachine({ id: 'door', initial: 'shut', states: { shut: { on: { OPEN: 'open' } }, open: {} } });
const actor = createActor(machine, { inspect: inspector.inspect });
actor.start();
globalThis.actor = actor;
`;

test('the charts of a page that opened the inspector are shown as they move', async () => {
  const browser = await openBrowser();
  if (!browser) return;
  const recorder = new DeviceRecorder({ clock: { now: () => 1000 } });
  const inspector = await serveInspector(recorder, 0, Date.now);
  const { outputFiles } = await build({
    stdin: { contents: client(inspector.url), resolveDir: fileURLToPath(projectRoot) },
    bundle: true,
    write: false,
    format: 'iife',
    platform: 'browser',
    logLevel: 'error',
  });
  const site = http.createServer((request, response) => {
    const script = request.url === '/client.js';
    response.writeHead(200, { 'content-type': script ? 'text/javascript' : 'text/html' });
    response.end(script ? outputFiles[0]?.text : '<!doctype html><body><button>open</button></body>');
  });
  await new Promise<void>((resolve) => site.listen(0, '127.0.0.1', resolve));
  try {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`http://127.0.0.1:${(site.address() as AddressInfo).port}/`);
    const [shown] = await Promise.all([
      context.waitForEvent('page'),
      page.addScriptTag({ url: '/client.js' }),
    ]);
    await shown.waitForSelector('.state.active[data-id="door.shut"]');
    await page.evaluate("actor.send({ type: 'OPEN' })");
    await shown.waitForSelector('.state.active[data-id="door.open"]');
    assert.is(await shown.locator('.state.active[data-id="door.shut"]').count(), 0);
  } finally {
    await browser.close();
    site.closeAllConnections();
    site.close();
    await inspector.close();
  }
});

test.run();
