// A map without anybody's tile server: coast, borders and a graticule, drawn here.
import { h, s } from './dom.js';
import { number, time } from './format.js';
import { language, t } from './i18n.js';

// Text on the map shrinks with it; a map for a phone is drawn smaller from the start.
const [WIDTH, HEIGHT] = innerWidth < 736 ? [380, 340] : [720, 430];

let world = null;

async function load() {
  if (world) return world;
  const { GRID, land, borders, names } = await import('./world.js');
  const lines = (text) => text.split('\n').map((line) => {
    const numbers = line.split(' ');
    const points = [];
    let [x, y] = [0, 0];
    const box = [180, 90, -180, -90];
    for (let i = 0; i < numbers.length; i += 2) {
      x += Number(numbers[i]);
      y += Number(numbers[i + 1]);
      const [lon, lat] = [x / GRID, y / GRID];
      points.push([lon, lat]);
      if (lon < box[0]) box[0] = lon;
      if (lat < box[1]) box[1] = lat;
      if (lon > box[2]) box[2] = lon;
      if (lat > box[3]) box[3] = lat;
    }
    return { points, box };
  });
  world = {
    land: lines(land),
    borders: lines(borders),
    names: names.split('\n').map((line) => {
      const [code, lon, lat, size] = line.split(' ');
      return { code, lon: Number(lon), lat: Number(lat), size: Number(size) };
    }),
  };
  return world;
}

function projection(centre, scale) {
  // Equirectangular, true along the parallel in the middle: good for some hundred kilometres, and for the whole world.
  const squeeze = Math.max(0.2, Math.cos((centre[1] * Math.PI) / 180));
  return {
    x: (lon) => WIDTH / 2 + (lon - centre[0]) * scale * squeeze,
    y: (lat) => HEIGHT / 2 - (lat - centre[1]) * scale,
    box: [centre[0] - WIDTH / 2 / scale / squeeze, centre[1] - HEIGHT / 2 / scale, centre[0] + WIDTH / 2 / scale / squeeze, centre[1] + HEIGHT / 2 / scale],
    squeeze,
  };
}

const meets = (a, b) => a[0] <= b[2] && a[2] >= b[0] && a[1] <= b[3] && a[3] >= b[1];

function regionName(code) {
  try {
    return new Intl.DisplayNames(language, { type: 'region' }).of(code);
  } catch {
    return code;
  }
}

function degrees(value, [plus, minus]) {
  return `${number(Math.abs(value), 2)}° ${value < 0 ? minus : plus}`;
}

function background(parts, p, scale) {
  const path = ({ points }, closed) => points.map(([lon, lat], i) => `${i ? 'L' : 'M'}${p.x(lon).toFixed(1)} ${p.y(lat).toFixed(1)}`).join('') + (closed ? 'Z' : '');
  const steps = [0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30];
  const step = steps.find((n) => n * scale > 90) ?? 30;
  const grid = [];
  for (let lon = Math.ceil(p.box[0] / step) * step; lon < p.box[2]; lon += step) {
    grid.push(s('path', { class: 'grid', d: `M${p.x(lon)} 0V${HEIGHT}` }), s('text', { x: p.x(lon) + 3, y: HEIGHT - 5 }, degrees(lon, [t('map.east'), t('map.west')])));
  }
  for (let lat = Math.ceil(p.box[1] / step) * step; lat < p.box[3]; lat += step) {
    grid.push(s('path', { class: 'grid', d: `M0 ${p.y(lat)}H${WIDTH}` }), s('text', { x: 4, y: p.y(lat) - 3 }, degrees(lat, [t('map.north'), t('map.south')])));
  }
  return [
    s('path', { class: 'land', d: parts.land.filter((l) => meets(l.box, p.box)).map((l) => path(l, true)).join('') }),
    s('path', { class: 'border', d: parts.borders.filter((l) => meets(l.box, p.box)).map((l) => path(l, false)).join('') }),
    grid,
    parts.names.filter((n) => n.size * scale > 60 && meets([n.lon, n.lat, n.lon, n.lat], p.box))
      .map((n) => s('text', { class: 'country', x: p.x(n.lon), y: p.y(n.lat) }, regionName(n.code))),
  ];
}

/**
 * The route of a shipment. `route`: [{lat, lon, time, until, readings, device}]; `violations`: [{lat, lon, text}].
 */
export async function routeMap(route, violations) {
  const parts = await load();
  const points = route.map((p) => ({ ...p, lat: Number(p.lat), lon: Number(p.lon) }));
  const lons = points.map((p) => p.lon);
  const lats = points.map((p) => p.lat);
  const [west, east, south, north] = [Math.min(...lons), Math.max(...lons), Math.min(...lats), Math.max(...lats)];
  const centre = [(west + east) / 2, (south + north) / 2];
  const squeeze = Math.max(0.2, Math.cos((centre[1] * Math.PI) / 180));
  const fit = Math.min((WIDTH * 0.8) / Math.max((east - west) * squeeze, 0.05), (HEIGHT * 0.76) / Math.max(north - south, 0.05), 900);
  const svg = s('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img',
    'aria-label': t('map.label', { count: number(points.length), from: time(points[0].time), to: time(points.at(-1).until) }) });
  let scale = fit;
  const draw = () => {
    const p = projection(centre, scale);
    const place = (v) => [p.x(Number(v.lon)), p.y(Number(v.lat))];
    const d = points.map((v, i) => `${i ? 'L' : 'M'}${place(v).map((n) => n.toFixed(1)).join(' ')}`).join('');
    const end = (v, text) => {
      const [x, y] = place(v);
      const right = x < WIDTH / 2;
      return [s('circle', { class: 'end', cx: x, cy: y, r: 6 }), s('text', { class: 'tag', x: x + (right ? 10 : -10), y: y - 9, 'text-anchor': right ? 'start' : 'end' }, text)];
    };
    svg.replaceChildren(...[background(parts, p, scale),
      s('path', { class: 'halo', d }), s('path', { class: 'route', d }),
      points.length < 400 && points.map((v) => s('circle', { class: 'stop', cx: place(v)[0], cy: place(v)[1], r: v.readings > 5 ? 4 : 2.6 },
        s('title', null, `${time(v.time)}${v.until && v.until !== v.time ? ` – ${time(v.until)}` : ''}\n${t('map.readings', { count: number(v.readings) })}`))),
      violations.map((v) => s('circle', { class: 'violation', cx: place(v)[0], cy: place(v)[1], r: violations.length > 30 ? 3.2 : 5 }, s('title', null, v.text))),
      end(points[0], t('map.start')), points.length > 1 && end(points.at(-1), t('map.end'))].flat(9).filter(Boolean));
  };
  draw();
  const zoom = (by) => { scale = Math.min(4000, Math.max(2, scale * by)); draw(); };
  return h('div', { class: 'map' }, svg, h('div', { class: 'zoom' },
    h('button', { 'aria-label': t('map.in'), onclick: () => zoom(1.6) }, '+'),
    h('button', { 'aria-label': t('map.out'), onclick: () => zoom(1 / 1.6) }, '−'),
    h('button', { 'aria-label': t('map.fit'), title: t('map.fit'), onclick: () => { scale = fit; draw(); } }, '⤢')));
}
