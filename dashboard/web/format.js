// Numbers, times and names as people write them.
import { locale, t } from './i18n.js';

const made = new Map();
function formatter(kind, options) {
  const key = locale() + kind.name + JSON.stringify(options);
  if (!made.has(key)) made.set(key, new kind(locale(), options));
  return made.get(key);
}

export const number = (value, digits = 0) => value === null || value === undefined ? '–'
  : formatter(Intl.NumberFormat, { maximumFractionDigits: digits }).format(value);

/** A decimal of the ledger, which comes as text: every digit stays, only the signs are those of the language. */
export function decimal(text) {
  const match = /^(-?)(\d+)(?:\.(\d+))?$/.exec(String(text));
  if (!match) return String(text ?? '');
  const parts = formatter(Intl.NumberFormat, {}).formatToParts(1234567.8);
  const sign = (type) => parts.find((p) => p.type === type)?.value ?? '';
  const whole = match[2].replace(/\B(?=(\d{3})+(?!\d))/g, sign('group'));
  return `${match[1] && '−'}${whole}${match[3] ? sign('decimal') + match[3] : ''}`;
}

export const time = (text) => !text ? '–'
  : formatter(Intl.DateTimeFormat, { dateStyle: 'medium', timeStyle: 'short' }).format(new Date(text));
export const day = (text) => !text ? '–' : formatter(Intl.DateTimeFormat, { dateStyle: 'medium' }).format(new Date(text));
/** A day that was agreed on as such: midnight UTC, whatever the reader's zone. */
export const agreedDay = (text) => formatter(Intl.DateTimeFormat, { dateStyle: 'medium', timeZone: 'UTC' }).format(new Date(text));
export const clock = (date) => formatter(Intl.DateTimeFormat, { hour: '2-digit', minute: '2-digit' }).format(date);
export const dayMonth = (date) => formatter(Intl.DateTimeFormat, { day: 'numeric', month: 'short' }).format(date);

/** "3 minutes ago". */
export function ago(text) {
  if (!text) return '–';
  const seconds = (new Date(text) - Date.now()) / 1000;
  const units = [['day', 86400], ['hour', 3600], ['minute', 60]];
  const [unit, size] = units.find(([, n]) => Math.abs(seconds) >= n) ?? ['second', 1];
  if (unit === 'day' && seconds < -30 * 86400) return day(text);
  return formatter(Intl.RelativeTimeFormat, { numeric: 'auto' }).format(Math.round(seconds / size), unit);
}

export function bytes(value) {
  if (value < 1024) return `${number(value)} B`;
  if (value < 1024 * 1024) return `${number(value / 1024, 1)} KiB`;
  return `${number(value / 1024 / 1024, 1)} MiB`;
}

export const short = (hash) => hash ? `${hash.slice(0, 10)}…` : '–';

/** An agreed band: "−25 to 40", "at most 10". */
export function band({ min, max }) {
  if (min !== undefined && min !== null && max !== undefined && max !== null) return t('band.both', { min: decimal(min), max: decimal(max) });
  if (min !== undefined && min !== null) return t('band.min', { min: decimal(min) });
  if (max !== undefined && max !== null) return t('band.max', { max: decimal(max) });
  return '–';
}

/** Name and organisation of an identity. */
export const signer = (who) => !who?.name && !who?.mspId ? t('unknownIdentity')
  : who.mspId ? `${who.name.split('@')[0]} (${who.mspId})` : who.name;
