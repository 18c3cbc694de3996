// Sealed offers: made and kept in this browser until they are revealed.
//
// The commitment is that of docs/contracts.md, "Sealing". What opens a seal is kept in the browser's storage, and as a
// file of the same form as `selvedge tender seal` writes, so that it can be revealed from elsewhere too.

import { hex, sha256Text } from './hash.js';

/** Seals of one tender that are remembered. Older ones were replaced long ago. */
const KEPT = 8;

/** The commitment to what was kept. */
export const commitment = ({ tender, supplier, salt, offer }) =>
  sha256Text(['selvedge sealed offer 1', tender, supplier, salt, offer].join('\n'));

const place = (channel, tender, supplier) => `selvedge.seal/${channel}/${tender}/${supplier}`;

function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? [];
  } catch {
    return [];
  }
}

/** Seals an offer (JSON text) and remembers what opens it. */
export async function seal(channel, tender, supplier, offer) {
  const kept = { tender, supplier, offer, salt: hex(crypto.getRandomValues(new Uint8Array(24))) };
  const key = place(channel, tender, supplier);
  localStorage.setItem(key, JSON.stringify([kept, ...read(key)].slice(0, KEPT)));
  return { kept, commitment: await commitment(kept) };
}

/** What opens the seal with this commitment, if this browser has it. */
export async function opener(channel, tender, supplier, wanted) {
  for (const kept of read(place(channel, tender, supplier))) {
    if (await commitment(kept) === wanted) return kept;
  }
  return null;
}

/** Forgets what opened a seal: after the reveal it is on the ledger. */
export const forgetSeal = (channel, tender, supplier) => localStorage.removeItem(place(channel, tender, supplier));

/** Hands a kept seal to its owner as a file. */
export function download(kept) {
  const url = URL.createObjectURL(new Blob([JSON.stringify(kept, null, 2)], { type: 'application/json' }));
  const link = document.createElement('a');
  link.href = url;
  link.download = `${kept.tender}.sealed.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
