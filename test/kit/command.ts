// A command of `evc` in this process: what it prints, and the exit code that it would end with.
import type { Command } from 'commander';
import { explain } from '../../controller/cli/failure.ts';

export interface Said {
  stdout: string;
  stderr: string;
  code: number;
}

export async function runCommand(command: Command, args: readonly string[]): Promise<Said> {
  const said: Said = { stdout: '', stderr: '', code: 0 };
  const streams = { stdout: process.stdout.write, stderr: process.stderr.write };
  const before = process.exitCode;
  process.exitCode = undefined;
  process.stdout.write = (chunk: string | Uint8Array) => {
    said.stdout += chunk.toString();
    return true;
  };
  process.stderr.write = (chunk: string | Uint8Array) => {
    said.stderr += chunk.toString();
    return true;
  };
  try {
    await command.exitOverride().parseAsync(args, { from: 'user' });
  } catch (error) {
    const { text, code, hint, exitCode } = explain(error);
    said.stderr += `${text} [${code}]\n${hint === '' ? '' : `hint: ${hint}\n`}`;
    process.exitCode = exitCode;
  } finally {
    process.stdout.write = streams.stdout;
    process.stderr.write = streams.stderr;
    said.code = Number(process.exitCode ?? 0);
    process.exitCode = before;
  }
  return said;
}
