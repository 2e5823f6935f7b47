import { writeFileSync } from 'node:fs';
import { recordingOf } from './recording.ts';
import { newCast, scenarios } from './scenarios.ts';
import { search } from './search.ts';
import { promises } from './promises.ts';
for (const scenario of scenarios) {
  if (process.argv[2] && !scenario.name.includes(process.argv[2])) continue;
  const cast=newCast(); const r = search(scenario, cast, promises, { seconds: Number(process.argv[3] ?? 10), broken: 3 });
  const { broken, ...rest } = r;
  console.log(JSON.stringify(rest));
  for (const b of broken) { writeFileSync('/tmp/c.jsonl', recordingOf(scenario, cast, b)); console.log('BROKEN', b.sentence, b.after); console.log(b.path.map(p=>'   '+p).join('\n')); }
}
