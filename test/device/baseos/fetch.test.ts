import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createPki } from '../../../controller/pki.ts';
import { checkImageHash, dropImages, fetchImage } from '../../../device/baseos/fetch.ts';
import { reasonOf } from '../../../device/refusal.ts';
import { inFolder } from '../../kit/folders.ts';

const image = randomBytes(300_000);
const sha256 = createHash('sha256').update(image).digest('hex');

type Serve = (request: IncomingMessage, response: ServerResponse) => void;

interface Bench {
  path: string;
  /** `range` headers of the requests, in order. */
  ranges: (string | undefined)[];
  serve(how: Serve): void;
  fetch(options?: {
    size?: number;
    root?: string;
    signal?: AbortSignal;
    idle?: number;
    url?: string;
  }): Promise<string>;
}

const whole: Serve = (_, response) =>
  void response.writeHead(200, { 'content-length': image.length }).end(image);

const ranged: Serve = (request, response) => {
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? Number.NaN);
  if (Number.isNaN(from)) return whole(request, response);
  const rest = image.subarray(from);
  return void response
    .writeHead(206, {
      'content-range': `bytes ${from}-${image.length - 1}/${image.length}`,
      'content-length': rest.length,
    })
    .end(rest);
};

/** Half of what is asked for, and then the line is dead. */
const cut: Serve = (request, response) => {
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
  const status = from > 0 ? 206 : 200;
  response.writeHead(status, {
    'content-length': image.length - from,
    ...(from > 0 ? { 'content-range': `bytes ${from}-${image.length - 1}/${image.length}` } : {}),
  });
  response.write(image.subarray(from, from + 100_000), () => setImmediate(() => response.socket?.destroy()));
};

