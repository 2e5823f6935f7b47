// deadline: 300 s
// Crash points: whoever writes is killed there, and what is on disk is enough to end well. Some of the points here, all of them
// with `npm run crash`.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Counted, crashEverywhere } from './stage.ts';

/** Every how many writes one is tried, by what a run costs. */
const steps = { device: 15, EVC: 12 };

for (const who of ['device', 'EVC'] as const) {
  test(`${who} is killed at a write, in each sequence, and all ends well`, async () => {
    const counted = await crashEverywhere({ who, step: steps[who], first: 7 });
    const sum = (what: (one: Counted) => number) => counted.reduce((total, one) => total + what(one), 0);
    const [points, killed] = [sum((one) => one.points), sum((one) => one.killed)];
    console.log(
      `FIGURES: crash points, ${who}: ${points} writes in ${counted.length} sequences, killed ${killed} times`,
    );
    for (const one of counted) assert.ok(one.killed > 0 && one.points > 20, JSON.stringify(one));
  });
}

test.run();
