// Images for a part of the fleet, one after the other, while its links are cut and EVC is killed: made, measured and rolled out to a
// label as a person does it.
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { ApiClient } from '../../controller/cli/client.ts';
import { listDevices } from '../../controller/cli/devices.ts';
import type { Rollout } from '../../controller/rollout/plan.ts';
import type { RolloutView } from '../../controller/rollout/rollouts.ts';
import { createImageFolder, measureImage, packImage } from '../../device/cli/image.ts';

const label = 'soak';
/** Of an upgrade, ms: longer than a soak, so that a device fails for what it did and not for how busy the machine is. */
const window = 24 * 3_600_000;
/**
 * How long an image has to hold, ms; approved it has to be within three of them, with its link cut at the wrong moment. All devices
 * boot in one process, one after the other, so many of them need longer.
 */
const testWindowOf = (devices: number) => Math.max(5000, 200 * devices);
const lookEvery = 500;
const paths = { images: '/api/v1/images', rollouts: '/api/v1/rollouts' };

export interface Upgraded {
  rollouts: number;
  /** Devices that committed an image, each time one did. */
  committed: number;
  /** What came to no good end: devices that failed or were skipped, or are still under way. */
  bad: string[];
}

export class Upgrades {
  readonly #data: string;
  readonly #folder: string;
  #begun = 0;

  /** @param data EVC's data folder @param folder where images are made */
  constructor(data: string, folder: string) {
    this.#data = data;
    this.#folder = folder;
    mkdirSync(folder);
  }

  /** Labels every `nth` device: those that are upgraded. */
  label(nth: number): Promise<void> {
    return this.#ask(async (api) => {
      const rows = await listDevices(api);
      for (const { device } of rows.filter((_, index) => index % nth === 0))
        await api.send('PUT', `/api/v1/devices/${device}/labels`, { labels: [label] });
    });
  }

  /** Rolls a new image out, unless the one before is on its way. */
  begin(): Promise<void> {
    return this.#ask(async (api) => {
      if ((await rolloutsOf(api)).some(isUnderWay)) return;
      const version = `1.${++this.#begun}.0`;
      await this.#add(api, version);
      const devices = (await listDevices(api, `label:${label}`)).map(({ device }) => device);
      const testWindow = testWindowOf(devices.length);
      const wish = { version, devices, stages: [50, 100], haltAt: 100, window, testWindow };
      await api.send('POST', paths.rollouts, { ...wish, reason: 'soak' });
    });
  }

  /** What they came to, once none is on its way or after this time, ms. */
  ended(patience: number): Promise<Upgraded> {
    return this.#ask(async (api) => {
      const end = performance.now() + patience;
      let all = await rolloutsOf(api);
      while (all.some(isUnderWay) && performance.now() < end) {
        await pause(lookEvery);
        all = await rolloutsOf(api);
      }
      const bad: string[] = [];
      for (const { id, version, counts } of all) {
        if (counts.committed === counts.all) continue;
        const { devices } = await api.get<Rollout>(`${paths.rollouts}/${id}`);
        const left = devices.filter(({ progress }) => progress !== 'committed');
        for (const { device, progress, why } of left) bad.push(`${version}: ${device}: ${progress} ${why}`);
      }
      const committed = all.reduce((sum, { counts }) => sum + counts.committed, 0);
      return { rollouts: all.length, committed, bad };
    });
  }

  async #add(api: ApiClient, version: string): Promise<void> {
    const [image, file] = [join(this.#folder, version), join(this.#folder, `${version}.tar`)];
    await createImageFolder(image, { version });
    await packImage(image, file);
    const logs = (await measureImage(image, this.#folder)).map((path) =>
      readFileSync(path).toString('base64'),
    );
    const { upload } = await api.upload(file);
    await api.send('POST', paths.images, { version, logs, upload });
  }

  /** EVC of this moment: it was killed meanwhile. */
  async #ask<Value>(work: (api: ApiClient) => Promise<Value>): Promise<Value> {
    const api = ApiClient.open({ data: this.#data });
    try {
      return await work(api);
    } finally {
      api.close();
    }
  }
}

async function rolloutsOf(api: ApiClient): Promise<RolloutView[]> {
  return (await api.get<{ rollouts: RolloutView[] }>(paths.rollouts)).rollouts;
}

function isUnderWay({ state }: RolloutView): boolean {
  return state === 'running';
}
