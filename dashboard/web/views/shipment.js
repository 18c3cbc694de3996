// One shipment: where it went, what was measured, who had it.
import { all, at, get } from '../api.js';
import { lineChart } from '../chart.js';
import { ask, badge, card, empty, facts, h, head, link, table } from '../dom.js';
import { band, decimal, number, time } from '../format.js';
import { t } from '../i18n.js';
import { routeMap } from '../map.js';
import { act, fieldName, orgChoice, stateBadge, value } from '../parts.js';

// A journey with more readings than this is drawn up to here; the summary counts all of them.
const MOST = 20000;
// Violations that are listed at once.
const SHOWN = 8;
// Readings of the last drawing: a long journey is fetched less often.
let drawn = 0;

const noteField = () => h('label', null, t('note'), h('textarea', { name: 'note', maxlength: 1000 }));
const noted = (body, note) => (note.trim() ? { ...body, note: note.trim() } : body);

function handOver(context, one) {
  const parties = [one.shipper, one.consignee, ...one.carriers].filter((org, i, list) => org !== one.holder && list.indexOf(org) === i);
  return ask(t('shipment.handOver'), [orgChoice(t('shipment.to'), 'to', parties), noteField()], {
    confirm: t('shipment.handOver'),
    send: ({ to, note }) => act(context, ['shipments', one.id, 'handover'], noted({ to, direct: one.directHandover }, note)),
  });
}

function confirm(context, one, kind, path) {
  return ask(t(`shipment.${kind}`), [noteField()], {
    confirm: t(`shipment.${kind}`),
    kind: kind === 'refuse' ? 'danger' : 'primary',
    send: ({ note }) => act(context, ['shipments', one.id, ...path], noted({}, note)),
  });
}

function actions(context, one) {
  const me = context.me.mspId;
  const pending = one.custody.pending;
  if (one.status === 'delivered') return [];
  const buttons = [];
  if (pending?.to === me) {
    buttons.push(h('button', { class: 'primary', onclick: () => confirm(context, one, 'accept', ['handover', 'acceptance']) }, t('shipment.accept')),
      h('button', { class: 'danger', onclick: () => confirm(context, one, 'refuse', ['handover', 'refusal']) }, t('shipment.refuse')));
  } else if (one.holder === me) {
    buttons.push(pending ? h('button', { onclick: () => confirm(context, one, 'withdraw', ['handover', 'refusal']) }, t('shipment.withdraw'))
      : h('button', { onclick: () => handOver(context, one) }, t('shipment.handOver')));
  }
  if (me === one.consignee || one.holder === me) buttons.push(h('button', { class: pending ? '' : 'primary', onclick: () => confirm(context, one, 'deliver', ['delivery']) }, t('shipment.deliver')));
  return buttons;
}

function custody(context, one) {
  const { line, pending, deliveredAt } = one.custody;
  return h('ol', { class: 'line' },
    line.map((step, i) => h('li', { class: i === line.length - 1 ? 'now' : '' }, h('b', null, step.holder), ' ',
      step.at === deliveredAt && badge(t('state.delivered'), 'good'),
      h('div', { class: 'small soft' }, link(context.to('transaction', step.txId), time(step.at)), ` · ${step.user.split('@')[0]}`), step.note && h('div', { class: 'small' }, step.note))),
    pending && h('li', { class: 'open' }, h('b', null, pending.to), h('div', { class: 'small soft' }, t('shipment.pending', { time: time(pending.at) }))));
}

function series(readings) {
  const found = new Map();
  for (const reading of readings) {
    const when = Date.parse(reading.time);
    for (const [name, text] of Object.entries(reading.values ?? {})) {
      if (!found.has(name)) found.set(name, []);
      found.get(name).push({ time: when, value: Number(text), violates: (reading.violates ?? []).some((c) => c.field === name) });
    }
  }
  for (const list of found.values()) list.sort((a, b) => a.time - b.time);
  return found;
}

function charts(one, readings, summary) {
  const agreed = new Map(one.conditions.map((c) => [c.field, c]));
  const found = series(readings);
  // What was agreed on comes first.
  const names = [...found.keys()].sort((a, b) => (agreed.has(b) - agreed.has(a)) || a.localeCompare(b));
  return h('div', { class: 'grid charts' }, names.map((name) => {
    const { min, max } = summary.sensors[name] ?? {};
    const limits = agreed.get(name);
    const broken = summary.violationsByField?.[name] ?? 0;
    return h('section', { class: 'card', id: `sensor-${name}` }, h('div', { class: 'head' }, h('h2', null, fieldName(name)),
      limits && badge(broken ? t('shipment.broken', { count: number(broken) }) : t('shipment.held'), broken ? 'bad' : 'good')),
      lineChart(fieldName(name), found.get(name), limits),
      h('p', { class: 'small soft' }, min && t('chart.extremes', { min: decimal(min.value), max: decimal(max.value) }), limits && ` · ${t('agreed')}: ${band(limits)}`));
  }));
}

