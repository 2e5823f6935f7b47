import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { FormatError } from '../../../formats/format-error.ts';
import { decode, encode } from '../../../formats/tpm2/codec.ts';
import { GetRandom, PCR_Extend, Quote, Unseal } from '../../../formats/tpm2/commands.ts';
import { explain, explainCommand, explainResponse, format } from '../../../formats/tpm2/explain.ts';
import { decodeCommand, decodeResponse, encodeCommand } from '../../../formats/tpm2/message.ts';
import { TPMA_SESSION, TPMS_AUTH_COMMAND, TPMT_PUBLIC } from '../../../formats/tpm2/structures.ts';
import { attestationKey } from '../../../formats/tpm2/templates.ts';
import { hex, toHex } from '../../kit/bytes.ts';

function refused(run: () => unknown, message: string): void {
  assert.throws(run, (e: unknown) => e instanceof FormatError && e.message === message, message);
}

const password = decode(TPMS_AUTH_COMMAND, hex('40000009 0000 01 0000'));

test('[TPM2 P1 18] a command: header, handles, sessions, parameters', () => {
  const parameters = encode(GetRandom.parameters, { bytesRequested: 16 });
  const plain = encodeCommand({ code: GetRandom.code, handles: [], sessions: [], parameters });
  assert.is(toHex(plain), '8001' + '0000000c' + '0000017b' + '0010');
  const digests = encode(PCR_Extend.parameters, { digests: [{ hashAlg: 4, digest: new Uint8Array(20) }] });
  const signed = encodeCommand({
    code: PCR_Extend.code,
    handles: [16],
    sessions: [password],
    parameters: digests,
  });
  assert.is(
    toHex(signed),
    '8002' +
      '00000035' +
      '00000182' +
      '00000010' +
      '00000009' +
      '40000009' +
      '0000' +
      '01' +
      '0000' +
      '00000001' +
      '0004' +
      '00'.repeat(20),
  );
  const back = decodeCommand(signed);
  assert.is(back.command.name, 'PCR_Extend');
  assert.equal(back.handles, [16]);
  assert.equal(back.sessions, [password]);
  assert.equal(back.parameters, digests);
});

test('commands that no TPM takes are not built', () => {
  const parameters = new Uint8Array(4090);
  assert.throws(() => encodeCommand({ code: 1, handles: [], sessions: [], parameters }), TypeError);
  const four = [password, password, password, password];
  assert.throws(
    () => encodeCommand({ code: 1, handles: [], sessions: four, parameters: hex('') }),
    TypeError,
  );
});

test('a response must be whole, and the response to this command', () => {
  const ok = hex('8001 0000000e 00000000 00021122');
  assert.equal(decodeResponse(ok, [], 0), {
    responseCode: 0,
    handles: [],
    parameters: hex('00021122'),
    sessions: [],
  });
  refused(
    () => decodeResponse(ok.subarray(0, 13), [], 0),
    'response at byte 2: size is 14, but there are 13 bytes',
  );
  refused(() => decodeResponse(ok, [], 1), 'response at byte 0: tag is 0x8001, must be 0x8002');
  refused(
    () => decodeResponse(hex('8002 0000000e 00000000 00000000'), [], 0),
    'response at byte 0: tag is 0x8002, must be 0x8001',
  );
  refused(
    () => decodeResponse(hex('8001 0000000a 00000000'), ['objectHandle'], 0),
    'response.objectHandle at byte 10: need 4 bytes, have 0',
  );
  refused(
    () => decodeResponse(hex('8001 0000000b 00000101 00'), [], 0),
    'response at byte 10: 1 bytes left over',
  );
  refused(
    () => decodeResponse(hex('8002 0000000a 00000101'), [], 1),
    'response at byte 0: an error response has no sessions',
  );
  refused(() => decodeResponse(hex('8001'), [], 0), 'response.size at byte 2: need 4 bytes, have 0');
  refused(() => decodeResponse(hex(''), [], 0), 'response.tag at byte 0: need 2 bytes, have 0');
  const signed = hex('8002 00000013 00000000 00000000 0000 01 0000');
  assert.is(decodeResponse(signed, [], 1).sessions.length, 1);
  refused(() => decodeResponse(signed, [], 2), 'response.session 2.nonce at byte 19: need 2 bytes, have 0');
  refused(
    () => decodeResponse(hex('8002 0000000e 00000000 00000001'), [], 1),
    'response at byte 10: parameterSize is 1, have 0 bytes',
  );
  refused(
    () => decodeResponse(hex('8002 00000014 00000000 00000000 0000 01 0000 ff'), [], 1),
    'response at byte 19: 1 bytes left over',
  );
  assert.is(decodeResponse(hex('00c4 0000000a 0000001e'), [], 0).responseCode, 0x1e);
});

