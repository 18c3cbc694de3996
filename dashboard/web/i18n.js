// Which language the page speaks, and its words.
import { words as de } from './lang/de.js';
import { words as en } from './lang/en.js';

const LANGUAGES = { de, en };
const KEPT = 'selvedge.language';

function first() {
  const kept = localStorage.getItem(KEPT);
  if (kept in LANGUAGES) return kept;
  const wanted = navigator.languages.map((name) => name.slice(0, 2)).find((name) => name in LANGUAGES);
  return wanted ?? 'en';
}

export let language = first();
document.documentElement.lang = language;

export function speak(name) {
  language = name;
  localStorage.setItem(KEPT, name);
  document.documentElement.lang = name;
}

/** The language with the reader's own region, where the browser tells one: dates in London are not those of New York. */
export const locale = () => navigator.languages.find((name) => name.slice(0, 2) === language) ?? language;

/** The words for a key, with `{name}` filled in. An unknown key shows itself, so that it is noticed. */
export function t(key, values = {}) {
  const text = LANGUAGES[language][key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? '');
}

/** Words for a name that the ledger knows (a state, an action); the name itself where there are none. */
export const word = (group, name) => LANGUAGES[language][`${group}.${name}`] ?? name;