function violations(context, summary) {
  const rows = (list) => table([
    [t('time'), (v) => time(v.time)],
    [t('condition.sensor'), (v) => fieldName(v.field)],
    [t('measured'), (v) => h('mark', null, decimal(v.value)), 'number'],
    [t('agreedTitle'), (v) => band(v)],
    [t('device'), (v) => v.device],
    ['', (v) => link(context.to('transaction', v.txId), t('proof'))],
  ], list);
  const rest = summary.violations.slice(SHOWN);
  return [rows(summary.violations.slice(0, SHOWN)), rest.length > 0 && h('details', null, h('summary', null, t('andMore', { count: number(rest.length) })), rows(rest))];
}

async function where(readings, summary) {
  if (!summary.route.length) return empty(t('map.none'), t('map.noneText'));
  const marks = readings.filter((r) => r.position && r.violates?.length)
    .map((r) => ({ ...r.position, text: `${time(r.time)}: ${r.violates.map((c) => `${fieldName(c.field)} ${decimal(r.values[c.field])}`).join(', ')}` }));
  return routeMap(summary.route, marks);
}

export async function shipment(context, id) {
  // Readings come without events of their own, but every block may hold some.
  context.live((kind, event) => kind === 'block' || event.chaincode === context.me.contracts.shipment, drawn > 2000 ? 5000 : 1000);
  const one = await get(at(context.channel, ['shipments', id]));
  const crumb = [link(context.to('shipments'), t('nav.shipments')), ` / ${one.id}`];
  if (context.me.view !== 'in-house') {
    return [head(one.id, { crumb, badges: [stateBadge(one.status)] }), card(null, facts([[t('shipment.shipper'), one.shipper], [t('shipment.consignee'), one.consignee], [t('created'), time(one.createdAt)]]), h('p', { class: 'soft' }, t('publicOnly')))];
  }
  const [summary, { items: readings, more }] = await Promise.all([
    get(at(context.channel, ['shipments', id, 'summary'], { maxViolations: 200 })),
    all(context.channel, ['shipments', id, 'readings'], 'readings', { question: { limit: 1000 }, bookmark: 'from', most: MOST }),
  ]);
  drawn = readings.length;
  const held = summary.conditionsHeld;
  return [
    head(one.goods, {
      crumb,
      badges: [stateBadge(one.status), one.conditions.length > 0 && summary.readings > 0 && badge(held ? t('shipment.conditionsHeld') : t('shipment.conditionsBroken', { count: number(summary.violationCount) }), held ? 'good' : 'bad'),
        summary.onTime === true && badge(t('shipment.onTime'), 'good'), summary.onTime === false && badge(t('shipment.late'), 'bad')],
      actions: [actions(context, one), h('a', { class: 'button', href: at(context.channel, ['shipments', id, 'epcis']), download: `${id}.epcis.json`, title: t('shipment.epcis') }, 'EPCIS')],
    }),
    h('div', { class: 'two' },
      h('div', { class: 'stack' }, card(t('shipment.route'), await where(readings, summary))),
      h('div', { class: 'stack' },
        card(t('shipment.custody'), custody(context, one)),
        card(t('shipment.facts'), facts([
          [t('shipment.shipper'), one.shipper], [t('shipment.consignee'), one.consignee], [t('shipment.carriers'), one.carriers.join(', ')],
          [t('field.quantity'), one.quantity && decimal(one.quantity)], [t('shipment.devices'), one.devices.map((d) => d.id).join(', ')],
          [t('shipment.readings'), number(summary.readings)], [t('shipment.missing'), number(summary.streams.reduce((n, s) => n + s.missing, 0))],
          [t('shipment.deliverBy'), one.deliverBy && value('deliverBy', one.deliverBy)], ...Object.entries(one.terms ?? {}).filter(([name]) => name !== 'deliveryDate' || !one.deliverBy).map(([name, text]) => [fieldName(name), value(name, text)]),
          [t('search.rfq'), one.rfq && link(context.to('rfq', one.rfq.id), one.rfq.id)]])))),
    h('div', { class: 'spaced' }, summary.readings > 0 ? charts(one, readings, summary) : empty(t('shipment.noReadings'), t('shipment.noReadingsText'))),
    summary.violationCount > 0 && h('section', { class: 'card spaced', id: 'violations' }, h('h2', null, t('shipment.violations', { count: number(summary.violationCount) })), violations(context, summary)),
    more && h('p', { class: 'soft' }, t('shipment.shortened', { count: number(MOST) })),
  ];
}