test('a command that lies about its sizes is refused', () => {
  refused(
    () => decodeCommand(hex('8001 0000000d 0000017b 0010')),
    'command at byte 2: size is 13, but there are 12 bytes',
  );
  refused(
    () => decodeCommand(hex('8001 0000000a 0000ffff')),
    'command at byte 6: command 0xffff is not in our table',
  );
  refused(
    () => decodeCommand(hex('8002 00000017 0000015e 80000000 000000ff 00000000 00')),
    'command at byte 14: authorizationSize is 255, have 5 bytes',
  );
});

test('explanations name every byte, and stop where the bytes do', () => {
  const bytes = encode(TPMT_PUBLIC, attestationKey);
  const { fields, problem } = explain(TPMT_PUBLIC, bytes);
  assert.is(problem, undefined);
  assert.is(
    fields.reduce((sum, { length }) => sum + length, 0),
    bytes.length,
  );
  const text = format({ fields }, bytes);
  assert.match(text, /^ {4}0 {2}0023 +TPMT_PUBLIC\.type +0x0023 ECC$/m);
  assert.match(
    text,
    /TPMT_PUBLIC\.objectAttributes +fixedTPM fixedParent sensitiveDataOrigin userWithAuth noDA restricted sign$/m,
  );
  const half = explain(TPMT_PUBLIC, bytes.subarray(0, 20));
  assert.instance(half.problem, FormatError);
  assert.match(format(half, bytes), /need 2 bytes, have 0|need \d+ bytes/);
});

test('commands and responses are explained with their handles, sessions and names', () => {
  const parameters = encode(Quote.parameters, {
    qualifyingData: hex('aabb'),
    inScheme: { scheme: 0x10 },
    PCRselect: [{ hash: 0xb, pcrSelect: hex('810000') }],
  });
  const command = encodeCommand({
    code: Quote.code,
    handles: [0x81000004],
    sessions: [password],
    parameters,
  });
  const { fields, problem } = explainCommand(command);
  assert.is(problem, undefined);
  assert.is(
    fields.reduce((sum, { length }) => sum + length, 0),
    command.length,
    'no byte is left out',
  );
  const text = format({ fields }, command);
  assert.match(text, /command\.commandCode +0x00000158 Quote/);
  assert.match(text, /command\.session 1\.sessionHandle +0x40000009 PW/);
  assert.match(text, /Quote\.PCRselect\[0\]\.hash +0x000b SHA256/);

  const refusedBytes = hex('8001 0000000a 0000099d');
  assert.match(
    format(explainResponse(refusedBytes, Unseal.code, 1), refusedBytes),
    /TPM_RC_POLICY_FAIL, session 1/,
  );
  const answer = hex('8001 0000000e 00000000 00021122');
  assert.match(
    format(explainResponse(answer, GetRandom.code, 0), answer),
    /GetRandom response\.randomBytes +2 bytes/,
  );
});

test('what is encrypted is said to be', () => {
  const session = {
    ...password,
    sessionHandle: 0x02000000,
    sessionAttributes: TPMA_SESSION.of('decrypt', 'encrypt'),
  };
  const parameters = encode(Quote.parameters, {
    qualifyingData: hex('aabb'),
    inScheme: { scheme: 0x10 },
    PCRselect: [],
  });
  const command = encodeCommand({ code: Quote.code, handles: [0x81000004], sessions: [session], parameters });
  assert.match(format(explainCommand(command), command), /the first of these parameters is encrypted/);
});

test('random and changed frames never do worse than a FormatError', () => {
  const parameters = encode(GetRandom.parameters, { bytesRequested: 16 });
  const command = encodeCommand({ code: GetRandom.code, handles: [], sessions: [password], parameters });
  const response = hex('8002 0000001b 00000000 00000004 00021122 0000 01 0004 aabbccdd');
  const changedByte = (bytes: Uint8Array) =>
    fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)).map(([at, value]) => bytes.with(at, value));
  const tolerated = (run: () => unknown) => {
    try {
      run();
    } catch (error) {
      assert.instance(error, FormatError);
    }
  };
  fc.assert(
    fc.property(
      fc.oneof(fc.uint8Array({ maxLength: 64 }), changedByte(command), changedByte(response)),
      (bytes) => {
        tolerated(() => decodeCommand(bytes));
        for (const sessions of [0, 1, 2]) tolerated(() => decodeResponse(bytes, ['objectHandle'], sessions));
        // Explaining never throws at all.
        format(explainCommand(bytes), bytes);
        format(explainResponse(bytes, GetRandom.code, 1), bytes);
      },
    ),
    { numRuns: 5000 },
  );
});

test.run();
