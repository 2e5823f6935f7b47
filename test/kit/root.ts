// The folder of the project, from its source and from its compiled copy below dist/.
import { existsSync } from 'node:fs';

const candidates = ['../../', '../../../'].map((path) => new URL(path, import.meta.url));

export const projectRoot = candidates.find((url) => existsSync(new URL('package.json', url))) as URL;
