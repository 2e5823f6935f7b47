// How `evc up` tells what happens: stories one after another although they happen at once, the first that is not over live.
import type { StoryStep } from '../../machines/story.ts';
import { painter, plain, type Style } from './print.ts';

export interface Ending {
  ok: boolean;
  text: string;
}

interface Chapter {
  title: string;
  lines: string[];
  ending: Ending | null;
}

export class Narrator {
  readonly #json: boolean;
  readonly #began = Date.now();
  readonly #chapters = new Map<string, Chapter>();
  readonly #order: string[] = [];
  readonly #paint = painter();
  #open = 0;
  #headed = false;

  constructor(json: boolean) {
    this.#json = json;
  }

  /** Opens the chapter of a story; chapters are told in this order. */
  begin(story: string, title: string): void {
    this.#chapters.set(story, { title, lines: [], ending: null });
    this.#order.push(story);
    if (this.#json) this.#print(JSON.stringify({ kind: 'story', story, title }));
    this.#tell();
  }

  step(story: string, step: StoryStep): void {
    if (this.#json) {
      this.#print(JSON.stringify({ kind: 'step', story, ...step }));
      return;
    }
    this.#line(story, this.#stepLine(step));
  }

  /** Something worth knowing that is no step. */
  note(story: string, text: string): void {
    if (this.#json) this.#print(JSON.stringify({ kind: 'note', story, text }));
    else this.#line(story, `${this.#time()}         ${this.#paint('dim', text)}`);
  }

  end(story: string, ending: Ending): void {
    if (this.#json) this.#print(JSON.stringify({ kind: 'end', story, ...ending }));
    const chapter = this.#chapters.get(story);
    if (!chapter) return;
    const style: Style = ending.ok ? 'green' : 'red';
    chapter.lines.push(
      `${this.#time()}  ${this.#paint(style, ending.ok ? '✓ as it must be' : '✗ NOT as it must be')}: ${plain(ending.text)}`,
    );
    chapter.ending = ending;
    this.#tell();
  }

  /** A line that belongs to no story, for people alone. */
  say(text: string): void {
    if (!this.#json) this.#print(text);
  }

  #line(story: string, text: string): void {
    this.#chapters.get(story)?.lines.push(text);
    this.#tell();
  }

  /** Prints what the open chapter has, and goes on to the next when it is over. */
  #tell(): void {
    if (this.#json) return;
    for (;;) {
      const chapter = this.#chapters.get(this.#order[this.#open] ?? '');
      if (!chapter) return;
      if (!this.#headed) this.#print(`\n${this.#paint('bold', chapter.title)}`);
      this.#headed = true;
      for (const line of chapter.lines.splice(0)) this.#print(line);
      if (!chapter.ending) return;
      this.#open++;
      this.#headed = false;
    }
  }

  #stepLine({ at, step, from, to, what, changed }: StoryStep): string {
    const who = `${from} → ${to === from ? 'itself' : to}`.padEnd(27);
    return `${this.#time(at)}  ${this.#paint('cyan', step.padEnd(6))} ${who} ${plain(what).padEnd(27)}  ${plain(changed)}`;
  }

  #time(at = Date.now()): string {
    return `${((at - this.#began) / 1000).toFixed(1).padStart(5)}s`;
  }

  #print(line: string): void {
    process.stdout.write(`${line}\n`);
  }
}
