// The table of jumpy_mbrl/lab/demo.py: draws `props.value` and lets it be dragged. Gradio gives
// element, props, trigger and watch. Positions in table sides; the drawing has 100 units a side.
const BALLS = ['#d6b280', '#3a6ec4'], WAYS = ['#f4d6a8', '#96c0ff', '#ffffff'];
// Arrows 0 and 1 are how the balls roll, 2 is the shot. They begin at the rim.
const RIM = 0.125, REACH = [0.24, 0.24, 0.34], MOST = [1.2, 1.2, 1], RADIUS = 0.1, PER_SECOND = 40;
const svg = element.querySelector('svg');
const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
let table, began, grip = null;

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const xy = ([x, y]) => `${100 * x},${100 - 100 * y}`;
const way = (points, look) => `<polyline points="${points.map(xy).join(' ')}" ${look}/>`;
const dot = ([x, y], r, look) =>
  `<circle cx="${100 * x}" cy="${100 - 100 * y}" r="${r}" ${look}/>`;
const ball = (at, k, look) => `<g ${look}>${dot([at[0] + 0.01, at[1] - 0.014], 10.3, 'fill="#0004"')}`
  + dot(at, 10, `fill="${BALLS[k]}"`) + dot(at, 10, `fill="url(#light)"`) + '</g>';

const tip = (k) => {
  const start = table.balls[k % 2], v = k < 2 ? table.balls[k].slice(2) : table.shot;
  const size = Math.hypot(...v), course = size ? v.map((c) => c / size) : [0, k < 2 ? -1 : 1];
  return course.map((c, i) => start[i] + c * (RIM + REACH[k] * size));
};
const arrow = (k) => {
  const start = table.balls[k % 2], reach = tip(k).map((c, i) => c - start[i]);
  // The tip stays in the picture, where it can be taken.
  const inside = reach.map((c, i) => c ? ((c > 0 ? 1.04 : -0.04) - start[i]) / c : 1);
  const part = Math.min(1, ...inside), at = (far) => reach.map((c, i) => start[i] + far * c);
  return way([at(RADIUS / Math.hypot(...reach)), at(part)],
    `stroke="${WAYS[k]}" stroke-width="${k < 2 ? 1 : 1.8}"`)
    + dot(at(part), k < 2 ? 1.9 : 2.6, `fill="${WAYS[k]}" stroke="#0006" stroke-width="0.4"`)
    + dot(at(part), 5, `class="grip" data-grip="arrow ${k}" fill="transparent"`);
};
const shown = ({ real, imagined, ticks }) => {
  const last = real[0].length - 1, played = Math.floor((performance.now() - began) / 1000 * PER_SECOND);
  const now = still ? last : Math.min(last, played);
  if (now < last) requestAnimationFrame(() => table.show && draw());
  return real.map((r, k) => way(r.slice(0, now + 1), `class="real" stroke="${WAYS[k]}"`)).join('')
    + imagined.map((r) => way(r, 'class="imagined"')).join('')
    + real.map((r, k) => ball(r[now], k, 'pointer-events="none"')).join('')
    + ticks.flat().map((at) => dot(at, 1.3, 'class="tick"')).join('');
};
const draw = () => {
  const [left, right, low, high] = table.target.map((c) => 100 * c), show = table.show;
  const past = show ? 'past' : '';
  svg.innerHTML = '<radialGradient id="light" cx="0.33" cy="0.3" r="0.8"><stop stop-color="#fff"/>'
    + '<stop offset="0.3" stop-color="#fff0"/><stop offset="1" stop-color="#0009"/></radialGradient>'
    + '<rect x="-1" y="-1" width="102" height="102" fill="#462c1c"/>'
    + '<rect width="100" height="100" fill="#2f7d5e"/>'
    + `<rect class="grip ${show && show.won ? 'won' : ''}" data-grip="target 0" x="${left}"`
    + ` y="${100 - high}" width="${right - left}" height="${high - low}" fill="#101214"/>`
    + table.balls.map((at, k) => ball(at, k, `class="grip ${past}" data-grip="ball ${k}"`)).join('')
    + (show ? shown(show) : '') + `<g class="${past}">${[0, 1, 2].map(arrow).join('')}</g>`;
};

const move = (what, k, to) => {
  const row = table.balls[k % 2];
  if (what === 'ball') to.forEach((c, i) => { row[i] = clamp(c, RADIUS, 1 - RADIUS); });
  if (what === 'target') {
    const [left, right, low, high] = table.target;
    const x = clamp(to[0], 0, 1 - right + left), y = clamp(to[1], 0, 1 - high + low);
    table.target = [x, Math.min(1, x + right - left), y, Math.min(1, y + high - low)];
  }
  if (what === 'arrow') {
    const course = to.map((c, i) => c - row[i]), far = Math.hypot(...course);
    const size = far > RIM + 0.01 ? (far - RIM) / REACH[k] : 0;
    const v = course.map((c) => size ? c / far * size : 0);
    const over = Math.max(1, ...v.map((c) => Math.abs(c) / MOST[k]));
    v.forEach((c, i) => { (k < 2 ? row : table.shot)[k < 2 ? 2 + i : i] = c / over; });
  }
};
const place = (event) => {
  const matrix = svg.getScreenCTM().inverse();
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix);
  return [at.x / 100, 1 - at.y / 100];
};
svg.addEventListener('pointerdown', (event) => {
  const held = event.target.closest('[data-grip]');
  if (!held) return;
  const [what, k] = held.dataset.grip.split(' '), at = place(event);
  const from = { ball: table.balls[k], arrow: tip(k), target: [table.target[0], table.target[2]] }[what];
  grip = [what, Number(k), from[0] - at[0], from[1] - at[1]];
  svg.setPointerCapture(event.pointerId);
  event.preventDefault();
});
// A finger that drags does not scroll the page.
svg.addEventListener('touchstart', (event) => {
  if (event.target.closest('[data-grip]')) event.preventDefault();
}, { passive: false });
svg.addEventListener('pointermove', (event) => {
  if (!grip) return;
  const [what, k, ...off] = grip;
  delete table.show;
  move(what, k, place(event).map((c, i) => c + off[i]));
  draw();
});
const end = () => {
  if (!grip) return;
  grip = null;
  props.value = structuredClone(table);  // another object, or Gradio sees no change
  trigger('release');
};
svg.addEventListener('pointerup', end);
svg.addEventListener('pointercancel', end);
const load = () => {
  table = JSON.parse(JSON.stringify(props.value));
  began = performance.now();
  draw();
};
watch('value', load);
load();
