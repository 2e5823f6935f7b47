// `evc serve`: EVC with its broker and its HTTPS server, until somebody ends it.
import { availableParallelism } from 'node:os';
import { Broker, type Listener } from '../../broker/broker.ts';
import { type ApiServer, startApi } from '../api/server.ts';
import { StepStream, stepView } from '../api/stream.ts';
import { systemClock } from '../clock.ts';
import { Evc } from '../evc.ts';
import { DataFolder, defaultPorts, portOf } from '../options.ts';
import { openStore } from '../store/open.ts';

export interface ServeOptions {
  data?: string;
  host: string;
  store?: string;
  mqttPort?: string;
  httpsPort?: string;
  json?: boolean;
  withParent?: boolean;
}

/** Resolves when it was ended in order, and everything is stored. */
export async function serve(options: ServeOptions): Promise<void> {
  const data = new DataFolder(options.data);
  const pki = data.pki();
  const hosts = data.hosts();
  const ports = {
    mqtt: portOf(options.mqttPort, defaultPorts.mqtt, '--mqtt-port'),
    https: portOf(options.httpsPort, defaultPorts.https, '--https-port'),
  };
  const ended = untilEnded(options.withParent ?? false);
  const print = (line: object | string) =>
    process.stdout.write(`${typeof line === 'string' ? line : JSON.stringify(line)}\n`);
  const stream = new StepStream();
  const closing: (() => Promise<unknown>)[] = [];
  try {
    const { broker, evc } = await openEvc();
    const key = pki.server.key.export({ type: 'pkcs8', format: 'pem' }).toString();
    const certificate = pki.server.certificate.toString();
    const listener: Listener = await broker.listen(
      { host: options.host, port: ports.mqtt },
      key,
      certificate,
    );
    closing.push(() => listener.close());
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
      service: () => ({ mqttPort: listener.port, httpsPort: api?.port ?? 0, hosts, since }),
    });
    closing.push(() => api.close());
    ports.https = api.port;
    data.announce({ pid: process.pid, mqttPort: listener.port, httpsPort: api.port, host: options.host });
    closing.push(async () => data.withdraw());
    print(
      options.json
        ? { kind: 'serving', mqttPort: listener.port, httpsPort: api.port, data: data.path }
        : `EVC serves devices at mqtts://${hosts[0]}:${listener.port} and people at https://${hosts[0]}:${api.port}`,
    );
    await ended;
    if (!options.json) print('EVC stops; what is under way is finished and stored first');
  } finally {
    for (const close of closing.reverse()) await close();
  }

  async function openEvc(): Promise<{ broker: Broker; evc: Evc }> {
    // Each needs the other: whatever arrives before EVC is open waits for it.
    let open: (evc: Evc) => void = () => {};
    const opened = new Promise<Evc>((resolve) => {
      open = resolve;
    });
    const broker = await Broker.start({
      now: () => systemClock.now(),
      onMessage: (topic, payload) => void opened.then((evc) => evc.receive(topic, payload)),
      onLink: (device, online) => void opened.then((evc) => evc.link(device, online)),
      onRefused: (what, reason) => {
        if (options.json) print({ kind: 'refused', at: Date.now(), what, code: reason });
      },
    });
    closing.push(() => broker.close());
    const store = options.store ?? process.env.EVC_STORE;
    const evc = await Evc.open({
      data: data.path,
      clock: systemClock,
      publish: (topic, bytes) => broker.publish(topic, bytes),
      imageBase: () => `https://${hosts[0]}:${ports.https}`,
      verifierThreads: availableParallelism() - 1,
      ...(store === undefined ? {} : { store: await openStore(store) }),
      watch: (step) => {
        stream.publish(step);
        if (options.json) print({ kind: 'step', ...stepView(step) });
      },
      onRefused: (what, code, text) => {
        if (options.json) print({ kind: 'refused', at: Date.now(), what, code, text });
      },
    });
    closing.push(() => evc.close());
    open(evc);
    return { broker, evc };
  }
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
