// The charts as documents: a picture and a table each, made from the charts themselves.
import { createRequire } from 'node:module';
import type { ELK } from 'elkjs/lib/elk-api.js';
import { definitionOf } from '../../formats/recording/definition.ts';
import { drawChart } from '../../inspector/chart/draw.ts';
import { layoutChart } from '../../inspector/chart/layout.ts';
import { chartTable } from '../../inspector/chart/table.ts';
import { charts } from '../../machines/charts.ts';

const Elk = createRequire(import.meta.url)('elkjs/lib/elk.bundled.js') as new () => ELK;

/** Text by file name, as it belongs into this folder. */
export async function chartDocuments(): Promise<Map<string, string>> {
  const elk = new Elk();
  const files = new Map<string, string>();
  const rows: string[] = [];
  for (const chart of charts.values()) {
    const name = fileOf(chart.id);
    const layout = await layoutChart(elk, definitionOf(chart));
    const { root, states, transitions } = layout.chart;
    files.set(`${name}.svg`, drawChart(layout));
    files.set(
      `${name}.md`,
      `# ${chart.id}\n\n${root.description}\n\n![The chart](${name}.svg)\n\n${chartTable(layout.chart)}\n`,
    );
    rows.push(
      `| [${chart.id}](${name}.md) | ${root.description} | ${states.size - 1} | ${transitions.length} |`,
    );
  }
  files.set('README.md', index(rows));
  return files;
}

function index(rows: readonly string[]): string {
  return `# The charts

Drawn from the charts in \`machines/\` by \`npm run docs:charts\`; a test checks that they are current. A dot leads to where a
state begins, dashed boxes are active together, and *any* stands for every state of its box. A label is the event, its
condition in brackets, and what is done; \`done\`, \`fails\` and \`elapsed\` are the answer of a port, its failure, and the end of
a wait.

| Chart | What it does | States | Transitions |
|---|---|---:|---:|
${rows.join('\n')}
`;
}

/** `attestTask` is in `attest-task`, as its source is. */
function fileOf(id: string): string {
  return id.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
