// The chain: newest block first.
import { at, get } from '../api.js';
import { badge, h, head, link, table } from '../dom.js';
import { ago, bytes, number, short, signer, time } from '../format.js';
import { t } from '../i18n.js';

let before = null;

export async function blocks(context) {
  context.live((kind) => kind === 'block' && before === null);
  const page = await get(at(context.channel, ['blocks'], { before, limit: 25 }));
  const move = (to) => { before = to; context.refresh(); };
  return [
    head(t('nav.blocks'), { crumb: t('blocks.height', { height: number(page.height) }) }),
    h('section', { class: 'card' }, table([
      [t('block'), (b) => link(context.to('block', b.number), `#${b.number}`)],
      [t('time'), (b) => h('span', { title: time(b.time) }, ago(b.time))],
      [t('overview.transactions'), (b) => [number(b.transactions), ' ', b.valid < b.transactions && badge(t('blocks.invalid', { count: number(b.transactions - b.valid) }), 'bad')]],
      [t('hash'), (b) => h('code', { title: b.hash }, short(b.hash))],
      [t('orderer'), (b) => b.number === 0 ? t('overview.genesis') : signer(b.orderer)],
      [t('size'), (b) => bytes(b.bytes), 'number'],
    ], page.blocks, (b) => context.go('block', b.number))),
    h('div', { class: 'actions spaced' },
      before !== null && h('button', { onclick: () => move(null) }, t('blocks.newest')),
      page.before !== null && h('button', { onclick: () => move(page.before) }, t('blocks.older'))),
  ];
}
