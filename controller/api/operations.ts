// All operations of the API.
import type { Evc } from '../evc.ts';
import { mostDevices } from '../rollout/rollouts.ts';
import { serveAccess } from './access.ts';
import { serveAccounts } from './accounts.ts';
import { serveCatalogue } from './catalogue.ts';
import { serveDevices } from './devices.ts';
import { serveEnrolment } from './enrolment.ts';
import { serveEscrow } from './escrow.ts';
import { serveOidc } from './oidc.ts';
import type { Operations } from './operation.ts';
import type { Guests } from './page.ts';
import { serveRecordings } from './recordings.ts';
import { serveRollouts } from './rollouts.ts';
import { type ServiceView, serveService } from './service.ts';
import type { StepStream } from './stream.ts';
import { serveTrials } from './trials.ts';
import { serveWebhooks } from './webhooks.ts';

export interface OperationsOptions {
  evc: Evc;
  stream: StepStream;
  guests: Guests;
  /** Where uploads wait until they become images. */
  uploads: string;
  service(): ServiceView;
  /** Where browsers reach EVC, as far as it knows: `https://HOST:PORT`. */
  ownUrl(): string;
}

export function addOperations(api: Operations, options: OperationsOptions): void {
  const { evc, stream, guests, uploads, service, ownUrl } = options;
  const {
    operator,
    store,
    runner,
    recorder,
    accounts,
    keys,
    endorsers,
    tokens,
    curator,
    rollouts,
    webhooks,
    trials,
    escrowExport,
  } = evc;
  const find = (words: string, of: readonly string[] | null) => operator.find(words, of);
  const now = () => evc.clock.now();
  serveService(api, { uploads, service, metrics: () => evc.metrics });
  serveDevices(api, operator);
  serveRecordings(api, { store, runner, recorder });
  stream.serve(api, find);
  guests.serve(api, now);
  serveTrials(api, trials);
  serveRollouts(api, rollouts, mostDevices);
  serveAccounts(api, accounts);
  serveEnrolment(api, { keys, endorsers, now });
  serveEscrow(api, { exporter: escrowExport, operator, store, runner });
  serveCatalogue(api, curator, uploads);
  serveWebhooks(api, webhooks);
  serveOidc(api, { oidc: evc.oidc, login: evc.login, sessions: evc.sessions, ownUrl });
  serveAccess(api, { tokens, store, now, find });
}
