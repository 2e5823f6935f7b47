// deadline: 120 s
// An attempt as a trace: EVC and a device as processes, a collector between them, one trace with the spans of both, and EVC's log
// with the same ids.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { LogLine } from '../../controller/cli/log.ts';
import { isTraced, openSpans } from '../../telemetry/otlp.ts';
import { type CollectedSpan, Collector } from '../kit/collector.ts';
import { Running, runToEnd } from '../kit/process.ts';

const folder = mkdtempSync(join(tmpdir(), 'eve-trace-'));
test.after(() => rmSync(folder, { recursive: true }));

const textOf = ({ attributes }: CollectedSpan, name: string) =>
  attributes.find(({ key }) => key === name)?.value.stringValue;

test('one trace has the spans of both sides, and the log of EVC names it', async () => {
  const collector = await Collector.start();
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint };
  const data = join(folder, 'evc');
  await runToEnd('evc', ['init', '--data', data]);
  const ports = ['--mqtt-port', '0', '--https-port', '0'];
  const evc = new Running('evc', ['serve', '--log', 'json', '--data', data, ...ports], env);
  await evc.line(/"event":"serving"/);
  const config = join(folder, 'd/config');
  await runToEnd('evc', ['key', 'add', '--out', config, '--serial', 'traced-1'], { EVC_DATA: data });
  await runToEnd('eve', ['image', 'create', join(folder, 'i'), '--version', '1.0.0']);
  const run = ['run', '--json', '--state', join(folder, 'd'), '--image', join(folder, 'i')];
  const eve = new Running('eve', run, env);
  try {
    await eve.line(/"kind":"state","component":"attest-task".*"state":"complete"/);
  } finally {
    assert.is(await eve.stop(), 0);
    assert.is(await evc.stop(), 0);
  }
  try {
    const root = collector.spans.find(({ name }) => name === 'eve attempt');
    assert.ok(root, collector.text.slice(0, 1000));
    const trace = collector.spans.filter(({ traceId }) => traceId === root.traceId);
    const named = (name: string) => {
      const found = trace.find((span) => span.name === name);
      assert.ok(found, `${name}: ${trace.map((span) => span.name).join(', ')}`);
      return found;
    };
    assert.is(root.parentSpanId ?? '', '');
    for (const name of [
      'eve attest-task requestNonce',
      'eve tpm-manager makeQuote',
      'eve attest-task sendQuote',
      'eve info-task storeKey',
    ]) {
      assert.is(named(name).service, 'eve');
      assert.is(named(name).parentSpanId, root.spanId);
    }
    for (const name of ['evc nonce', 'evc quote', 'evc escrow']) {
      assert.is(named(name).service, 'evc');
      assert.is(named(name).parentSpanId, root.spanId);
      assert.is(named(name).kind, 2, 'server');
    }
    const quote = named('evc quote');
    const below = trace.filter(({ parentSpanId }) => parentSpanId === quote.spanId).map(({ name }) => name);
    assert.equal([...new Set(below)].sort(), ['evc commit', 'evc reply', 'evc verify']);
    assert.is(below.filter((name) => name === 'evc commit').length, 2, 'the quote, and its verdict');
    assert.is(textOf(quote, 'eve_attest.verdict'), 'accepted');
    // On one machine the two sides have one clock: EVC answers while the device waits.
    const sent = named('eve attest-task sendQuote');
    assert.ok(BigInt(quote.startTimeUnixNano) >= BigInt(sent.startTimeUnixNano));
    assert.ok(BigInt(quote.startTimeUnixNano) <= BigInt(quote.endTimeUnixNano));

    // Ids alone: no token, no nonce, no key. A hash that is no id would stand there as 64 digits.
    const device = textOf(quote, 'eve_attest.device') ?? '';
    const long = [...collector.text.matchAll(/[0-9a-f]{40,}/g)].map(([text]) => text);
    assert.equal([...new Set(long)], [device]);
    assert.not.match(collector.text, readFileSync(join(data, 'token'), 'utf8').trim());

    const lines = evc.lines.map((line) => JSON.parse(line) as LogLine);
    for (const { time, level } of lines) {
      assert.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      assert.match(level, /^(debug|info|warn|error)$/);
    }
    const logged = (event: string, of = 'traced-1') =>
      lines.find(
        (line) => line.event === event && line.serial === of && (line.trace ?? root.traceId) === root.traceId,
      );
    const received = logged('quote.received');
    assert.equal(
      [received?.device, received?.request, received?.attempt, received?.trace],
      [device, textOf(quote, 'eve_attest.request'), textOf(quote, 'eve_attest.attempt'), root.traceId],
    );
    const verdict = lines.find(
      ({ event, attempt }) => event === 'verdict.given' && attempt === received?.attempt,
    );
    assert.equal([verdict?.level, verdict?.request], ['info', received?.request]);
    assert.is(lines.at(-1)?.event, 'stopped');
  } finally {
    await collector.close();
  }
});

