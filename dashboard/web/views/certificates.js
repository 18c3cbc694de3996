// Whether a file is the one that was certified. It is hashed here, and stays here.
import { at, get, post } from '../api.js';
import { ask, badge, card, code, field, h, head, link, table, toast } from '../dom.js';
import { bytes, short, time } from '../format.js';
import { sha256 } from '../hash.js';
import { t } from '../i18n.js';

const KINDS = { current: 'good', outdated: 'warn', differs: 'bad', unknown: 'bad' };

export const certificateTable = (context, list) => table([
  [t('part'), (c) => link(context.to('genealogy', c.part), c.part)],
  [t('record'), (c) => c.record],
  [t('organization'), (c) => c.mspId],
  [t('certificate.revision'), (c) => [c.revision, ' ', c.current ? badge(t('certificate.currentBadge'), 'good') : badge(t('certificate.replaced'), 'warn')]],
  [t('hash'), (c) => h('code', { title: c.hash }, short(c.hash))],
  [t('certificate.at'), (c) => link(context.to('transaction', c.txId), time(c.certifiedAt))],
], list);

async function certify(context, file, hash) {
  const done = await ask(t('certificate.certify'), [h('p', null, `${file.name} · ${bytes(file.size)}`), code(hash),
    h('div', { class: 'fields' }, field(t('part'), 'part', { required: true, maxlength: 128 }), field(t('record'), 'record', { required: true, maxlength: 128, value: file.name })),
    field(t('certificate.replaces'), 'replaces', { pattern: '[0-9a-f]{64}' }), field(t('note'), 'note', { maxlength: 500 })], {
    confirm: t('certificate.certify'),
    send: async (values) => {
      const body = { hash, time: new Date(file.lastModified).toISOString() };
      for (const [name, text] of Object.entries(values)) if (text.trim()) body[name] = text.trim();
      return post(at(context.channel, ['certificates']), body);
    },
  });
  if (done) toast(t('certificate.certified'));
  return done;
}

export async function certificates(context, hash) {
  const result = h('div', { 'aria-live': 'polite', class: 'stack spaced' });
  const inHouse = context.me.view === 'in-house';

  async function look(digest, file) {
    result.replaceChildren(h('p', { class: 'soft' }, t('certificate.checking')));
    try {
      const answer = await get(at(context.channel, ['certificates', 'check'], { hash: digest }));
      result.replaceChildren(
        h('div', { class: `notice ${KINDS[answer.verdict]}`, id: 'verdict' }, h('b', null, t(`certificate.${answer.verdict}`)), h('p', null, t(`certificate.${answer.verdict}Text`)), file && h('p', null, `${file.name} · ${bytes(file.size)}`), code(digest)),
        ...[answer.certificates?.length > 0 && card(t('part.certificates'), certificateTable(context, answer.certificates)),
          inHouse && file && answer.verdict === 'unknown' && h('div', null, h('button', { class: 'primary', onclick: async () => { if (await certify(context, file, digest)) look(digest, file); } }, t('certificate.certify')))].filter(Boolean));
    } catch (error) {
      result.replaceChildren(h('div', { class: 'notice bad', role: 'alert' }, error.message));
    }
  }
  async function take(file) {
    if (!file) return;
    result.replaceChildren(h('p', { class: 'soft' }, t('certificate.hashing', { name: file.name })));
    await look(await sha256(await file.arrayBuffer()), file);
  }
  const input = h('input', { type: 'file', id: 'file', 'aria-label': t('certificate.choose'), onchange: (e) => {
    const file = e.target.files[0];
    // The same file, changed, can be chosen again.
    e.target.value = '';
    take(file);
  } });
  const drop = h('div', { class: 'drop',
    ondragover: (e) => { e.preventDefault(); drop.classList.add('over'); },
    ondragleave: () => drop.classList.remove('over'),
    ondrop: (e) => { e.preventDefault(); drop.classList.remove('over'); take(e.dataTransfer.files[0]); } },
    h('b', null, t('certificate.drop')), h('p', { class: 'soft' }, t('certificate.stays')), input);
  const byHash = h('form', { class: 'actions spaced', onsubmit: (e) => { e.preventDefault(); look(new FormData(e.target).get('hash').trim().toLowerCase()); } },
    h('input', { name: 'hash', required: true, pattern: '\\s*[0-9a-fA-F]{64}\\s*', placeholder: t('certificate.hashPlaceholder'), 'aria-label': t('certificate.hashPlaceholder'), size: 40, value: hash ?? '' }), h('button', null, t('certificate.check')));
  if (hash) look(hash);
  return [head(t('nav.certificates')), drop, byHash, result];
}
