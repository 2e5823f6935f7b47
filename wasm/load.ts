// The compiled TPM: one module per process, as many instances as wanted.
import { readFileSync } from 'node:fs';

/** What the module exports; the C side is build/platform/platform.c. Pointers are offsets in `memory`. */
export interface TpmExports {
  readonly memory: WebAssembly.Memory;
  readonly __stack_pointer: WebAssembly.Global;
  tpm_command(): number;
  tpm_response(): number;
  tpm_nv(): number;
  tpm_nv_generation(): number;
  tpm_in_failure_mode(): number;
  tpm_manufacture(): number;
  tpm_adopt_nv(): void;
  tpm_power_on(): number;
  tpm_execute(size: number, locality: number, physicalPresence: number): number;
  tpm_hash_start(): void;
  tpm_hash_data(size: number): void;
  tpm_hash_end(): void;
  tpm_layout(index: number): number;
}

/** What the module imports from its host. */
export interface TpmImports {
  /** Fills `size` bytes at `pointer` with what seeds, keys and nonces are made of. */
  entropy(pointer: number, size: number): void;
  /** Fills them with numbers that blind a computation and reach no result. */
  blinding(pointer: number, size: number): void;
  /** Milliseconds since any epoch. */
  now(): number;
  /** Must throw: the TPM cannot go on. */
  fail(functionName: number, line: number, code: number): never;
}

let compiled: WebAssembly.Module | undefined;

/** Compiles tpm.wasm, once per process (about 4 ms). */
export function tpmModule(): WebAssembly.Module {
  compiled ??= new WebAssembly.Module(readFileSync(new URL('./tpm.wasm', import.meta.url)));
  return compiled;
}

/** A new instance with memory of its own: neither manufactured nor powered. */
export function instantiate(imports: TpmImports): TpmExports {
  return new WebAssembly.Instance(tpmModule(), { host: { ...imports } }).exports as TpmExports;
}
