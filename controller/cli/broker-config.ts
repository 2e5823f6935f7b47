// `evc broker config`: what a broker that is not ours needs to serve EVC and its devices.
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { downFilter, everyTopic, upFilterOf } from '../../formats/wire/topics.ts';
import { controllerUser } from '../api/broker-login.ts';
import { DataFolder } from '../options.ts';
import { loadPki } from '../pki.ts';

interface Options {
  out: string;
  login?: string;
  plugin: string;
  port: string;
  data?: string;
}

export function brokerCommand(): Command {
  const command = new Command('broker').description('Brokers that are not EVC’s own.');
  command
    .command('config')
    .argument('<broker>', 'mosquitto')
    .description('Writes the configuration of a broker: TLS, logins by EVC, topics of each device.')
    .requiredOption('--out <dir>', 'folder for mosquitto.conf and what belongs to it')
    .option('--login <url>', 'where EVC answers for logins (default: https://HOST:8443/broker/login)')
    .option('--plugin <file>', 'the plug-in, made by npm run build:mosquitto', '/usr/lib/evc-login.so')
    .option('--port <number>', 'where devices connect', '8883')
    .option('--data <dir>', 'EVC’s data folder')
    .addHelpText(
      'after',
      `
Start the broker with the folder's mosquitto.conf, and each controller with evc serve --broker mqtts://HOST:PORT.
EMQX and HiveMQ: an HTTP login that posts {"username","password"} to the same address with the header
Authorization: Bearer (the text of the file secret), where 204 means yes; and the topics of the file acl.`,
    )
    .action((broker: string, options: Options, self: Command) => {
      if (broker !== 'mosquitto') self.error(`no configuration for ${broker}; known: mosquitto`);
      const out = writeMosquitto(options);
      process.stdout.write(`${out}/mosquitto.conf is ready: mosquitto -c ${out}/mosquitto.conf\n`);
    });
  return command;
}

function writeMosquitto({ out, login, plugin, port, data }: Options): string {
  const folder = new DataFolder(data);
  folder.check();
  const path = resolve(out);
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const pki = loadPki(folder.file('pki'));
  const write = (name: string, text: string) => writeFileSync(join(path, name), text, { mode: 0o600 });
  copyFileSync(folder.file('pki/root.cert.pem'), join(path, 'root.pem'));
  write('server.pem', pki.server.certificate.toString());
  write('server.key', pki.server.key.export({ type: 'pkcs8', format: 'pem' }).toString());
  write('secret', `${folder.brokerSecret()}\n`);
  write(
    'acl',
    [
      `user ${controllerUser}`,
      `topic readwrite ${everyTopic}`,
      '',
      // %u is the user name, which the login proves to be the device id.
      `pattern write ${upFilterOf('%u')}`,
      `pattern read ${downFilter('%u')}`,
      '',
    ].join('\n'),
  );
  const url = login ?? `https://${folder.hosts()[0]}:8443/broker/login`;
  const lines = [
    `# Made by evc broker config mosquitto.`,
    `listener ${port}`,
    `certfile ${join(path, 'server.pem')}`,
    `keyfile ${join(path, 'server.key')}`,
    'tls_version tlsv1.3',
    'allow_anonymous false',
    `acl_file ${join(path, 'acl')}`,
    `plugin ${existsSync(plugin) ? resolve(plugin) : plugin}`,
    `plugin_opt_url ${url}`,
    `plugin_opt_root ${join(path, 'root.pem')}`,
    `plugin_opt_secret_file ${join(path, 'secret')}`,
    '# As EVC’s own broker has it: nothing is retained, messages are bounded, slow readers are cut.',
    'retain_available false',
    'max_packet_size 655360',
    'max_queued_messages 1000',
    'max_queued_bytes 8388608',
    'set_tcp_nodelay true',
    'persistence false',
  ];
  write('mosquitto.conf', `${lines.join('\n')}\n`);
  return path;
}
