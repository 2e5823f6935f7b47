// What EVC refused of a decision, with its code and remedy, and whether anything may have been done.
import { nothingDone } from '../acceptance.ts';
import { reason } from '../details.ts';
import { el, put } from '../element.ts';
import { SourceError } from '../source.ts';

/**
 * Shows it in place of what stood there.
 *
 * @param sent the decision was on its way, and nothing more than a question otherwise
 * @param otherwise what is said where it may have been done
 * @returns whether it may have been done: the same request is then sent again as it was
 */
export function showRefusal(
  place: Element,
  error: unknown,
  sent: boolean,
  otherwise = 'It may have been done. Send it again: it is done once, however often.',
): boolean {
  const { code, message, status } =
    error instanceof SourceError ? error : { code: '', message: String(error), status: 0 };
  const unsure = sent && !nothingDone({ status, code });
  put(
    place,
    code === '' ? el('div.reason.refused', {}, el('div.reason-title', {}, message)) : reason(code, message),
    el('p.quiet', {}, unsure ? otherwise : 'Nothing was done.'),
  );
  return unsure;
}
