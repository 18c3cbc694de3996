// Parts that several views share.
import { at, get, post } from './api.js';
import { badge, choice, h, toast } from './dom.js';
import { agreedDay, band, decimal, time } from './format.js';
import { t, word } from './i18n.js';

const STATE_KINDS = {
  open: 'accent', accepted: 'good', rejected: 'bad', created: 'accent', inTransit: 'warn', delivered: 'good',
  waiting: 'accent', setAside: 'warn', finished: 'good', builtIn: 'good', scrapped: 'bad',
  revealing: 'warn', revealed: 'accent', awarded: 'good', cancelled: 'bad', sealed: 'accent', declined: 'bad',
  reached: 'warn', confirmed: 'good', proposed: 'accent', agreed: 'good', refused: 'bad',
};

export const stateBadge = (state) => badge(word('state', state), STATE_KINDS[state] ?? '');

/** Name of a negotiated field. */
export const fieldName = (name) => word('field', name);

/** A value of an offer as people write it. */
export function value(name, v) {
  if (v === null || v === undefined) return '–';
  if (typeof v === 'object') return band(v);
  if (name === 'price' || name === 'quantity') return decimal(v);
  if (/^\d{4}-\d\d-\d\dT00:00:00(\.0+)?Z$/.test(v)) return agreedDay(v);
  if (/^\d{4}-\d\d-\d\dT/.test(v)) return time(v);
  return v;
}

/** What a step changed: from → to, the new value marked. */
export function changes(list) {
  return h('ul', { class: 'changes' }, list.map((change) => {
    const name = change.field ?? change.condition;
    const label = h('span', { class: 'soft' }, `${fieldName(name)}: `);
    const was = change.from !== null && h('del', null, value(name, change.from));
    const is = change.to === null ? h('ins', null, t('removed')) : h('ins', null, value(name, change.to));
    return h('li', null, label, was, was && ' → ', is);
  }));
}

/** The organisations of a channel. */
export async function organizations(context) {
  const channel = await get(at(context.channel, []));
  return channel.organizations;
}

export const others = async (context) => (await organizations(context)).filter((name) => name !== context.me.mspId);

export const orgChoice = (label, name, list) => choice(label, name, list.map((org) => [org, org]));

/** Rows of conditions in a form: sensor, min, max. `read()` gives what was filled in. */
export function conditionRows(initial = []) {
  const rows = h('div', { class: 'rows' });
  const add = (c = {}) => {
    const row = h('div', { class: 'row' },
      h('input', { 'aria-label': t('condition.sensor'), placeholder: t('condition.sensor'), 'data-part': 'field', value: c.field ?? '', list: 'sensors' }),
      h('input', { 'aria-label': t('condition.min'), placeholder: t('condition.min'), 'data-part': 'min', inputmode: 'decimal', value: c.min ?? '' }),
      h('input', { 'aria-label': t('condition.max'), placeholder: t('condition.max'), 'data-part': 'max', inputmode: 'decimal', value: c.max ?? '' }),
      h('button', { type: 'button', class: 'plain', 'aria-label': t('remove'), onclick: () => row.remove() }, '✕'));
    rows.append(row);
  };
  initial.forEach(add);
  const set = h('fieldset', null, h('legend', null, t('conditions')), rows,
    h('datalist', { id: 'sensors' }, ['temperature', 'humidity', 'pressure', 'gforce', 'tilt', 'light'].map((n) => h('option', { value: n }, fieldName(n)))),
    h('button', { type: 'button', class: 'plain', onclick: () => add() }, `+ ${t('condition.add')}`));
  const read = () => [...rows.children].map((row) => {
    const condition = {};
    for (const input of row.querySelectorAll('input')) {
      const text = input.value.trim();
      if (text) condition[input.dataset.part] = input.dataset.part === 'field' ? text : text.replace(',', '.');
    }
    return condition;
  }).filter((c) => c.field);
  return { set, read };
}

/** Does something on the ledger, says so, and shows the view again. */
export async function act(context, parts, body, said) {
  const answer = await post(at(context.channel, parts), body);
  toast(said ?? t('done'));
  await context.refresh();
  return answer;
}

export const idField = { pattern: '[A-Za-z0-9._:\\-]{1,64}', placeholder: t('id.placeholder') };
