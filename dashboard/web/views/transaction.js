// One transaction, told in words.
import { at, get } from '../api.js';
import { badge, card, code, facts, h, head, json, link, table } from '../dom.js';
import { bytes, short, signer, time } from '../format.js';
import { t, word } from '../i18n.js';
import { verdictBadge } from './block.js';

function story(tx, call) {
  const valid = tx.validation.valid;
  const writes = call.writes.length;
  return h('ol', { class: 'line' },
    h('li', null, t('tx.asked', { who: signer(tx.creator), function: call.function, chaincode: call.chaincode, time: time(tx.time) })),
    h('li', null, call.endorsers.length ? t('tx.endorsed', { who: call.endorsers.map(signer).join(', '), status: call.status }) : t('tx.notEndorsed')),
    h('li', null, t('tx.ordered', { block: tx.block, position: tx.position })),
    h('li', { class: 'now' }, h('b', null, valid ? t('tx.valid', { count: writes }) : t('tx.invalid', { code: tx.validation.name })), ' ',
      !valid && (tx.reason ?? word('verdict', tx.validation.name))));
}

function keys(list, columns) {
  return table([[t('tx.namespace'), (k) => [k.namespace, k.collection && ` / ${k.collection}`]], [t('tx.key'), (k) => code(k.key)], ...columns], list);
}

function calls(tx) {
  return tx.calls.map((call) => h('div', { class: 'stack' },
    card(t('tx.story'), story(tx, call)),
    call.args.length > 0 && card(t('tx.arguments'), h('div', { class: 'stack' }, call.args.map((arg) => json(arg)))),
    call.result !== null && card(t('tx.result'), json(call.result)),
    call.event && card(t('tx.event', { name: call.event.name }), json(call.event.payload)),
    call.writes.length > 0 && card(tx.validation.valid ? t('tx.writes') : t('tx.wouldWrite'), keys(call.writes, [
      [t('value'), (w) => w.deleted ? badge(t('tx.deleted'), 'warn') : w.value === undefined ? h('span', { class: 'soft' }, t('tx.private')) : h('details', null, h('summary', null, code(short(JSON.stringify(w.value)))), json(w.value))]])),
    call.reads.length > 0 && card(t('tx.reads'), keys(call.reads, [
      [t('tx.version'), (r) => r.version ? t('tx.asOf', { block: r.version[0], position: r.version[1] }) : t('tx.absent')]])),
    call.ranges.length > 0 && card(t('tx.ranges'), table([[t('tx.namespace'), (r) => r.namespace], [t('tx.from'), (r) => code(r.start)], [t('tx.to'), (r) => code(r.end)]], call.ranges))));
}

export async function transaction(context, id) {
  const tx = await get(at(context.channel, ['transactions', id]));
  const v = tx.validation;
  const explained = h('div', { class: `notice ${v.valid ? 'good' : 'bad'}` },
    h('b', null, `${v.name} (${v.code})`), h('p', null, word('verdict', v.name)), !v.valid && tx.reason && h('p', null, t('tx.reason', { reason: tx.reason })), !v.valid && h('p', null, word('advice', v.name) === v.name ? t('advice.usual') : word('advice', v.name)));
  return [
    head(tx.calls?.length ? `${tx.calls[0].chaincode} · ${tx.calls[0].function}` : word('kind', tx.kind), {
      crumb: [link(context.to('blocks'), t('nav.blocks')), ' / ', link(context.to('block', tx.block), `#${tx.block}`), ` / ${tx.position}`], badges: [verdictBadge(v)] }),
    h('div', { class: 'two' },
      h('div', { class: 'stack' }, tx.calls?.length ? calls(tx)
        : card(t('tx.story'), h('p', null, tx.kind === 'CONFIG' && tx.creator ? t('tx.config', { sequence: tx.configuration ?? '–', who: (tx.signers ?? []).map(signer).join(', ') || signer(tx.creator) }) : tx.creator ? word('kind', tx.kind) : t('publicOnly')))),
      h('div', { class: 'stack' }, card(t('verdict'), explained), card(t('tx.facts'), facts([
        [t('transaction'), code(tx.id || '–')], [t('block'), link(context.to('block', tx.block), `#${tx.block}`)], [t('tx.position'), tx.position], [t('time'), time(tx.time)],
        [t('creator'), tx.creator && signer(tx.creator)], [t('size'), tx.bytes && bytes(tx.bytes)],
        [t('tx.duplicates'), tx.duplicates && tx.duplicates.map((d) => h('div', null, link(context.to('block', d.block), `#${d.block}`)))]])))),
  ];
}
