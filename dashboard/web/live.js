// What happens on the channel, as it happens. The browser connects again by itself, and says where it was.
import { at } from './api.js';

let source = null;
let channel = null;
let listeners = new Set();
let state = 'wait';
let show = () => {};

function showState(name) {
  state = name;
  show(name);
}

/** Calls `listener` with the state of the connection (on, wait, off), now and when it changes. */
export function onState(listener) {
  show = listener;
  show(state);
}

/** Calls `listener(kind, data)` until the view changes. */
export const listen = (listener) => { listeners.add(listener); };
export const forget = () => { listeners = new Set(); };

const tell = (kind) => (event) => {
  const data = JSON.parse(event.data);
  for (const listener of [...listeners]) listener(kind, data);
};

export function follow(name) {
  if (name === channel && source && source.readyState !== EventSource.CLOSED) return;
  source?.close();
  channel = name;
  showState('wait');
  if (!name) return;
  source = new EventSource(at(name, ['events'], { blocks: 'true' }));
  source.addEventListener('open', () => showState('on'));
  source.addEventListener('error', () => {
    showState(source.readyState === EventSource.CLOSED ? 'off' : 'wait');
    // Closed means that the server refused: signed out, or too many pages. The next view tries again.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => { if (channel === name) follow(name); }, 5000);
  });
  source.addEventListener('block', tell('block'));
  source.addEventListener('chaincode', tell('chaincode'));
}
