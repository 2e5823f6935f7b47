// `npm run records`: a record of each state, as EVC of today stores it, for the tests of the versions to come.
import { recordChart } from '../controller/record/snapshot.ts';
import { writeRecords } from './kit/record-states.ts';

console.log(`${await writeRecords()} records of version ${recordChart.version} of the chart`);
