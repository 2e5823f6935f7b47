// What a command was given to read and cannot use.
import type { Reason } from '../reasons.ts';

export const inputReasons = {
  'input.unreadable': {
    kind: 'request',
    severity: 'error',
    title: 'Unreadable input',
    text: 'The file or standard input cannot be read, or begins as gzip and is none.',
    remedy: 'Look at the path and the rights of the file.',
  },
  'input.too-large': {
    kind: 'request',
    severity: 'error',
    title: 'Input too large',
    text: 'The input has more bytes than any event log or quote, before or after it is unpacked.',
    remedy: 'Look whether it is the right file.',
  },
  'input.pcrs': {
    kind: 'request',
    severity: 'error',
    title: 'No PCR values',
    text: 'The input does not hold PCR values in a form that is known here.',
    remedy: 'Write them as {"sha256":{"0":"<hex>"}}, or as lines of a number and a value in hex.',
  },
  'input.quote': {
    kind: 'request',
    severity: 'error',
    title: 'No quote',
    text: 'The input is no quote, or lacks what belongs to one.',
    remedy:
      'Give JSON with attest, signature, nonce, pcrs and akPem, or the raw structures with their options.',
  },
  'input.key': {
    kind: 'request',
    severity: 'error',
    title: 'No key',
    text: 'The input is no attestation key in a form that is known here.',
    remedy: 'Give a TPM2B_PUBLIC or TPMT_PUBLIC as the TPM made it, a PEM, or a certificate.',
  },
  'input.nonce': {
    kind: 'request',
    severity: 'error',
    title: 'No nonce',
    text: 'The nonce is no bytes in hex.',
    remedy: 'Give what was sent to the device, in hex.',
  },
  'input.policy': {
    kind: 'request',
    severity: 'error',
    title: 'No policy',
    text: 'The input is no appraisal policy.',
    remedy: 'evc quote verify --help shows one.',
  },
  'input.selection': {
    kind: 'request',
    severity: 'error',
    title: 'No selection of PCRs',
    text: 'The selection names no PCRs of a bank that a quote is believed with.',
    remedy: 'Write it as sha256:0-7,14+sha384:0; SHA-1 vouches for nothing.',
  },
  'recording.none': {
    kind: 'request',
    severity: 'error',
    title: 'No recording',
    text: 'The file does not begin as a recording does.',
    remedy: 'Recordings are made by evc record, evc attempt show and eve run --record.',
  },
  'recording.newer': {
    kind: 'request',
    severity: 'error',
    title: 'Newer recording',
    text: 'A newer version of this program made the recording.',
    remedy: 'Read it with that version.',
  },
  'recording.malformed': {
    kind: 'request',
    severity: 'error',
    title: 'Broken recording',
    text: 'A line of the recording is not what a recorder writes; it is named.',
    remedy: 'It was changed since it was recorded: record it again.',
  },
  'recording.oversize': {
    kind: 'request',
    severity: 'error',
    title: 'Recording too large',
    text: 'A line of the recording is longer than any that a recorder writes, or there are too many.',
    remedy: 'Look at whether it is the right file.',
  },
  'recording.no-evidence': {
    kind: 'request',
    severity: 'error',
    title: 'No evidence in the recording',
    text: 'There is nothing in the recording that EVC judged, so nothing that can be judged again.',
    remedy: 'Take a recording of EVC: evc attempt show DEVICE ATTEMPT -o FILE.',
  },
  'output.failed': {
    kind: 'request',
    severity: 'error',
    title: 'File cannot be written',
    text: 'The file for the answer cannot be made, or takes no more.',
    remedy: 'Look at the path, the rights and the room on the disk.',
  },
} satisfies Record<string, Reason>;
