// One tender: who was asked, who has answered, what was offered, and what is to be done now.
import { at, get } from '../api.js';
import { ask, badge, card, facts, field, h, head, link, table, toast } from '../dom.js';
import { band, decimal, time } from '../format.js';
import { t, word } from '../i18n.js';
import { act, conditionRows, fieldName, idField, stateBadge, value } from '../parts.js';
import { download, forgetSeal, opener, seal } from '../seal.js';

const noteField = () => h('label', null, t('note'), h('textarea', { name: 'note', maxlength: 1000 }));
const withNote = ({ note }) => (note.trim() ? { note: note.trim() } : {});

function sealOffer(context, tender) {
  const conditions = conditionRows(tender.conditions);
  const terms = Object.entries(tender.terms ?? {});
  return ask(t('tender.sealTitle', { item: tender.item }), [
    h('p', null, t('tender.sealText')),
    h('div', { class: 'fields' }, field(`${t('field.price')} (${tender.currency})`, 'price', { required: true, inputmode: 'decimal' }),
      terms.map(([name, text]) => field(fieldName(name), `term:${name}`, { value: text }))),
    conditions.set,
    noteField(),
  ], {
    confirm: t('tender.seal'),
    send: async (values) => {
      const same = (a, b) => (a.min ?? null) === (b.min ?? null) && (a.max ?? null) === (b.max ?? null);
      const changed = conditions.read().filter((c) => !tender.conditions.some((old) => old.field === c.field && same(old, c)));
      const offer = { price: values.price.trim().replace(',', '.'), ...(changed.length ? { conditions: changed } : {}), ...withNote(values) };
      for (const [name, text] of terms) if (values[`term:${name}`].trim() !== text) offer[name] = values[`term:${name}`].trim();
      // Kept before it is sent: a seal that nobody can open would be worse than none.
      const made = await seal(context.channel, tender.id, context.me.mspId, JSON.stringify(offer));
      await act(context, ['tenders', tender.id, 'seals'], { commitment: made.commitment }, t('tender.sealed'));
      download(made.kept);
    },
  });
}

const send = (context, tender, kept) => act(context, ['tenders', tender.id, 'reveals'], { offer: kept.offer, salt: kept.salt }, t('tender.revealed'));

async function reveal(context, tender, mine) {
  const kept = await opener(context.channel, tender.id, context.me.mspId, mine.commitment);
  const file = h('input', { type: 'file', name: 'file', accept: '.json,application/json', required: true });
  const done = await ask(t('tender.revealTitle'), kept
    ? [h('p', null, t('tender.revealText')), h('pre', null, kept.offer)]
    : [h('p', null, t('tender.revealFile')), h('label', null, t('tender.file', { name: `${tender.id}.sealed.json` }), file)], {
    confirm: t('tender.reveal'),
    send: async () => {
      if (kept) return send(context, tender, kept);
      let read;
      try {
        read = JSON.parse(await file.files[0].text());
      } catch {
        throw new Error(t('tender.fileWrong'));
      }
      if (typeof read?.offer !== 'string' || typeof read?.salt !== 'string') throw new Error(t('tender.fileWrong'));
      return send(context, tender, read);
    },
  });
  if (done) forgetSeal(context.channel, tender.id, context.me.mspId);
}

const simply = (context, tender, name, path, kind) => ask(t(`tender.${name}Title`), [h('p', null, t(`tender.${name}Text`)), noteField()], {
  confirm: t(`tender.${name}`),
  kind,
  send: (values) => act(context, ['tenders', tender.id, path], withNote(values)),
});

async function award(context, tender, answer) {
  const rfq = await ask(t('tender.awardTitle', { who: answer.mspId }), [
    h('p', null, t('tender.awardText', { price: decimal(answer.offer.price), currency: tender.currency })),
    field(t('tender.rfqId'), 'rfq', { ...idField, placeholder: tender.id }), noteField(),
  ], {
    confirm: t('tender.award'),
    send: async (values) => {
      const body = { supplier: answer.mspId, ...withNote(values) };
      if (values.rfq.trim()) body.rfq = values.rfq.trim();
      return (await act(context, ['tenders', tender.id, 'award'], body, t('tender.awarded'))).result.rfq;
    },
  });
  if (rfq) context.go('rfq', rfq);
}

