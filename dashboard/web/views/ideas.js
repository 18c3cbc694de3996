// Ideas: who contributed what, and a new contribution.
import { at, get, post } from '../api.js';
import { ask, badge, empty, field, h, head, toast } from '../dom.js';
import { ago } from '../format.js';
import { sha256 } from '../hash.js';
import { t } from '../i18n.js';
import { idField, organizations, stateBadge } from '../parts.js';

const STATES = ['', 'proposed', 'agreed', 'refused'];
let chosen = '';

const percent = (text) => text.trim().replace(',', '.');

function authorRows(orgs, me) {
  const rows = h('div', { class: 'rows' });
  const add = (mspId, user, share) => {
    const row = h('div', { class: 'row author' },
      h('select', { 'aria-label': t('organization'), 'data-part': 'mspId' }, orgs.map((org) => h('option', { value: org, selected: org === mspId }, org))),
      h('input', { 'aria-label': t('idea.person'), placeholder: t('idea.person'), 'data-part': 'user', maxlength: 256, value: user }),
      h('input', { 'aria-label': t('idea.share'), placeholder: '%', 'data-part': 'share', inputmode: 'decimal', value: share }),
      h('button', { type: 'button', class: 'plain', 'aria-label': t('remove'), onclick: () => row.remove() }, '✕'));
    rows.append(row);
  };
  add(me.mspId, me.user, '100');
  const set = h('fieldset', null, h('legend', null, t('idea.authors')), rows,
    h('button', { type: 'button', class: 'plain', onclick: () => add(orgs[0], '', '') }, `+ ${t('idea.addAuthor')}`));
  const read = () => [...rows.children].map((row) => {
    const part = (name) => row.querySelector(`[data-part=${name}]`).value.trim();
    return { mspId: part('mspId'), user: part('user'), share: percent(part('share')) };
  }).filter((a) => a.user);
  return { set, read };
}

function parentRows(ideas) {
  const rows = h('div', { class: 'rows' });
  const add = () => {
    const row = h('div', { class: 'row parent' },
      h('select', { 'aria-label': t('idea.parent'), 'data-part': 'idea' }, ideas.map((i) => h('option', { value: i.id }, `${i.title} (${i.id})`))),
      h('input', { 'aria-label': t('idea.share'), placeholder: '%', 'data-part': 'share', inputmode: 'decimal' }),
      h('button', { type: 'button', class: 'plain', 'aria-label': t('remove'), onclick: () => row.remove() }, '✕'));
    rows.append(row);
  };
  const set = ideas.length > 0 && h('fieldset', null, h('legend', null, t('idea.parents')), rows,
    h('button', { type: 'button', class: 'plain', onclick: () => add() }, `+ ${t('idea.addParent')}`));
  const read = () => [...rows.children].map((row) => ({ idea: row.querySelector('select').value, share: percent(row.querySelector('input').value) }));
  return { set, read };
}

async function contribute(context) {
  const [orgs, agreed] = await Promise.all([organizations(context), get(at(context.channel, ['ideas'], { state: 'agreed', limit: 200 }))]);
  const authors = authorRows(orgs, context.me);
  const parents = parentRows(agreed.ideas);
  const file = h('input', { type: 'file' });
  const id = await ask(t('idea.new'), [
    field(t('idea.title'), 'title', { required: true, maxlength: 256 }),
    h('label', null, t('idea.summary'), h('textarea', { name: 'summary', maxlength: 4096 })),
    h('div', { class: 'fields' }, h('label', null, t('idea.document'), file), field(t('id.own'), 'id', idField)),
    authors.set, parents.set,
    h('p', { class: 'soft small' }, t('idea.sharesText')),
  ], {
    confirm: t('idea.contribute'),
    send: async (values) => {
      const body = { title: values.title.trim(), authors: authors.read(), parents: parents.read() };
      for (const name of ['summary', 'id']) if (values[name].trim()) body[name] = values[name].trim();
      const document = file.files[0];
      if (document) body.hash = await sha256(await document.arrayBuffer());
      return (await post(at(context.channel, ['ideas']), body)).result.id;
    },
  });
  if (id) {
    toast(t('idea.contributed'));
    context.go('idea', id);
  }
}

export const isMe = (me, person) => person.mspId === me.mspId && person.user === me.user;

/** Whether the reader, as an author, has not said yes or no. */
export const awaits = (me, idea) => idea.state === 'proposed' && idea.authors.some((a) => isMe(me, a)) && !idea.agreedBy.some((a) => isMe(me, a));

function item(context, idea) {
  const names = idea.authors.map((a) => `${a.user.split('@')[0]} (${a.mspId})`);
  return h('li', null, h('a', { class: 'item', href: context.to('idea', idea.id) },
    h('span', { class: 'title' }, idea.title),
    h('span', { class: 'badges' }, awaits(context.me, idea) && badge(t('rfq.yourTurn'), 'warn'), stateBadge(idea.state)),
    h('span', { class: 'meta' }, names.slice(0, 4).join(', '), names.length > 4 && ' …', idea.parents.length > 0 && ` · ${t('idea.buildsOn', { count: idea.parents.length })}`, ` · ${ago(idea.createdAt)}`)));
}

export async function ideas(context) {
  context.live((kind, event) => kind === 'chaincode' && event.chaincode === context.me.contracts.ideas);
  const page = await get(at(context.channel, ['ideas'], { state: chosen, limit: 200 }));
  const list = page.ideas.sort((a, b) => (a.createdAt < b.createdAt ? 1 : -1));
  return [
    head(t('nav.ideas'), { actions: [h('button', { class: 'primary', onclick: () => contribute(context).catch((e) => toast(e.message, 'bad')) }, t('idea.new'))] }),
    h('div', { class: 'tabs', role: 'group', 'aria-label': t('filter') }, STATES.map((state) =>
      h('button', { id: `state-${state}`, 'aria-pressed': String(state === chosen), onclick: () => { chosen = state; context.refresh(); } }, t(state ? `state.${state}` : 'all')))),
    list.length ? h('ul', { class: 'list' }, list.map((idea) => item(context, idea))) : empty(t('idea.none'), t('idea.noneText')),
    page.bookmark && h('p', { class: 'soft' }, t('list.more')),
  ];
}
