// The deal behind an accepted RFQ: milestones, its end, and the rating that follows.
import { at, get, post } from '../api.js';
import { ask, badge, card, choice, h, link, toast } from '../dom.js';
import { agreedDay, decimal, time } from '../format.js';
import { sha256 } from '../hash.js';
import { t, word } from '../i18n.js';
import { act, stateBadge } from '../parts.js';

const noteField = (required) => h('label', null, t('note'), h('textarea', { name: 'note', maxlength: 1000, required }));
const withNote = ({ note }) => (note.trim() ? { note: note.trim() } : {});

function milestoneRows(initial, parties, supplier) {
  const rows = h('div', { class: 'rows' });
  const add = (m = {}) => {
    const row = h('div', { class: 'row milestone', 'data-id': m.id ?? '' },
      h('input', { 'aria-label': t('milestone.title'), placeholder: t('milestone.title'), 'data-part': 'title', maxlength: 200, value: m.title ?? '' }),
      h('input', { type: 'date', 'aria-label': t('milestone.due'), title: t('milestone.due'), 'data-part': 'due', value: m.due?.slice(0, 10) ?? '' }),
      h('input', { 'aria-label': t('milestone.amount'), placeholder: t('milestone.amount'), 'data-part': 'amount', inputmode: 'decimal', value: m.amount ?? '' }),
      h('select', { 'aria-label': t('milestone.by'), title: t('milestone.by'), 'data-part': 'by' }, parties.map((org) => h('option', { value: org, selected: org === (m.by ?? supplier) }, org))),
      h('button', { type: 'button', class: 'plain', 'aria-label': t('remove'), onclick: () => row.remove() }, '✕'));
    rows.append(row);
  };
  initial.forEach(add);
  const set = h('fieldset', null, h('legend', null, t('deal.milestones')), rows,
    h('button', { type: 'button', class: 'plain', onclick: () => add() }, `+ ${t('milestone.add')}`));
  const read = () => {
    const taken = new Set([...rows.children].map((row) => row.dataset.id));
    let next = 1;
    const free = () => { while (taken.has(`m${next}`)) next += 1; taken.add(`m${next}`); return `m${next}`; };
    return [...rows.children].map((row) => {
      const part = (name) => row.querySelector(`[data-part=${name}]`).value.trim();
      const one = { title: part('title'), by: part('by') };
      if (!one.title) return null;
      one.id = row.dataset.id || free();
      if (part('due')) one.due = `${part('due')}T00:00:00Z`;
      if (part('amount')) one.amount = part('amount').replace(',', '.');
      return one;
    }).filter(Boolean);
  };
  return { set, read };
}

function propose(context, deal) {
  const planned = deal.milestones.length ? deal.milestones : [{}];
  const rows = milestoneRows(planned, [deal.offeror, deal.target], deal.target);
  return ask(t('deal.propose'), [h('p', null, t('deal.proposeText')), rows.set, noteField()], {
    confirm: t('deal.propose'),
    send: (values) => act(context, ['rfqs', deal.id, 'deal', 'milestones'], { milestones: rows.read(), ...withNote(values) }),
  });
}

const plan = (list) => h('ul', { class: 'plain-list' }, list.map((m) => h('li', null, h('b', null, m.title), ` · ${m.by}`,
  m.due && ` · ${agreedDay(m.due)}`, m.amount && ` · ${decimal(m.amount)}`)));

const agree = (context, deal) => ask(t('deal.agree'), [plan(deal.proposal.milestones), noteField()], {
  confirm: t('deal.agree'),
  // Named, so that one agrees to what one has read and to nothing that came later.
  send: (values) => act(context, ['rfqs', deal.id, 'deal', 'agreement'], { proposal: deal.proposal.txId, ...withNote(values) }),
});

function reach(context, deal, milestone) {
  const file = h('input', { type: 'file' });
  return ask(t('deal.reachTitle', { title: milestone.title }), [h('label', null, t('deal.evidence'), file), h('p', { class: 'soft' }, t('certificate.stays')), noteField()], {
    confirm: t('deal.reach'),
    send: async (values) => {
      const body = withNote(values);
      const chosen = file.files[0];
      if (chosen) body.evidence = { hash: await sha256(await chosen.arrayBuffer()), record: chosen.name.slice(0, 128) };
      return act(context, ['rfqs', deal.id, 'deal', 'milestones', milestone.id, 'reached'], body);
    },
  });
}

const judge = (context, deal, milestone, kind) => ask(t(`deal.${kind}Title`, { title: milestone.title }), [noteField(kind === 'refuse')], {
  confirm: t(`deal.${kind}`),
  kind: kind === 'refuse' ? 'danger' : 'primary',
  send: (values) => act(context, ['rfqs', deal.id, 'deal', 'milestones', milestone.id, kind === 'refuse' ? 'refusal' : 'confirmation'], withNote(values)),
});

const finish = (context, deal) => ask(t('deal.finish'), [h('p', null, t('deal.finishText')), noteField()], {
  confirm: t('deal.finish'),
  send: (values) => act(context, ['rfqs', deal.id, 'deal', 'finish'], withNote(values)),
});

const CRITERIA = ['quality', 'punctuality', 'communication'];

