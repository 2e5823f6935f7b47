// Is it connected, and what does it report?
import { noted, unknown } from './replies.ts';
import { record } from './setup.ts';

export const link = record.createStateConfig({
  description: 'Is it connected?',
  initial: 'offline',
  on: {
    // Reports that decide nothing elsewhere end here.
    'info.received': [
      { guard: 'inactive', actions: { type: 'reply', params: ({ event }) => unknown(event.request) } },
      { guard: 'decidesUpgrade' },
      { actions: ['takeInfo', 'seen', { type: 'reply', params: noted }] },
    ],
  },
  states: {
    offline: {
      description: 'Not connected.',
      on: {
        'link.changed': { guard: 'online', target: 'online', actions: 'seen' },
        // It connected before it was anybody.
        'device.registered': { target: 'online' },
      },
    },
    online: {
      description: 'Connected.',
      on: { 'link.changed': { guard: 'offline', target: 'offline', actions: 'seen' } },
    },
  },
});
