// Loaded before the program of a process that is soaked (`--import`): says over a channel of its own what only it knows, when it is
// asked. With EVE_SOAK_LEAK=BYTES it leaks so many at each question, to show that the soak finds it.
import { monitorEventLoopDelay } from 'node:perf_hooks';

const delay = monitorEventLoopDelay({ resolution: 20 });
delay.enable();
const leak = Number(process.env.EVE_SOAK_LEAK ?? 0);
const leaked: unknown[] = [];

process.on('message', (message) => {
  if (message !== 'figures') return;
  if (leak > 0) leaked.push(Array.from({ length: leak / 8 }, (_, i) => i + Math.random()));
  (globalThis as { gc?(): void }).gc?.();
  const figures = {
    heapMb: process.memoryUsage().heapUsed / 2 ** 20,
    handles: process.getActiveResourcesInfo().length,
    delayMs: delay.percentile(99) / 1e6,
  };
  delay.reset();
  process.send?.(figures);
});
// Else it would keep the process from ending.
process.channel?.unref();
