// The evidence of an attempt as EVC judged it: its PCRs against the baseline, the events that moved, what was found.
import type { Line } from '../../formats/recording/format.ts';
import type { Finding } from '../../machines/flow.ts';
import type { AttemptRow } from '../answers.ts';
import { bootLog, type LogEntry } from '../boot-log.ts';
import { bytesOf, facts, findingList } from '../details.ts';
import { el, put } from '../element.ts';
import { readTrack } from '../model.ts';
import { Rows } from '../rows.ts';
import { attempt as fetchAttempt, attempts as listAttempts } from '../source.ts';
import { dateTime, shorten, shortHash } from '../text.ts';
import type { Track } from '../track.ts';
import type { Page, View } from '../view.ts';

type Evidence = Extract<Line, { kind: 'evidence' }>;
interface Verdict {
  accepted?: boolean;
  genuine?: boolean;
  grounds?: string | null;
  findings?: Finding[];
  pcrs?: Record<string, string>;
  versions?: { image?: string; firmware?: string } | null;
}

export function evidenceView(page: Page): View {
  const { model } = page;
  const choice = el('div.attempts', { role: 'listbox', 'aria-label': 'attempts' });
  const verdictBox = el('div.verdict');
  const pcrTable = el('div.pcrs');
  const findings = el('div.findings');
  const logNote = el('p.quiet.pad', { role: 'status' });
  const onlyChanged = el(
    'button.chip',
    {
      'aria-pressed': 'false',
      onclick: () => {
        toggled = !toggled;
        onlyChanged.setAttribute('aria-pressed', String(toggled));
        list();
      },
    },
    'only what moved',
  );
  const rows = new Rows({ height: 26, label: 'event log', row });
  let toggled = false;
  let all: LogEntry[] = [];
  let shown: LogEntry[] = [];
  let kept: AttemptRow[] = [];
  let asked = '';
  let shownId = '';
  const loaded = new Map<string, { evidence: Evidence; blobs: Track['blobs'] }>();

  function row(index: number): HTMLElement {
    const { index: number, pcr, type, digest, text, change } = shown[index] as LogEntry;
    const marks = { same: '', none: '', added: '+', removed: '−' };
    return el(
      `div.row.event-row.${change}`,
      { title: `${digest}\n${text.slice(0, 1000)}` },
      el('span.mark', {}, marks[change]),
      el('span.quiet', {}, change === 'removed' ? '' : `#${number}`),
      el('span.pcr', {}, `PCR ${pcr}`),
      el('span.type', {}, type.replace(/^EV_/, '')),
      el('code', {}, digest.slice(0, 12)),
      el('span.what', {}, shorten(text, 300)),
    );
  }

  function list(): void {
    shown = all.filter(
      (entry) =>
        (!toggled || entry.change === 'added' || entry.change === 'removed') &&
        `pcr ${entry.pcr} ${entry.type} ${entry.text} ${entry.digest}`.toLowerCase().includes(page.search()),
    );
    rows.show(shown.length, -1);
  }

  async function load(id: string): Promise<void> {
    const { track } = model;
    const index = track?.evidence.find((one) => (track.lines[one] as Evidence).attempt === id);
    const here = index === undefined ? null : (track?.lines[index] as Evidence);
    if (track && here?.bytes !== undefined) loaded.set(id, { evidence: here, blobs: track.blobs });
    const device = page.address.get('device');
    const row = kept.find(({ evidence }) => evidence === id);
    if (!loaded.has(id) && device && row) {
      const whole = await readTrack(await fetchAttempt(device, row.attempt));
      const line = whole.lines[whole.evidence.at(-1) ?? -1] as Evidence | undefined;
      if (line) loaded.set(id, { evidence: line, blobs: whole.blobs });
    }
    if (!loaded.has(id) && track && here) loaded.set(id, { evidence: here, blobs: track.blobs });
    if (shownId === id) await show(id);
  }

  async function show(id: string): Promise<void> {
    const found = loaded.get(id);
    if (!found) return;
    const { evidence, blobs } = found;
    const verdict = evidence.verdict as Verdict;
    summary(evidence, verdict);
    pcrs(evidence, verdict);
    all = [];
    try {
      all = await bootLog(evidence, bytesOf, (sha256) => blobs.get(sha256));
      const moved = all.filter(({ change }) => change === 'added' || change === 'removed').length;
      logNote.textContent = all.some(({ change }) => change !== 'none')
        ? `${all.length} events, ${moved} of them other than in the baseline`
        : `${all.length} events; no log of a baseline to compare with`;
    } catch (error) {
      logNote.textContent = `The event log cannot be shown: ${(error as Error).message}`;
    }
    list();
    const first = shown.findIndex(({ change }) => change === 'added' || change === 'removed');
    rows.intoView(first);
  }

  function summary(
    evidence: Evidence,
    { accepted, genuine, grounds, findings: found = [], versions }: Verdict,
  ): void {
    put(
      verdictBox,
      el(
        `div.stamp.${accepted ? 'good' : 'bad'}`,
        {},
        el('span.mark', {}, accepted ? '✓' : '✗'),
        el(
          'div',
          {},
          el('h2', {}, accepted ? `Trusted${grounds ? `: ${grounds}` : ''}` : 'Refused'),
          el(
            'p.quiet',
            {},
            genuine
              ? 'The evidence is genuine: fresh, of this TPM, and its log explains it.'
              : 'The evidence is not genuine.',
          ),
        ),
      ),
      facts([
        ['judged', dateTime(evidence.judged)],
        ['image', versions?.image ?? null],
        ['firmware', versions?.firmware ?? null],
        ['attempt', el('code', {}, shortHash(evidence.attempt))],
      ]),
    );
    put(
      findings,
      el(
        'h3',
        {},
        found.length === 0
          ? 'Nothing was found'
          : `${found.length} ${found.length === 1 ? 'finding' : 'findings'}`,
      ),
      findingList(found, !accepted),
    );
  }

  function pcrs(evidence: Evidence, { pcrs: quoted = {} }: Verdict): void {
    const { software } = evidence.basis as {
      software?: { baseline?: { pcrs?: Record<string, string> } | null };
    };
    const baseline = software?.baseline?.pcrs;
    const numbers = [...new Set([...Object.keys(quoted), ...Object.keys(baseline ?? {})])]
      .map(Number)
      .filter((n) => n >= 0 && n < 24)
      .sort((a, b) => a - b);
    put(
      pcrTable,
      el('h3', {}, 'PCRs, SHA-256'),
      el(
        'table',
        {},
        el(
          'thead',
          {},
          el(
            'tr',
            {},
            ['PCR', '', 'quoted', 'baseline'].map((text) => el('th', {}, text)),
          ),
        ),
        el(
          'tbody',
          {},
          numbers.map((number) => {
            const seen = quoted[number] ?? '';
            const allowed = baseline?.[number] ?? '';
            const zero = /^0*$/.test(seen);
            const differs = baseline !== undefined && seen !== allowed;
            return el(
              `tr${differs ? '.differs' : ''}${zero ? '.zero' : ''}`,
              {},
              el('td', {}, String(number)),
              el(
                'td.mark',
                { title: differs ? 'differs from the baseline' : '' },
                differs ? '≠' : baseline ? '=' : '',
              ),
              el('td', {}, el('code', { title: seen }, shortHash(seen, 8))),
              el('td', {}, el('code', { title: allowed }, differs ? shortHash(allowed, 8) : '')),
            );
          }),
        ),
      ),
    );
  }

  function options(): void {
    const { track } = model;
    const here = (track?.evidence ?? []).map((index) => track?.lines[index] as Evidence);
    const known = new Map<string, { at: number; text: string; accepted: boolean }>();
    for (const { evidence, ended, outcome, attempt } of kept)
      if (evidence !== '')
        known.set(evidence, {
          at: ended,
          text: `attempt ${attempt}`,
          accepted: outcome.startsWith('trusted'),
        });
    for (const { attempt, judged, verdict } of here)
      known.set(attempt, {
        at: judged,
        text: known.get(attempt)?.text ?? 'attempt',
        accepted: (verdict as Verdict).accepted === true,
      });
    const sorted = [...known].sort(([, a], [, b]) => b.at - a.at).slice(0, 50);
    const wanted = page.address.get('evidence');
    const before =
      track && !model.following ? track.evidence.filter((index) => index <= model.at).at(-1) : undefined;
    const current =
      before === undefined ? undefined : (track?.lines[before] as Evidence | undefined)?.attempt;
    const upTo = sorted.find(([id]) => id === (wanted ?? current)) ?? sorted[0];
    put(
      choice,
      sorted.map(([id, { at, text, accepted }]) =>
        el(
          `button.attempt.${accepted ? 'good' : 'bad'}`,
          {
            role: 'option',
            'aria-selected': String(id === upTo?.[0]),
            onclick: () => page.go({ evidence: id }),
          },
          el('span.mark', {}, accepted ? '✓' : '✗'),
          el('span', {}, text),
          el('span.quiet', {}, dateTime(at)),
        ),
      ),
      sorted.length === 0 &&
        el(
          'p.quiet.pad',
          {},
          'No evidence was judged in this recording. Recordings of EVC have it; those of a device do not.',
        ),
    );
    body.hidden = sorted.length === 0;
    if (upTo && upTo[0] !== shownId) {
      shownId = upTo[0];
      load(shownId).catch((error: Error) => page.say(error.message, 'trouble'));
    }
  }

  const body = el(
    'div.evidence-body',
    {},
    el('div.column', {}, verdictBox, pcrTable),
    el(
      'div.column.wide',
      {},
      findings,
      el('div.log', {}, el('div.chips', {}, el('h3', {}, 'Event log'), onlyChanged, logNote), rows.element),
    ),
  );
  return {
    element: el('section.view.evidence', {}, choice, body),
    update() {
      const device = page.address.get('device') ?? '';
      const newest = `${device}/${model.track?.evidence.length ?? 0}`;
      if (page.server.by === 'evc' && device !== '' && asked !== newest) {
        asked = newest;
        listAttempts(device)
          .then((rowsOfDevice) => {
            kept = rowsOfDevice;
            model.changed();
          })
          .catch((error: Error) => page.say(error.message, 'trouble'));
      }
      options();
      list();
    },
  };
}
