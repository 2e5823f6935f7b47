import type { EdgeDevConfig } from '../../formats/wire/eve_pb.ts';
import type { ConfigReply, configTask } from '../../machines/config-task.ts';
import type { BaseOsConfig, Config } from '../../machines/flow.ts';
import type { PortsOf } from '../component.ts';
import type { Node } from '../node.ts';
import { Refusal } from '../refusal.ts';

const checkpointFile = 'checkpoint/lastconfig';
const stagedFile = 'config.staged';
const appliedFile = 'config.applied';

export function configTaskPorts(node: Node): PortsOf<typeof configTask> {
  const { persist, run, tokens } = node;
  return {
    loadCheckpoint() {
      const config = persist.restore<Config>(checkpointFile);
      return { version: config?.version ?? 0, baseOs: config?.baseOs ?? null };
    },
    async requestConfig({ tokenHash, version }, signal): Promise<ConfigReply> {
      const evc = await node.evc();
      const token = tokenHash === null ? null : tokens.read(tokenHash);
      const answer = await forbiddenAsSuch(evc.requestConfig({ token, version }, signal));
      if (!answer) return { kind: 'unchanged', version, baseOs: null, why: null };
      const config = configOf(answer);
      run.checkpoint(stagedFile, config);
      const { problem } = answer;
      return {
        kind: config.partial ? 'partial' : 'full',
        version: config.version,
        baseOs: config.baseOs,
        why: problem ? { code: problem.code, text: problem.text } : null,
      };
    },
    applyConfig({ version, partial }) {
      const config = run.restore<Config>(stagedFile);
      if (config?.version !== version || config.partial !== partial) {
        throw new Refusal('config.gone', 'the configuration that EVC sent is not here any more');
      }
      // A partial one is no configuration to boot from: it holds nothing but the way out.
      if (!partial) persist.checkpoint(checkpointFile, config);
      run.checkpoint(appliedFile, config);
      return null;
    },
    applyCheckpoint() {
      const config = persist.restore<Config>(checkpointFile);
      if (!config) throw new Refusal('config.gone', 'there is no checkpointed configuration');
      run.checkpoint(appliedFile, config);
      return null;
    },
  };
}

/** The configuration in force; null before the first. */
export function appliedConfig(node: Pick<Node, 'run'>): Config | null {
  return node.run.restore<Config>(appliedFile);
}

/** Whatever reason EVC gives for 403, the chart has one word for it. */
async function forbiddenAsSuch<Value>(answer: Promise<Value>): Promise<Value> {
  try {
    return await answer;
  } catch (error) {
    if (!(error instanceof Refusal) || error.details?.status !== 403) throw error;
    throw new Refusal('config.forbidden', error.message, { details: { code: error.code }, cause: error });
  }
}

function configOf(config: EdgeDevConfig): Config {
  const version = Number(config.id?.version);
  if (!Number.isSafeInteger(version) || version < 0) {
    throw new Refusal('wire.malformed', 'the configuration bears no version');
  }
  return { version, partial: config.partial, baseOs: baseOsOf(config), settings: config.settings };
}

function baseOsOf({ baseos }: EdgeDevConfig): BaseOsConfig | null {
  if (!baseos?.activate) return null;
  return {
    version: baseos.baseOsVersion,
    url: baseos.url,
    sha256: Buffer.from(baseos.sha256).toString('hex'),
    size: Number(baseos.size),
    signature: Buffer.from(baseos.signature).toString('base64'),
    testWindow: baseos.testWindow,
    retryCounter: baseos.retryUpdate?.counter ?? 0,
  };
}
