// Who is this device, and which TPM is it?
import type { Identity } from './events.ts';
import { unendorsedWhy } from './judgement.ts';
import { ok, refuse, registeredAgain, unknown } from './replies.ts';
import { record } from './setup.ts';

const otherTpm = {
  code: 'enrol.other-tpm',
  text: 'this device is enrolled with another TPM; a person has to allow its re-enrolment',
};

/** One TPM that answers for two devices is a relay, whoever of them has it. */
export const tpmTaken = { code: 'enrol.tpm-taken', text: 'another device is enrolled with this TPM' };

function namesOf({ ekName, akName }: Pick<Identity, 'ekName' | 'akName'>) {
  return { ekName, akName };
}

export const enrolment = record.createStateConfig({
  description: 'Who is this device, and which TPM is it?',
  initial: 'unknown',
  on: {
    'device.retired': { target: '.retired', actions: ['retire', 'seen'] },
    'uuid.requested': [
      { guard: 'inactive', actions: { type: 'reply', params: ({ event }) => unknown(event.request) } },
      {
        actions: {
          type: 'reply',
          params: ({ context, event }) => ok(event.request, { kind: 'uuid', uuid: context.uuid }),
        },
      },
    ],
    'certificate.received': [
      { guard: 'inactive', actions: { type: 'reply', params: ({ event }) => unknown(event.request) } },
      {
        guard: 'otherTpm',
        actions: [
          { type: 'noteRefusal', params: ({ event }) => ({ ...otherTpm, ...namesOf(event.identity) }) },
          { type: 'reply', params: ({ event }) => refuse(event.request, 'conflict', otherTpm) },
        ],
      },
      {
        guard: 'tpmTaken',
        actions: [
          { type: 'noteRefusal', params: ({ event }) => ({ ...tpmTaken, ...namesOf(event.identity) }) },
          { type: 'reply', params: ({ event }) => refuse(event.request, 'conflict', tpmTaken) },
        ],
      },
      {
        guard: 'unendorsed',
        actions: [
          {
            type: 'noteRefusal',
            params: ({ event }) => ({ ...unendorsedWhy(event.identity), ...namesOf(event.identity) }),
          },
          {
            type: 'reply',
            params: ({ event }) => refuse(event.request, 'forbidden', unendorsedWhy(event.identity)),
          },
        ],
      },
      {
        actions: [
          'takePending',
          {
            type: 'reply',
            params: ({ event }) => ok(event.request, { kind: 'certificate', challenge: event.challenge }),
          },
        ],
      },
    ],
    'certificate.refused': [
      { guard: 'inactive', actions: { type: 'reply', params: ({ event }) => unknown(event.request) } },
      {
        actions: [
          { type: 'noteRefusal', params: ({ event }) => ({ ...event.why, ...namesOf(event) }) },
          { type: 'reply', params: ({ event }) => refuse(event.request, event.status, event.why) },
        ],
      },
    ],
    'endorsement.judged': { actions: 'takeJudgement' },
    'proof.received': [
      { guard: 'inactive', actions: { type: 'reply', params: ({ event }) => unknown(event.request) } },
      {
        guard: 'proven',
        target: '.certified',
        actions: [
          'takeIdentity',
          {
            type: 'reply',
            params: ({ event }) => ok(event.request, { kind: 'certificate', challenge: null }),
          },
        ],
      },
      // The right proof and how many tries are left stay with us.
      {
        actions: [
          'countTry',
          {
            type: 'reply',
            params: ({ event }) =>
              refuse(event.request, 'forbidden', {
                code: 'enrol.proof-wrong',
                text: 'the attestation key is not proven to be in the TPM of the endorsement key',
              }),
          },
        ],
      },
    ],
    'reenrolment.allowed': { actions: 'allowReenrolment' },
  },
  states: {
    unknown: {
      description: 'No registration yet.',
      on: {
        'device.registered': {
          target: 'registered',
          actions: [
            'takeRegistration',
            'seen',
            { type: 'reply', params: ({ event }) => ok(event.request, { kind: 'registered' }) },
          ],
        },
      },
    },
    registered: {
      description: 'The device certificate is registered; its TPM is not proven yet.',
      on: { 'device.registered': { actions: { type: 'reply', params: registeredAgain } } },
    },
    certified: {
      description: 'The attestation key is proven to be in the endorsement key’s TPM.',
      on: { 'device.registered': { actions: { type: 'reply', params: registeredAgain } } },
    },
    retired: {
      description: 'Out of service, by the word of a person.',
      on: {
        'device.registered': {
          actions: {
            type: 'reply',
            params: ({ event }) =>
              refuse(event.request, 'forbidden', {
                code: 'enrol.retired',
                text: 'this device was taken out of service',
              }),
          },
        },
      },
    },
  },
});
