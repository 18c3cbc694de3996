// The frame of the page: who is here, where one can go, and which view is shown.
import { at, get, post } from './api.js';
import { failed, h, icon, loading, toast } from './dom.js';
import { language, speak, t } from './i18n.js';
import * as live from './live.js';
import { block } from './views/block.js';
import { blocks } from './views/blocks.js';
import { certificates } from './views/certificates.js';
import { genealogy } from './views/genealogy.js';
import { idea } from './views/idea.js';
import { ideas } from './views/ideas.js';
import { overview } from './views/overview.js';
import { partner } from './views/partner.js';
import { partners } from './views/partners.js';
import { process } from './views/process.js';
import { product } from './views/product.js';
import { rfq } from './views/rfq.js';
import { rfqs } from './views/rfqs.js';
import { search } from './views/search.js';
import { shipment } from './views/shipment.js';
import { shipments } from './views/shipments.js';
import { tender } from './views/tender.js';
import { tenders } from './views/tenders.js';
import { transaction } from './views/transaction.js';

// Name in the address → view, and the entry of the navigation that it belongs to.
const VIEWS = {
  overview: [overview, 'overview'],
  rfqs: [rfqs, 'rfqs'],
  rfq: [rfq, 'rfqs'],
  tenders: [tenders, 'tenders'],
  tender: [tender, 'tenders'],
  shipments: [shipments, 'shipments'],
  shipment: [shipment, 'shipments'],
  process: [process, 'process'],
  product: [product, 'process'],
  genealogy: [genealogy, 'genealogy'],
  certificates: [certificates, 'certificates'],
  ideas: [ideas, 'ideas'],
  idea: [idea, 'ideas'],
  partners: [partners, 'partners'],
  partner: [partner, 'partners'],
  blocks: [blocks, 'blocks'],
  block: [block, 'blocks'],
  transaction: [transaction, 'blocks'],
  search: [search, ''],
};
const NAVIGATION = ['overview', 'rfqs', 'tenders', 'shipments', 'process', 'genealogy', 'certificates', 'ideas', 'partners', 'blocks'];
const PUBLIC = ['overview', 'rfqs', 'tenders', 'shipments', 'certificates', 'partners', 'blocks'];

// What a view needs: one of these contracts on the channel. The others need none.
const NEEDS = { rfqs: ['rfq'], tenders: ['rfq'], shipments: ['shipment'], process: ['process'], genealogy: ['process', 'certify'], certificates: ['certify'], ideas: ['ideas'], partners: ['reputation'] };

const app = document.getElementById('app');
let me = null;
let main = null;
let shown = 0;
let drawn = 0;

const address = () => location.hash.replace(/^#\/?/, '').split('/').map(decodeURIComponent);

/** The address of a view on a channel. */
export const to = (channel, ...parts) => `#/${[channel, ...parts].map(encodeURIComponent).join('/')}`;

function theme(name) {
  if (name) localStorage.setItem('selvedge.theme', name);
  const kept = localStorage.getItem('selvedge.theme');
  if (kept === 'dark' || kept === 'light') document.documentElement.dataset.theme = kept;
  else delete document.documentElement.dataset.theme;
}

function isDark() {
  const kept = document.documentElement.dataset.theme;
  return kept ? kept === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
}

function preferences() {
  const other = language === 'de' ? 'en' : 'de';
  return h('div', { class: 'actions' },
    h('button', { class: 'plain', lang: other, onclick: () => { speak(other); draw(); } }, other === 'de' ? 'Deutsch' : 'English'),
    h('button', { class: 'plain', 'aria-label': t(isDark() ? 'theme.light' : 'theme.dark'), title: t(isDark() ? 'theme.light' : 'theme.dark'),
      onclick: () => { theme(isDark() ? 'light' : 'dark'); draw(); } }, isDark() ? '☀' : '☾'));
}

function welcome() {
  const command = `selvedge api login --api ${location.origin} --as User1@org1.example.com`;
  app.replaceChildren(h('main', { class: 'welcome' },
    h('div', { class: 'brand' }, h('img', { src: '/app/icon.svg', alt: '' }), h('span', null, 'Selvedge', h('small', null, me.organization))),
    h('h1', { tabindex: -1 }, t('login.title', { organization: me.organization })),
    h('p', null, t('login.text')),
    h('pre', null, command),
    h('p', { class: 'soft' }, t('login.certificate')),
    preferences()));
}

const deployed = new Map();

/** Asks which contracts the channel has; what is known already counts until then. */
async function learn(channel) {
  try {
    deployed.set(channel, (await get(at(channel, []))).chaincodes);
  } catch {
    // Then the navigation has everything, and the views say what is wrong.
  }
}

/** The entries of the navigation that lead somewhere on this channel. */
function entriesOf(channel) {
  const entries = me.view === 'in-house' ? NAVIGATION : PUBLIC;
  const there = deployed.get(channel);
  return entries.filter((name) => !there || !NEEDS[name] || NEEDS[name].some((contract) => there.includes(me.contracts[contract])));
}

function frame(view, channel) {
  const entries = entriesOf(channel);
  const current = VIEWS[view]?.[1];
  const state = h('span', { class: 'live', 'data-state': 'wait' }, t('live.wait'));
  live.onState((name) => { state.dataset.state = name; state.textContent = t(`live.${name}`); });
  const find = (event) => {
    event.preventDefault();
    const text = new FormData(event.target).get('q').trim();
    if (text) location.hash = to(channel, 'search', text);
  };
  main = h('div', { id: 'view' });
  app.replaceChildren(h('div', { class: 'shell' },
    h('a', { class: 'skip', href: '#view', onclick: (e) => { e.preventDefault(); main.querySelector('h1')?.focus(); } }, t('skip')),
    h('div', { class: 'side' },
      h('a', { class: 'brand', href: to(channel, 'overview') }, h('img', { src: '/app/icon.svg', alt: '' }),
        h('span', null, 'Selvedge', h('small', null, me.organization))),
      h('nav', { class: 'nav', 'aria-label': t('navigation') }, entries.map((name) =>
        h('a', { href: to(channel, name), 'aria-current': name === current ? 'page' : null }, icon(name), t(`nav.${name}`)))),
      h('div', { class: 'foot' },
        h('div', { class: 'who' }, me.signedIn ? [h('b', null, me.user.split('@')[0]), h('div', { class: 'soft' }, `${me.mspId} · ${t(`view.${me.view}`)}`)] : t('login.visitor')),
        preferences(),
        me.signedIn ? h('button', { class: 'plain who', onclick: logout }, t('logout')) : h('a', { href: '#/sign-in' }, t('login')))),
    h('main', { class: 'main' },
      h('div', { class: 'top' },
        h('form', { role: 'search', onsubmit: find }, icon('search'),
          h('input', { type: 'search', name: 'q', placeholder: t('search.placeholder'), 'aria-label': t('search.placeholder'), value: view === 'search' ? address()[2] ?? '' : '' })),
        me.channels.length > 1 && h('select', { 'aria-label': t('channel'), onchange: (e) => { location.hash = to(e.target.value, 'overview'); } },
          me.channels.map((name) => h('option', { value: name, selected: name === channel }, name))),
        state),
      main)));
  // On a phone the row of entries is wider than the window.
  app.querySelector('.nav [aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' });
}

