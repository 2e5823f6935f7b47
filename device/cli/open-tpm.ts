import type { TpmSpec } from '../options.ts';
import type { PoweredTpm } from '../tpm/powered.ts';
import { openSwtpm } from '../tpm/transports/swtpm.ts';
import { openWasmTpm } from '../tpm/transports/wasm.ts';

/** Opens the TPM of a board; nothing has started it up yet. */
export function openTpm(spec: TpmSpec): Promise<PoweredTpm> {
  return spec.kind === 'wasm'
    ? openWasmTpm({ stateFile: spec.file, startup: false })
    : openSwtpm(spec.host, spec.port);
}
