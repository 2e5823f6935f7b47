// Who logs in at a provider and may do what, and the sessions of those who did.
import { backPath, callbackPath, type Login } from '../oidc/login.ts';
import type { Sessions } from '../oidc/sessions.ts';
import { type OidcSettingsStore, type OidcView, type OidcWish, unset } from '../oidc/settings.ts';
import { forgetSession } from './login.ts';
import type { Operations } from './operation.ts';
import { RequestError } from './problem.ts';
import { body, idParams, list, names, oidcRole, reasoned, ref, text } from './schemas.ts';

export interface OidcRoutes {
  oidc: OidcSettingsStore;
  login: Login;
  sessions: Sessions;
  ownUrl(): string;
}

export function serveOidc(api: Operations, { oidc, login, sessions, ownUrl }: OidcRoutes): void {
  const base = { tag: 'access', role: 'admin', reach: 'fleet' } as const;
  const path = '/api/v1/oidc';
  const shown = (view: OidcView) => ({
    ...view,
    redirectUri: `${view.publicUrl ?? ownUrl()}${callbackPath}`,
    logoutUri: `${view.publicUrl ?? ownUrl()}${backPath}`,
  });
  api.add({
    ...base,
    id: 'showOidc',
    method: 'GET',
    path,
    summary: 'Where people log in, and what they may do then',
    answer: ref('Oidc'),
    run: async () => {
      const view = await oidc.show();
      if (!view) throw unset();
      return shown(view);
    },
  });
  api.add<unknown, unknown, OidcWish>({
    ...base,
    id: 'setOidc',
    method: 'PUT',
    path,
    summary: 'Lets people log in at a provider of OpenID Connect; all sessions end',
    body: body(
      {
        issuer: { ...text(500), description: 'URL, as the provider names itself' },
        clientId: text(500),
        clientSecret: { ...text(2000), type: ['string', 'null'], default: null },
        roleClaim: { ...text(200), default: 'groups' },
        roles: {
          type: 'array',
          minItems: 1,
          maxItems: 100,
          items: oidcRole,
          description: 'the first that the claim has counts',
        },
        scopes: { ...names(100), maxItems: 20, default: ['profile', 'email'], description: 'besides openid' },
        hours: { type: 'integer', minimum: 1, maximum: 24, default: 8 },
        publicUrl: { ...text(500), type: ['string', 'null'], default: null },
      },
      ['issuer', 'clientId', 'roles'],
    ),
    answer: ref('Oidc'),
    run: async ({ body: wish, decision }) => shown(await login.set(wish, decision)),
  });
  api.add<unknown, unknown, { reason: string }>({
    ...base,
    id: 'removeOidc',
    method: 'POST',
    path: `${path}/remove`,
    summary: 'Lets nobody log in at a provider any more; all sessions end',
    body: reasoned,
    answer: ref('Oidc'),
    run: async ({ decision }) => shown(await login.remove(decision)),
  });
  api.add({
    ...base,
    id: 'listSessions',
    method: 'GET',
    path: '/api/v1/sessions',
    summary: 'Who is logged in',
    answer: list('sessions', ref('Session')),
    run: async () => ({ sessions: await sessions.list() }),
  });
  api.add<{ session: string }, unknown, { reason: string }>({
    ...base,
    id: 'endSession',
    method: 'POST',
    path: '/api/v1/sessions/:session/end',
    summary: 'Logs somebody out',
    params: idParams('session', 64),
    body: reasoned,
    answer: ref('Session'),
    run: ({ params, decision }) => sessions.end(params.session, decision),
  });
  api.add({
    ...base,
    id: 'logOut',
    method: 'POST',
    path: '/api/v1/logout',
    summary: 'Ends the session of this request, and says where the one at the provider is ended',
    role: 'viewer',
    reach: 'shared',
    // The address has an ID token in it.
    secret: true,
    answer: ref('LoggedOut'),
    run: async ({ caller, decision, request, reply }) => {
      if (request.headers.authorization !== undefined)
        throw new RequestError('session.none', 404, 'this was asked with a token, which is no session');
      const { session, provider } = await login.logOut(caller.id, decision, ownUrl());
      forgetSession(reply);
      return { ...session, provider };
    },
  });
}
