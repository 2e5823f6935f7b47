// What people do with the catalogue: images and firmware in and out, the keys that may sign them, and allow rules. Whoever
// lets something in says why, and it is kept.
import { randomUUID } from 'node:crypto';
import type { Clock } from '../../machines/clock.ts';
import { checkReason } from '../decision.ts';
import type { Pki } from '../pki.ts';
import type { Store } from '../store/store.ts';
import { type AllowRule, ruleFault } from '../verify/allow.ts';
import type { KnownEntry } from '../verify/entries.ts';
import { firmwarePcrs } from '../verify/upgrade.ts';
import { activeRules, allRules, type StoredRule } from './allow-rules.ts';
import type { Catalogue, CatalogueFirmware, CatalogueImage, Source } from './catalogue.ts';
import { type Envelope, seal, unseal } from './envelope.ts';
import { CatalogueError } from './error.ts';
import { type ManifestKind, ofPolicy, payloadTypes, readManifest, writeManifest } from './manifest.ts';
import { entriesOfLogs, joinEntries } from './reference.ts';
import { allSigners, readSignerKey, type Signer, signersOf } from './signers.ts';

export interface CuratorOptions {
  store: Store;
  clock: Clock;
  catalogue: Catalogue;
  pki: Pki;
}

export interface ImageWish {
  version: string;
  /** Logs of reference boots. */
  logs?: readonly Uint8Array[];
  /** A manifest that `evc image measure` made of the files; unsigned, since whoever adds it is the operator. */
  measured?: Uint8Array;
  file?: { path: string };
  /** Keeps what is known of this version already: another board, or another slot. */
  more?: boolean;
}

export interface FirmwareWish {
  firmware: string;
  vendor: string;
  logs: readonly Uint8Array[];
  more?: boolean;
}

export type RuleWish = Pick<AllowRule, 'account' | 'pcr' | 'match' | 'removal' | 'reason'>;

