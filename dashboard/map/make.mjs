// Makes web/world.js from Natural Earth's public-domain coast and borders, as the npm package world-atlas carries them.
// Run by hand when the map is to change; its result is committed:
//
//   npm install --prefix /tmp/map world-atlas@2 topojson-client@3 i18n-iso-countries@7
//   NODE_PATH=/tmp/map/node_modules node dashboard/map/make.mjs > dashboard/web/world.js
//
// Lines are thinned to what a map of some hundred kilometres shows, put on a grid of 0.01 degrees, and written as
// differences from point to point.
import { createRequire } from 'node:module';

const require = createRequire(process.env.NODE_PATH ? `${process.env.NODE_PATH}/` : import.meta.url);
const { feature, mesh } = require('topojson-client');
const atlas = require('world-atlas/countries-50m.json');
const iso = require('i18n-iso-countries');

const GRID = 100;
const TOLERANCE = 0.025;
const SMALLEST_ISLAND = 0.01;

function thin(points) {
  // Douglas and Peucker: keeps the points that a straight line would miss by more than the tolerance.
  const keep = new Uint8Array(points.length);
  keep[0] = keep[points.length - 1] = 1;
  const open = [[0, points.length - 1]];
  while (open.length) {
    const [from, to] = open.pop();
    const [x0, y0] = points[from];
    const [x1, y1] = points[to];
    const length = Math.hypot(x1 - x0, y1 - y0);
    let worst = -1;
    let distance = TOLERANCE;
    for (let i = from + 1; i < to; i++) {
      const [x, y] = points[i];
      const away = length === 0
        ? Math.hypot(x - x0, y - y0)
        : Math.abs((x1 - x0) * (y0 - y) - (x0 - x) * (y1 - y0)) / length;
      if (away > distance) {
        distance = away;
        worst = i;
      }
    }
    if (worst > 0) {
      keep[worst] = 1;
      open.push([from, worst], [worst, to]);
    }
  }
  return points.filter((_, i) => keep[i]);
}

function differences(points) {
  let [x, y] = [0, 0];
  const numbers = [];
  for (const [lon, lat] of points) {
    const [nx, ny] = [Math.round(lon * GRID), Math.round(lat * GRID)];
    numbers.push(nx - x, ny - y);
    [x, y] = [nx, ny];
  }
  return numbers.join(' ');
}

function area(ring) {
  let sum = 0;
  for (let i = 1; i < ring.length; i++) {
    sum += ring[i - 1][0] * ring[i][1] - ring[i][0] * ring[i - 1][1];
  }
  return Math.abs(sum / 2);
}

const rings = feature(atlas, atlas.objects.land).features
  .flatMap((f) => (f.geometry.type === 'Polygon' ? [f.geometry.coordinates] : f.geometry.coordinates))
  .flat()
  .filter((ring) => area(ring) > SMALLEST_ISLAND);
const borders = mesh(atlas, atlas.objects.countries, (a, b) => a !== b).coordinates;

// A country's name stands in the middle of its largest part.
const names = feature(atlas, atlas.objects.countries).features.flatMap((f) => {
  const code = iso.numericToAlpha2(f.id);
  if (!code) return [];
  const parts = f.geometry.type === 'Polygon' ? [f.geometry.coordinates] : f.geometry.coordinates;
  const ring = parts.map((p) => p[0]).sort((a, b) => area(b) - area(a))[0];
  const xs = ring.map((p) => p[0]);
  const ys = ring.map((p) => p[1]);
  const middle = (list) => (Math.min(...list) + Math.max(...list)) / 2;
  return [`${code} ${middle(xs).toFixed(1)} ${middle(ys).toFixed(1)} ${Math.sqrt(area(ring)).toFixed(1)}`];
});

const text = (list) => JSON.stringify(list.map((line) => differences(thin(line))).join('\n'));
console.log(`// Coast and borders: Natural Earth, public domain. Made by dashboard/map/make.mjs; do not edit.
export const GRID = ${GRID};
export const land = ${text(rings)};
export const borders = ${text(borders)};
export const names = ${JSON.stringify(names.join('\n'))};`);
