import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { create, toBinary } from '@bufbuild/protobuf';
import { AttestGPSInput, AttestVersionType, ClaimsSchema } from '../../formats/wire/eve_pb.ts';
import type { attestTask, QuoteReply } from '../../machines/attest-task.ts';
import type { PortsOf } from '../component.ts';
import type { Node } from '../node.ts';
import { Refusal } from '../refusal.ts';
import type { StateFolder } from '../state.ts';
import { bodyOf } from '../wiring.ts';

// Hints, both: without them EVC is sent more than it needs. A disk that fails must not cost what EVC answered, which it does not
// answer twice.
const certifiedFile = 'status/certified';
/** Logs that EVC had with a quote that it accepted. */
const seenLogsFile = 'status/seen-logs';
const claimsFolder = 'claims';

export function attestTaskPorts(node: Node): PortsOf<typeof attestTask> {
  const { bus, persist, run, tokens, boot } = node;
  return {
    async sendCertificate({ name }, signal) {
      const cert = bodyOf('tpm-manager/EdgeNodeCert', bus.latest('tpm-manager/EdgeNodeCert'));
      if (cert?.name !== name)
        throw new Refusal('attest.no-certificate', 'the TPM manager took its certificate back');
      const evc = await node.evc();
      const reply = await evc.sendCertificate(cert, signal);
      if (!reply.challenge) remember(persist, certifiedFile, { name });
      return reply;
    },
    async sendProof({ challenge, proof }, signal) {
      const evc = await node.evc();
      await evc.sendProof(challenge, proof, signal);
      const cert = bodyOf('tpm-manager/EdgeNodeCert', bus.latest('tpm-manager/EdgeNodeCert'));
      if (cert) remember(persist, certifiedFile, { name: cert.name });
      return null;
    },
    async requestNonce(_, signal) {
      const evc = await node.evc();
      return evc.requestNonce(signal);
    },
    async makeClaims({ nonce }) {
      // Those of attempts before: a quote is sent with the claims of its own alone.
      rmSync(run.file(claimsFolder), { recursive: true, force: true });
      const tokenHash = tokens.make();
      const location = await node.locate();
      const claims = toBinary(
        ClaimsSchema,
        create(ClaimsSchema, {
          versions: [
            { versionType: AttestVersionType.EVE, version: boot.versions.image },
            { versionType: AttestVersionType.FIRMWARE, version: boot.versions.firmware },
          ],
          location: location
            ? { gpsInput: AttestGPSInput.ATTEST_GPS_INPUT_PRESENT, ...location, at: BigInt(location.at) }
            : { gpsInput: AttestGPSInput.ATTEST_GPS_INPUT_ABSENT },
          tokenHash: Buffer.from(tokenHash, 'hex'),
        }),
      );
      run.write(claimsFile(tokenHash), claims);
      const qualifyingData = createHash('sha256')
        .update(Buffer.from(nonce, 'hex'))
        .update(claims)
        .digest('hex');
      return { tokenHash, qualifyingData };
    },
    async sendQuote({ nonce, tokenHash }, signal) {
      const quote = bodyOf('tpm-manager/AttestQuote', bus.latest('tpm-manager/AttestQuote'));
      const claims = run.read(claimsFile(tokenHash));
      if (!quote || 'error' in quote || quote.nonce !== nonce || !claims) {
        throw new Refusal('attest.no-quote', 'the quote of this attempt is not here any more');
      }
      const evc = await node.evc();
      const { versions, logs } = boot;
      const send = (seen: readonly string[]) =>
        evc.sendQuote({ quote, claims, versions, logs, seen }, signal);
      let reply: QuoteReply;
      try {
        reply = await send(recall<{ seen: string[] }>(persist, seenLogsFile)?.seen ?? []);
      } catch (error) {
        if (!(error instanceof Refusal) || error.code !== 'evidence.log.unknown') throw error;
        forget(persist, seenLogsFile);
        reply = await send([]);
      }
      if (reply.code === 'noCertFound') forget(persist, certifiedFile);
      // Whoever accepts a quote keeps the log that explains it.
      if (reply.code === 'success') {
        remember(persist, seenLogsFile, { seen: logs.map(({ sha256 }) => sha256) });
        try {
          tokens.confirm(tokenHash);
        } catch {
          // It is there until the next attempt, which makes another.
        }
      }
      return reply;
    },
  };
}

/** Name of the attestation key that EVC has proven, hex; null when it has not. */
export function certifiedName(node: Node): string | null {
  return recall<{ name: string }>(node.persist, certifiedFile)?.name ?? null;
}

function recall<Value>(persist: StateFolder, name: string): Value | null {
  try {
    return persist.restore<Value>(name);
  } catch {
    return null;
  }
}

function remember(persist: StateFolder, name: string, value: object): void {
  if (isDeepStrictEqual(recall(persist, name), value)) return;
  try {
    persist.checkpoint(name, value);
  } catch {
    // The next answer is kept instead.
  }
}

function forget(persist: StateFolder, name: string): void {
  try {
    persist.forget(name);
  } catch {
    // EVC refuses it again, and is sent the rest again.
  }
}

function claimsFile(tokenHash: string): string {
  return `${claimsFolder}/${tokenHash}`;
}
