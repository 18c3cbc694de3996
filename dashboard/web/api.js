// Talking to the REST interface.
import { t } from './i18n.js';

/** A refusal, with the server's own words. Status 0: the server did not answer. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function call(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: { 'x-selvedge-page': '1', ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refusal(0, t('error.noAnswer'));
  }
  const text = await response.text();
  let answer = null;
  try {
    answer = text ? JSON.parse(text) : null;
  } catch {
    throw new Refusal(response.status, t('error.odd', { status: response.status }));
  }
  if (!response.ok) throw new Refusal(response.status, answer?.error ?? `HTTP ${response.status}`);
  return answer;
}

export const get = (path) => call('GET', path);
export const post = (path, body = {}) => call('POST', path, body);

/** An address below a channel. Parts are escaped; `question` may hold empty values, which are left out. */
export function at(channel, parts, question = {}) {
  const path = ['v1', 'channels', channel, ...parts].map(encodeURIComponent).join('/');
  const pairs = Object.entries(question).filter(([, value]) => value !== undefined && value !== null && value !== '');
  return `/${path}${pairs.length ? `?${new URLSearchParams(pairs)}` : ''}`;
}

/** Every item of a list that comes page by page, up to `most`. */
export async function all(channel, parts, list, { question = {}, bookmark = 'bookmark', most = 1000 } = {}) {
  const items = [];
  let mark;
  do {
    const page = await get(at(channel, parts, { ...question, [bookmark]: mark }));
    items.push(...page[list]);
    mark = page.bookmark;
  } while (mark && items.length < most);
  return { items, more: Boolean(mark) };
}