function withServer(work: (bench: Bench) => Promise<void>): Promise<void> {
  return inFolder(async (folder) => {
    const pki = await createPki(join(folder, 'pki'), ['localhost'], Date.now());
    let serve: Serve = whole;
    const ranges: (string | undefined)[] = [];
    const key = pki.server.key.export({ type: 'pkcs8', format: 'pem' });
    const server = https.createServer(
      { key, cert: pki.server.certificate.toString() },
      (request, response) => {
        ranges.push(request.headers.range);
        serve(request, response);
      },
    );
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const path = join(folder, 'images', 'image');
    try {
      await work({
        path,
        ranges,
        serve(how) {
          serve = how;
        },
        async fetch({
          size = image.length,
          root = pki.root.toString(),
          signal = new AbortController().signal,
          idle,
          url = `https://localhost:${port}/images/x`,
        } = {}) {
          const wanted = { version: '1', url, sha256, size, signature: '', testWindow: 1, retryCounter: 0 };
          try {
            await fetchImage(wanted, path, root, signal, idle);
            return 'fetched';
          } catch (error) {
            return (error as Error).name === 'AbortError' ? 'aborted' : reasonOf(error).code;
          }
        },
      });
    } finally {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  });
}

test('an image is fetched whole, once', () =>
  withServer(async ({ path, ranges, fetch }) => {
    assert.is(await fetch(), 'fetched');
    assert.equal(readFileSync(path), image);
    assert.not(existsSync(`${path}.part`));
    await checkImageHash(path, sha256);
    assert.is(await fetch(), 'fetched');
    assert.equal(ranges, [undefined]);
  }));

test('images go, whole and begun, but for the one that is fetched', () =>
  inFolder((folder) => {
    const images = join(folder, 'images');
    dropImages(images, 'new');
    assert.not(existsSync(images), 'a device that never fetched has no folder');
    mkdirSync(images);
    for (const name of ['old', 'older.part', 'new', 'new.part']) writeFileSync(join(images, name), 'x');
    dropImages(images, 'new');
    assert.equal(readdirSync(images).sort(), ['new', 'new.part']);
    dropImages(images);
    assert.equal(readdirSync(images), []);
  }));

test('what broke off is continued where it stopped', () =>
  withServer(async ({ path, ranges, serve, fetch }) => {
    serve(cut);
    assert.is(await fetch(), 'link.lost');
    assert.not(existsSync(path));
    const first = statSync(`${path}.part`).size;
    assert.ok(first > 0 && first <= 100_000);
    assert.is(await fetch(), 'link.lost');
    const second = statSync(`${path}.part`).size;
    assert.ok(second > first);
    serve(ranged);
    assert.is(await fetch(), 'fetched');
    assert.equal(readFileSync(path), image);
    assert.equal(ranges, [undefined, `bytes=${first}-`, `bytes=${second}-`]);
  }));

test('a server that knows no ranges sends all of it again', () =>
  withServer(async ({ path, serve, fetch }) => {
    serve(cut);
    await fetch();
    serve(whole);
    assert.is(await fetch(), 'fetched');
    assert.equal(readFileSync(path), image);
  }));

test('an answer for another range, and a range that the server does not have, are begun again', () =>
  withServer(async ({ path, serve, fetch, ranges }) => {
    for (const wrong of [
      (_: IncomingMessage, response: ServerResponse) =>
        void response.writeHead(206, { 'content-range': `bytes 0-9/${image.length}` }).end(image),
      (_: IncomingMessage, response: ServerResponse) => void response.writeHead(206).end(image),
      (_: IncomingMessage, response: ServerResponse) => void response.writeHead(416).end(),
    ]) {
      serve(cut);
      await fetch();
      serve(wrong);
      assert.is(await fetch(), 'link.http');
      serve(ranged);
      assert.is(await fetch(), 'fetched');
      assert.is(ranges.at(-1), undefined);
      assert.equal(readFileSync(path), image);
      writeFileSync(path, '');
    }
  }));

test('more bytes than announced, and fewer', () =>
  withServer(async ({ path, serve, fetch }) => {
    assert.is(await fetch({ size: image.length - 1 }), 'baseos.image-size');
    assert.equal([existsSync(path), existsSync(`${path}.part`)], [false, false]);
    assert.is(await fetch({ size: image.length + 1 }), 'baseos.image-size');
    assert.equal([existsSync(path), existsSync(`${path}.part`)], [false, false]);
    // Without a length, and without an end.
    serve((_, response) => {
      response.writeHead(200);
      const more = () => {
        while (response.write(image)) if (response.destroyed) return;
        response.once('drain', more);
      };
      more();
    });
    assert.is(await fetch(), 'baseos.image-size');
    assert.is(await fetch({ size: 5 * 1024 ** 3 }), 'baseos.image-oversize');
  }));

test('a partial file that is longer than the image is not continued', () =>
  withServer(async ({ path, fetch, ranges }) => {
    await fetch();
    writeFileSync(`${path}.part`, Buffer.alloc(image.length + 5));
    writeFileSync(path, '');
    assert.is(await fetch(), 'fetched');
    assert.equal([ranges.at(-1), readFileSync(path)], [undefined, image]);
  }));

test('an image with another hash is thrown away', () =>
  withServer(async ({ path, serve, fetch }) => {
    const other = Uint8Array.from(image);
    other[1000] = (other[1000] ?? 0) ^ 1;
    serve((_, response) => void response.end(other));
    assert.is(await fetch(), 'fetched');
    const error = await checkImageHash(path, sha256).catch((cause: unknown) => cause);
    assert.is(reasonOf(error).code, 'baseos.image-hash');
    assert.not(existsSync(path));
  }));

test('a server that falls silent, before and within', () =>
  withServer(async ({ path, serve, fetch }) => {
    serve(() => undefined);
    assert.is(await fetch({ idle: 50 }), 'link.timeout');
    serve((_, response) => {
      response.writeHead(200, { 'content-length': image.length });
      response.write(image.subarray(0, 50_000));
    });
    assert.is(await fetch({ idle: 50 }), 'link.lost');
    assert.ok(statSync(`${path}.part`).size > 0);
  }));

test('an answer that is none, a server that is not there, and one that nobody vouches for', () =>
  withServer(async ({ serve, fetch }) => {
    for (const status of [301, 403, 404, 500]) {
      serve((_, response) => void response.writeHead(status, { location: 'https://localhost:1/' }).end('no'));
      assert.is(await fetch(), 'link.http');
    }
    assert.is(await fetch({ url: 'https://localhost:1/x' }), 'link.down');
    await inFolder(async (folder) => {
      const root = (await createPki(folder, ['localhost'], Date.now())).root.toString();
      assert.is(await fetch({ root }), 'link.down');
    });
  }));

test('a fetch that is not wanted any more ends', () =>
  withServer(async ({ serve, fetch }) => {
    const stop = new AbortController();
    serve((_, response) => {
      response.writeHead(200, { 'content-length': image.length });
      response.write(image.subarray(0, 50_000), () => stop.abort());
    });
    assert.is(await fetch({ signal: stop.signal }), 'aborted');
    assert.is(await fetch({ signal: stop.signal }), 'aborted');
  }));

test.run();