function rate(context, deal, other) {
  const scores = (none) => [...(none ? [['', '–']] : []), ...[5, 4, 3, 2, 1].map((n) => [String(n), `${n} · ${t(`score.${n}`)}`])];
  return ask(t('rating.title', { who: other }), [
    h('div', { class: 'fields' }, choice(t('rating.score'), 'score', scores(false), '5'),
      CRITERIA.map((name) => choice(t(`criterion.${name}`), `c:${name}`, scores(true), ''))),
    h('label', null, t('rating.comment'), h('textarea', { name: 'comment', maxlength: 1000 })),
  ], {
    confirm: t('rating.send'),
    send: async (values) => {
      const body = { rfq: deal.id, score: Number(values.score), criteria: {} };
      for (const name of CRITERIA) if (values[`c:${name}`]) body.criteria[name] = Number(values[`c:${name}`]);
      if (values.comment.trim()) body.comment = values.comment.trim();
      if (context.me.contracts.rfq !== 'rfq') body.chaincode = context.me.contracts.rfq;
      await post(at(context.channel, ['ratings']), body);
      toast(t('rating.sent'));
      await context.refresh();
    },
  });
}

/** Whether this organisation has rated the deal; unknown where no reputation contract is deployed. */
async function rated(context, deal, other) {
  let bookmark;
  try {
    do {
      const page = await get(at(context.channel, ['organizations', other, 'ratings'], { limit: 500, bookmark }));
      if (page.ratings.some((r) => r.by === context.me.mspId && r.source === 'rfq' && r.chaincode === context.me.contracts.rfq && r.deal === deal.id)) return true;
      bookmark = page.bookmark;
    } while (bookmark);
    return false;
  } catch {
    return null;
  }
}

function step(context, deal, milestone, isParty) {
  const mine = milestone.by === context.me.mspId;
  const open = isParty && !deal.finished;
  return h('li', { class: milestone.state === 'confirmed' ? 'now' : milestone.state === 'reached' ? null : 'open' },
    h('div', { class: 'head tight' }, h('span', null, h('b', null, milestone.title), h('span', { class: 'small soft' }, ` · ${milestone.by}${milestone.amount ? ` · ${decimal(milestone.amount)} ${deal.currency}` : ''}${milestone.due ? ` · ${t('deal.due', { day: agreedDay(milestone.due) })}` : ''}`)), stateBadge(milestone.state)),
    milestone.evidence && h('div', { class: 'small' }, link(context.to('certificates', milestone.evidence.hash), milestone.evidence.record ?? milestone.evidence.hash.slice(0, 16))),
    open && h('div', { class: 'actions' },
      mine && milestone.state === 'planned' && h('button', { id: `reach-${milestone.id}`, onclick: () => reach(context, deal, milestone) }, t('deal.reach')),
      !mine && milestone.state === 'reached' && [
        h('button', { class: 'primary', id: `confirm-${milestone.id}`, onclick: () => judge(context, deal, milestone, 'confirm') }, t('deal.confirm')),
        h('button', { class: 'danger', id: `refuse-${milestone.id}`, onclick: () => judge(context, deal, milestone, 'refuse') }, t('deal.refuse'))]));
}

/** What the view of an accepted RFQ shows below the conversation. */
export async function dealCard(context, id) {
  const deal = await get(at(context.channel, ['rfqs', id, 'deal']));
  const { mspId } = context.me;
  const isParty = mspId === deal.offeror || mspId === deal.target;
  const other = mspId === deal.offeror ? deal.target : deal.offeror;
  const done = deal.finished && isParty ? await rated(context, deal, other) : null;
  const said = deal.finishAgreedBy.includes(mspId);
  const started = deal.milestones.some((m) => m.state !== 'planned');
  return card([t('deal.title'), ' ', badge(t(deal.finished ? 'deal.finished' : 'deal.running'), deal.finished ? 'good' : 'accent')],
    deal.milestones.length ? h('ol', { class: 'line', 'aria-label': t('deal.milestones') }, deal.milestones.map((m) => step(context, deal, m, isParty))) : h('p', { class: 'soft' }, t('deal.none')),
    deal.proposal && !deal.finished && h('div', { class: 'notice warn spaced' }, h('p', null, t('deal.proposed', { who: deal.proposal.by, time: time(deal.proposal.at) })), plan(deal.proposal.milestones),
      isParty && deal.proposal.by !== mspId && h('button', { class: 'primary', id: 'agree', onclick: () => agree(context, deal) }, t('deal.agree'))),
    !deal.finished && deal.finishAgreedBy.length > 0 && h('p', { class: 'soft' }, t('deal.finishSaid', { who: deal.finishAgreedBy.join(', ') })),
    isParty && h('div', { class: 'actions spaced' },
      !deal.finished && h('button', { id: 'propose', onclick: () => propose(context, deal) }, t(deal.milestones.length || started ? 'deal.change' : 'deal.propose')),
      !deal.finished && !said && h('button', { id: 'finish', onclick: () => finish(context, deal) }, t('deal.finish')),
      deal.finished && done === false && h('button', { class: 'primary', id: 'rate', onclick: () => rate(context, deal, other) }, t('rating.title', { who: other })),
      deal.finished && done && h('a', { class: 'button', href: context.to('partner', other) }, t('rating.see', { who: other }))),
    deal.history.length > 0 && h('details', null, h('summary', null, t('deal.history')), h('ol', { class: 'line' }, deal.history.map((one) => h('li', null,
      h('b', null, word('dealAction', one.action)), one.milestone && ` ${one.milestone}`, ` · ${one.user.split('@')[0]} (${one.by}) · `, link(context.to('transaction', one.txId), time(one.at)),
      one.note && h('blockquote', null, one.note))))));
}
