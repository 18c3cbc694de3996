// One product: where it is, what was done to it, what is in it.
import { at, get } from '../api.js';
import { ask, badge, card, choice, facts, field, h, head, link } from '../dom.js';
import { decimal, time } from '../format.js';
import { t, word } from '../i18n.js';
import { act, stateBadge } from '../parts.js';

const noteField = () => h('label', null, t('note'), h('textarea', { name: 'note', maxlength: 1000 }));

function report(context, product, operation) {
  const places = (list) => (list ?? []).map((p) => [JSON.stringify(p), `${p.station} · ${p.task}`]);
  const next = places(operation?.next);
  const rework = places(operation?.rework);
  return ask(t('product.stepTitle', { station: product.station, task: product.task }), [
    h('div', { class: 'fields' },
      choice(t('product.result'), 'result', [['passed', t('result.passed')], ['failed', t('result.failed')]], 'passed'),
      next.length > 1 && choice(t('product.next'), 'next', next),
      rework.length > 1 && choice(t('product.rework'), 'rework', rework)),
    field(t('product.parts'), 'parts', { placeholder: t('product.partsHint') }),
    noteField(),
  ], {
    confirm: t('product.step'),
    send: (values) => {
      const body = { station: product.station, task: product.task, result: values.result };
      const way = values.result === 'passed' ? values.next : values.rework;
      if (way) body.next = JSON.parse(way);
      const parts = values.parts.split(',').map((p) => p.trim()).filter(Boolean);
      if (parts.length) body.parts = parts.map((p) => (p.startsWith('batch:') ? { batch: p.slice(6).trim() } : { product: p }));
      if (values.note.trim()) body.note = values.note.trim();
      return act(context, ['products', product.id, 'steps'], body, t('product.stepDone'));
    },
  });
}

const withReason = (context, product, kind) => ask(t(`product.${kind}`), [h('label', null, t('product.reason'), h('textarea', { name: 'reason', required: true }))], {
  confirm: t(`product.${kind}`),
  kind: 'danger',
  send: ({ reason }) => act(context, ['products', product.id, kind === 'setAside' ? 'set-aside' : 'scrap'], { reason }),
});

function release(context, product, route) {
  const places = (route?.operations ?? []).map((o) => [JSON.stringify({ station: o.station, task: o.task }), `${o.station} · ${o.task}`]);
  return ask(t('product.release'), [choice(t('process.place'), 'place', places), noteField()], {
    confirm: t('product.release'),
    send: ({ place, note }) => act(context, ['products', product.id, 'release'], { ...JSON.parse(place), ...(note.trim() ? { note: note.trim() } : {}) }),
  });
}

function entry(context, one) {
  return h('li', null,
    h('b', null, word('action', one.action)), one.station && ` · ${one.station} · ${one.task}`, ' ',
    one.result && badge(t(`result.${one.result}`), one.result === 'passed' ? 'good' : 'bad'),
    one.parts?.length > 0 && h('div', { class: 'small' }, t('product.built'), ' ', one.parts.map((p, i) => [i > 0 && ', ', p.product ? link(context.to('product', p.product), p.product) : p.batch])),
    one.quality?.values && h('div', { class: 'small' }, Object.entries(one.quality.values).map(([name, v]) => `${name} ${decimal(v)}`).join(' · ')),
    one.note && h('div', { class: 'small' }, one.note),
    h('div', { class: 'small soft' }, one.txId ? link(context.to('transaction', one.txId), time(one.at)) : time(one.at), one.user && ` · ${one.user.split('@')[0]} (${one.by})`));
}

export async function product(context, id) {
  context.live((kind, event) => kind === 'chaincode' && event.chaincode === context.me.contracts.process && JSON.stringify(event.payload).includes(id));
  const [now, past] = await Promise.all([get(at(context.channel, ['products', id])), get(at(context.channel, ['products', id, 'history']))]);
  const inHouse = now.view !== 'public' && context.me.view === 'in-house';
  const route = inHouse && now.route ? await get(at(context.channel, ['routes', now.route], { version: now.routeVersion })) : null;
  const operation = route?.operations.find((o) => o.station === now.station && o.task === now.task);
  return [
    head(now.id, {
      crumb: [link(context.to('process'), t('nav.process')), ` / ${now.order}`],
      badges: [stateBadge(now.state), now.item && badge(now.item)],
      actions: [
        inHouse && now.state === 'waiting' && h('button', { class: 'primary', onclick: () => report(context, now, operation) }, t('product.step')),
        inHouse && now.state === 'waiting' && h('button', { onclick: () => withReason(context, now, 'setAside') }, t('product.setAside')),
        inHouse && now.state === 'setAside' && h('button', { class: 'primary', onclick: () => release(context, now, route) }, t('product.release')),
        inHouse && now.state === 'setAside' && h('button', { class: 'danger', onclick: () => withReason(context, now, 'scrap') }, t('product.scrap')),
        h('a', { class: 'button', href: context.to('genealogy', now.id) }, t('nav.genealogy')),
      ],
    }),
    h('div', { class: 'two' },
      card(t('product.history'), h('ol', { class: 'line' }, past.history.map((one) => entry(context, one)),
        now.state === 'waiting' && now.station && h('li', { class: 'open' }, h('b', null, t('product.waits')), ` ${now.station} · ${now.task}`))),
      card(t('tx.facts'), facts([
        [t('order'), now.order], [t('process.route'), now.route && `${now.route} (${now.routeVersion})`], [t('process.place'), now.station && `${now.station} · ${now.task}`],
        [t('product.reason'), now.reason], [t('product.in'), now.builtInto && link(context.to('product', now.builtInto), now.builtInto)], [t('steps'), now.steps], [t('created'), time(now.startedAt)], [t('changed'), time(now.updatedAt)]]))),
  ];
}
