// Who looks: a token that is typed in and kept by this tab, or a login at a provider, whose session no script can read.
import { explain } from '../machines/reasons.ts';
import { el } from './element.ts';
import { post, SourceError, token } from './source.ts';

/** Where the page was when it left for the provider, in this tab. */
const viewKey = 'evc-view';

/** Asks once, with a way to the provider where there is one. @param done whether a token was given */
export function askForToken(logins: boolean, done: (given: boolean) => void): void {
  if (document.querySelector('dialog.token')) return;
  token.forget();
  const input = el('input', { type: 'password', autocomplete: 'off', 'aria-label': 'token', required: true });
  const form = el(
    'form',
    { method: 'dialog' },
    logins && [
      el('h2', {}, 'Log in'),
      el('p.quiet', {}, 'With your account at the provider of this EVC, until the session runs out.'),
      el('button.primary.log-in', { type: 'button', onclick: () => leave('oidc/login') }, 'Log in'),
      el(
        'button.log-in-other',
        { type: 'button', onclick: () => leave('oidc/login?as=other') },
        'As somebody else',
      ),
    ],
    el('h2', {}, 'Token'),
    el(
      'p.quiet',
      {},
      'EVC wants a token: the administrator’s, which evc init printed, or one of evc token add. This tab keeps it until it is closed.',
    ),
    input,
    el(logins ? 'button' : 'button.primary', {}, 'Go on'),
  );
  const dialog = el(
    'dialog.token',
    {
      onclose: () => {
        dialog.remove();
        const given = input.value.trim();
        if (given !== '') token.set(given);
        done(given !== '');
      },
    },
    form,
  );
  document.body.append(dialog);
  dialog.showModal();
}

/** Back where the page was when it left. */
export function cameBack(): void {
  const view = sessionStorage.getItem(viewKey);
  sessionStorage.removeItem(viewKey);
  const now = new URLSearchParams(location.hash.slice(1));
  const refused = now.get('refused');
  now.delete('refused');
  if (view === null || now.size > 0) return;
  const then = new URLSearchParams(view.slice(1));
  if (refused !== null) then.set('refused', refused);
  history.replaceState(null, '', `#${then}`);
}

/** What a login was refused for, taken out of the address; null where it was not. */
export function refusedLogin(address: URLSearchParams): string | null {
  const code = address.get('refused');
  if (code === null) return null;
  address.delete('refused');
  history.replaceState(null, '', `#${address}`);
  const { title, text, remedy, kind } = explain(code);
  // Anybody can write an address: only what EVC may have said is shown.
  return kind === 'request' ? `Not logged in: ${title}. ${text} ${remedy} [${code}]` : null;
}

/** Forgets the token, or ends the session, here and at the provider where it lets people log out; nothing of what was seen stays. */
export async function logOut(say: (text: string, weight?: 'refused' | 'trouble') => void): Promise<void> {
  let provider: string | null = null;
  try {
    if (token.get() === '') ({ provider } = await post<{ provider: string | null }>('api/v1/logout', {}, {}));
  } catch (error) {
    // Whoever is let in no more is logged out.
    if (!(error instanceof SourceError && error.status === 401)) {
      say(`not logged out: ${(error as Error).message}`, 'trouble');
      return;
    }
  }
  token.forget();
  // The address has an ID token in it, and nobody goes back to it.
  if (provider === null) location.reload();
  else location.replace(provider);
}

function leave(to: string): void {
  sessionStorage.setItem(viewKey, location.hash);
  location.assign(to);
}
