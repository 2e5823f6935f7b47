// The transitions of a chart as a table, in Markdown: what a picture shows, for those who search and for those who cannot see it.
import { type Chart, eventText, type State, type Transition } from './model.ts';

/** States in their order, each with its sentence and what leads away from it. */
export function chartTable(chart: Chart): string {
  const rows = statesOf(chart.root).flatMap((state) => {
    const leaving = chart.transitions.filter(({ from }) => from === state.id);
    return [stateRow(chart, state), ...leaving.map((transition) => transitionRow(chart, transition))];
  });
  return ['| State | Event | If | Goes to | Does |', '|---|---|---|---|---|', ...rows].join('\n');
}

/** `none.starting`: where a state is, below the chart. */
export function pathOf(chart: Chart, id: string): string {
  const names: string[] = [];
  for (
    let at: string | null = id;
    at !== null && at !== chart.root.id;
    at = chart.states.get(at)?.parent ?? null
  )
    names.unshift(chart.states.get(at)?.name ?? at);
  return names.length === 0 ? chart.root.name : names.join('.');
}

function stateRow(chart: Chart, state: State): string {
  const asks = state.lines.map(([word, text]) => `${word} \`${text}\``).join(', ');
  return row([
    `**${pathOf(chart, state.id)}**`,
    '',
    '',
    '',
    [state.description, asks].filter(Boolean).join(' '),
  ]);
}

function transitionRow(chart: Chart, { events, guard, to, actions, reenter }: Transition): string {
  const target = to === null ? 'stays' : `${pathOf(chart, to)}${reenter && to !== null ? ' (anew)' : ''}`;
  return row(['', code(eventText(events)), code(guard), target, actions.map(code).join(', ')]);
}

function row(cells: readonly string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`;
}

function code(text: string): string {
  return text === '' ? '' : `\`${text.replaceAll('`', '’')}\``;
}

function statesOf(state: State): State[] {
  return [state, ...state.children.flatMap(statesOf)];
}
