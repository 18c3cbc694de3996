// Work in the plant: what waits where, and what is done.
import { at, get } from '../api.js';
import { badge, card, empty, h, head, link, table } from '../dom.js';
import { ago, number } from '../format.js';
import { t } from '../i18n.js';
import { stateBadge } from '../parts.js';

const STATES = ['waiting', 'setAside', 'finished', 'builtIn', 'scrapped'];
let chosen = 'waiting';

function stations(context, waiting) {
  const places = new Map();
  for (const entry of waiting) {
    const place = `${entry.station} · ${entry.task}`;
    places.set(place, [...(places.get(place) ?? []), entry]);
  }
  return h('div', { class: 'grid' }, [...places].map(([place, list]) => h('section', { class: 'card' },
    h('div', { class: 'head' }, h('h2', null, place), badge(number(list.length), 'accent')),
    h('div', { class: 'actions' }, list.slice(0, 40).map((entry) => h('a', { class: 'badge', href: context.to('product', entry.product ?? entry.id) }, entry.product ?? entry.id)),
      list.length > 40 && h('span', { class: 'soft' }, t('andMore', { count: number(list.length - 40) }))))));
}

export async function process(context) {
  context.live((kind, event) => kind === 'chaincode' && event.chaincode === context.me.contracts.process, 500);
  const [waiting, products, orders] = await Promise.all([
    get(at(context.channel, ['waiting'], { limit: 200 })),
    get(at(context.channel, ['products'], { state: chosen, limit: 100 })),
    get(at(context.channel, ['orders'], { limit: 100 })),
  ]);
  const list = waiting.waiting ?? waiting.products ?? [];
  return [
    head(t('nav.process'), { crumb: t('process.crumb', { waiting: number(list.length), orders: number(orders.orders.length) }) }),
    h('h2', null, t('process.waiting')),
    list.length ? stations(context, list) : empty(t('process.none'), t('process.noneText')),
    h('div', { class: 'spaced' }, card(t('process.products'),
      h('div', { class: 'tabs', role: 'group', 'aria-label': t('filter') }, STATES.map((state) =>
        h('button', { id: `state-${state}`, 'aria-pressed': String(state === chosen), onclick: () => { chosen = state; context.refresh(); } }, t(`state.${state}`)))),
      products.products.length ? table([
        [t('product'), (p) => link(context.to('product', p.id), p.id)],
        [t('field.item'), (p) => p.item],
        [t('order'), (p) => p.order],
        [t('process.place'), (p) => p.station ? `${p.station} · ${p.task}` : '–'],
        [t('steps'), (p) => number(p.steps), 'number'],
        [t('changed'), (p) => ago(p.updatedAt)],
      ], products.products, (p) => context.go('product', p.id)) : h('p', { class: 'soft' }, t('process.noProducts')))),
    orders.orders.length > 0 && h('div', { class: 'spaced' }, card(t('process.orders'), table([
      [t('order'), (o) => o.id],
      [t('field.item'), (o) => o.item],
      [t('field.quantity'), (o) => o.quantity ?? '–', 'number'],
      [t('process.route'), (o) => o.route],
      [t('overview.state'), (o) => o.state ? stateBadge(o.state) : '–'],
    ], orders.orders))),
  ];
}
