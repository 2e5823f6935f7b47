// The page: reads the address, opens what it names, and shows the view that it names.
import { el, put } from './element.ts';
import { type Guest, receiveGuests } from './guests.ts';
import { help } from './help.ts';
import { askForToken, cameBack, logOut, refusedLogin } from './login.ts';
import { Model, readLive, readTrack } from './model.ts';
import { playbar } from './playbar.ts';
import { denied, fileSource, guestsId, live, type Server, SourceError, token, whoServes } from './source.ts';
import { shorten, shortHash } from './text.ts';
import { Track } from './track.ts';
import type { Page, View, ViewName } from './view.ts';
import { devicesView } from './views/devices.ts';

/** Those that not everybody opens first are read when somebody opens them; they stand in the same file. */
const makers: Readonly<Record<ViewName, () => Promise<(page: Page) => View>>> = {
  devices: async () => devicesView,
  charts: async () => (await import('./views/charts.ts')).chartsView,
  sequence: async () => (await import('./views/sequence.ts')).sequenceView,
  timeline: async () => (await import('./views/timeline.ts')).timelineView,
  evidence: async () => (await import('./views/evidence.ts')).evidenceView,
  recordings: async () => (await import('./views/recordings.ts')).recordingsView,
  rollouts: async () => (await import('./views/rollouts.ts')).rolloutsView,
  images: async () => (await import('./views/images.ts')).imagesView,
  audit: async () => (await import('./views/audit.ts')).auditView,
  trials: async () => (await import('./views/trials.ts')).trialsView,
  accounts: async () => (await import('./views/accounts.ts')).accountsView,
  device: async () => (await import('./views/device.ts')).deviceView,
};
const names = Object.keys(makers) as ViewName[];
/** Views of what EVC keeps; the others show recordings. */
const ofFleet: ReadonlySet<ViewName> = new Set([
  'devices',
  'device',
  'rollouts',
  'images',
  'audit',
  'trials',
  'accounts',
]);
/** Those below which nothing is played. */
const still: ReadonlySet<ViewName> = new Set([...ofFleet, 'recordings']);
/** ms between two tries to get at a live recording again; doubles up to the second. */
const firstPause = 1000;
const longestPause = 15_000;

const model = new Model((work) => requestAnimationFrame(work));
let server: Server = { by: 'nobody' };
let view: View | null = null;
let viewName: ViewName | null = null;
/** Counts what was shown, so that a view that is still being read does not come over the one after it. */
let shows = 0;
let watching: AbortController | null = null;
let watched: string | null = null;
let state = '';

const nav = el('nav.views', { 'aria-label': 'views' });
const subject = el('button.subject', {
  title: 'choose a device (1)',
  onclick: () => page.go({ view: server.by === 'evc' ? 'devices' : 'recordings' }),
});
const search = el('input.search', {
  type: 'search',
  placeholder: 'search  /',
  'aria-label': 'search',
  spellcheck: false,
  oninput: () => model.changed(),
});
const theme = el(
  'button.tool',
  { title: 'light or dark (t)', 'aria-label': 'light or dark', onclick: otherTheme },
  '◐',
);
const helpButton = el('button.tool', { title: 'keys (?)', 'aria-label': 'keys', onclick: openHelp }, '?');
const leave = el(
  'button.tool.leave',
  { title: 'log out', 'aria-label': 'log out', hidden: true, onclick: () => void logOut(page.say) },
  '⏏',
);
const notice = el('div.notice', { role: 'alert', hidden: true });
const main = el('main');
const bar = playbar(model);

