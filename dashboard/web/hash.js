// Hashes, as the contracts write them.

export const hex = (bytes) => [...new Uint8Array(bytes)].map((b) => b.toString(16).padStart(2, '0')).join('');

export const sha256 = async (bytes) => hex(await crypto.subtle.digest('SHA-256', bytes));

export const sha256Text = (text) => sha256(new TextEncoder().encode(text));
