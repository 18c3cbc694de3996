// Requests for quotation: which there are, and a new one.
import { at, get, post } from '../api.js';
import { ask, badge, empty, field, h, head, toast } from '../dom.js';
import { ago, decimal } from '../format.js';
import { t } from '../i18n.js';
import { conditionRows, idField, orgChoice, others, stateBadge } from '../parts.js';

async function offer(context) {
  const partners = await others(context);
  const conditions = conditionRows([{}]);
  const fields = [
    field(t('field.item'), 'item', { required: true, maxlength: 200 }),
    h('div', { class: 'fields' },
      field(t('field.quantity'), 'quantity', { required: true, inputmode: 'decimal' }),
      field(t('field.price'), 'price', { required: true, inputmode: 'decimal' }),
      field(t('field.currency'), 'currency', { required: true, value: 'EUR', maxlength: 8 })),
    h('div', { class: 'fields' }, orgChoice(t('rfq.target'), 'target', partners),
      field(t('field.deliveryDate'), 'deliveryDate', { type: 'date' }),
      field(t('id.own'), 'id', idField)),
    conditions.set,
  ];
  const id = await ask(t('rfq.new'), fields, {
    confirm: t('rfq.send'),
    send: async (values) => {
      const body = { conditions: conditions.read() };
      for (const [name, text] of Object.entries(values)) if (text.trim()) body[name] = text.trim();
      for (const name of ['price', 'quantity']) body[name] = body[name].replace(',', '.');
      if (body.deliveryDate) body.deliveryDate += 'T00:00:00Z';
      const answer = await post(at(context.channel, ['rfqs']), body);
      return answer.result.id;
    },
  });
  if (id) {
    toast(t('rfq.sent'));
    context.go('rfq', id);
  }
}

let chosen = '';

function item(context, rfq) {
  const mine = rfq.turn === context.me.mspId && context.me.signedIn;
  return h('li', null, h('a', { class: 'item', href: context.to('rfq', rfq.id) },
    h('span', { class: 'title' }, rfq.item ?? rfq.id),
    h('span', { class: 'badges' }, mine && badge(t('rfq.yourTurn'), 'warn'), stateBadge(rfq.state)),
    h('span', { class: 'meta' }, `${rfq.offeror} ↔ ${rfq.target}`,
      rfq.price !== undefined && ` · ${decimal(rfq.quantity)} × ${decimal(rfq.price)} ${rfq.currency}`, ` · ${ago(rfq.updatedAt)}`)));
}

export async function rfqs(context) {
  context.live((kind, event) => kind === 'chaincode' && event.chaincode === context.me.contracts.rfq);
  const page = await get(at(context.channel, ['rfqs'], { state: chosen, limit: 200 }));
  const list = page.rfqs.sort((a, b) => (a.updatedAt < b.updatedAt ? 1 : -1));
  const inHouse = context.me.view === 'in-house';
  return [
    head(t('nav.rfqs'), { actions: inHouse ? [h('button', { class: 'primary', onclick: () => offer(context).catch((e) => toast(e.message, 'bad')) }, t('rfq.new'))] : [] }),
    h('div', { class: 'tabs', role: 'group', 'aria-label': t('filter') }, ['', 'open', 'accepted', 'rejected'].map((state) =>
      h('button', { id: `state-${state}`, 'aria-pressed': String(state === chosen), onclick: () => { chosen = state; context.refresh(); } }, t(state ? `state.${state}` : 'all')))),
    list.length ? h('ul', { class: 'list' }, list.map((rfq) => item(context, rfq))) : empty(t('rfq.none'), t('rfq.noneText')),
    page.bookmark && h('p', { class: 'soft' }, t('list.more')),
  ];
}
