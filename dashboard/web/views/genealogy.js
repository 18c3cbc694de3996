// Parts: what is in a product, and which products hold a part or a batch.
import { at, get } from '../api.js';
import { card, empty, h, head, link } from '../dom.js';
import { time } from '../format.js';
import { t } from '../i18n.js';
import { certificateTable } from './certificates.js';

/** Nested lists out of paths. */
function tree(context, found) {
  const children = new Map();
  for (const node of found) {
    const parent = node.path.at(-1);
    children.set(parent, [...(children.get(parent) ?? []), node]);
  }
  const level = (parent, depth) => {
    const list = children.get(parent);
    if (!list || depth > 40) return null;
    return h('ul', { class: depth === 0 ? 'tree' : null }, list.map((node) => {
      const name = node.product ?? node.batch;
      return h('li', null, h('span', { class: node.removedAt ? 'gone' : null },
        node.product ? link(context.to('genealogy', name), name) : [h('span', { class: 'soft' }, `${t('batch')} `), link(context.to('genealogy', name), name)],
        node.quantity && ` × ${node.quantity}`), h('span', { class: 'small soft' }, ` ${time(node.at)}`), level(name, depth + 1));
    }));
  };
  return (root) => level(root, 0);
}

/** An answer, or none where the ledger does not know the thing. */
const maybe = (promise) => promise.catch((error) => { if (error.status === 404) return null; throw error; });

export async function genealogy(context, name) {
  context.live((kind, event) => kind === 'chaincode' && [context.me.contracts.process, context.me.contracts.certify].includes(event.chaincode), 1000);
  const find = (event) => {
    event.preventDefault();
    const text = new FormData(event.target).get('part').trim();
    if (text) context.go('genealogy', text);
  };
  const form = h('form', { class: 'actions', onsubmit: find },
    h('input', { name: 'part', value: name ?? '', placeholder: t('part.placeholder'), 'aria-label': t('part.placeholder'), required: true }), h('button', { class: 'primary' }, t('show')));
  if (!name) {
    const parts = await get(at(context.channel, ['parts'], { limit: 100 }));
    return [head(t('nav.genealogy'), { actions: [form] }),
      parts.parts.length ? card(t('part.certified'), h('div', { class: 'actions' }, parts.parts.map((part) => h('a', { class: 'badge', href: context.to('genealogy', part) }, part)))) : empty(t('part.none'), t('part.noneText'))];
  }
  const [product, certificates] = await Promise.all([
    maybe(get(at(context.channel, ['products', name]))),
    maybe(get(at(context.channel, ['parts', name, 'certificates'], { limit: 100 }))),
  ]);
  const question = { removed: 'true' };
  const [down, up] = await Promise.all([
    product && maybe(get(at(context.channel, ['products', name, 'genealogy'], question))),
    maybe(get(at(context.channel, [product ? 'products' : 'batches', name, 'where-used'], question))),
  ]);
  const list = certificates?.certificates ?? [];
  const nothing = !product && !up?.found.length && !list.length;
  return [
    head(name, { crumb: [link(context.to('genealogy'), t('nav.genealogy')), ' / ', product ? t('product') : t('batch')], actions: [form, product && h('a', { class: 'button', href: context.to('product', name) }, t('product'))] }),
    nothing ? empty(t('part.unknown'), t('part.unknownText')) : [
      h('div', { class: 'grid' },
        product && card(t('part.contains'), down?.found.length ? tree(context, down.found)(name) : h('p', { class: 'soft' }, t('part.containsNothing')), down?.truncated && h('p', { class: 'soft' }, t('list.more'))),
        card(t('part.used'), up?.found.length ? tree(context, up.found)(name) : h('p', { class: 'soft' }, t('part.usedNowhere')), up?.truncated && h('p', { class: 'soft' }, t('list.more')))),
      h('div', { class: 'spaced' }, card(t('part.certificates'), list.length ? certificateTable(context, list) : h('p', { class: 'soft' }, t('part.noCertificates')))),
    ],
  ];
}
