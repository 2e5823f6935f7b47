// Do we want it? What genuine evidence can be refused for, or noticed.
import type { Reason } from '../reasons.ts';

export const policyReasons = {
  'policy.software.unknown': {
    kind: 'policy',
    severity: 'error',
    title: 'Unknown update detected',
    text: 'The device runs software that EVC neither pushed nor a person accepted.',
    remedy:
      'Compare the changes below with what you know. Accept the state if it is wanted; push a known image if it is not.',
  },
  'policy.version.older': {
    kind: 'policy',
    severity: 'error',
    title: 'Older image',
    text: 'The device runs an image that is older than the one it had committed.',
    remedy: 'Push the wanted image, or accept the state if the step back is wanted.',
  },
  'policy.upgrade.not-pushed': {
    kind: 'policy',
    severity: 'error',
    title: 'Image not pushed',
    text: 'The device runs an image of the catalogue that EVC did not push to it.',
    remedy: 'Find out who installed it. Accept the state if it is wanted; push the right image if it is not.',
  },
  'policy.upgrade.window-closed': {
    kind: 'policy',
    severity: 'error',
    title: 'Upgrade too late',
    text: 'The new image did not prove itself before its window closed.',
    remedy: 'Look at why the device took so long, and assign the upgrade again.',
  },
  'policy.upgrade.other-version': {
    kind: 'policy',
    severity: 'error',
    title: 'Other version than pushed',
    text: 'The device reports another version than the one that EVC pushed to it.',
    remedy: 'Nothing when the device falls back; otherwise find out who installed it.',
  },
  'policy.upgrade.unknown-entries': {
    kind: 'policy',
    severity: 'error',
    title: 'Not all is of the pushed image',
    text: 'The device reports the pushed version, and measured things that this image does not cause.',
    remedy:
      'Look at the entries below: the image, the firmware or the settings of the device differ from what the catalogue knows.',
  },
  'policy.entry.unknown': {
    kind: 'policy',
    severity: 'error',
    title: 'Unknown measurement',
    text: 'A measurement is none of those that the pushed image is known to cause.',
    remedy: 'Look at the event. If it is right, add the log of a good boot to the catalogue.',
  },
  'policy.entry.mixed': {
    kind: 'policy',
    severity: 'error',
    title: 'Half of two slots',
    text: 'The boot measured things of both slots of an image: what was measured may not be what runs.',
    remedy: 'Find out who stood at the console of the boot loader, and start the device again.',
  },
  'policy.event.allowed': {
    kind: 'policy',
    severity: 'info',
    title: 'Allowed difference',
    text: 'An event differs from the baseline, and an allow rule covers it.',
    remedy: 'Nothing; evc allow list shows the rules.',
  },
  'policy.pcr.unexplained': {
    kind: 'policy',
    severity: 'error',
    title: 'Unexplained PCR value',
    text: 'A PCR differs from the baseline though its events do not: the TPM was started from another locality.',
    remedy: 'Look at the firmware of the device: it starts the TPM in another way than before.',
  },
  'policy.entry.missing': {
    kind: 'policy',
    severity: 'error',
    title: 'Missing measurement',
    text: 'The boot measured less than before, and the pushed image does not explain why.',
    remedy: 'Look at the firmware settings of the device: something is not measured any more.',
  },
  'policy.pcr.unexpected': {
    kind: 'policy',
    severity: 'error',
    title: 'Unexpected PCR value',
    text: 'A PCR does not have the value of the baseline.',
    remedy: 'The changes of its events say what is different.',
  },
  'policy.secure-boot.off': {
    kind: 'policy',
    severity: 'error',
    title: 'Secure Boot is not on',
    text: 'The policy wants Secure Boot, and the log does not vouch for it.',
    remedy: 'Turn Secure Boot on in the firmware setup of the device.',
  },
  'policy.location.moved': {
    kind: 'policy',
    severity: 'warning',
    title: 'Unknown movement detected',
    text: 'The device runs trusted software in another place than it was locked to.',
    remedy: 'Accept the new place if the move is known; otherwise look for the device.',
  },
  'policy.location.blocked': {
    kind: 'policy',
    severity: 'error',
    title: 'Blocked: moved',
    text: 'The device is in another place than it was locked to, and its account blocks devices that moved.',
    remedy: 'Accept the new place if the move is known; otherwise look for the device.',
  },
  'policy.refused': {
    kind: 'policy',
    severity: 'error',
    title: 'Attestation refused',
    text: 'The last attestation was refused, without a finding that is known here.',
    remedy: 'Look at the verdict of the device in EVC.',
  },
} satisfies Record<string, Reason>;
