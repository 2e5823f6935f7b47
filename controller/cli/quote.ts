// `evc quote`: quotes on files, without a running EVC.
import { Command } from 'commander';
import { explain } from '../../machines/reasons.ts';
import { type Appraisal, appraise } from '../verify/appraisal.ts';
import { defaultSelection, readPolicy } from './appraisal-policy.ts';
import { exitCodes } from './failure.ts';
import { findingLines, painter } from './print.ts';
import { type QuoteFiles, readQuoteFile } from './quote-file.ts';

interface Options extends QuoteFiles {
  pcrs?: string;
  policy?: string;
  json?: boolean;
}

export function quoteCommand(): Command {
  const command = new Command('quote').description('Checks quotes of TPMs.');
  command
    .command('verify')
    .argument('[file]', 'a quote, - for standard input', '-')
    .description('Says whether a quote is genuine, and whether the policy accepts it.')
    .option('--signature <file>', 'TPMT_SIGNATURE, where FILE is a raw TPMS_ATTEST')
    .option('--key <file>', 'attestation key: TPM2B_PUBLIC, TPMT_PUBLIC, PEM or certificate')
    .option('--nonce <hex>', 'what was asked for; of the JSON where it has one')
    .option('--any-nonce', 'does not ask when the quote was made')
    .option('--values <file>', 'the PCR values that the quote is of')
    .option(
      '--pcrs <selection>',
      `what has to be covered, as sha256:0-7,14+sha384:0 (default: ${defaultSelection})`,
    )
    .option('--log <file...>', 'the event logs of the boot, in order; they have to explain the values')
    .option('--policy <file>', 'an appraisal policy')
    .option('--last <file>', 'an earlier quote of this TPM: its counters may not run back')
    .option('--json', 'prints JSON')
    .addHelpText(
      'after',
      `
FILE is JSON with attest, signature, nonce and pcrs, and akPem or akPublic; or a raw TPMS_ATTEST, as of tpm2_quote -m.

A policy is JSON, each part of it optional:
  {"pcrs": "sha256:0-7", "values": {"sha256": {"7": "<hex>", "4": ["<hex>", "<hex>"]}},
   "log": true, "secureBoot": "on"}

Exit codes: 0 accepted; 1 refused; 2 unusable input.`,
    )
    .action((file: string, options: Options) => {
      const policy = readPolicy(options.policy, options.pcrs);
      const appraisal = appraise(readQuoteFile(file, options), policy);
      print(appraisal, options.json ?? false);
      process.exitCode = appraisal.accepted ? exitCodes.done : exitCodes.failed;
    });
  return command;
}

function print({ genuine, accepted, reasons, quote }: Appraisal, json: boolean): void {
  // What to do is said once for all reasons of a kind, after the last of them.
  const explained = reasons.map((reason, i) =>
    reasons.slice(i + 1).some(({ code }) => code === reason.code)
      ? reason
      : { ...reason, remedy: reason.remedy ?? explain(reason.code).remedy },
  );
  const facts = quote && {
    bank: quote.bank,
    pcrs: Object.fromEntries(
      [...quote.pcrs].map(([pcr, value]) => [String(pcr), Buffer.from(value).toString('hex')]),
    ),
    resetCount: quote.resetCount,
    restartCount: quote.restartCount,
    clock: String(quote.clock),
    safe: quote.safe,
    firmwareVersion: `0x${quote.firmwareVersion.toString(16).padStart(16, '0')}`,
  };
  if (json) {
    say(JSON.stringify({ genuine, accepted, reasons: explained, ...(facts ? { quote: facts } : {}) }));
    return;
  }
  const paint = painter();
  if (accepted) say(paint('green', '✓ accepted: a genuine quote of what the policy wants'));
  else if (genuine) say(paint('yellow', '✗ refused: genuine, and not what the policy wants'));
  else say(paint('red', '✗ refused: not genuine'));
  for (const line of findingLines(explained)) say(line);
  if (!facts) return;
  say(`  PCRs ${Object.keys(facts.pcrs).join(', ')} of ${facts.bank}`);
  const { resetCount, restartCount, clock, safe, firmwareVersion } = facts;
  say(`  reset ${resetCount}, restart ${restartCount}, ${clock} ms powered${safe ? '' : ' (not sure)'}`);
  say(`  TPM firmware ${firmwareVersion}`);
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
