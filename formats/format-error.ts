/**
 * Bytes that do not follow their format. `path` names the field as the specification does
 * (`TPMS_ATTEST.attested.pcrDigest`), `offset` is where in the input the trouble starts, in bytes.
 * The message never repeats the bytes themselves: they may be secret.
 */
export class FormatError extends Error {
  readonly path: string;
  readonly offset: number;

  constructor(path: string, offset: number, reason: string, options?: ErrorOptions) {
    super(`${path} at byte ${offset}: ${reason}`, options);
    this.name = 'FormatError';
    this.path = path;
    this.offset = offset;
  }
}
