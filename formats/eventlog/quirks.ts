// Known faults of machines in the field, by name. A quirk never lowers the bar: with it, too, the events have to lead to
// the signed value.
import { EventType } from './types.ts';

/** Events that were extended after the log was taken away. */
export interface Quirk {
  readonly name: string;
  readonly pcr: number;
  readonly missing: readonly { readonly type: number; readonly data: Uint8Array }[];
}

const action = (text: string) => ({ type: EventType.EV_EFI_ACTION, data: new TextEncoder().encode(text) });

export const quirks: readonly Quirk[] = [
  {
    // Firmware without the Final Events Table, or a kernel that does not read it (Linux before 5.3): what
    // ExitBootServices measures comes after the loader has fetched the log.
    name: 'exit-boot-services-missing',
    pcr: 5,
    missing: [action('Exit Boot Services Invocation'), action('Exit Boot Services Returned with Success')],
  },
];
