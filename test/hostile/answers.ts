// What EVC said to a message, as a name.
import { ProblemSchema, ZAttestResponseCode, ZAttestResponseSchema } from '../../formats/wire/eve_pb.ts';
import { type Answer, bodyOf } from '../kit/controller.ts';

/**
 * A code of its reasons, or null where EVC took the message for good.
 * @param dropped what the bench wrote down of messages that were not answered
 */
export function codeOf(answers: readonly Answer[], dropped: readonly string[]): string | null {
  const [answer] = answers;
  if (!answer) return (dropped[0] ?? 'no answer').split(':')[0] ?? '';
  if (answer.status !== 200 && answer.status !== 304) return bodyOf(ProblemSchema, answer).code;
  if (!answer.topic.includes('/attest/')) return null;
  const { quoteResp } = bodyOf(ZAttestResponseSchema, answer);
  if (!quoteResp || quoteResp.response === ZAttestResponseCode.ATTEST_RESPONSE_CODE_SUCCESS) return null;
  return quoteResp.findings[0]?.code ?? 'no finding';
}
