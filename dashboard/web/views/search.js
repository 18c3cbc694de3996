// What was found.
import { get } from '../api.js';
import { badge, empty, h, head } from '../dom.js';
import { short } from '../format.js';
import { t } from '../i18n.js';

const VIEW = { block: 'block', transaction: 'transaction', rfq: 'rfq', shipment: 'shipment', product: 'product', part: 'genealogy', certificate: 'certificates', tender: 'tender', idea: 'idea' };

export async function search(context, text) {
  const { hits } = await get(`/v1/search?${new URLSearchParams({ q: text ?? '' })}`);
  const href = (hit) => `#/${[hit.channel, VIEW[hit.kind], hit.id].map(encodeURIComponent).join('/')}`;
  // One thing of one kind: go there at once.
  if (hits.length === 1) {
    location.replace(href(hits[0]));
  }
  return [
    head(t('search.title', { text }), { crumb: t('search.count', { count: hits.length }) }),
    hits.length ? h('ul', { class: 'list' }, hits.map((hit) => h('li', null, h('a', { class: 'item', href: href(hit) },
      h('span', { class: 'title' }, hit.kind === 'transaction' ? short(hit.id) : hit.title && hit.kind !== 'block' ? `${hit.title} (${hit.id})` : hit.kind === 'block' ? `#${hit.id}` : hit.id),
      h('span', { class: 'badges' }, badge(t(`search.${hit.kind}`), 'accent')), h('span', { class: 'meta' }, `${t('channel')} ${hit.channel}`)))))
      : empty(t('search.none'), t('search.noneText')),
  ];
}
