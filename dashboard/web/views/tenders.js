// Tenders: one buyer asks many suppliers.
import { at, get, post } from '../api.js';
import { ask, badge, empty, field, h, head, toast } from '../dom.js';
import { ago, decimal, time } from '../format.js';
import { t } from '../i18n.js';
import { conditionRows, idField, others, stateBadge } from '../parts.js';

const STATES = ['', 'open', 'revealing', 'revealed', 'awarded', 'cancelled'];
let chosen = '';

/** What a date and time field holds is in the reader's zone. */
const moment = (text) => new Date(text).toISOString();

async function open(context) {
  const partners = await others(context);
  const conditions = conditionRows();
  const fields = [
    field(t('field.item'), 'item', { required: true, maxlength: 200 }),
    h('div', { class: 'fields' },
      field(t('field.quantity'), 'quantity', { required: true, inputmode: 'decimal' }),
      field(t('field.currency'), 'currency', { required: true, value: 'EUR', maxlength: 8 }),
      field(t('field.deliveryDate'), 'deliveryDate', { type: 'date' })),
    h('fieldset', null, h('legend', null, t('tender.suppliers')), h('div', { class: 'actions' }, partners.map((org) =>
      h('label', { class: 'check' }, h('input', { type: 'checkbox', value: org, 'data-supplier': '', checked: partners.length === 1 }), org)))),
    h('div', { class: 'fields' },
      field(t('tender.deadline'), 'deadline', { type: 'datetime-local' }),
      field(t('id.own'), 'id', idField)),
    field(t('tender.criteria'), 'criteria', { maxlength: 1000, placeholder: t('tender.criteriaHint') }),
    conditions.set,
  ];
  const id = await ask(t('tender.new'), fields, {
    confirm: t('tender.open'),
    send: async (values, form) => {
      const body = { conditions: conditions.read(), suppliers: [...form.querySelectorAll('[data-supplier]:checked')].map((box) => box.value) };
      for (const [name, text] of Object.entries(values)) if (text.trim()) body[name] = text.trim();
      body.quantity = body.quantity.replace(',', '.');
      if (body.deliveryDate) body.deliveryDate += 'T00:00:00Z';
      if (body.deadline) body.deadline = moment(body.deadline);
      return (await post(at(context.channel, ['tenders']), body)).result.id;
    },
  });
  if (id) {
    toast(t('tender.opened'));
    context.go('tender', id);
  }
}

/** Whether the organisation is asked to do something now. */
export function isMyTurn(me, tender) {
  if (!me.signedIn || !tender.suppliers) return false;
  const mine = tender.suppliers.find((s) => s.mspId === me.mspId);
  if (tender.state === 'open') {
    // When everybody has answered, the buyer is the only one who is waited for.
    const all = tender.buyer === me.mspId && tender.suppliers.every((s) => s.state !== 'invited') && !(new Date(tender.deadline ?? 0) > new Date());
    return all || (mine?.state === 'invited' && !mine.agreedToClose);
  }
  if (tender.state === 'revealing' && mine?.state === 'sealed') return true;
  return tender.buyer === me.mspId && tender.readyToAward && !tender.awarded;
}

function item(context, tender) {
  const answered = tender.suppliers?.filter((s) => s.state !== 'invited').length;
  return h('li', null, h('a', { class: 'item', href: context.to('tender', tender.id) },
    h('span', { class: 'title' }, tender.item ?? tender.id),
    h('span', { class: 'badges' }, isMyTurn(context.me, tender) && badge(t('rfq.yourTurn'), 'warn'), stateBadge(tender.state)),
    h('span', { class: 'meta' }, tender.buyer,
      tender.quantity !== undefined && ` · ${decimal(tender.quantity)} · ${t('tender.answered', { count: answered, of: tender.suppliers.length })}`,
      tender.deadline && ` · ${t('tender.until', { time: time(tender.deadline) })}`, ` · ${ago(tender.updatedAt)}`)));
}

export async function tenders(context) {
  context.live((kind, event) => kind === 'chaincode' && event.chaincode === context.me.contracts.rfq);
  const page = await get(at(context.channel, ['tenders'], { state: chosen, limit: 200 }));
  const list = page.tenders.sort((a, b) => (a.updatedAt < b.updatedAt ? 1 : -1));
  const inHouse = context.me.view === 'in-house';
  return [
    head(t('nav.tenders'), { actions: inHouse ? [h('button', { class: 'primary', onclick: () => open(context).catch((e) => toast(e.message, 'bad')) }, t('tender.new'))] : [] }),
    h('div', { class: 'tabs', role: 'group', 'aria-label': t('filter') }, STATES.map((state) =>
      h('button', { id: `state-${state}`, 'aria-pressed': String(state === chosen), onclick: () => { chosen = state; context.refresh(); } }, t(state ? `state.${state}` : 'all')))),
    list.length ? h('ul', { class: 'list' }, list.map((tender) => item(context, tender))) : empty(t('tender.none'), t('tender.noneText')),
    page.bookmark && h('p', { class: 'soft' }, t('list.more')),
  ];
}
