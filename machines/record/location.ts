// Is it where it was locked to?
import { record } from './setup.ts';

export const location = record.createStateConfig({
  description: 'Is it where it was locked to?',
  initial: 'notLocked',
  on: {
    'account.changed': [
      { guard: 'accountUnlocks', target: '.notLocked', actions: ['takeAccount', 'forgetPlace'] },
      // Rule 4 starts anew where the device comes online for the first time.
      {
        guard: 'otherAccount',
        target: '.baselinePending',
        actions: ['takeAccount', 'forgetPlace'],
      },
      { target: '.deciding', actions: 'takeAccount' },
    ],
    'device.registered': { guard: 'registeringLocked', target: '.baselinePending' },
  },
  states: {
    notLocked: {
      description: 'Location-Lock is off, or the account is a manufacturing one.',
    },
    deciding: {
      description: 'Location-Lock was turned on, or changed.',
      always: [{ guard: 'placeKnown', target: 'locked' }, { target: 'baselinePending' }],
    },
    baselinePending: {
      description: 'The first trusted and vouched location becomes the locked one.',
      on: { 'verdict.given': { guard: 'fixed', target: 'locked', actions: 'lockPlace' } },
    },
    locked: {
      description: 'The device is where it was locked to.',
      on: { 'verdict.given': { guard: 'moved', target: 'umd' } },
    },
    umd: {
      description: 'Unknown movement detected: trusted software, in another place.',
      on: {
        'verdict.given': { guard: 'inPlace', target: 'locked' },
        // Another radius or policy says nothing about where the device is now.
        'account.changed': { guard: 'sameAccountLocks', actions: 'takeAccount' },
        'place.accepted': {
          guard: 'actsOnPlace',
          target: 'locked',
          actions: ['acceptPlace', { type: 'push', params: { what: 'attest' } }],
        },
      },
    },
  },
});