test('a device of several processes tells the same trace, each of them what it did', async () => {
  const collector = await Collector.start();
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint, OTEL_BSP_SCHEDULE_DELAY: '100' };
  const data = join(folder, 'evc-2');
  await runToEnd('evc', ['init', '--data', data]);
  const evc = new Running('evc', [
    'serve',
    '--json',
    '--data',
    data,
    '--mqtt-port',
    '0',
    '--https-port',
    '0',
  ]);
  await evc.line(/"kind":"serving"/);
  const state = join(folder, 'd-2');
  const add = ['key', 'add', '--out', join(state, 'config'), '--serial', 'traced-2'];
  await runToEnd('evc', add, { EVC_DATA: data });
  await runToEnd('eve', ['image', 'create', join(folder, 'i-2'), '--version', '1.0.0']);
  const run = ['run', '--processes', '--json', '--state', state, '--image', join(folder, 'i-2')];
  const eve = new Running('eve', run, env);
  const wanted = [
    'eve attest-task makeClaims',
    'eve attest-task requestNonce',
    'eve attest-task sendQuote',
    'eve attempt',
    'eve info-task storeKey',
    'eve tpm-manager makeQuote',
  ].sort();
  const ofRoot = (spans: readonly CollectedSpan[]) => {
    const root = spans.find(({ name, status }) => name === 'eve attempt' && status.code !== 2);
    return spans.filter(({ traceId }) => traceId === root?.traceId);
  };
  try {
    await eve.line(/"kind":"state","component":"attest-task".*"state":"complete"/);
    // Each process sends its own, and none waits for the others.
    await collector.until((spans) => new Set(ofRoot(spans).map(({ name }) => name)).size >= wanted.length);
    const trace = ofRoot(collector.spans);
    assert.equal(trace.map(({ name }) => name).sort(), wanted);
    const roots = trace.filter(({ parentSpanId = '' }) => parentSpanId === '');
    assert.equal(
      roots.map(({ name }) => name),
      ['eve attempt'],
    );
    for (const span of trace)
      if (span !== roots[0]) assert.is(span.parentSpanId, roots[0]?.spanId, span.name);
    assert.is(new Set(trace.map(({ spanId }) => spanId)).size, trace.length);
    const long = [...collector.text.matchAll(/[0-9a-f]{40,}/g)];
    assert.equal(long, [], 'no nonce, no token, no key');
  } finally {
    assert.is(await eve.stop(), 0);
    assert.is(await evc.stop(), 0);
    await collector.close();
  }
});

test('without an endpoint nothing of it is loaded', async () => {
  assert.is(await openSpans('evc', {}), null);
  assert.is(
    isTraced({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1', OTEL_SDK_DISABLED: 'true' }),
    false,
  );
  assert.is(
    isTraced({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1', OTEL_TRACES_EXPORTER: 'none' }),
    false,
  );
  assert.is(isTraced({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://127.0.0.1:1/v1/traces' }), true);
});

test.run();