async function logout() {
  try {
    await post('/v1/logout');
    me = await get('/v1/me');
    live.follow(null);
    draw();
  } catch (error) {
    toast(error.message, 'bad');
  }
}

/** Shows the view of the address. `quiet`: the same view again, with new data; place and focus stay. */
async function show(quiet) {
  const [channel, name = 'overview', ...parts] = address();
  const [view] = VIEWS[name] ?? VIEWS.overview;
  const turn = ++shown;
  if (!quiet) main.replaceChildren(loading());
  live.forget();
  let waiting = null;
  const context = {
    channel,
    me,
    to: (...rest) => to(channel, ...rest),
    go: (...rest) => { location.hash = to(channel, ...rest); },
    refresh: () => show(true),
    /**
     * Shows the view again when `concerns(kind, data)`; several events within `delay` milliseconds count as one. Views
     * call it before they fetch anything, so that nothing falls between.
     */
    live: (concerns, delay = 250) => live.listen((kind, data) => {
      if (turn !== shown || waiting || !concerns(kind, data)) return;
      waiting = setTimeout(() => {
        waiting = null;
        if (turn !== shown) return;
        // Whoever is filling in a form is not disturbed; the view catches up when the form is closed.
        const form = document.querySelector('dialog[open]');
        if (form) form.addEventListener('close', () => turn === shown && show(true), { once: true });
        else show(true);
      }, delay);
    }),
  };
  live.follow(channel);
  try {
    const content = await view(context, ...parts);
    if (turn !== shown) return;
    const kept = quiet ? document.activeElement?.id : null;
    const scroll = scrollY;
    main.replaceChildren(...[content].flat(9).filter((part) => part instanceof Node));
    if (quiet) {
      scrollTo(0, scroll);
      if (kept) document.getElementById(kept)?.focus();
    } else {
      scrollTo(0, 0);
      const title = main.querySelector('h1');
      document.title = `${title?.textContent.trim() ?? ''} · Selvedge`;
      title?.focus({ preventScroll: true });
    }
  } catch (error) {
    if (turn !== shown) return;
    if (error.status === 401) {
      me = await get('/v1/me');
      if (!me.view) return welcome();
    }
    if (quiet) toast(error.message, 'bad');
    else main.replaceChildren(failed(error, () => show(false)));
  }
}

async function draw() {
  if (!me.view || location.hash === '#/sign-in') return welcome();
  const [channel, view = 'overview'] = address();
  if (!me.channels.length) {
    app.replaceChildren(h('main', { class: 'welcome' }, h('h1', null, t('channels.none')), h('p', null, t('channels.noneText')),
      h('button', { class: 'primary', onclick: start }, t('again'))));
    return undefined;
  }
  if (!me.channels.includes(channel)) {
    location.replace(to(me.channels[0], 'overview'));
    return undefined;
  }
  const turn = ++drawn;
  const learning = learn(channel);
  if (!deployed.has(channel)) {
    if (!main) app.replaceChildren(h('main', { class: 'welcome' }, loading()));
    await learning;
    if (turn !== drawn) return undefined;
  }
  frame(view, channel);
  return show(false);
}

/** A link of `selvedge api login` carries a code that counts once. */
async function redeem() {
  const code = /^#login=(.+)$/.exec(location.hash)?.[1];
  if (!code) return;
  history.replaceState(null, '', '/');
  try {
    await post('/v1/login/redeem', { code });
  } catch (error) {
    toast(error.message, 'bad');
  }
}

async function start() {
  theme();
  try {
    await redeem();
    me = await get('/v1/me');
    draw();
  } catch (error) {
    app.replaceChildren(h('main', { class: 'welcome' }, failed(error, start)));
  }
}

addEventListener('hashchange', () => (/^#login=/.test(location.hash) ? start() : me && draw()));
document.addEventListener('keydown', (event) => {
  if (event.key === '/' && !/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) {
    const box = document.querySelector('input[type=search]');
    if (box) { event.preventDefault(); box.focus(); }
  }
});
start();
