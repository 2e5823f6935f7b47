// Answers that were asked for before the page's script was there, by the small script in front of it (first.ts). Each is taken
// once; what nobody took for a while is too old.

type Here = typeof globalThis & { ahead?: Map<string, Promise<Response>> };

/** ms */
const fresh = 5000;
const here = globalThis as Here;
here.ahead ??= new Map();
const answers = here.ahead;

/** @param path as it will be asked for */
export function putAhead(path: string, answer: Promise<Response>): void {
  // Whoever takes it is told of its failure.
  answer.catch(() => undefined);
  answers.set(path, answer);
  setTimeout(() => answers.delete(path), fresh);
}

/** undefined where nobody has asked for it yet. */
export function takeAhead(path: string): Promise<Response> | undefined {
  const answer = answers.get(path);
  answers.delete(path);
  return answer;
}
