// Building elements, and the states that every part of the page can be in.
import { t } from './i18n.js';

const SVG = 'http://www.w3.org/2000/svg';

function fill(node, children) {
  for (const child of children.flat(9)) {
    if (child !== null && child !== undefined && child !== false) {
      node.append(child instanceof Node ? child : String(child));
    }
  }
  return node;
}

function dress(node, properties) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'style') for (const [k, v] of Object.entries(value)) node.style.setProperty(k, v);
    else if (name === 'value' && 'value' in node) node.value = value;
    else node.setAttribute(name, value === true ? '' : value);
  }
  return node;
}

/** An HTML element. Text is always text: nothing from the ledger becomes markup. */
export const h = (name, properties, ...children) => fill(dress(document.createElement(name), properties), children);

/** An SVG element. */
export const s = (name, properties, ...children) => fill(dress(document.createElementNS(SVG, name), properties), children);

/** A heading with what is above it and what can be done. */
export function head(title, { crumb, badges = [], actions = [] } = {}) {
  return h('div', { class: 'head' },
    h('div', null, crumb && h('div', { class: 'crumb' }, crumb), h('h1', { tabindex: -1 }, title, ' '),
      badges.length > 0 && h('div', { class: 'actions' }, badges)),
    actions.length > 0 && h('div', { class: 'actions' }, actions));
}

export const card = (title, ...children) => h('section', { class: 'card' }, title && h('h2', null, title), children);
export const badge = (text, kind = '') => h('span', { class: `badge ${kind}` }, text);
export const link = (href, ...children) => h('a', { href }, children);
export const code = (text) => h('code', null, text);

export const facts = (pairs) => h('dl', { class: 'facts' },
  pairs.filter(([, value]) => value !== null && value !== undefined && value !== '')
    .map(([name, value]) => [h('dt', null, name), h('dd', null, value)]));

export const empty = (title, text) => h('div', { class: 'card empty' }, h('b', null, title), text);

export const loading = () => h('div', { class: 'skeleton', role: 'status', 'aria-label': t('loading') },
  h('i'), h('i'), h('i'));

/** An error with what can be done about it. */
export function failed(error, again) {
  return h('div', { class: 'notice bad', role: 'alert' },
    h('p', null, h('b', null, t(error.status === 404 ? 'error.notFound' : error.status === 0 ? 'error.away' : 'error.title'))),
    h('p', null, error.message),
    again && h('button', { onclick: again }, t('again')));
}

/** A table; on a phone each row becomes a card. Columns are [title, cell, class]. */
export function table(columns, rows, onclick) {
  return h('div', { class: 'scroll' }, h('table', { class: 'cards' },
    h('thead', null, h('tr', null, columns.map(([title, , kind]) => h('th', { scope: 'col', class: kind }, title)))),
    h('tbody', null, rows.map((row) => h('tr', { class: onclick && 'link', onclick: onclick && ((e) => e.target.closest('a') || onclick(row)) },
      columns.map(([title, cell, kind]) => h('td', { class: kind, 'data-label': title }, h('span', null, cell(row)))))))));
}

/** Pretty JSON. */
export const json = (value) => h('pre', { tabindex: 0 }, typeof value === 'string' ? value : JSON.stringify(value, null, 2));

/** A message that goes away by itself. */
export function toast(text, kind = 'good') {
  const place = document.querySelector('.toast') ?? document.body.appendChild(h('div', { class: 'toast', role: 'status', 'aria-live': 'polite' }));
  const note = h('div', { class: `notice ${kind}` }, text);
  place.append(note);
  // Older ones make room: what they cover matters more.
  while (place.children.length > 2) place.firstChild.remove();
  setTimeout(() => note.remove(), kind === 'bad' ? 10000 : 4500);
}

/**
 * A dialog with a form. `send(values, form)` may reject: then the dialog stays and shows why.
 * Resolves to what `send` gave, or to undefined when the dialog was left.
 */
export function ask(title, fields, { confirm, kind = 'primary', send }) {
  return new Promise((resolve) => {
    let result;
    const problem = h('div', { role: 'alert' });
    const button = h('button', { class: kind, type: 'submit' }, confirm);
    const form = h('form', { method: 'dialog' }, h('h2', null, title), fields, problem,
      h('div', { class: 'formfoot' }, h('button', { type: 'button', onclick: () => dialog.close() }, t('cancel')), button));
    const dialog = h('dialog', { 'aria-label': title }, form);
    form.addEventListener('submit', async (event) => {
      event.preventDefault();
      button.disabled = true;
      problem.replaceChildren();
      try {
        result = (await send(Object.fromEntries(new FormData(form)), form)) ?? true;
        dialog.close();
      } catch (error) {
        problem.replaceChildren(h('div', { class: 'notice bad' }, error.message));
      } finally {
        button.disabled = false;
      }
    });
    dialog.addEventListener('close', () => { dialog.remove(); resolve(result); });
    document.body.append(dialog);
    dialog.showModal();
  });
}

export const field = (label, name, properties = {}) => h('label', null, label, h('input', { name, autocomplete: 'off', ...properties }));

export const choice = (label, name, options, value) => h('label', null, label,
  h('select', { name }, options.map(([key, text]) => h('option', { value: key, selected: key === value }, text))));

const ICONS = {
  tenders: 'M12 3l9 5-9 5-9-5zM3 13l9 5 9-5',
  ideas: 'M9 18h6m-5 3h4M12 3a6 6 0 00-4 10c1 1 1 2 1 3h6c0-1 0-2 1-3a6 6 0 00-4-10z',
  partners: 'M12 3l2.6 5.6 6 .7-4.500 4.100 1.200 6-5.300-3-5.300 3 1.200-6L3.400 9.300l6-.7z',
  overview: 'M4 13h6V4H4zm10 7h6v-9h-6zM4 20h6v-4H4zM14 8h6V4h-6z',
  rfqs: 'M4 5h16v10H9l-5 4z',
  shipments: 'M3 7h11v9H3zm11 3h4l3 3v3h-7zM7 19a2 2 0 100-4 2 2 0 000 4zm10 0a2 2 0 100-4 2 2 0 000 4z',
  process: 'M5 4v6h6M5 10a8 8 0 113 8M12 9v4l3 2',
  genealogy: 'M12 3v6m0 0H6v5m6-5h6v5M4 14h4v5H4zm12 0h4v5h-4z',
  certificates: 'M12 3l7 3v5c0 5-3 8-7 10-4-2-7-5-7-10V6zM9 12l2 2 4-4',
  blocks: 'M4 8l8-4 8 4v8l-8 4-8-4zm0 0l8 4 8-4M12 12v8',
  search: 'M11 4a7 7 0 110 14 7 7 0 010-14zm5 12l4 4',
};
export const icon = (name) => s('svg', { viewBox: '0 0 24 24', fill: 'none', stroke: 'currentColor', 'stroke-width': 1.7, 'stroke-linejoin': 'round', 'stroke-linecap': 'round', 'aria-hidden': 'true' }, s('path', { d: ICONS[name] }));
