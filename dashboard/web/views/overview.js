// How everything is.
import { get } from '../api.js';
import { barChart } from '../chart.js';
import { badge, card, h, head, link, table } from '../dom.js';
import { ago, bytes, clock, number, signer } from '../format.js';
import { t } from '../i18n.js';

const tile = (value, text) => h('div', { class: 'tile' }, h('b', null, value), h('span', null, text));

function hours(channel) {
  const now = Date.now();
  return channel.hours.map((hour, i) => {
    const start = new Date(now - (channel.hours.length - i) * 3600e3);
    return { label: clock(start), value: hour.blocks, text: t('overview.hourText', { time: clock(start), blocks: number(hour.blocks), transactions: number(hour.transactions) }) };
  });
}

function orderers(list) {
  const most = Math.max(1, ...list.map((o) => o.blocks));
  return list.map(({ orderer, blocks }) => {
    const bar = h('b');
    bar.style.width = `${(blocks / most) * 100}%`;
    return h('div', { class: 'meter' }, h('span', null, orderer.name.split('.')[0] || t('overview.genesis')), h('i', null, bar), h('span', null, number(blocks)));
  });
}

function nodes(list) {
  return table([
    [t('overview.role'), (n) => t(`role.${n.role}`)],
    [t('organization'), (n) => n.mspId],
    [t('address'), (n) => h('span', { class: 'mono' }, n.address)],
    [t('height'), (n) => number(n.height), 'number'],
    [t('overview.state'), (n) => n.error ? h('span', { title: n.error }, badge(t('away'), 'bad')) : badge(t('answers'), 'good')],
  ], list);
}

function gateways(list) {
  return table([
    [t('gateway'), (g) => g.id],
    [t('gateway.open'), (g) => number(g.open), 'number'],
    [t('gateway.committed'), (g) => number(g.buffer?.committed), 'number'],
    [t('gateway.refused'), (g) => number(g.buffer?.refused), 'number'],
    [t('gateway.uplink'), (g) => g.error ? h('span', { title: g.error }, badge(t('away'), 'bad'))
      : g.uplink?.connected === false ? badge(t('gateway.cut'), 'warn') : badge(t('gateway.connected'), 'good')],
  ], list);
}

export async function overview(context) {
  context.live((kind) => kind === 'block');
  const all = await get('/v1/overview');
  const channel = all.channels.find((c) => c.name === context.channel);
  const invalid = channel.transactions - channel.valid;
  return [
    head(t('nav.overview'), { crumb: `${t('channel')} ${channel.name}` }),
    h('div', { class: 'tiles' },
      tile(number(channel.height), t('overview.blocks')),
      tile(number(channel.transactions), t('overview.transactions')),
      tile(number(invalid), t('overview.invalid')),
      tile(number(channel.transactionsPerSecond, 1), t('overview.tps')),
      tile(ago(channel.lastBlock?.time), t('overview.last'))),
    h('div', { class: 'grid' },
      card(t('overview.perHour'), barChart(t('overview.perHour'), hours(channel))),
      card(t('overview.perOrderer'), orderers(channel.perOrderer), channel.lastBlock && h('p', { class: 'small soft' },
        t('overview.lastBlock', { size: bytes(channel.lastBlock.bytes), orderer: signer(channel.lastBlock.orderer) }), ' ',
        link(context.to('block', channel.lastBlock.number), t('show'))))),
    h('div', { class: 'stack spaced' },
      all.nodes && card(t('overview.nodes'), nodes(all.nodes.filter((n) => n.channel === context.channel))),
      all.gateways && card(t('overview.gateways'), all.gateways.length ? gateways(all.gateways) : h('p', { class: 'soft' }, t('overview.noGateways'))),
      all.channels.length > 1 && card(t('overview.channels'), table([
        [t('channel'), (c) => link(`#/${encodeURIComponent(c.name)}/overview`, c.name)],
        [t('height'), (c) => number(c.height), 'number'],
        [t('overview.transactions'), (c) => number(c.transactions), 'number'],
        [t('overview.last'), (c) => ago(c.lastBlock?.time)],
      ], all.channels))),
  ];
}
