// How the organisations of the channel have rated each other.
import { at, get } from '../api.js';
import { badge, empty, h, head } from '../dom.js';
import { decimal, number } from '../format.js';
import { t } from '../i18n.js';
import { organizations } from '../parts.js';

/** Filled and empty stars, with the figure for those who do not see them. */
export function stars(mean) {
  const full = Math.round(Number(mean));
  return h('span', { class: 'stars', role: 'img', 'aria-label': t('rating.of', { mean: decimal(mean) }) }, '★'.repeat(full), h('span', { class: 'soft' }, '☆'.repeat(5 - full)));
}

export async function partners(context) {
  context.live((kind, event) => kind === 'block' || (kind === 'chaincode' && event.chaincode === context.me.contracts.reputation), 1000);
  const names = await organizations(context);
  // Who belongs to the channel is the members' business: others have to know whom they ask for.
  if (!names) {
    const find = (event) => {
      event.preventDefault();
      context.go('partner', new FormData(event.target).get('org').trim());
    };
    return [head(t('nav.partners')), h('form', { class: 'actions', onsubmit: find },
      h('input', { name: 'org', required: true, placeholder: 'Org1MSP', 'aria-label': t('organization') }), h('button', { class: 'primary' }, t('show')))];
  }
  const list = await Promise.all(names.map((name) => get(at(context.channel, ['organizations', name, 'reputation']))));
  return [
    head(t('nav.partners')),
    list.length ? h('ul', { class: 'list' }, list.map((one) => h('li', null, h('a', { class: 'item', href: context.to('partner', one.organization) },
      h('span', { class: 'title' }, one.organization, one.organization === context.me.mspId && [' ', badge(t('rating.own'))]),
      h('span', { class: 'badges' }, one.count ? [stars(one.mean), h('b', null, decimal(one.mean))] : h('span', { class: 'soft' }, t('rating.none'))),
      h('span', { class: 'meta' }, t('rating.count', { count: number(one.count), raters: number(one.raters) })))))) : empty(t('rating.noPartners'), ''),
  ];
}
