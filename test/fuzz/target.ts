// What is fuzzed: bytes of a peer, and the errors that its reader may throw for them.

export interface Target {
  readonly name: string;
  /** True inputs, to start from. */
  seeds(): Uint8Array[];
  /** Reads the bytes as EVE or EVC would. Throws a declared error, or says by another one what must never be. */
  run(bytes: Uint8Array): void | Promise<void>;
  /** Names of the errors that the readers declare. */
  readonly declared: readonly string[];
}

/** What an input did wrong. */
export interface Fault {
  readonly what: 'undeclared error' | 'too slow' | 'too much memory';
  readonly detail: string;
}

/** Milliseconds for one input, and bytes that it may take for each megabyte and part of one. */
export const limits = { ms: 50, bytesPerMegabyte: 64 * 1024 * 1024 } as const;

/** Runs one input; what it threw counts if it was not declared. */
export async function runOnce(target: Target, bytes: Uint8Array): Promise<Fault | undefined> {
  const memory = process.memoryUsage();
  // CPU time: others on the machine are no fault of the input.
  const start = process.cpuUsage();
  try {
    await target.run(bytes);
  } catch (error) {
    const name = error instanceof Error ? error.name : typeof error;
    if (!target.declared.includes(name)) {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      return { what: 'undeclared error', detail: text };
    }
  }
  const { user, system } = process.cpuUsage(start);
  const ms = (user + system) / 1000;
  const after = process.memoryUsage();
  const grown = after.heapUsed + after.arrayBuffers - memory.heapUsed - memory.arrayBuffers;
  const allowed = limits.bytesPerMegabyte * Math.max(1, Math.ceil(bytes.length / (1024 * 1024)));
  if (grown > allowed) return { what: 'too much memory', detail: `${grown} bytes, ${allowed} allowed` };
  if (ms > limits.ms) return { what: 'too slow', detail: `${ms.toFixed(1)} ms` };
  return undefined;
}

/** A pause of the garbage collector or of the machine is no fault of an input: it has to be slow each time. */
export async function faultOf(target: Target, bytes: Uint8Array): Promise<Fault | undefined> {
  let fault: Fault | undefined;
  for (let attempt = 0; attempt < 4; attempt++) {
    fault = await runOnce(target, bytes);
    if (fault === undefined || fault.what === 'undeclared error') return fault;
    globalThis.gc?.();
  }
  return fault;
}
