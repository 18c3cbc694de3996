// Shipments: which there are, and a new one.
import { at, get, post } from '../api.js';
import { ask, badge, empty, field, h, head, toast } from '../dom.js';
import { ago, decimal } from '../format.js';
import { t } from '../i18n.js';
import { conditionRows, idField, orgChoice, others, stateBadge } from '../parts.js';

let chosen = '';

async function create(context) {
  const partners = await others(context);
  const conditions = conditionRows([{}]);
  const id = await ask(t('shipment.new'), [
    h('div', { class: 'fields' }, field(t('field.goods'), 'goods', { required: true }), field(t('field.quantity'), 'quantity', { inputmode: 'decimal' })),
    h('div', { class: 'fields' }, orgChoice(t('shipment.consignee'), 'consignee', partners), field(t('id.own'), 'id', idField)),
    field(t('shipment.devices'), 'devices', { placeholder: 'tracker-1, tracker-2' }),
    conditions.set,
  ], {
    confirm: t('shipment.create'),
    send: async (values) => {
      const body = { conditions: conditions.read(), devices: values.devices.split(',').map((d) => d.trim()).filter(Boolean) };
      for (const name of ['goods', 'consignee', 'id']) if (values[name].trim()) body[name] = values[name].trim();
      if (values.quantity.trim()) body.quantity = values.quantity.trim().replace(',', '.');
      return (await post(at(context.channel, ['shipments']), body)).result.id;
    },
  });
  if (id) {
    toast(t('shipment.created'));
    context.go('shipment', id);
  }
}

function item(context, one) {
  const mine = one.custody?.pending?.to === context.me.mspId && context.me.signedIn;
  return h('li', null, h('a', { class: 'item', href: context.to('shipment', one.id) },
    h('span', { class: 'title' }, one.goods ?? one.id),
    h('span', { class: 'badges' }, mine && badge(t('shipment.offered'), 'warn'), stateBadge(one.status)),
    h('span', { class: 'meta' }, `${one.id} · ${one.shipper} → ${one.consignee}`, one.quantity !== undefined && ` · ${decimal(one.quantity)}`, ` · ${ago(one.createdAt)}`)));
}

export async function shipments(context) {
  context.live((kind, event) => kind === 'chaincode' && event.chaincode === context.me.contracts.shipment && event.name !== 'shipment.violation');
  const page = await get(at(context.channel, ['shipments'], { status: chosen, limit: 200 }));
  const list = page.shipments.sort((a, b) => (a.createdAt < b.createdAt ? 1 : -1));
  return [
    head(t('nav.shipments'), { actions: context.me.view === 'in-house' ? [h('button', { class: 'primary', onclick: () => create(context).catch((e) => toast(e.message, 'bad')) }, t('shipment.new'))] : [] }),
    h('div', { class: 'tabs', role: 'group', 'aria-label': t('filter') }, ['', 'created', 'inTransit', 'delivered'].map((state) =>
      h('button', { id: `state-${state}`, 'aria-pressed': String(state === chosen), onclick: () => { chosen = state; context.refresh(); } }, t(state ? `state.${state}` : 'all')))),
    list.length ? h('ul', { class: 'list' }, list.map((one) => item(context, one))) : empty(t('shipment.none'), t('shipment.noneText')),
    page.bookmark && h('p', { class: 'soft' }, t('list.more')),
  ];
}
