// Runs before the page's own script is there: asks for what that will ask for first, so that the answers come while it is read.
// From a file there is nobody to ask.
import { putAhead } from './ahead.ts';
import { firstDevices } from './evc.ts';
import { askedFilter } from './filter-words.ts';
import { fetched, token, whoPath } from './source.ts';

if (location.protocol.startsWith('http')) {
  putAhead(whoPath, fetch(whoPath));
  const address = new URLSearchParams(location.hash.slice(1));
  const key = address.get('token') ?? token.get();
  // Without a token nobody knows yet whether this is EVC, or whether somebody is logged in.
  if (key !== '' && (address.get('view') ?? 'devices') === 'devices') {
    const path = firstDevices(askedFilter(address.get('filter') ?? ''));
    putAhead(path, fetched(path, {}, key));
  }
}
