import type { infoTask } from '../../machines/info-task.ts';
import type { PortsOf } from '../component.ts';
import type { Node } from '../node.ts';

export function infoTaskPorts(node: Node): PortsOf<typeof infoTask> {
  const { outbox, tokens } = node;
  return {
    loadPending: () => ({ pending: outbox.load() }),
    // On disk before it is sent, so that neither a dead link nor a cut of power loses it.
    async sendInfo({ key, body }, signal) {
      outbox.keep(key, body);
      const evc = await node.evc();
      await evc.sendInfo(key, body, signal);
      outbox.drop(key);
      return null;
    },
    async storeKey({ keyId, encryptedKey, tokenHash }, signal) {
      const evc = await node.evc();
      return evc.storeKey({ keyId, encryptedKey, token: tokens.read(tokenHash) }, signal);
    },
  };
}
