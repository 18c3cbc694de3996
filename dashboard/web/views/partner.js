// What others think of an organisation, now or at a point in time; added up again here.
import { all, at, get } from '../api.js';
import { ask, badge, card, facts, h, head, link } from '../dom.js';
import { decimal, number, time } from '../format.js';
import { sha256Text } from '../hash.js';
import { t, word } from '../i18n.js';
import { act } from '../parts.js';
import { stars } from './partners.js';

function scores(aggregate) {
  const most = Math.max(1, ...Object.values(aggregate.scores));
  return [5, 4, 3, 2, 1].map((n) => {
    const count = aggregate.scores[n] ?? 0;
    const bar = h('b');
    bar.style.width = `${(count / most) * 100}%`;
    return h('div', { class: 'meter' }, h('span', null, `${n} · ${t(`score.${n}`)}`), h('i', null, bar), h('span', null, number(count)));
  });
}

/** Whether the ratings, added up here, give the contract's figures (docs/contracts.md, "Aggregate"). */
async function recomputed(aggregate, ratings) {
  const counted = ratings.filter((r) => aggregate.sources.includes(r.chaincode));
  const digest = await sha256Text(counted.map((r) => `${r.id} ${r.score} ${r.txId}\n`).join(''));
  return digest === aggregate.digest && counted.length === aggregate.count && counted.reduce((sum, r) => sum + r.score, 0) === aggregate.sum;
}

const reply = (context, one) => ask(t('rating.reply'), [h('blockquote', null, one.comment ?? `${one.score}`), h('label', null, t('rating.replyText'), h('textarea', { name: 'text', required: true, maxlength: 1000 }))], {
  confirm: t('rating.reply'),
  send: ({ text }) => act(context, ['ratings', 'replies'], { rating: one.id, text: text.trim() }),
});

function rating(context, one) {
  const deal = one.source === 'rfq' ? link(context.to('rfq', one.deal), one.deal) : link(context.to('shipment', one.deal), one.deal);
  return h('li', null,
    h('header', null, h('span', null, h('b', null, one.by), ` · ${one.user.split('@')[0]} · `, deal), link(context.to('transaction', one.txId), time(one.at))),
    h('div', null, stars(one.score), ' ', Object.entries(one.criteria ?? {}).map(([name, score]) => [badge(`${word('criterion', name)} ${score}`), ' '])),
    one.comment && h('blockquote', null, one.comment),
    one.reply && h('div', { class: 'notice spaced' }, h('b', null, `${one.organization}: `), one.reply.text),
    !one.reply && one.organization === context.me.mspId && h('div', { class: 'actions spaced' }, h('button', { onclick: () => reply(context, one) }, t('rating.reply'))));
}

/** The end of a day as the reader means it. */
const endOf = (day) => new Date(`${day}T23:59:59.999`).toISOString();

export async function partner(context, name, day = '') {
  context.live((kind, event) => kind === 'chaincode' && event.chaincode === context.me.contracts.reputation);
  const until = day ? endOf(day) : '';
  const aggregate = await get(at(context.channel, ['organizations', name, 'reputation'], { until }));
  const inHouse = context.me.view === 'in-house';
  const found = inHouse ? await all(context.channel, ['organizations', name, 'ratings'], 'ratings', { question: { until, limit: 500 }, most: 5000 }) : null;
  const agrees = found && !found.more ? await recomputed(aggregate, found.items) : null;
  const when = h('input', { type: 'date', id: 'until', value: day, 'aria-label': t('rating.until'), onchange: (e) => context.go('partner', name, ...(e.target.value ? [e.target.value] : [])) });
  return [
    head(name, { crumb: [link(context.to('partners'), t('nav.partners')), ` / ${name}`],
      actions: [h('label', { class: 'inline' }, t('rating.until'), when), day && h('button', { onclick: () => context.go('partner', name) }, t('rating.today'))] }),
    h('div', { class: 'tiles' },
      h('div', { class: 'tile' }, h('b', null, aggregate.mean === null ? '–' : decimal(aggregate.mean)), h('span', null, t('rating.mean'))),
      h('div', { class: 'tile' }, h('b', null, number(aggregate.count)), h('span', null, t('rating.ratings'))),
      h('div', { class: 'tile' }, h('b', null, number(aggregate.raters)), h('span', null, t('rating.raters')))),
    h('div', { class: 'two' },
      inHouse ? card(t('rating.ratings'), found.items.length
        ? h('ol', { class: 'talk plain-talk' }, [...found.items].sort((a, b) => (a.at < b.at ? 1 : -1)).map((one) => rating(context, one))) : h('p', { class: 'soft' }, t('rating.none')), found.more && h('p', { class: 'soft' }, t('list.more')))
        : card(null, h('p', { class: 'soft' }, t('publicOnly'))),
      h('div', { class: 'stack' },
        card(t('rating.scores'), scores(aggregate),
          h('div', { class: 'spaced' }, facts(Object.entries(aggregate.criteria).map(([criterion, sums]) => [word('criterion', criterion), `${decimal(sums.mean)} (${sums.count})`])))),
        agrees !== null && card(t('rating.check'), h('p', null, badge(t(agrees ? 'rating.same' : 'rating.different'), agrees ? 'good' : 'bad')), h('p', { class: 'small soft' }, t('rating.checkText')), h('code', null, aggregate.digest)))),
  ];
}
