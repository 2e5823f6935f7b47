// What systemd, or who stands in for it, is told of a service: that it is ready, that it stops, and that it still lives
// [sd_notify(3), sd_watchdog_enabled(3)]. Node has no datagram sockets of Unix, so systemd's own program sends it.
import { execFile } from 'node:child_process';

/** ms without a sign of life before a part counts as hung, where systemd says nothing else. */
const usualPatience = 30_000;
/** Signs of life in the time in which one is enough. */
const beats = 3;

type Environment = Readonly<Record<string, string | undefined>>;

/** How long a part of this program may be silent, ms: WatchdogSec= of the unit, where there is one. */
export function patienceOf(env: Environment = process.env): number {
  return watchdogOf(env) ?? usualPatience;
}

export class ServiceManager {
  readonly #env: Environment;
  #timer: NodeJS.Timeout | null = null;
  #beating = false;

  /** Without NOTIFY_SOCKET nobody is told anything. */
  constructor(env: Environment = process.env) {
    this.#env = env;
  }

  /** Serves now. From here on, where a watchdog is set, it is told that this process lives as long as `alive` settles. */
  ready(status: string, alive: () => Promise<unknown> = () => Promise.resolve()): void {
    this.#tell('READY=1', `STATUS=${status}`);
    const { WATCHDOG_PID: pid } = this.#env;
    const patience = watchdogOf(this.#env);
    if (patience === null || (pid !== undefined && pid !== String(process.pid))) return;
    this.#timer = setInterval(() => void this.#beat(alive), patience / beats);
    this.#timer.unref();
  }

  stopping(status: string): void {
    this.#tell('STOPPING=1', `STATUS=${status}`);
  }

  close(): void {
    if (this.#timer) clearInterval(this.#timer);
  }

  /** What fails, fails in time, and is nothing that a restart would mend; what never ends is. */
  async #beat(alive: () => Promise<unknown>): Promise<void> {
    if (this.#beating) return;
    this.#beating = true;
    await alive().catch(() => undefined);
    this.#beating = false;
    this.#tell('WATCHDOG=1');
  }

  #tell(...words: string[]): void {
    const { NOTIFY_SOCKET } = this.#env;
    if (!NOTIFY_SOCKET) return;
    // Whoever does not hear it acts as if it had not been said, and that is all that can be done about it.
    const options = { timeout: usualPatience, env: { ...process.env, NOTIFY_SOCKET } };
    execFile('systemd-notify', words, options, () => undefined).unref();
  }
}

function watchdogOf({ WATCHDOG_USEC: text }: Environment): number | null {
  const ms = Number(text ?? 0) / 1000;
  return ms >= 1 && ms <= 2 ** 31 - 1 ? ms : null;
}
