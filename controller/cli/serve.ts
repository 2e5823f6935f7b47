// `evc serve`: EVC with its broker and its HTTPS server, until somebody ends it.
import { createHash } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { Broker } from '../../broker/broker.ts';
import { LoginCheck } from '../../broker/login.ts';
import type { RemoteBroker } from '../../broker/remote.ts';
import { ServiceManager } from '../../broker/service-manager.ts';
import { openSpans } from '../../telemetry/otlp.ts';
import type { Shed } from '../admission.ts';
import { type BrokerLogin, controllerUser } from '../api/broker-login.ts';
import { type ApiServer, startApi } from '../api/server.ts';
import { StepStream, stepView } from '../api/stream.ts';
import { CertificateKeeper } from '../certificate-keeper.ts';
import { systemClock } from '../clock.ts';
import { Evc } from '../evc.ts';
import { DataFolder, defaultPorts, portOf, withFirstAccount } from '../options.ts';
import { openStore } from '../store/open.ts';
import { openThreaded } from '../store/threaded.ts';
import { announcement, readerOf } from '../webhook/announce.ts';
import { sourceOf } from '../webhook/webhooks.ts';
import { exitCodes } from './failure.ts';
import { type LogLine, lineOf, refusedLine, shedLine, stepLine } from './log.ts';

export interface ServeOptions {
  data?: string;
  host: string;
  store?: string;
  /** `mqtts://host:port`. */
  broker?: string;
  mqttPort?: string;
  httpsPort?: string;
  json?: boolean;
  log?: 'text' | 'json';
  withParent?: boolean;
}

/** How long EVC finishes what is under way when it is told to stop, ms. */
const finishing = 20_000;

