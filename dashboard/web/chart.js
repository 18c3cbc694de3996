// Charts as SVG: one line a sensor with its agreed band, and bars.
import { h, s } from './dom.js';
import { clock, dayMonth, number, time } from './format.js';
import { t } from './i18n.js';

const DAY = 86400000;
// Text in a chart shrinks with it; a chart for a phone is drawn smaller from the start.
const room = () => (innerWidth < 736 ? 350 : 540);

/** Round numbers that divide a range into about `count` steps. */
function ticks(from, to, count) {
  const raw = (to - from) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw);
  const list = [];
  for (let v = Math.ceil(from / step) * step; v <= to + step * 1e-9; v += step) list.push(Math.abs(v) < step / 1e6 ? 0 : v);
  return list;
}

function timeTicks(from, to, count) {
  const steps = [60e3, 300e3, 900e3, 3600e3, 3 * 3600e3, 6 * 3600e3, 12 * 3600e3, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 90 * DAY, 365 * DAY];
  const step = steps.find((n) => (to - from) / n <= count) ?? steps.at(-1);
  const offset = new Date(from).getTimezoneOffset() * 60000;
  const list = [];
  for (let v = Math.ceil((from - offset) / step) * step + offset; v <= to; v += step) list.push(v);
  return [list, step < DAY ? (v) => (new Date(v).getHours() === 0 && new Date(v).getMinutes() === 0 ? dayMonth(v) : clock(v)) : dayMonth];
}

/** Of many points the lowest and highest of each pixel: the line looks the same, and no peak is lost. */
function thinned(points, from, to, width) {
  if (points.length <= width * 2) return points;
  const columns = new Map();
  for (const point of points) {
    const column = Math.floor(((point.time - from) / (to - from || 1)) * width);
    const seen = columns.get(column);
    if (!seen) columns.set(column, [point, point]);
    else if (point.value < seen[0].value) seen[0] = point;
    else if (point.value > seen[1].value) seen[1] = point;
  }
  return [...columns.values()].flatMap(([low, high]) => (low.time < high.time ? [low, high] : [high, low]));
}

/** `points`: [{time, value, violates}] in order of time; `limits`: {min, max}. */
export function lineChart(title, points, limits = {}) {
  const [width, height, left, right, top, bottom] = [room(), 180, 44, 10, 10, 24];
  const from = points[0].time;
  const to = points.at(-1).time > from ? points.at(-1).time : from + 60000;
  const given = ['min', 'max'].filter((n) => limits[n] !== undefined && limits[n] !== null).map((n) => Number(limits[n]));
  let low = Math.min(...given), high = Math.max(...given);
  for (const { value } of points) { low = Math.min(low, value); high = Math.max(high, value); }
  const margin = (high - low) * 0.08 || 1;
  [low, high] = [low - margin, high + margin];
  const x = (v) => left + ((v - from) / (to - from)) * (width - left - right);
  const y = (v) => top + ((high - v) / (high - low)) * (height - top - bottom);
  const [marks, label] = timeTicks(from, to, width / 90);
  const drawn = thinned(points, from, to, width - left - right);
  const path = drawn.map((p, i) => `${i ? 'L' : 'M'}${x(p.time).toFixed(1)} ${y(p.value).toFixed(1)}`).join('');
  const bad = points.filter((p) => p.violates);
  const cursor = s('line', { class: 'cursor', y1: top, y2: height - bottom, visibility: 'hidden' });
  const tip = h('div', { class: 'tip', hidden: true });
  const hasBand = given.length > 0;
  const bandTop = y(limits.max ?? high), bandBottom = y(limits.min ?? low);
  const svg = s('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img',
    'aria-label': t('chart.label', { title, count: number(points.length), bad: number(bad.length) }) },
    hasBand && s('rect', { class: 'band', x: left, width: width - left - right, y: bandTop, height: Math.max(0, bandBottom - bandTop) }),
    ticks(low, high, 4).map((v) => [s('line', { class: 'axis', x1: left, x2: width - right, y1: y(v), y2: y(v) }),
      s('text', { x: left - 6, y: y(v) + 4, 'text-anchor': 'end' }, number(v, 2))]),
    given.map((v) => s('line', { class: 'limit', x1: left, x2: width - right, y1: y(v), y2: y(v) })),
    marks.map((v) => s('text', { x: x(v), y: height - 6, 'text-anchor': x(v) > width - 40 ? 'end' : x(v) < left + 20 ? 'start' : 'middle' }, label(v))),
    s('path', { class: 'line', d: path }),
    bad.slice(0, 2000).map((p) => s('circle', { class: 'violation', cx: x(p.time), cy: y(p.value), r: 2.8 })),
    cursor);
  const box = h('div', { class: 'chart' }, svg, tip);
  svg.addEventListener('pointermove', (event) => {
    const place = svg.getBoundingClientRect();
    const at = from + (((event.clientX - place.left) / place.width) * width - left) / (width - left - right) * (to - from);
    let [a, b] = [0, points.length - 1];
    while (a < b) { const m = (a + b) >> 1; if (points[m].time < at) a = m + 1; else b = m; }
    const near = a > 0 && at - points[a - 1].time < points[a].time - at ? points[a - 1] : points[a];
    cursor.setAttribute('x1', x(near.time));
    cursor.setAttribute('x2', x(near.time));
    cursor.setAttribute('visibility', 'visible');
    tip.hidden = false;
    tip.textContent = `${number(near.value, 4)} · ${time(near.time)}`;
    tip.style.left = `${Math.min(88, Math.max(12, (x(near.time) / width) * 100))}%`;
    tip.style.top = `${(y(near.value) / height) * 100}%`;
  });
  svg.addEventListener('pointerleave', () => { tip.hidden = true; cursor.setAttribute('visibility', 'hidden'); });
  return box;
}

/** `bars`: [{label, value, of, text}]; `of` is drawn pale behind `value`. */
export function barChart(title, bars) {
  const [width, height, left, bottom] = [room(), 150, 34, 22];
  const most = Math.max(1, ...bars.map((bar) => bar.value));
  const step = (width - left) / bars.length;
  const y = (v) => (height - bottom) * (1 - v / most) + 6 * (v / most);
  const marks = ticks(0, most, 3).filter((v) => Number.isInteger(v));
  const sum = bars.reduce((all, bar) => all + bar.value, 0);
  return h('div', { class: 'chart' }, s('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `${title}: ${number(sum)}` },
    marks.map((v) => [s('line', { class: 'axis', x1: left, x2: width, y1: y(v), y2: y(v) }),
      s('text', { x: left - 5, y: y(v) + 4, 'text-anchor': 'end' }, number(v))]),
    bars.map((bar, i) => [
      s('rect', { class: 'bar', x: left + i * step + 1.5, width: step - 3, y: y(bar.value), height: Math.max(0, height - bottom - y(bar.value)), rx: 2 },
        s('title', null, bar.text)),
      i % Math.ceil(bars.length / (width / 70)) === 0 && s('text', { x: left + i * step + step / 2, y: height - 6, 'text-anchor': 'middle' }, bar.label)])));
}
