// The catalogue: the versions that EVC knows the measurements of, where it knows them from, and whether it has the file.
import { filterText } from '../../formats/filter/filter.ts';
import type { Image } from '../answers.ts';
import { el } from '../element.ts';
import { images as listImages } from '../evc.ts';
import { Rows } from '../rows.ts';
import { byteSize, dateTime, shorten, shortHash } from '../text.ts';
import type { Page, View } from '../view.ts';

const sources: Readonly<Record<string, string>> = {
  log: 'the log of a reference boot',
  files: 'the files of the image',
  manifest: 'a manifest',
};

export function imagesView(page: Page): View {
  let all: Image[] = [];
  let shown: Image[] = [];
  let trouble = 'asks EVC …';
  let drawn = '';
  const note = el('p.quiet.pad', { role: 'status' });
  const rows = new Rows({
    height: 34,
    label: 'images',
    row,
    choose: (index) => rows.show(shown.length, index),
    open: (index) => {
      const { version } = shown[index] as Image;
      page.go({ view: 'devices', filter: filterText([{ key: 'image', denied: false, values: [version] }]) });
    },
  });
  const head = el(
    'div.row.image-row.head',
    {},
    ['Version', 'File', 'Measurements', 'Known from', 'Added'].map((text) => el('span', {}, text)),
  );

  function row(index: number): HTMLElement {
    const { version, sha256, size, measurements, source, added } = shown[index] as Image;
    return el(
      'div.row.image-row',
      { title: `the devices that run ${version}` },
      el('b.name', {}, shorten(version, 64)),
      sha256 === ''
        ? el('span.quiet', {}, 'no file: not to be pushed')
        : el('span.file', { title: sha256 }, `${byteSize(size)} `, el('code.quiet', {}, shortHash(sha256))),
      el('span.measured', {}, String(measurements)),
      el(
        'span.source',
        {},
        sources[source.kind] ?? shorten(source.kind, 40),
        source.signer === undefined ? '' : ` signed by ${shorten(source.signer, 64)}`,
      ),
      el('span.quiet.added', {}, dateTime(added)),
    );
  }

  async function look(): Promise<void> {
    try {
      all = (await listImages()).sort((one, other) => other.added - one.added);
      trouble = all.length === 0 ? 'The catalogue is empty; evc image add puts an image into it.' : '';
    } catch (error) {
      trouble = (error as Error).message;
    }
    drawn = '';
    page.model.changed();
  }

  void look();
  return {
    element: el('section.view.images', {}, note, head, rows.element),
    update() {
      const state = `${page.search()} ${all.length} ${trouble}`;
      if (state === drawn) return;
      drawn = state;
      note.textContent = trouble;
      note.hidden = trouble === '';
      shown = all.filter(({ version, sha256, source }) =>
        `${version} ${sha256} ${source.kind} ${source.signer ?? ''}`.toLowerCase().includes(page.search()),
      );
      rows.show(shown.length);
    },
  };
}
