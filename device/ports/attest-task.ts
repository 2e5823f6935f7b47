import { createHash } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import { AttestGPSInput, AttestVersionType, ClaimsSchema } from '../../formats/wire/eve_pb.ts';
import type { attestTask, QuoteReply } from '../../machines/attest-task.ts';
import type { PortsOf } from '../component.ts';
import type { Node } from '../node.ts';
import { Refusal } from '../refusal.ts';
import { bodyOf } from '../wiring.ts';

const certifiedFile = 'status/certified';
/** Logs that EVC had with a quote that it accepted. */
const seenLogsFile = 'status/seen-logs';

export function attestTaskPorts(node: Node): PortsOf<typeof attestTask> {
  const { bus, persist, run, tokens, boot } = node;
  return {
    async sendCertificate({ name }, signal) {
      const cert = bodyOf('tpm-manager/EdgeNodeCert', bus.latest('tpm-manager/EdgeNodeCert'));
      if (cert?.name !== name)
        throw new Refusal('attest.no-certificate', 'the TPM manager took its certificate back');
      const evc = await node.evc();
      const reply = await evc.sendCertificate(cert, signal);
      if (!reply.challenge) persist.checkpoint(certifiedFile, { name });
      return reply;
    },
    async sendProof({ challenge, proof }, signal) {
      const evc = await node.evc();
      await evc.sendProof(challenge, proof, signal);
      const cert = bodyOf('tpm-manager/EdgeNodeCert', bus.latest('tpm-manager/EdgeNodeCert'));
      if (cert) persist.checkpoint(certifiedFile, { name: cert.name });
      return null;
    },
    async requestNonce(_, signal) {
      const evc = await node.evc();
      return evc.requestNonce(signal);
    },
    async makeClaims({ nonce }) {
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
        reply = await send(persist.restore<{ seen: string[] }>(seenLogsFile)?.seen ?? []);
      } catch (error) {
        if (!(error instanceof Refusal) || error.code !== 'evidence.log.unknown') throw error;
        persist.forget(seenLogsFile);
        reply = await send([]);
      }
      if (reply.code === 'noCertFound') persist.forget(certifiedFile);
      // Whoever accepts a quote keeps the log that explains it.
      if (reply.code === 'success')
        persist.checkpoint(seenLogsFile, { seen: logs.map(({ sha256 }) => sha256) });
      return reply;
    },
  };
}

/** Name of the attestation key that EVC has proven, hex; null when it has not. */
export function certifiedName(node: Node): string | null {
  return node.persist.restore<{ name: string }>(certifiedFile)?.name ?? null;
}

function claimsFile(tokenHash: string): string {
  return `claims/${tokenHash}`;
}
