// Recordings: files that were dropped, attempts that EVC keeps, and two of them side by side.
import type { Line } from '../../formats/recording/format.ts';
import type { AttemptRow } from '../answers.ts';
import { comparePairs, type Pair } from '../compare.ts';
import { diff } from '../details.ts';
import { el, put } from '../element.ts';
import { readTrack } from '../model.ts';
import { Rows } from '../rows.ts';
import { attempt as fetchAttempt, attempts as listAttempts } from '../source.ts';
import { dateTime, eventText, shorten, shortHash, stateText } from '../text.ts';
import type { Track } from '../track.ts';
import type { Page, View } from '../view.ts';

export function recordingsView(page: Page): View {
  const { model } = page;
  const picked: Track[] = [];
  let kept: AttemptRow[] = [];
  let asked = '';
  let pairs: Pair[] = [];
  let compared = '';
  const input = el('input', {
    type: 'file',
    multiple: true,
    hidden: true,
    accept: '.jsonl,.gz',
    onchange: () => {
      void page.openFiles(input.files ?? []);
      input.value = '';
    },
  });
  const drop = el(
    'button.drop',
    { onclick: () => input.click() },
    el('b', {}, 'Drop recordings here'),
    el('span.quiet', {}, 'or choose files: .jsonl or .jsonl.gz. They are read by this page and go nowhere.'),
  );
  const files = el('div.cards');
  const attemptsBox = el('div.cards');
  const compareBox = el('div.compare');
  const compareNote = el('p.quiet', { role: 'status' });
  const rows = new Rows({ height: 28, label: 'steps of both', row, choose: pick });
  const difference = el('div.panel');

  function card(track: Track): HTMLElement {
    const bad = track.refusals.filter((index) => track.refusal(index)?.weight === 'refused').length;
    const chosen = picked.includes(track);
    return el(
      `div.card${track === model.track ? '.current' : ''}`,
      {},
      el('b.name', { title: track.name }, shorten(track.name, 60)),
      el(
        'span.quiet',
        {},
        `${shortHash(track.header?.device ?? '')} · ${track.lines.length} lines · ${dateTime(track.header?.made ?? 0)}`,
      ),
      track.header?.about && el('span', {}, shorten(track.header.about, 80)),
      bad > 0
        ? el('span.bad', {}, `✗ ${bad} ${bad === 1 ? 'refusal' : 'refusals'}`)
        : el('span.good', {}, '✓ nothing refused'),
      track.notes.map((note) => el('span.warn', {}, `! ${note}`)),
      el(
        'div.buttons',
        {},
        el('button', { onclick: () => page.openTrack(track) }, 'Look at it'),
        el(
          'button',
          { 'aria-pressed': String(chosen), onclick: () => choose(track) },
          chosen ? 'Chosen' : 'Compare',
        ),
      ),
    );
  }

  function attemptCard(device: string, one: AttemptRow): HTMLElement {
    const good = one.outcome.startsWith('trusted');
    return el(
      'div.card',
      {},
      el('b', {}, `Attempt ${one.attempt}`),
      el('span.quiet', {}, `${dateTime(one.begun)} · ${one.steps} steps`),
      el(
        `span.${one.outcome === '' ? 'quiet' : good ? 'good' : 'bad'}`,
        {},
        one.outcome === '' ? 'no verdict' : `${good ? '✓' : '✗'} ${one.outcome}`,
      ),
      el(
        'div.buttons',
        {},
        el(
          'button',
          { onclick: () => guarded(async () => page.openTrack(await opened(device, one))) },
          'Look at it',
        ),
        el('button', { onclick: () => guarded(() => save(device, one)) }, 'Download'),
        el('button', { onclick: () => guarded(async () => choose(await opened(device, one))) }, 'Compare'),
      ),
    );
  }

  async function opened(device: string, one: AttemptRow): Promise<Track> {
    const source = await fetchAttempt(device, one.attempt);
    const known = model.opened.find(({ name }) => name === source.name);
    const track = known ?? (await readTrack(source));
    if (!known) model.opened.push(track);
    return track;
  }

  async function save(device: string, one: AttemptRow): Promise<void> {
    const source = await fetchAttempt(device, one.attempt);
    const parts: string[] = [];
    for await (const piece of source.pieces) parts.push(piece);
    const link = el('a', {
      href: URL.createObjectURL(new Blob(parts, { type: 'application/x-ndjson' })),
      download: source.name,
    });
    link.click();
    URL.revokeObjectURL(link.href);
  }

  function guarded(work: () => Promise<void>): void {
    work().catch((error: Error) => page.say(error.message, 'trouble'));
  }

  function choose(track: Track): void {
    const at = picked.indexOf(track);
    if (at >= 0) picked.splice(at, 1);
    else picked.push(track);
    if (picked.length > 2) picked.shift();
    model.changed();
  }

  function row(index: number): HTMLElement {
    const { left, right, same } = pairs[index] as Pair;
    return el(
      `div.row.pair-row.${same ? 'same' : 'other'}`,
      {},
      el('span.mark', {}, same ? '' : '≠'),
      side(picked[0], left, 'minus'),
      side(picked[1], right, 'plus'),
    );
  }

  function side(track: Track | undefined, index: number, tone: string): HTMLElement {
    const line = track?.lines[index];
    if (!track || !line || !('value' in line)) return el('span.quiet', {}, '');
    const cause = track.lines[track.cause(index)] as Line | undefined;
    const event = cause?.kind === 'event' ? eventText(cause.event.type) : 'starts';
    return el(
      `span.side.${tone}`,
      {},
      el('span.component', {}, shorten(line.component, 18)),
      el('b', {}, shorten(event, 40)),
      el('span.quiet', {}, shorten(stateText(line.value), 80)),
    );
  }

  function pick(index: number): void {
    const [a, b] = picked;
    const pair = pairs[index];
    if (!a || !b || !pair) return;
    const contextOf = (track: Track, line: number) => {
      const one = track.lines[line];
      return one && 'component' in one ? (track.stand(line).get(one.component)?.context ?? {}) : {};
    };
    rows.show(pairs.length, index);
    put(
      difference,
      el('h3', {}, 'Contexts after this step'),
      diff(pair.left < 0 ? {} : contextOf(a, pair.left), pair.right < 0 ? {} : contextOf(b, pair.right)),
    );
  }

  function comparison(): void {
    const [a, b] = picked;
    compareBox.hidden = !a || !b;
    const key = `${a?.name}\n${b?.name}`;
    if (!a || !b || compared === key) return;
    compared = key;
    pairs = comparePairs(a, b);
    const first = pairs.findIndex(({ same }) => !same);
    const count = pairs.filter(({ same }) => !same).length;
    compareNote.textContent =
      first < 0
        ? `All ${pairs.length} steps are the same.`
        : `${count} of ${pairs.length} steps differ; the first is step ${first + 1}.`;
    put(titles, el('span'), el('b.minus', {}, shorten(a.name, 50)), el('b.plus', {}, shorten(b.name, 50)));
    rows.show(pairs.length, first, true);
    if (first >= 0) pick(first);
  }

  const titles = el('div.pair-row.head');
  compareBox.append(
    el('h2', {}, 'Compared'),
    compareNote,
    el('div.split', {}, el('div.pairs', {}, titles, rows.element), el('aside.detail.open', {}, difference)),
  );
  const ofDevice = el('div', {}, el('h2', {}, 'Attempts that EVC keeps'), attemptsBox);
  const ofFiles = el('div', {}, el('h2', {}, 'Opened here'), files);
  return {
    element: el('section.view.recordings', {}, drop, input, ofFiles, ofDevice, compareBox),
    update() {
      const device = page.address.get('device') ?? '';
      if (page.server.by === 'evc' && device !== asked) {
        asked = device;
        kept = [];
        if (device !== '')
          guarded(async () => {
            kept = await listAttempts(device);
            model.changed();
          });
      }
      ofFiles.hidden = model.opened.length === 0;
      put(files, model.opened.map(card));
      ofDevice.hidden = kept.length === 0;
      put(
        attemptsBox,
        kept.map((one) => attemptCard(device, one)),
      );
      comparison();
    },
  };
}
