// The part of WebAssembly's JavaScript interface that is used here; TypeScript knows it in its `dom` library only,
// with which every file of the project would see a browser's globals.
// biome-ignore lint/style/noNamespace: the global it describes is one
declare namespace WebAssembly {
  class Module {
    constructor(bytes: Uint8Array);
    static imports(module: Module): { module: string; name: string; kind: string }[];
    private readonly module: never;
  }
  class Instance {
    constructor(module: Module, imports: Record<string, Record<string, (...args: never[]) => unknown>>);
    readonly exports: unknown;
  }
  class RuntimeError extends Error {}
  interface Memory {
    readonly buffer: ArrayBuffer;
    /** Adds pages of 64 KiB; every earlier `buffer` is detached. */
    grow(pages: number): number;
  }
  interface Global {
    value: number;
  }
}