/** What the reader can do now. */
function turn(context, tender) {
  const { mspId } = context.me;
  const mine = tender.suppliers.find((s) => s.mspId === mspId);
  const isBuyer = tender.buyer === mspId;
  const button = (id, name, onclick, kind = '') => h('button', { id, class: kind, onclick }, t(`tender.${name}`));
  const parts = [];
  const bidding = tender.state === 'open';
  const agreed = isBuyer ? tender.buyerAgreedToClose : mine?.agreedToClose;
  if (bidding && mine && !agreed && mine.state !== 'declined') {
    parts.push(button('seal', mine.state === 'sealed' ? 'sealAgain' : 'seal', () => sealOffer(context, tender), mine.state === 'sealed' ? '' : 'primary'));
    if (mine.state === 'invited') parts.push(button('decline', 'decline', () => simply(context, tender, 'decline', 'declination', 'danger'), 'danger'));
  }
  if (tender.state === 'revealing' && mine?.state === 'sealed') {
    parts.push(button('reveal', 'reveal', () => reveal(context, tender, mine).catch((e) => toast(e.message, 'bad')), 'primary'));
  }
  const early = bidding && tender.deadline && new Date(tender.deadline) > new Date();
  const takesPart = isBuyer || (mine && mine.state !== 'declined' && (bidding || mine.state !== 'invited'));
  if ((bidding || (tender.state === 'revealing' && !tender.readyToAward)) && takesPart) {
    const name = bidding ? 'close' : 'closeReveal';
    if (agreed) parts.push(h('span', { class: 'soft' }, t('tender.youAgreed')));
    else if (early) parts.push(h('span', { class: 'soft' }, t('tender.tooEarly', { time: time(tender.deadline) })));
    else parts.push(button('close', name, () => simply(context, tender, name, 'closure', 'primary')));
  }
  if (isBuyer && tender.readyToAward && !tender.awarded) parts.unshift(h('b', null, t('tender.choose')));
  if (isBuyer && ['open', 'revealing', 'revealed'].includes(tender.state)) {
    parts.push(button('cancel', 'cancel', () => simply(context, tender, 'cancel', 'cancellation', 'danger'), 'danger'));
  }
  if (tender.rfq) parts.push(h('a', { class: 'button primary', href: context.to('rfq', tender.rfq) }, t('tender.toDeal')));
  return parts.length ? h('div', { class: 'turn' }, parts) : null;
}

function terms(tender, offer) {
  const conditions = offer.conditions.map((c) => `${fieldName(c.field)} ${band(c)}`);
  const other = Object.entries(offer.terms ?? {}).map(([name, text]) => `${fieldName(name)} ${value(name, text)}`);
  return [[...conditions, ...other].join(' · '), offer.note && h('blockquote', null, offer.note)];
}

function answers(context, tender) {
  const canAward = tender.buyer === context.me.mspId && tender.readyToAward && !tender.awarded;
  const offers = tender.suppliers.filter((s) => s.offer);
  const revealed = offers.length > 0;
  // Compared as numbers only to order them; what is shown is the text of the ledger.
  const list = [...tender.suppliers].sort((a, b) => (a.offer ? Number(a.offer.price) : Infinity) - (b.offer ? Number(b.offer.price) : Infinity) || 0);
  return table([
    [t('tender.supplier'), (s) => [s.mspId, ' ', s.mspId === tender.awarded && badge(t('state.awarded'), 'good')]],
    [t('overview.state'), (s) => [stateBadge(s.state), ' ', s.agreedToClose && badge(t('tender.agrees'))]],
    [t('tender.sealedAt'), (s) => time(s.sealedAt)],
    ...(revealed ? [
      [t('field.price'), (s) => s.offer ? h('b', null, `${decimal(s.offer.price)} ${tender.currency}`) : '–', 'number'],
      [t('tender.terms'), (s) => s.offer ? terms(tender, s.offer) : '–'],
    ] : []),
    ...(canAward ? [['', (s) => s.offer && h('button', { class: 'primary', id: `award-${s.mspId}`, onclick: () => award(context, tender, s) }, t('tender.award'))]] : []),
  ], list);
}

export async function tender(context, id) {
  context.live((kind, event) => kind === 'chaincode' && event.chaincode === context.me.contracts.rfq && event.payload?.id === id);
  const now = await get(at(context.channel, ['tenders', id]));
  const title = head(now.item ?? now.id, { crumb: [link(context.to('tenders'), t('nav.tenders')), ` / ${now.id}`], badges: [stateBadge(now.state), badge(now.buyer)] });
  if (context.me.view !== 'in-house') {
    return [title, card(null, facts([[t('tender.buyer'), now.buyer], [t('tender.deadline'), now.deadline && time(now.deadline)], [t('created'), time(now.createdAt)], [t('changed'), time(now.updatedAt)]]), h('p', { class: 'soft' }, t('publicOnly')))];
  }
  const past = await get(at(context.channel, ['tenders', id, 'history']));
  return [
    title,
    h('div', { class: 'notice spaced-below', role: 'status' }, t(`tender.phase.${now.state}`, { quorum: now.quorum, who: now.awarded ?? '' })),
    h('div', { class: 'two' },
      h('div', { class: 'stack' },
        card(t('tender.answers'), answers(context, now)),
        card(t('product.history'), h('ol', { class: 'line' }, past.history.map((one) => h('li', null,
          h('b', null, word('tenderAction', one.action)), ` · ${one.user.split('@')[0]} (${one.by}) · `, link(context.to('transaction', one.txId), time(one.at)),
          one.commitment && h('div', { class: 'small soft' }, `${t('tender.commitment')} `, h('code', { title: one.commitment }, `${one.commitment.slice(0, 16)}…`)),
          one.note && h('blockquote', null, one.note))))),
        turn(context, now)),
      card(t('tender.asked'), facts([
        [t('tender.buyer'), now.buyer], [fieldName('item'), now.item], [fieldName('quantity'), decimal(now.quantity)], [fieldName('currency'), now.currency],
        [t('tender.deadline'), now.deadline && time(now.deadline)], [t('tender.revealBy'), now.revealBy && time(now.revealBy)],
        [t('tender.quorum'), now.quorum], [t('tender.criteria'), now.criteria],
        ...now.conditions.map((c) => [fieldName(c.field), band(c)]),
        ...Object.entries(now.terms ?? {}).map(([name, text]) => [fieldName(name), value(name, text)])]))),
  ];
}
