// Lays charts out beside the page, so that it never stands still. Where no worker may run, since the page was opened as a file,
// the same script runs in the page.
import ELK from 'elkjs/lib/elk.bundled.js';
import { layoutChart } from './chart/layout.ts';

const elk = new (ELK as unknown as new () => { layout: Parameters<typeof layoutChart>[0]['layout'] })();
const scope = globalThis as unknown as {
  document?: unknown;
  layoutOf?: (definition: object) => ReturnType<typeof layoutChart>;
  postMessage(message: unknown): void;
  onmessage: ((event: { data: { id: number; definition: object } }) => void) | null;
};

if (scope.document === undefined) {
  scope.onmessage = ({ data: { id, definition } }) => {
    layoutChart(elk, definition).then(
      (layout) => scope.postMessage({ id, layout }),
      (error: Error) => scope.postMessage({ id, error: error.message }),
    );
  };
} else scope.layoutOf = (definition) => layoutChart(elk, definition);
