// Secrets at the moment they are made. Where that is is nobody's business but the device's, so this listens at the source.
// Loaded into a process of its own (NODE_OPTIONS=--import) it writes them to the file that EVE_ATTEST_CAUGHT names.
import { appendFileSync } from 'node:fs';
import { Tokens } from '../../device/tokens.ts';
import { MasterKeyStore } from '../../device/vault/master-key.ts';

/** By their ids: the id of a key, the hash of a token. */
export const caught = { masterKeys: new Map<string, Buffer>(), tokens: new Map<string, Buffer>() };

const file = process.env.EVE_ATTEST_CAUGHT;
function note(what: string, bytes: Buffer): void {
  if (file !== undefined) appendFileSync(file, `${what} ${bytes.toString('hex')}\n`);
}

const { make, unseal } = MasterKeyStore.prototype;
const { make: makeToken } = Tokens.prototype;
for (const [name, original] of Object.entries({ make, unseal })) {
  (MasterKeyStore.prototype as unknown as Record<string, unknown>)[name] = async function (
    this: MasterKeyStore,
  ) {
    const key = await original.call(this);
    caught.masterKeys.set(key.id, Buffer.from(key.bytes));
    note('a master key', Buffer.from(key.bytes));
    return key;
  };
}
Tokens.prototype.make = function (this: Tokens) {
  const hash = makeToken.call(this);
  const token = Buffer.from(this.read(hash));
  caught.tokens.set(hash, token);
  note('an integrity token', token);
  return hash;
};
