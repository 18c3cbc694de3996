// One idea: whose it is, where it came from and what came of it, what others think, and what it was rewarded with.
import { at, get } from '../api.js';
import { ask, badge, card, choice, facts, field, h, head, link, table } from '../dom.js';
import { decimal, time } from '../format.js';
import { t, word } from '../i18n.js';
import { act, idField, stateBadge } from '../parts.js';
import { awaits, isMe } from './ideas.js';

const CRITERIA = ['novelty', 'benefit', 'feasibility'];
const noteField = (required) => h('label', null, t('note'), h('textarea', { name: 'note', maxlength: 1000, required }));
const withNote = ({ note }) => (note.trim() ? { note: note.trim() } : {});
const person = (who) => `${who.user.split('@')[0]} (${who.mspId})`;

const answer = (context, idea, kind) => ask(t(`idea.${kind}`), [h('p', null, t(`idea.${kind}Text`)), noteField(kind === 'refuse')], {
  confirm: t(`idea.${kind}`),
  kind: kind === 'refuse' ? 'danger' : 'primary',
  send: (values) => act(context, ['ideas', idea.id, kind === 'refuse' ? 'refusal' : 'agreement'], withNote(values)),
});

function assess(context, idea) {
  const scores = [['', '–'], ...Array.from({ length: 10 }, (_, i) => [String(10 - i), String(10 - i)])];
  return ask(t('idea.assess'), [h('p', null, t('idea.assessText')), h('div', { class: 'fields' }, CRITERIA.map((name) => choice(t(`criterion.${name}`), `c:${name}`, scores, ''))), noteField()], {
    confirm: t('idea.assess'),
    send: (values) => {
      const body = { scores: {}, ...withNote(values) };
      for (const name of CRITERIA) if (values[`c:${name}`]) body.scores[name] = Number(values[`c:${name}`]);
      return act(context, ['ideas', idea.id, 'assessments'], body);
    },
  });
}

const reward = (context, idea) => ask(t('idea.reward'), [h('p', null, t('idea.rewardText')),
  h('div', { class: 'fields' }, field(t('milestone.amount'), 'amount', { required: true, inputmode: 'decimal' }), field(t('field.currency'), 'currency', { required: true, value: 'EUR', maxlength: 8 }), field(t('id.own'), 'id', idField)),
  field(t('product.reason'), 'reason', { maxlength: 500 })], {
  confirm: t('idea.reward'),
  send: (values) => {
    const body = { amount: values.amount.trim().replace(',', '.'), currency: values.currency.trim() };
    for (const name of ['id', 'reason']) if (values[name].trim()) body[name] = values[name].trim();
    return act(context, ['ideas', idea.id, 'rewards'], body);
  },
});

function shares(context, idea) {
  const rows = [...idea.authors.map((a) => ({ ...a, who: person(a) })), ...idea.parents.map((p) => ({ ...p, who: link(context.to('idea', p.idea), p.idea) }))];
  return rows.map((row) => {
    const bar = h('b');
    bar.style.width = `${Number(row.share)}%`;
    const said = row.user && (idea.agreedBy.some((a) => a.user === row.user && a.mspId === row.mspId) ? '✓' : idea.refusedBy?.some((a) => a.user === row.user && a.mspId === row.mspId) ? '✕' : '…');
    return h('div', { class: 'meter' }, h('span', null, row.who), h('i', null, bar), h('span', null, `${decimal(String(row.share))} % `, said && h('span', { title: t(said === '✓' ? 'state.agreed' : said === '✕' ? 'state.refused' : 'idea.waits') }, said)));
  });
}

const relatives = (context, list, none) => (list.length ? h('ul', { class: 'tree' }, list.map((one) => {
  const line = h('li', null, link(context.to('idea', one.idea), one.title), h('span', { class: 'small soft' }, ` ${one.share ? `${decimal(String(one.share))} %` : ''}${one.depth > 1 ? ` · ${t('idea.via', { id: one.via })}` : ''}`));
  line.style.paddingLeft = `${(one.depth - 1) * 1.1}rem`;
  return line;
})) : h('p', { class: 'soft' }, none));

