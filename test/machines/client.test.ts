import { suite } from 'uvu';
import { client } from '../../machines/client.ts';
import { testRules } from '../kit/chart-rules.ts';
import { Coverage } from '../kit/coverage.ts';

const test = suite('client');
const coverage = new Coverage(client);
const nobody = { device: 'd', serial: 's', uuid: null, certificates: false, registered: false };

testRules(test, client, {
  coverage,
  stimuli: {
    events: [{ type: 'link.up' }, { type: 'certificates.stale' }],
    answers: {
      loadIdentity: [
        nobody,
        { ...nobody, certificates: true },
        { ...nobody, certificates: true, registered: true },
        { ...nobody, certificates: true, registered: true, uuid: 'u' },
      ],
      fetchCertificates: [null],
      register: [null],
      fetchUuid: [{ uuid: 'u' }],
    },
    failures: {
      fetchCertificates: ['certs.untrusted'],
      register: ['enrol.unknown-key'],
      fetchUuid: ['enrol.unknown-device', 'wire.signature'],
    },
  },
  resting: {
    provisioned: 'there is nothing left to do until EVC changes its certificates',
  },
});

test.run();
