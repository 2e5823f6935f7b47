/** A message that cannot be what it claims to be. `code` is one of machines/reasons.ts. */
export class WireError extends Error {
  readonly code:
    | 'wire.topic'
    | 'wire.frame'
    | 'wire.malformed'
    | 'wire.signature'
    | 'wire.binding'
    | 'wire.oversize'
    | 'wire.sender';
  constructor(code: WireError['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'WireError';
    this.code = code;
  }
}
