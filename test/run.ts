// Runs each test file in a process of its own, two at a time, with a deadline per file.
// Closes the gaps of uvu: a file with no test, a test that never ends and a leaked handle all fail here.
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const defaultDeadline = 60_000;

interface FileResult {
  file: string;
  passed: number;
  failed: number;
  ms: number;
  output: string;
  problem?: string;
}

/** A file may ask for more time in its first lines: `// deadline: 180 s`. */
function deadlineOf(file: string): number {
  const head = readFileSync(join(root, file), 'utf8').slice(0, 400);
  const asked = /^\/\/ deadline: (\d+) s$/m.exec(head);
  return asked ? Number(asked[1]) * 1000 : defaultDeadline;
}

function runFile(file: string): Promise<FileResult> {
  return new Promise((resolve) => {
    const started = performance.now();
    const child = spawn(
      process.execPath,
      ['--import', 'tsx', '--import', join(root, 'test/kit/leaks.ts'), join(root, file)],
      {
        cwd: root,
        env: { ...process.env, NO_COLOR: '1', EVE_ATTEST_TEST: '1' },
        stdio: ['ignore', 'pipe', 'pipe'],
        detached: true,
      },
    );
    let output = '';
    let problem: string | undefined;
    const collect = (chunk: Buffer) => {
      if (output.length < 200_000) output += chunk;
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    const deadline = deadlineOf(file);
    const timer = setTimeout(() => {
      problem = `still running after ${deadline / 1000} s, killed`;
      // The whole group: a test may have started servers.
      process.kill(-(child.pid as number), 'SIGKILL');
    }, deadline);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const total = Number(/^ {2}Total: +(\d+)$/m.exec(output)?.[1] ?? 0);
      const passed = Number(/^ {2}Passed: +(\d+)$/m.exec(output)?.[1] ?? 0);
      const skipped = Number(/^ {2}Skipped: +(\d+)$/m.exec(output)?.[1] ?? 0);
      const failed = total - passed - skipped;
      if (!problem && total === 0) problem = 'ran no test (is test.run() missing?)';
      if (!problem && code !== 0 && failed === 0) problem = `ended with ${signal ?? `exit code ${code}`}`;
      resolve({
        file,
        passed,
        failed: failed + (problem ? 1 : 0),
        ms: performance.now() - started,
        output,
        ...(problem ? { problem } : {}),
      });
    });
  });
}

const wanted = process.argv.slice(2).map((path) => path.split(sep).join('/'));
const files = (readdirSync(join(root, 'test'), { recursive: true }) as string[])
  .map((name) => relative(root, join(root, 'test', name)))
  .filter((name) => name.endsWith('.test.ts'))
  .filter((name) => wanted.length === 0 || wanted.some((w) => name.includes(w)))
  // Long files first, so that they do not end up alone at the end.
  .sort((a, b) => deadlineOf(b) - deadlineOf(a) || a.localeCompare(b));

const queue = [...files];
const results: FileResult[] = [];
async function worker(): Promise<void> {
  for (let file = queue.shift(); file; file = queue.shift()) {
    const result = await runFile(file);
    results.push(result);
    const bad = result.failed > 0;
    console.log(
      `${bad ? 'FAIL' : 'ok  '} ${result.file}  ${result.passed} passed  ${Math.round(result.ms)} ms`,
    );
    // What a test could not do on this machine, and what one has to count, is part of the result of good files as well.
    for (const line of result.output.split('\n')) {
      // Behind the marks of tests that are over.
      const [shown] = /(?:NOT RUN|FIGURES): .*$/.exec(line) ?? [];
      if (shown !== undefined && !bad) console.log(`     ${shown}`);
    }
    if (bad)
      console.log(
        `${result.problem ? `     ${result.problem}\n` : ''}${result.output.replace(/^/gm, '     | ')}`,
      );
  }
}
await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, worker));

const passed = results.reduce((sum, r) => sum + r.passed, 0);
const failed = results.reduce((sum, r) => sum + r.failed, 0) + (files.length === 0 ? 1 : 0);
if (files.length === 0) console.log('no test file matches');
for (const r of results.filter((r) => r.failed > 0))
  console.log(`FAIL ${r.file}${r.problem ? `: ${r.problem}` : ''}`);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