const name = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const firmwareWord = /^[\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?$/;
const mostRules = 500;
const mostSigners = 100;

export class Curator {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #catalogue: Catalogue;
  readonly #pki: Pki;

  constructor({ store, clock, catalogue, pki }: CuratorOptions) {
    this.#store = store;
    this.#clock = clock;
    this.#catalogue = catalogue;
    this.#pki = pki;
  }

  /** Throws CatalogueError image.version, catalogue.log, catalogue.nothing, manifest.*. */
  async addImage({ version, logs = [], measured, file, more = false }: ImageWish): Promise<CatalogueImage> {
    if (!name.test(version))
      throw new CatalogueError('image.version', 'a version has 1 to 64 letters, digits, ., _ and -');
    const known = await this.#catalogue.get(version);
    const fresh = [
      ...(logs.length > 0 ? entriesOfLogs(logs) : []),
      ...(measured === undefined ? [] : measuredEntries(measured, version)),
    ];
    if (fresh.length === 0 && !(known && file))
      throw new CatalogueError(
        'catalogue.nothing',
        'nothing says what this image measures: give the log of a reference boot, or what evc image measure wrote',
      );
    const entries = fresh.length === 0 || more ? joinEntries(known?.entries ?? [], fresh) : fresh;
    const kind = logs.length > 0 ? 'log' : 'files';
    const source: Source = fresh.length === 0 && known ? known.source : { kind };
    return this.#catalogue.add({ version, entries, source, added: this.#clock.now() }, file);
  }

  images(): Promise<CatalogueImage[]> {
    return this.#catalogue.images();
  }

  async image(version: string): Promise<CatalogueImage> {
    const image = await this.#catalogue.get(version);
    if (!image) throw new CatalogueError('image.unknown', `the catalogue has no image ${version}`);
    return image;
  }

  /** A manifest of these versions, or of all, that EVC signed. */
  async exportImages(versions: readonly string[]): Promise<Envelope> {
    const images =
      versions.length === 0 ? await this.images() : await Promise.all(versions.map((one) => this.image(one)));
    if (images.length === 0) throw new CatalogueError('image.unknown', 'the catalogue has no image');
    const payload = writeManifest(
      'images',
      images.map(({ version, entries }) => ({ version, entries })),
    );
    return seal(payloadTypes.images, payload, this.#pki.signing.key);
  }

  /** Takes the images of a manifest, all of them or none. Throws CatalogueError manifest.*. */
  async importImages(envelope: unknown, replace = false): Promise<CatalogueImage[]> {
    const { payload, signer } = await this.#open(envelope, 'images');
    const images = readManifest('images', payload);
    for (const { version, entries } of images)
      checkUnchanged(`image ${version}`, await this.#catalogue.get(version), ofPolicy(entries), replace);
    const common = { source: { kind: 'manifest', signer: signer.name }, added: this.#clock.now() } as const;
    const added: CatalogueImage[] = [];
    for (const { version, entries } of images)
      added.push(await this.#catalogue.add({ version, entries: ofPolicy(entries), ...common }));
    return added;
  }

  /** Throws CatalogueError firmware.name, catalogue.log. */
  async addFirmware({ firmware, vendor, logs, more = false }: FirmwareWish): Promise<CatalogueFirmware> {
    if (!firmwareWord.test(firmware))
      throw new CatalogueError(
        'firmware.name',
        'a firmware is named as devices report it: vendor-version-date',
      );
    if (vendor !== '' && !firmware.startsWith(`${vendor}-`))
      throw new CatalogueError('firmware.name', `${firmware} does not begin with its vendor: ${vendor}-`);
    const fresh = entriesOfLogs(logs)
      .filter(({ pcr }) => firmwarePcrs.has(pcr))
      .map(({ alternative: _, required: __, ...entry }) => entry);
    const known = more ? await this.#catalogue.firmware(firmware) : null;
    const entries = known ? joinEntries(known.entries, fresh) : fresh;
    return this.#catalogue.addFirmware({
      firmware,
      vendor,
      entries,
      source: { kind: 'log' },
      added: this.#clock.now(),
    });
  }

  firmwares(): Promise<CatalogueFirmware[]> {
    return this.#catalogue.firmwares();
  }

  async firmware(firmware: string): Promise<CatalogueFirmware> {
    const found = await this.#catalogue.firmware(firmware);
    if (!found) throw new CatalogueError('firmware.unknown', `the catalogue has no firmware ${firmware}`);
    return found;
  }

  async exportFirmware(names: readonly string[]): Promise<Envelope> {
    const list =
      names.length === 0 ? await this.firmwares() : await Promise.all(names.map((one) => this.firmware(one)));
    if (list.length === 0) throw new CatalogueError('firmware.unknown', 'the catalogue has no firmware');
    const items = list.map(({ firmware, vendor, entries }) => ({ firmware, vendor, entries }));
    return seal(payloadTypes.firmware, writeManifest('firmware', items), this.#pki.signing.key);
  }

  /** Takes the firmware of a manifest, all of it or none. Throws CatalogueError manifest.*. */
  async importFirmware(envelope: unknown, replace = false): Promise<CatalogueFirmware[]> {
    const { payload, signer } = await this.#open(envelope, 'firmware');
    const list = readManifest('firmware', payload).map((item) => ({
      ...item,
      entries: item.entries.filter(({ pcr }) => firmwarePcrs.has(pcr)),
    }));
    for (const { firmware, vendor, entries } of list) {
      if (vendor !== '' && !firmware.startsWith(`${vendor}-`))
        throw new CatalogueError(
          'manifest.malformed',
          `${firmware} does not begin with its vendor: ${vendor}-`,
        );
      if (signer.vendor !== '' && signer.vendor !== vendor)
        throw new CatalogueError(
          'manifest.signer',
          `${signer.name} may speak of firmware of ${signer.vendor}, and not of ${firmware}`,
        );
      checkUnchanged(`firmware ${firmware}`, await this.#catalogue.firmware(firmware), entries, replace);
    }
    const common = { source: { kind: 'manifest', signer: signer.name }, added: this.#clock.now() } as const;
    const added: CatalogueFirmware[] = [];
    for (const item of list) added.push(await this.#catalogue.addFirmware({ ...item, ...common }));
    return added;
  }

  /** Lets a key sign what is imported. Throws CatalogueError signer.name, signer.key, signer.exists. */
  async addSigner(
    wish: Pick<Signer, 'name' | 'signs' | 'vendor' | 'reason'> & { key: string },
    by: string,
  ): Promise<Signer> {
    const { signs, vendor } = wish;
    if (!name.test(wish.name))
      throw new CatalogueError('signer.name', 'a signer is named with 1 to 64 letters, digits, ., _ and -');
    if (vendor !== '' && signs !== 'firmware')
      throw new CatalogueError('signer.name', 'only who signs firmware does so for a vendor');
    const { id, publicKey } = readSignerKey(wish.key);
    const signers = await allSigners(this.#store);
    const active = signers.filter(({ removed }) => removed === null);
    if (active.some((one) => one.name === wish.name || (one.id === id && one.signs === signs)))
      throw new CatalogueError(
        'signer.exists',
        `there is a signer ${wish.name}, or one with this key, already`,
      );
    if (active.length >= mostSigners)
      throw new CatalogueError('signer.exists', `there are ${mostSigners} signers, and that is the most`);
    const reason = checkReason(wish.reason);
    const at = this.#clock.now();
    const signer: Signer = { id, name: wish.name, signs, vendor, publicKey, reason, by, at, removed: null };
    await this.#store.put('signer', wish.name, signer);
    await this.#audit(by, 'import-signer.added', wish.name, reason);
    return signer;
  }

  signers(): Promise<Signer[]> {
    return allSigners(this.#store);
  }

  /** EVC's own key, for other EVCs to take what this one exports. */
  ownSigner(): { id: string; publicKey: string } {
    return readSignerKey(this.#pki.signing.certificate.toString());
  }

  async removeSigner(called: string, by: string, reason: string): Promise<Signer> {
    const removed = { by, at: this.#clock.now(), reason: checkReason(reason) };
    const signer = await this.#store.update<Signer>('signer', called, (found) => {
      if (found?.removed !== null)
        throw new CatalogueError('signer.unknown', `no signer is called ${called}`);
      return { ...found, removed };
    });
    await this.#audit(by, 'import-signer.removed', called, reason);
    return signer;
  }

  /** Throws CatalogueError allow.too-wide, allow.too-many, allow.account. */
  async addRule(wish: RuleWish, by: string): Promise<StoredRule> {
    const { account, pcr, match, removal } = wish;
    const fault = ruleFault(wish);
    if (fault !== null) throw new CatalogueError('allow.too-wide', fault);
    if (account !== null && !(await this.#store.get('account', account)))
      throw new CatalogueError('allow.account', `there is no account ${account}`);
    if ((await allRules(this.#store)).filter((rule) => rule.removed === null).length >= mostRules)
      throw new CatalogueError('allow.too-many', `there are ${mostRules} rules, and that is the most`);
    const id = randomUUID().slice(0, 8);
    const reason = checkReason(wish.reason);
    const rule: StoredRule = {
      id,
      account,
      pcr,
      match,
      removal,
      reason,
      by,
      at: this.#clock.now(),
      removed: null,
    };
    await this.#store.put('allow-rule', id, rule);
    await this.#audit(by, 'allow-rule.added', id, reason);
    return rule;
  }

  /** Those that hold; with `account`, those that hold for it. */
  async rules(account?: string): Promise<AllowRule[]> {
    if (account !== undefined) return activeRules(this.#store, account);
    return (await allRules(this.#store)).filter((rule) => rule.removed === null);
  }

  async removeRule(id: string, by: string, reason: string): Promise<StoredRule> {
    const removed = { by, at: this.#clock.now(), reason: checkReason(reason) };
    const rule = (await allRules(this.#store)).find((one) => one.id === id && one.removed === null);
    if (!rule) throw new CatalogueError('allow.unknown', `no rule is called ${id}`);
    await this.#store.put('allow-rule', id, { ...rule, removed });
    await this.#audit(by, 'allow-rule.removed', id, reason);
    return { ...rule, removed };
  }

  async #open(envelope: unknown, kind: ManifestKind) {
    return unseal(envelope, payloadTypes[kind], await signersOf(this.#store, kind));
  }

  async #audit(by: string, what: string, id: string, reason: string): Promise<void> {
    const at = this.#clock.now();
    const nothing = { account: '', before: null, after: null };
    await this.#store.audit({ at, by, what, subject: id, reason, ...nothing });
  }
}

/** What was measured of files holds for the version that the files are of. */
function measuredEntries(measured: Uint8Array, version: string): KnownEntry[] {
  const found = readManifest('images', measured).find((image) => image.version === version);
  if (!found)
    throw new CatalogueError('manifest.malformed', `what was measured is of another version than ${version}`);
  return ofPolicy(found.entries);
}

/** A manifest adds; that it changes what is known already takes a word of its own. */
function checkUnchanged(
  what: string,
  known: { entries: readonly KnownEntry[] } | null,
  entries: readonly KnownEntry[],
  replace: boolean,
): void {
  if (!known || replace || JSON.stringify(known.entries) === JSON.stringify(entries)) return;
  throw new CatalogueError('manifest.exists', `${what} is in the catalogue with other measurements`);
}
