// `eve tpm serve`: the WebAssembly TPM behind sockets, for tpm2-tools and for QEMU.
import { resolve } from 'node:path';
import { type SocketProtocol, serveTpm } from '../tpm/serve.ts';
import { openWasmTpm } from '../tpm/transports/wasm.ts';
import { exitCodes, Failure } from './failure.ts';
import { untilEnded } from './run.ts';

export interface ServeTpmOptions {
  state?: string;
  protocol: string;
  host: string;
  port: string;
  json?: boolean;
  withParent?: boolean;
}

export async function serveTpmUntilEnded(options: ServeTpmOptions): Promise<void> {
  const protocol = options.protocol;
  if (protocol !== 'swtpm' && protocol !== 'mssim') {
    throw new Failure(`--protocol ${protocol}`, 'known: swtpm, mssim', exitCodes.usage);
  }
  const port = Number(options.port);
  if (!Number.isInteger(port) || port < 0 || port > 65534) {
    throw new Failure(`--port ${options.port}: no port`, 'any from 0 (a free one) to 65534', exitCodes.usage);
  }
  const tpm = await openWasmTpm(options.state === undefined ? {} : { stateFile: resolve(options.state) });
  try {
    const served = await serveTpm(tpm, {
      protocol: protocol satisfies SocketProtocol,
      host: options.host,
      port,
    });
    const where = `${protocol}:host=${options.host},port=${served.port}`;
    process.stdout.write(
      options.json
        ? `${JSON.stringify({ tcti: where, control: served.port + 1 })}\n`
        : `a TPM listens; use it with\n  export TPM2TOOLS_TCTI=${where}\n  tpm2 getrandom --hex 8\n`,
    );
    await Promise.race([served.closed, untilEnded(options)]);
    await served.close();
  } finally {
    await tpm.close();
  }
}
