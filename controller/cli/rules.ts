// `evc signer` and `evc allow`: who may tell EVC what it knows, and what EVC lets pass.
import { readFileSync } from 'node:fs';
import { type Command, Option } from 'commander';
import type { Signer } from '../images/signers.ts';
import type { AllowRule } from '../verify/allow.ts';
import { exitCodes, Failure } from './failure.ts';
import { short, table } from './print.ts';
import { ask, type Common, remote } from './remote.ts';

export function signerCommands(signer: Command): void {
  remote(signer.command('add').argument('<name>'))
    .description('Lets a key sign what is imported.')
    .requiredOption('--key <file>', 'its public key or certificate, PEM')
    .requiredOption('--reason <text>', 'why; it is kept')
    .addOption(
      new Option('--for <kind>', 'what it may sign').choices(['images', 'firmware']).default('images'),
    )
    .option('--vendor <name>', 'whose firmware alone it may sign')
    .action((name: string, options: Common & { key: string; reason: string; for: string; vendor?: string }) =>
      ask(
        options,
        (api) => {
          const { reason, vendor } = options;
          const wish = { name, signs: options.for, key: readFileSync(options.key, 'utf8'), reason };
          return api.send<Signer>(
            'POST',
            '/api/v1/signers',
            vendor === undefined ? wish : { ...wish, vendor },
          );
        },
        ({ id, signs }) => `${name} may sign ${signs}: ${id}`,
      ),
    );

  remote(signer.command('list'))
    .description("Lists the keys, and EVC's own for others to add.")
    .action((options: Common) =>
      ask(
        options,
        (api) => api.get<{ own: { id: string; publicKey: string }; signers: Signer[] }>('/api/v1/signers'),
        ({ own, signers }) =>
          [
            table(
              ['NAME', 'SIGNS', 'VENDOR', 'KEY', 'WHY'],
              signers.map(({ name, signs, vendor, id, reason, removed }) => [
                name,
                removed ? 'nothing' : signs,
                vendor || '-',
                short(id),
                removed ? `removed: ${removed.reason}` : reason,
              ]),
            ),
            `\nThis EVC signs with ${own.id}:\n${own.publicKey.trim()}`,
          ].join('\n'),
      ),
    );

  remote(signer.command('remove').argument('<name>'))
    .description('Takes that right from a key; what it signed before stays.')
    .requiredOption('--reason <text>', 'why; it is kept')
    .action((name: string, options: Common & { reason: string }) =>
      ask(
        options,
        (api) =>
          api.send<Signer>('POST', `/api/v1/signers/${encodeURIComponent(name)}/remove`, {
            reason: options.reason,
          }),
        () => `${name} may sign nothing any more`,
      ),
    );
}

interface RuleOptions extends Common {
  pcr: string;
  event?: string;
  about?: string;
  slotAttributes?: boolean;
  digest?: string[];
  account?: string;
  removal?: boolean;
  reason: string;
}

export function allowCommands(allow: Command): void {
  remote(allow.command('add'))
    .description('Allows one thing to differ from the baseline.')
    .requiredOption('--pcr <number>', 'the PCR that it is measured into')
    .option('--event <type>', 'type of the event: EV_EFI_VARIABLE_BOOT, EV_EFI_ACTION, EV_IPL …')
    .option('--about <text>', 'name of the variable, words of the action or command, path of the file')
    .option('--slot-attributes', "EVE's slots in the partition table (PCR 5)")
    .option('--digest <sha256...>', 'exact digests: the one of the baseline, and those that it may become')
    .option('--account <name>', 'only for devices of this account')
    .option('--removal', 'the event may also be missing')
    .requiredOption('--reason <text>', 'why; it is kept, and shown with each event that it allows')
    .action((options: RuleOptions) =>
      ask(
        options,
        (api) => {
          const { account, removal, reason } = options;
          return api.send<AllowRule>('POST', '/api/v1/allow-rules', {
            pcr: Number(options.pcr),
            match: matchOf(options),
            reason,
            ...(account === undefined ? {} : { account }),
            ...(removal ? { removal } : {}),
          });
        },
        (rule) => `rule ${rule.id}: PCR ${rule.pcr}, ${matchText(rule)}`,
      ),
    );

  remote(allow.command('list'))
    .description('Lists the rules that hold.')
    .option('--account <name>', 'those that hold for this account')
    .action((options: Common & { account?: string }) =>
      ask(
        options,
        (api) => {
          const query =
            options.account === undefined ? '' : `?account=${encodeURIComponent(options.account)}`;
          return api.get<{ rules: AllowRule[] }>(`/api/v1/allow-rules${query}`);
        },
        ({ rules }) =>
          table(
            ['RULE', 'ACCOUNT', 'PCR', 'ALLOWS', 'BY', 'WHY'],
            rules.map((rule) => [
              rule.id,
              rule.account ?? 'all',
              `${rule.pcr}`,
              matchText(rule),
              rule.by,
              rule.reason,
            ]),
            120,
          ),
      ),
    );

  remote(allow.command('remove').argument('<rule>'))
    .description('Takes a rule back; devices that need it are untrusted when they attest next.')
    .requiredOption('--reason <text>', 'why; it is kept')
    .action((id: string, options: Common & { reason: string }) =>
      ask(
        options,
        (api) =>
          api.send<AllowRule>('POST', `/api/v1/allow-rules/${encodeURIComponent(id)}/remove`, {
            reason: options.reason,
          }),
        () => `rule ${id} allows nothing any more`,
      ),
    );
}

function matchOf({ event, about, slotAttributes, digest }: RuleOptions): AllowRule['match'] {
  const matches: AllowRule['match'][] = [
    ...(event === undefined && about === undefined
      ? []
      : [{ kind: 'event' as const, type: event ?? '', subject: about ?? '' }]),
    ...(slotAttributes ? [{ kind: 'slot-attributes' as const }] : []),
    ...(digest === undefined ? [] : [{ kind: 'digests' as const, sha256: digest }]),
  ];
  const [match, ...more] = matches;
  const half = (event === undefined) !== (about === undefined);
  if (!match || more.length > 0 || half)
    throw new Failure('a rule allows one thing', {
      hint: 'give --event with --about, or --slot-attributes, or --digest',
      exitCode: exitCodes.usage,
    });
  return match;
}

function matchText({ match, removal }: Pick<AllowRule, 'match' | 'removal'>): string {
  const gone = removal ? ', or gone' : '';
  switch (match.kind) {
    case 'event':
      return `${match.type} ${match.subject}${gone}`;
    case 'slot-attributes':
      return 'attributes of the slots';
    case 'digests':
      return `${match.sha256.map(short).join(', ')}${gone}`;
  }
}