/** Resolves with the exit code when it was ended in order, and everything is stored. */
export async function serve(options: ServeOptions): Promise<number> {
  const data = new DataFolder(options.data);
  const pki = data.pki();
  data.checkClock(Date.now());
  const hosts = data.hosts();
  const ports = {
    mqtt: portOf(options.mqttPort, defaultPorts.mqtt, '--mqtt-port'),
    https: portOf(options.httpsPort, defaultPorts.https, '--https-port'),
  };
  const ended = untilEnded(options.withParent ?? false);
  const print = (line: object | string) =>
    process.stdout.write(`${typeof line === 'string' ? line : JSON.stringify(line)}\n`);
  const logs = options.log === 'json';
  const log = (line: () => LogLine) => {
    if (logs) print(line());
  };
  const refused = (what: string, code: string, text: string) => {
    log(() => refusedLine(Date.now(), what, code, text));
    if (options.json) print({ kind: 'refused', at: Date.now(), what, code, text });
  };
  const stream = new StepStream();
  const closing: (() => Promise<unknown>)[] = [];
  const manager = new ServiceManager();
  let renewListener: (key: string, certificate: string) => void = () => {};
  try {
    const { evc, listen, connect, linked } = await openEvc();
    const key = pki.server.key.export({ type: 'pkcs8', format: 'pem' }).toString();
    const certificate = pki.server.certificate.toString();
    const mqttPort = await listen(key, certificate);
    const since = Date.now();
    let api: ApiServer | null = null;
    api = await startApi({
      evc,
      stream,
      tokenHash: data.tokenHash(),
      uploads: data.file('uploads'),
      host: options.host,
      port: ports.https,
      key,
      certificate,
      ...(options.broker === undefined ? {} : { brokerLogin: brokerLogin() }),
      brokerReady: linked,
      service: () => ({ mqttPort, httpsPort: api?.port ?? 0, hosts, since }),
    });
    closing.push(() => api.close());
    ports.https = api.port;
    await connect();
    const keeper = new CertificateKeeper({
      folder: data.file('pki'),
      pki,
      live: evc.pki,
      hosts,
      now: () => systemClock.now(),
      onRenewed: (names) => {
        const { key: next, certificate: shown } = evc.pki.server;
        const pem = next.export({ type: 'pkcs8', format: 'pem' }).toString();
        renewListener(pem, shown.toString());
        api?.renew(pem, shown.toString());
        log(() => lineOf(Date.now(), 'info', 'certificates', { text: `renewed: ${names.join(', ')}` }));
        if (options.json) print({ kind: 'certificates', at: Date.now(), renewed: names });
        else if (!logs) print(`EVC goes on with new certificates: ${names.join(', ')}`);
      },
      onFailed: (code, text) => {
        log(() => lineOf(Date.now(), 'error', 'certificates', { code, text }));
        if (options.json) print({ kind: 'certificates', at: Date.now(), code, text });
        else if (!logs) print(`EVC goes on with the certificates that it has: ${text}  [${code}]`);
      },
    });
    closing.push(async () => keeper.close());
    data.announce({ pid: process.pid, mqttPort, httpsPort: api.port, host: options.host });
    closing.push(async () => data.withdraw());
    const url = `https://${hosts[0]}:${api.port}`;
    log(() => lineOf(Date.now(), 'info', 'serving', { text: url }));
    if (!logs)
      print(
        options.json
          ? { kind: 'serving', mqttPort, httpsPort: api.port, data: data.path }
          : `EVC serves devices at ${options.broker ?? `mqtts://${hosts[0]}:${mqttPort}`} and people at ${url}`,
      );
    manager.ready('serves devices and people', () => evc.store.nextTimer());
    await ended;
    manager.stopping('finishes what is under way');
    log(() => lineOf(Date.now(), 'info', 'stopping'));
    if (!options.json && !logs) print('EVC stops; what is under way is finished and stored first');
    const { finished, effects } = await evc.finish(finishing);
    log(() =>
      lineOf(Date.now(), finished ? 'info' : 'warn', 'stopped', { text: stoppedText(finished, effects) }),
    );
    if (options.json) print({ kind: 'stopped', at: Date.now(), finished, effects });
    else if (!logs) print(stoppedText(finished, effects));
    // What does not end now would keep the rest from ending; what was stored is safe.
    if (!finished) process.exit(exitCodes.failed);
    return exitCodes.done;
  } finally {
    manager.close();
    for (const close of closing.reverse()) await close();
  }

  async function openEvc(): Promise<{ evc: Evc } & Pick<Link, 'listen' | 'connect' | 'linked'>> {
    // Each needs the other: whatever arrives before EVC is open waits for it.
    let open: (evc: Evc) => void = () => {};
    const opened = new Promise<Evc>((resolve) => {
      open = resolve;
    });
    const onMessage = (topic: string, payload: Uint8Array) =>
      void opened.then((evc) => evc.receive(topic, payload));
    const source = sourceOf(pki);
    const { publish, listen, connect, linked, readers, enrolled } = await (options.broker === undefined
      ? ownBroker(onMessage, opened)
      : remoteBroker(options.broker, onMessage));
    const store = options.store ?? process.env.EVC_STORE;
    const spans = await openSpans('evc', process.env);
    // Last: what is told while EVC closes is sent, too.
    if (spans) closing.unshift(() => spans.close());
    const evc = await Evc.open({
      ...(spans ? { spans } : {}),
      data: data.path,
      clock: systemClock,
      publish,
      imageBase: () => `https://${hosts[0]}:${ports.https}`,
      verifierThreads: availableParallelism() - 1,
      store:
        store === undefined
          ? await openThreaded(data.file('evc.db'))
          : await withFirstAccount(await openStore(store)),
      watch: (step) => {
        stream.publish(step);
        if (step.event.type === 'device.registered') enrolled(step.device);
        const told = readers() > 0 ? announcement(step, source) : null;
        // Whoever is gone meanwhile is told nothing.
        if (told) publish(told.topic, told.payload).catch(() => undefined);
        log(() => stepLine(step));
        if (options.json) print({ kind: 'step', ...stepView(step) });
      },
      onRefused: refused,
      onShed: (shed) => {
        if (logs) log(() => shedLine(Date.now(), shed));
        else print(options.json ? { kind: 'shed', at: Date.now(), ...shed } : shedText(shed));
      },
    });
    closing.push(() => evc.close());
    open(evc);
    return { evc, listen, connect, linked };
  }

  async function ownBroker(onMessage: OnMessage, opened: Promise<Evc>): Promise<Link> {
    const broker = await Broker.start({
      now: () => systemClock.now(),
      onMessage,
      onLink: (device, online) => void opened.then((evc) => evc.link(device, online)),
      enrolled: async (device) => (await (await opened).store.get('device', device)) !== null,
      reader: async (user, token) => readerOf((await opened).tokens, systemClock, user, token),
      onRefused: (what, reason) => refused(what, reason, ''),
    });
    closing.push(() => broker.close());
    return {
      publish: (topic, bytes) => broker.publish(topic, bytes),
      readers: () => broker.readers,
      enrolled: (device) => broker.known(device),
      listen: async (key, certificate) => {
        const listener = await broker.listen({ host: options.host, port: ports.mqtt }, key, certificate);
        closing.push(() => listener.close());
        renewListener = listener.renew;
        return listener.port;
      },
      connect: async () => undefined,
      linked: () => true,
    };
  }

  function remoteBroker(url: string, onMessage: OnMessage): Link {
    let broker: RemoteBroker | null = null;
    let connectedNow = false;
    return {
      publish: async (topic, bytes) => {
        // What is to be sent stays stored until the broker is there.
        if (!broker) throw new Error('the broker is not connected yet');
        await broker.publish(topic, bytes);
      },
      // Who reads there is that broker's matter, and so is whom it lets in.
      readers: () => 0,
      enrolled: () => undefined,
      listen: async () => Number(new URL(url).port || defaultPorts.mqtt),
      connect: async () => {
        const { RemoteBroker: Remote } = await import('../../broker/remote.ts');
        const connected = await Remote.connect({
          url,
          ca: pki.root.toString(),
          username: controllerUser,
          password: data.brokerSecret(),
          onMessage,
          onState: (state) => {
            connectedNow = state;
            const level = state ? 'info' : 'warn';
            log(() => lineOf(Date.now(), level, 'broker', { text: state ? 'connected' : 'gone' }));
            if (options.json) print({ kind: 'broker', at: Date.now(), connected: state });
          },
        });
        broker = connected;
        closing.push(() => connected.close());
      },
      linked: () => connectedNow,
    };
  }

  function brokerLogin(): BrokerLogin {
    const logins = new LoginCheck({ now: () => systemClock.now() });
    return {
      secretHash: createHash('sha256').update(data.brokerSecret()).digest('hex'),
      check: async (device, password) => {
        const result = await logins.check(device, Buffer.from(password), null);
        return result.ok ? null : result.reason;
      },
    };
  }
}

