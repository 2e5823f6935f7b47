// Where an upgrade stands.
import { noted, reportedFailure, windowClosed } from './replies.ts';
import { record } from './setup.ts';

export const software = record.createStateConfig({
  description: 'Where an upgrade stands.',
  initial: 'steady',
  on: {
    'upgrade.assigned': {
      target: '.upgrading',
      actions: [
        'takeUpgrade',
        { type: 'setTimer', params: ({ event }) => ({ timer: 'upgrade', at: event.upgrade.until }) },
        { type: 'push', params: { what: 'config' } },
      ],
    },
  },
  states: {
    steady: { description: 'No upgrade is under way.' },
    upgrading: {
      description: 'The window is open; the new image has not shown itself yet.',
      on: {
        'verdict.given': {
          guard: { type: 'grounds', params: { grounds: ['upgrade'] } },
          target: 'testing',
        },
        'info.received': {
          guard: 'reportsFailure',
          target: 'rolledBack',
          actions: [
            'takeInfo',
            'seen',
            { type: 'closeUpgrade', params: reportedFailure },
            { type: 'clearTimer', params: { timer: 'upgrade' } },
            { type: 'reply', params: noted },
          ],
        },
        'timer.due': {
          guard: { type: 'timerIs', params: { timer: 'upgrade' } },
          target: 'rolledBack',
          actions: { type: 'closeUpgrade', params: windowClosed },
        },
      },
    },
    testing: {
      description: 'The new image was approved; the device has to commit it.',
      on: {
        'info.received': [
          {
            guard: 'reportsCommit',
            target: 'committed',
            actions: [
              'takeInfo',
              'seen',
              'commitUpgrade',
              { type: 'clearTimer', params: { timer: 'upgrade' } },
              { type: 'reply', params: noted },
            ],
          },
          {
            guard: 'reportsFailure',
            target: 'rolledBack',
            actions: [
              'takeInfo',
              'seen',
              { type: 'closeUpgrade', params: reportedFailure },
              { type: 'clearTimer', params: { timer: 'upgrade' } },
              { type: 'reply', params: noted },
            ],
          },
        ],
        'verdict.given': {
          guard: { type: 'grounds', params: { grounds: ['baseline', 'allowed', 'fallback'] } },
          target: 'rolledBack',
          actions: [
            {
              type: 'closeUpgrade',
              params: { code: 'baseos.fell-back', text: 'the device runs the old image again' },
            },
            { type: 'clearTimer', params: { timer: 'upgrade' } },
          ],
        },
        'timer.due': {
          guard: { type: 'timerIs', params: { timer: 'upgrade' } },
          target: 'rolledBack',
          actions: { type: 'closeApproved', params: windowClosed },
        },
      },
    },
    committed: { description: 'The new image is the baseline.' },
    rolledBack: {
      description: 'The upgrade did not hold; the old baseline stands.',
      on: {
        // It was approved in time, committed, and out of reach when its window closed: nobody could roll it back.
        'info.received': {
          guard: 'reportsLateCommit',
          target: 'committed',
          actions: ['takeInfo', 'seen', 'commitLate', { type: 'reply', params: noted }],
        },
        'verdict.given': {
          guard: 'otherThanApproved',
          actions: 'dropCandidate',
        },
      },
    },
  },
});