const page: Page = {
  model,
  get server() {
    return server;
  },
  address: new URLSearchParams(),
  go(fields) {
    const next = new URLSearchParams(page.address);
    for (const [name, value] of Object.entries(fields)) {
      if (value === null) next.delete(name);
      else next.set(name, value);
    }
    const text = `#${next}`;
    if (text === location.hash) return;
    // A step is no page of its own for the browser's back button, a view is.
    if ('view' in fields || 'device' in fields) location.hash = text;
    else {
      history.replaceState(null, '', text);
      read();
    }
  },
  openDevice(id) {
    if (id !== '')
      page.go({
        // What clients of Stately's inspector show has charts and nothing else.
        view: id === guestsId ? 'charts' : 'device',
        device: id,
        line: null,
        evidence: null,
        chart: null,
        accept: null,
        change: null,
        step: null,
      });
  },
  openTrack(track) {
    unwatch();
    model.show(track);
    page.go({ view: 'timeline', device: null, line: null, evidence: null, chart: null });
  },
  async openFiles(files) {
    for (const file of [...files].slice(0, 20)) {
      page.say(`reads ${shorten(file.name, 80)} …`);
      try {
        const track = await readTrack(fileSource(file), (done) =>
          page.say(`reads ${shorten(file.name, 80)}: ${Math.round((100 * done) / Math.max(1, file.size))} %`),
        );
        unwatch();
        model.show(track);
        page.say('');
        for (const note of track.notes) page.say(`${shorten(file.name, 80)}: ${note}`, 'trouble');
        page.go({
          view: files instanceof FileList && files.length > 1 ? 'recordings' : 'timeline',
          device: null,
          line: null,
          evidence: null,
          chart: null,
        });
      } catch (error) {
        page.say(
          `${shorten(file.name, 80)} was not opened: ${shorten((error as Error).message, 300)}`,
          'refused',
        );
      }
    }
    model.changed();
  },
  say(text, weight) {
    notice.hidden = text === '';
    notice.className = `notice ${weight ?? ''}`;
    put(
      notice,
      el('span', {}, text),
      el('button.close', { title: 'close', onclick: () => page.say('') }, '×'),
    );
  },
  search: () => search.value.trim().toLowerCase(),
};

function read(): void {
  const address = new URLSearchParams(location.hash.slice(1));
  const given = address.get('token');
  if (given !== null) {
    // It must not stay where it can be seen, copied or kept in the history.
    token.set(given);
    address.delete('token');
    history.replaceState(null, '', `#${address}`);
  }
  const refused = refusedLogin(address);
  if (refused !== null) page.say(refused, 'refused');
  page.address = address;
  const usual: ViewName = server.by === 'evc' ? 'devices' : server.by === 'eve' ? 'charts' : 'recordings';
  const wanted = names.find((name) => name === address.get('view')) ?? usual;
  watch();
  if (wanted !== viewName) void show(wanted);
  model.changed();
}

async function show(name: ViewName): Promise<void> {
  view?.close?.();
  view = null;
  viewName = name;
  search.hidden = name === 'devices' || name === 'device' || name === 'trials';
  put(
    nav,
    tabs().map((one) =>
      el(
        'button.view-tab',
        { 'aria-current': one === name ? 'page' : undefined, onclick: () => page.go({ view: one }) },
        one,
      ),
    ),
  );
  nav.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  const wanted = ++shows;
  const make = await makers[name]();
  if (wanted !== shows) return;
  view = make(page);
  put(main, view.element);
  model.changed();
}

function shownViews(): ViewName[] {
  return names.filter((one) => server.by === 'evc' || !ofFleet.has(one));
}

/** As they stand side by side: the device beside the devices, once one was chosen; it has a letter and no number. */
function tabs(): ViewName[] {
  const chosen = viewName === 'device' || (page.address.get('device') ?? guestsId) !== guestsId;
  return shownViews()
    .filter((one) => one !== 'device')
    .flatMap((one) => (one === 'devices' && chosen ? [one, 'device'] : [one]));
}

/** Follows what the address names, until it names something else. */
function watch(): void {
  const device = page.address.get('device');
  const wanted =
    server.by === 'evc'
      ? device
      : server.by === 'eve'
        ? (device ?? (model.track === null || watched !== null ? '' : null))
        : null;
  if (wanted === watched || wanted === null) return;
  unwatch();
  watched = wanted;
  if (wanted === null) return;
  watching = new AbortController();
  void keepWatching(wanted, watching.signal);
}

function unwatch(): void {
  watching?.abort();
  watching = null;
  watched = null;
}

async function keepWatching(device: string, signal: AbortSignal): Promise<void> {
  let pause = firstPause;
  while (!signal.aborted) {
    try {
      if (state !== 'lost') state = 'connects';
      if (server.by === 'nobody') return;
      const pieces = await live(server.by, device, signal);
      const name = device === '' ? server.name : device;
      await readLive(
        pieces,
        () => {
          const track = new Track(name, true);
          if (state === 'lost') page.say('');
          state = 'live';
          pause = firstPause;
          model.show(track);
          return track;
        },
        (track) => model.grown(track),
      );
      state = 'begins anew';
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof SourceError && error.status === 401) return;
      state = 'lost';
      page.say(`${(error as Error).message}; tries again`, 'trouble');
    }
    model.changed();
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(longestPause, pause * 2);
  }
}

/** Asks once who somebody is, and goes on. */
function askWho(): void {
  askForToken(server.by === 'evc' && server.logins, (given) => {
    if (!given)
      return page.say(
        'Without the token there is nothing to see but files that are dropped here.',
        'trouble',
      );
    unwatch();
    viewName = null;
    page.say('');
    return read();
  });
}

