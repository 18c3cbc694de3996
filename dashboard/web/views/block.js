// One block, opened.
import { at, get } from '../api.js';
import { badge, card, code, facts, h, head, link, table } from '../dom.js';
import { bytes, number, short, signer, time } from '../format.js';
import { t, word } from '../i18n.js';

export const verdictBadge = (v) => h('span', { title: word('verdict', v.name) }, badge(v.valid ? t('valid') : v.name, v.valid ? 'good' : 'bad'));

export const kindOf = (tx) => tx.chaincode ? `${tx.chaincode} · ${tx.function}` : word('kind', tx.kind);

export async function block(context, number_) {
  const one = await get(at(context.channel, ['blocks', number_]));
  const n = one.number;
  return [
    head(t('block.title', { number: number(n) }), {
      crumb: [link(context.to('blocks'), t('nav.blocks')), ` / ${n}`],
      badges: [badge(t('block.count', { count: number(one.transactionCount) })), one.validCount < one.transactionCount && badge(t('blocks.invalid', { count: number(one.transactionCount - one.validCount) }), 'bad')],
      actions: [n > 0 && h('a', { class: 'button', href: context.to('block', n - 1) }, `← #${n - 1}`), h('a', { class: 'button', href: context.to('block', n + 1) }, `#${n + 1} →`)],
    }),
    card(t('block.words'), h('p', null, n === 0 ? t('block.genesisText', { channel: one.channel })
      : t('block.text', { orderer: signer(one.orderer), count: number(one.transactionCount), valid: number(one.validCount), config: number(one.lastConfig) })),
      facts([
        [t('hash'), code(one.hash)], [t('block.previous'), n > 0 ? link(context.to('block', n - 1), code(one.previousHash)) : '–'], [t('block.data'), code(one.dataHash)],
        [t('time'), time(one.time)], [t('size'), bytes(one.bytes)]])),
    h('div', { class: 'spaced' }, card(t('overview.transactions'), table([
      ['#', (tx) => tx.position, 'number'],
      [t('transaction'), (tx) => tx.id ? link(context.to('transaction', tx.id), h('code', { title: tx.id }, short(tx.id))) : '–'],
      [t('call'), kindOf],
      [t('creator'), (tx) => tx.creator ? signer(tx.creator) : '–'],
      [t('verdict'), (tx) => verdictBadge(tx.validation)],
    ], one.transactions, (tx) => tx.id && context.go('transaction', tx.id)),
    one.transactionCount > one.transactions.length && h('p', { class: 'soft' }, t('list.more')))),
  ];
}
