// The document of EVC's API as it is today, without an EVC.
import { openApi } from '../../controller/api/openapi.ts';
import { Operations } from '../../controller/api/operation.ts';
import { addOperations } from '../../controller/api/operations.ts';
import { Guests } from '../../controller/api/page.ts';
import { StepStream } from '../../controller/api/stream.ts';
import type { Evc } from '../../controller/evc.ts';

export function apiDocument(): string {
  const operations = new Operations();
  addOperations(operations, {
    // Asked nothing before an operation runs.
    evc: {} as Evc,
    stream: new StepStream(),
    guests: new Guests(),
    uploads: '',
    service: () => ({ mqttPort: 0, httpsPort: 0, hosts: [], since: 0 }),
    ownUrl: () => '',
  });
  return `${JSON.stringify(openApi(operations.all), null, 1)}\n`;
}
