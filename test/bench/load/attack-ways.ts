// What an attacker may do (attack.ts does it), in the order in which it is measured.
export const attackWays = [
  // What it costs to have the attacker on the same two cores: the reference for all others.
  'nothing, and keeps the processor busy',
  'handshakes',
  'handshakes of the API',
  'half a handshake',
  'half a login',
  'logins with the key of another',
  'logins with a will',
  'attestations of one device, as many as it may',
  'tiny packets',
  'retained messages',
  'subscriptions',
  'topics, each another',
  'packets that are too large',
  'requests without a token',
  'requests of 10 MB without a token',
  'half a request',
] as const;

export type AttackWay = (typeof attackWays)[number];