function rewardCard(context, idea, one) {
  const confirm = () => act(context, ['ideas', idea.id, 'rewards', one.id, 'confirmation'], {}, t('idea.confirmed'));
  return h('div', { class: 'spaced' }, h('p', null, h('b', null, `${decimal(one.amount)} ${one.currency}`), ` · ${one.by} · `, link(context.to('transaction', one.txId), time(one.at)), one.reason && ` · ${one.reason}`),
    table([
      [t('idea.person'), (p) => person(p)],
      [t('milestone.amount'), (p) => `${decimal(p.amount)} ${one.currency}`, 'number'],
      [t('overview.state'), (p) => p.confirmed ? badge(t('idea.received'), 'good') : isMe(context.me, p) ? h('button', { id: `confirm-${one.id}`, onclick: confirm }, t('idea.confirmReward')) : badge(t('idea.open'))],
    ], one.parts));
}

export async function idea(context, id) {
  context.live((kind, event) => kind === 'chaincode' && event.chaincode === context.me.contracts.ideas);
  const [now, lineage, assessments, rewards] = await Promise.all([
    get(at(context.channel, ['ideas', id])), get(at(context.channel, ['ideas', id, 'lineage'])),
    get(at(context.channel, ['ideas', id, 'assessments'])), get(at(context.channel, ['ideas', id, 'rewards']))]);
  const mine = now.authors.some((a) => isMe(context.me, a));
  const criteria = Object.entries(now.assessment?.criteria ?? {});
  return [
    head(now.title, {
      crumb: [link(context.to('ideas'), t('nav.ideas')), ` / ${now.id}`], badges: [stateBadge(now.state)],
      actions: [
        awaits(context.me, now) && h('button', { class: 'primary', id: 'agree', onclick: () => answer(context, now, 'agree') }, t('idea.agree')),
        awaits(context.me, now) && h('button', { class: 'danger', id: 'refuse', onclick: () => answer(context, now, 'refuse') }, t('idea.refuse')),
        !mine && h('button', { id: 'assess', onclick: () => assess(context, now) }, t('idea.assess')),
        now.state === 'agreed' && h('button', { id: 'reward', onclick: () => reward(context, now) }, t('idea.reward')),
      ],
    }),
    h('div', { class: 'two' },
      h('div', { class: 'stack' },
        now.summary && card(t('idea.summary'), h('p', { class: 'prose' }, now.summary)),
        card(t('idea.shares'), shares(context, now), now.refusedBy?.map((w) => h('blockquote', null, `${person(w)}: ${w.note ?? ''}`))),
        card(t('idea.rewards'), rewards.rewards.length ? rewards.rewards.map((one) => rewardCard(context, now, one)) : h('p', { class: 'soft' }, t('idea.noRewards')))),
      h('div', { class: 'stack' },
        card(t('tx.facts'), facts([[t('idea.by'), person(now.contributedBy)], [t('created'), link(context.to('transaction', now.txId), time(now.createdAt))],
          [t('hash'), now.hash && h('code', null, now.hash)], [t('note'), now.note]])),
        card(t('idea.from'), relatives(context, lineage.ancestors, t('idea.original'))),
        card(t('idea.led'), relatives(context, lineage.descendants, t('idea.nothingYet'))),
        card(t('idea.assessments'), criteria.length ? criteria.map(([name, sums]) => {
          const bar = h('b');
          bar.style.width = `${Number(sums.mean) * 10}%`;
          return h('div', { class: 'meter' }, h('span', null, word('criterion', name)), h('i', null, bar), h('span', null, `${decimal(sums.mean)} (${sums.count})`));
        }) : h('p', { class: 'soft' }, t('idea.noAssessments')),
        (assessments.assessments ?? []).filter((a) => a.note).map((a) => h('blockquote', null, `${person(a.by)}: ${a.note}`))))),
  ];
}
