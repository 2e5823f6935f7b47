// A controller that answers everything at once and looks at nothing: what is left is the broker. Its own, or one elsewhere.
import { readFileSync } from 'node:fs';
import { Broker } from '../../../broker/broker.ts';
import { RemoteBroker } from '../../../broker/remote.ts';
import { DataFolder } from '../../../controller/options.ts';
import { encodeFrame } from '../../../formats/wire/frame.ts';

const [data = '', url = ''] = process.argv.slice(2);
const { server, root } = new DataFolder(data).pki();
/** As long as the answers of EVC are on the average. */
const answer = encodeFrame({
  kind: 'reply',
  status: 200,
  retryAfter: 0,
  patience: 0,
  container: new Uint8Array(400),
});
let publish: (topic: string, bytes: Uint8Array) => Promise<void> = () => Promise.resolve();
const onMessage = (topic: string) => void publish(topic.replace('/up/', '/down/'), answer);

if (url === '') {
  const broker = await Broker.start({ now: () => Date.now(), onMessage });
  publish = (topic, bytes) => broker.publish(topic, bytes);
  const key = server.key.export({ type: 'pkcs8', format: 'pem' }).toString();
  const { port } = await broker.listen({ host: '127.0.0.1', port: 0 }, key, server.certificate.toString());
  console.log(`listens at ${port}`);
} else {
  const broker = await RemoteBroker.connect({
    url,
    ca: root.toString(),
    username: 'evc',
    password: readFileSync(`${data}/token`, 'utf8').trim(),
    onMessage,
  });
  publish = (topic, bytes) => broker.publish(topic, bytes);
  console.log(`listens at ${new URL(url).port}`);
}
process.stdin.resume();
process.stdin.once('end', () => process.exit());
