// One negotiation, as a conversation.
import { at, get } from '../api.js';
import { ask, badge, card, choice, facts, field, h, head, link } from '../dom.js';
import { band, decimal, time } from '../format.js';
import { t, word } from '../i18n.js';
import { act, changes, conditionRows, fieldName, idField, stateBadge, value } from '../parts.js';
import { dealCard } from './deal.js';

const noteField = () => h('label', null, t('note'), h('textarea', { name: 'note', maxlength: 1000 }));

function answer(context, rfq, kind) {
  return ask(t(`rfq.${kind}Title`, { item: rfq.item }), [h('p', null, t(`rfq.${kind}Text`, { price: decimal(rfq.price), currency: rfq.currency })), noteField()], {
    confirm: t(`rfq.${kind}`),
    kind: kind === 'reject' ? 'danger' : 'primary',
    send: ({ note }) => act(context, ['rfqs', rfq.id, kind === 'reject' ? 'rejection' : 'acceptance'], note.trim() ? { note: note.trim() } : {}, t(`rfq.${kind}Done`)),
  });
}

function counter(context, rfq) {
  const conditions = conditionRows(rfq.conditions);
  const plain = ['item', 'quantity', 'price', 'currency'];
  const terms = Object.entries(rfq.terms ?? {});
  const fields = [
    h('div', { class: 'fields' }, plain.map((name) => field(fieldName(name), name, { value: rfq[name], required: true, inputmode: name === 'price' || name === 'quantity' ? 'decimal' : null }))),
    terms.length > 0 && h('div', { class: 'fields' }, terms.map(([name, text]) => field(fieldName(name), `term:${name}`, { value: text }))),
    conditions.set,
    noteField(),
  ];
  const same = (a, b) => (a.min ?? null) === (b.min ?? null) && (a.max ?? null) === (b.max ?? null);
  return ask(t('rfq.counterTitle', { item: rfq.item }), fields, {
    confirm: t('rfq.counter'),
    send: (values) => {
      const changed = [];
      for (const name of plain) {
        const text = name === 'price' || name === 'quantity' ? values[name].trim().replace(',', '.') : values[name].trim();
        if (text !== rfq[name]) changed.push({ field: name, newValue: text });
      }
      for (const [name, text] of terms) {
        if (values[`term:${name}`].trim() !== text) changed.push({ field: name, newValue: values[`term:${name}`].trim() });
      }
      const now = conditions.read();
      const body = {
        changes: {
          fields: changed,
          conditions: now.filter((c) => !rfq.conditions.some((old) => old.field === c.field && same(old, c))),
          removedConditions: rfq.conditions.map((c) => c.field).filter((name) => !now.some((c) => c.field === name)),
        },
      };
      if (values.note.trim()) body.note = values.note.trim();
      return act(context, ['rfqs', rfq.id, 'counter-offers'], body, t('rfq.counterDone'));
    },
  });
}

async function ship(context, rfq) {
  const id = await ask(t('shipment.fromRfq', { item: rfq.item }), [
    h('div', { class: 'fields' }, field(t('id.own'), 'id', idField), field(t('shipment.devices'), 'devices', { placeholder: 'tracker-1, tracker-2' })),
    field(t('shipment.carriers'), 'carriers', { placeholder: 'CarrierMSP' }),
    choice(t('shipment.handoverKind'), 'direct', [['', t('shipment.handoverTwo')], ['yes', t('shipment.handoverOne')]], ''),
  ], {
    confirm: t('shipment.create'),
    send: async ({ id: own, devices, carriers, direct }) => {
      const list = (text) => text.split(',').map((part) => part.trim()).filter(Boolean);
      const body = { rfq: rfq.id, devices: list(devices), carriers: list(carriers), directHandover: direct === 'yes' };
      if (own.trim()) body.id = own.trim();
      if (context.me.contracts.rfq !== 'rfq') body.chaincode = context.me.contracts.rfq;
      return (await act(context, ['shipments'], body, t('shipment.created'))).result.id;
    },
  });
  if (id) context.go('shipment', id);
}

function step(context, one) {
  const mine = one.by === context.me.mspId;
  const closing = one.action === 'accept' || one.action === 'reject';
  return h('li', { class: `${mine ? 'mine' : ''} ${closing ? 'closing' : ''}` },
    h('header', null, h('span', null, h('b', null, word('action', one.action)), ` · ${one.user.split('@')[0]} (${one.by})`), h('a', { href: context.to('transaction', one.txId) }, time(one.at))),
    one.changes.length > 0 && changes(one.changes),
    closing && badge(word('state', one.action === 'accept' ? 'accepted' : 'rejected'), one.action === 'accept' ? 'good' : 'bad'),
    one.note && h('blockquote', null, one.note));
}

function terms(rfq) {
  return facts([
    [fieldName('item'), rfq.item],
    [fieldName('quantity'), decimal(rfq.quantity)],
    [fieldName('price'), `${decimal(rfq.price)} ${rfq.currency}`],
    ...rfq.conditions.map((c) => [fieldName(c.field), band(c)]),
    ...Object.entries(rfq.terms ?? {}).map(([name, text]) => [fieldName(name), value(name, text)]),
  ]);
}

function turn(context, rfq) {
  if (rfq.state === 'accepted') {
    return [h('span', null, t('rfq.agreed')), h('button', { class: 'primary', onclick: () => ship(context, rfq) }, t('shipment.create'))];
  }
  if (rfq.state !== 'open') return [h('span', { class: 'soft' }, t('rfq.ended'))];
  if (rfq.turn !== context.me.mspId) return [h('span', { class: 'soft', role: 'status' }, t('rfq.waiting', { who: rfq.turn }))];
  return [
    h('b', null, t('rfq.yourTurn')),
    h('button', { class: 'primary', id: 'accept', onclick: () => answer(context, rfq, 'accept') }, t('rfq.accept')),
    h('button', { id: 'counter', onclick: () => counter(context, rfq) }, t('rfq.counter')),
    h('button', { class: 'danger', id: 'reject', onclick: () => answer(context, rfq, 'reject') }, t('rfq.reject')),
  ];
}

export async function rfq(context, id) {
  context.live((kind, event) => kind === 'chaincode' && [context.me.contracts.rfq, context.me.contracts.reputation].includes(event.chaincode) && (event.payload?.id === id || event.payload?.id?.split('/')[2] === id));
  const inHouse = context.me.view === 'in-house';
  const now = await get(at(context.channel, ['rfqs', id]));
  const title = head(now.item ?? now.id, { crumb: [link(context.to('rfqs'), t('nav.rfqs')), ` / ${now.id}`], badges: [stateBadge(now.state), badge(`${now.offeror} ↔ ${now.target}`)] });
  if (!inHouse) {
    return [title, card(null, facts([[t('created'), time(now.createdAt)], [t('changed'), time(now.updatedAt)], [t('steps'), now.steps]]), h('p', { class: 'soft' }, t('publicOnly')))];
  }
  const [history, deal] = await Promise.all([
    get(at(context.channel, ['rfqs', id, 'history'])),
    now.state === 'accepted' ? dealCard(context, id) : null,
  ]);
  return [
    title,
    h('div', { class: 'two' },
      h('div', null, h('ol', { class: 'talk', 'aria-label': t('rfq.conversation') }, history.history.map((one) => step(context, one))), deal && h('div', { class: 'spaced' }, deal), h('div', { class: 'turn' }, turn(context, now))),
      card(now.state === 'accepted' ? t('rfq.agreement') : t('rfq.stands'), terms(now))),
  ];
}