function shedText({ putOff, dropped, byAccount }: Shed): string {
  const of = Object.entries(byAccount)
    .sort(([, a], [, b]) => b - a)
    .slice(0, 3)
    .map(([account, many]) => `${many} of ${account || 'nobody yet'}`)
    .join(', ');
  return `more comes than EVC can do: ${putOff} requests put off, ${dropped} dropped (${of}); devices come back by themselves`;
}

function stoppedText(finished: boolean, effects: number): string {
  if (!finished)
    return `EVC ends with work under way that did not end in ${finishing / 1000} s; what was stored is safe, and the next start goes on`;
  if (effects === 0) return 'EVC has stopped; nothing is left to do';
  return `EVC has stopped; ${effects === 1 ? '1 answer or push is' : `${effects} answers and pushes are`} left, which the next start does`;
}

type OnMessage = (topic: string, payload: Uint8Array) => void;

/** How messages come and go. */
interface Link {
  publish(topic: string, bytes: Uint8Array): Promise<void>;
  /** Who are told of events at the moment. */
  readers(): number;
  /** This device is none that nobody knows any more. */
  enrolled(device: string): void;
  /** Lets devices in; resolves with the port. */
  listen(key: string, certificate: string): Promise<number>;
  /** After the API is there, which a broker of somebody else's asks whether EVC may log in. */
  connect(): Promise<void>;
  /** Whether devices reach EVC. */
  linked(): boolean;
}

/** Resolves on SIGTERM, SIGINT, or, with a parent, when that is gone: its end of our standard input closes with it. */
function untilEnded(withParent: boolean): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      // Else it would keep this process from ending.
      process.stdin.pause();
      resolve();
    };
    let asked = false;
    const ask = () => {
      // Whoever asks twice does not want to wait; nothing that was stored is lost.
      if (asked) process.exit(130);
      asked = true;
      end();
    };
    process.on('SIGTERM', ask);
    process.on('SIGINT', ask);
    if (withParent) {
      process.stdin.resume();
      process.stdin.once('end', end);
      process.stdin.once('error', end);
    }
  });
}