function openHelp(): void {
  const dialog = help(shownViews());
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

function otherTheme(): void {
  const other = document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark';
  document.documentElement.dataset.theme = other;
  localStorage.setItem('theme', other);
  model.changed();
}

function key(event: KeyboardEvent): void {
  const typing =
    (event.target instanceof HTMLInputElement && event.target.type !== 'range') ||
    event.target instanceof HTMLTextAreaElement;
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
  if (event.key === 'Escape' && typing) {
    search.value = '';
    search.blur();
    model.changed();
    return;
  }
  if (typing || event.target instanceof HTMLSelectElement) return;
  const onButton =
    event.target instanceof HTMLButtonElement ||
    (event.target instanceof HTMLElement && event.target.tagName === 'SUMMARY');
  const actions: Record<string, () => void> = {
    '/': () => search.focus(),
    '?': openHelp,
    t: otherTheme,
    r: () => void model.nextRefusal(),
    f: () => model.follow(),
    ArrowRight: () => {
      model.pause();
      model.step(1);
    },
    ArrowLeft: () => {
      model.pause();
      model.step(-1);
    },
  };
  if (!onButton) actions[' '] = () => (model.playing ? model.pause() : model.play());
  const number = names.indexOf(shownViews()[Number(event.key) - 1] as ViewName);
  if (server.by === 'evc') {
    actions.d = () => page.go({ view: 'device' });
    actions.a = () => page.go({ view: 'trials' });
    actions.c = () => page.go({ view: 'accounts' });
  }
  const taken = view?.key?.(event) ?? false;
  if (!taken) {
    const action =
      actions[event.key] ??
      (number >= 0 && /^\d$/.test(event.key) ? () => page.go({ view: names[number] as string }) : undefined);
    if (!action) return;
    action();
  }
  event.preventDefault();
}

function update(): void {
  view?.update();
  bar.update();
  if (viewName && still.has(viewName)) bar.element.hidden = true;
  const { track } = model;
  const stand = track?.stand(model.at);
  const { serial } = stand?.get('device-record')?.context ?? stand?.get('client')?.context ?? {};
  const what =
    (typeof serial === 'string' ? shorten(serial, 40) : '') ||
    (track
      ? track.live && /^[0-9a-f]{64}$/.test(track.name)
        ? shortHash(track.name)
        : shorten(track.name, 40)
      : 'no recording');
  put(
    subject,
    el(`span.dot.${track?.live ? (state === 'live' ? 'good' : 'warn') : 'file'}`),
    el('span.what', {}, what),
    track?.live && state !== 'live' && el('span.quiet', {}, ` ${state}`),
  );
}

function listen(): void {
  addEventListener('hashchange', read);
  addEventListener('keydown', key);
  addEventListener('dragover', (event) => {
    event.preventDefault();
    document.body.classList.add('dropping');
  });
  addEventListener('dragleave', (event) => {
    if (event.relatedTarget === null) document.body.classList.remove('dropping');
  });
  addEventListener('drop', (event) => {
    event.preventDefault();
    document.body.classList.remove('dropping');
    void page.openFiles(event.dataTransfer?.files ?? []);
  });
  addEventListener('error', (event) => page.say(`the page failed: ${event.message}`, 'refused'));
  addEventListener('unhandledrejection', (event) => {
    const { reason } = event as { reason: unknown };
    page.say(`the page failed: ${reason instanceof Error ? reason.message : 'unknown'}`, 'refused');
  });
}

async function start(): Promise<void> {
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const paint = () => {
    document.documentElement.dataset.theme =
      localStorage.getItem('theme') ?? (dark.matches ? 'dark' : 'light');
    model.changed();
  };
  dark.addEventListener('change', paint);
  paint();
  document.body.append(
    el(
      'header',
      {},
      el('a.brand', { href: '#', title: 'eve-attest inspector' }, 'eve', el('b', {}, 'attest')),
      subject,
      nav,
      search,
      theme,
      helpButton,
      leave,
    ),
    notice,
    main,
    bar.element,
  );
  model.onChange(update);
  listen();
  denied.ask = askWho;
  server = await whoServes();
  leave.hidden = server.by !== 'evc';
  cameBack();
  read();
  await receiveGuests(window, (guest: Guest) => {
    unwatch();
    const track = new Track(guest.name, true);
    model.show(track);
    page.go({ view: 'charts', device: null });
    guest.onLines((lines) => {
      track.add(lines);
      model.grown(track);
    });
  });
}

void start();
