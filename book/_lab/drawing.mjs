// What the players and the lab draw with: points, components, curves.
export const SIGMAS = 2;
const TAU = 2 * Math.PI;

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function button(text, action) {
  const made = element("button", { type: "button", textContent: text });
  made.addEventListener("click", action);
  return made;
}

// A control with its name, which stay in one line. The control has an id.
export function named(text, control) {
  const label = element("label", { htmlFor: control.id, textContent: text });
  return element("span", { className: "play-field" }, label, control);
}

// Calls a function when the page becomes light or dark.
export function onThemeChange(action) {
  new MutationObserver(action).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", action);
}

// A clean pen for a canvas of this size in CSS pixels.
export function sized(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.aspectRatio = `${width} / ${height}`;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}

// The least and the greatest value of each coordinate, with a margin.
export function boxOf(points) {
  return points[0].map((_, j) => {
    let [low, high] = [Infinity, -Infinity];
    for (const point of points) [low, high] = [Math.min(low, point[j]), Math.max(high, point[j])];
    const margin = 0.08 * (high - low || 1);
    return [low - margin, high + margin];
  });
}

// The log-likelihood by half-steps, and after each M-step the bound that it has lifted. The scale is that
// of the later part: the first gains are often so large that nothing else could be seen.
export function drawCurve({ pen, ink, muted, accent }, { values, bounds, now, last }, [left, top, width, height]) {
  const later = values.slice(2).concat(bounds.slice(2).filter((value) => value !== null));
  const high = Math.max(...values);
  const floor = later.length > 4 ? Math.min(...later) : Math.min(...values);
  const low = Math.max(Math.min(...values), floor - 0.25 * (high - floor || 1));
  const x = (time) => left + (time / Math.max(1, last)) * width;
  const y = (value) => top + height - 10 - ((Math.max(value, low) - low) / (high - low || 1)) * (height - 32);
  const line = (numbers, colour, dash) => {
    pen.strokeStyle = colour;
    pen.lineWidth = 1.5;
    pen.setLineDash(dash);
    pen.beginPath();
    numbers.forEach((value, time) => value !== null && pen.lineTo(x(time), y(value)));
    pen.stroke();
    pen.setLineDash([]);
  };
  pen.font = "12px sans-serif";
  pen.textAlign = "left";
  pen.fillStyle = ink;
  pen.fillText("log-likelihood", left, top + 14);
  const second = left + pen.measureText("log-likelihood").width + 16;
  pen.fillStyle = accent;
  pen.fillText("bound", second, top + 14);
  line(values, muted, []);
  line(bounds.slice(0, Math.floor(now) + 1), accent, [4, 3]);
  pen.fillStyle = ink;
  pen.beginPath();
  pen.arc(x(now), y(values[Math.min(Math.floor(now), values.length - 1)]), 4, 0, TAU);
  pen.fill();
}

// ------------------------------------------------------------------ one component

// The logarithm of a weight times a normal density, as a function of a point with one or two coordinates.
export function logDensity(weight, mean, covariance) {
  const constant = Math.log(weight);
  if (mean.length === 1) {
    const variance = covariance[0][0];
    return ([x]) => constant - 0.5 * (Math.log(variance) + (x - mean[0]) ** 2 / variance);
  }
  const [[a, b], [, c]] = covariance;
  const determinant = a * c - b * b;
  return ([x, y]) => {
    const [u, v] = [x - mean[0], y - mean[1]];
    const square = (c * u * u - 2 * b * u * v + a * v * v) / determinant;
    return constant - 0.5 * (Math.log(determinant) + square);
  };
}

export function isDark() {
  const mode = document.documentElement.dataset.theme;
  if (mode === "dark" || mode === "light") return mode === "dark";
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

// ------------------------------------------------------------------ scenes

// The shape of a point tells its component without colour.
const SHAPES = [
  (pen, x, y, r) => pen.arc(x, y, r, 0, TAU),
  (pen, x, y, r) => polygon(pen, [[x, y - 1.3 * r], [x + 1.15 * r, y + 0.8 * r], [x - 1.15 * r, y + 0.8 * r]]),
  (pen, x, y, r) => pen.rect(x - 0.9 * r, y - 0.9 * r, 1.8 * r, 1.8 * r),
  (pen, x, y, r) => polygon(pen, [[x, y - 1.3 * r], [x + 1.3 * r, y], [x, y + 1.3 * r], [x - 1.3 * r, y]]),
  (pen, x, y, r) => polygon(pen, [[x, y + 1.3 * r], [x + 1.15 * r, y - 0.8 * r], [x - 1.15 * r, y - 0.8 * r]]),
];
const DASHES = [[], [8, 4], [8, 3, 2, 3], [2, 3]];

function polygon(pen, corners) {
  for (const [x, y] of corners) pen.lineTo(x, y);
  pen.closePath();
}

function drawPoints({ pen, width, muted, palette, shares, weights }, places) {
  const K = weights.length;
  const radius = Math.min(3, Math.max(1.5, width / 150));
  pen.globalAlpha = 0.75;
  places.forEach(([x, y], i) => {
    let [best, shape] = [muted, SHAPES[0]];
    if (shares) {
      const mine = shares.subarray ? shares.subarray(i * K, i * K + K) : shares.slice(i * K, i * K + K);
      best = mixed(mine, palette);
      shape = SHAPES[mine.indexOf(Math.max(...mine)) % SHAPES.length];
    }
    pen.fillStyle = best;
    pen.beginPath();
    shape(pen, x, y, radius);
    pen.fill();
  });
  pen.globalAlpha = 1;
}

// The components' colours in the proportions of the responsibilities.
function mixed(shares, palette) {
  const sum = [0, 0, 0];
  shares.forEach((share, k) => {
    const colour = palette[k % palette.length];
    for (let j = 0; j < 3; j++) sum[j] += share * parseInt(colour.slice(1 + 2 * j, 3 + 2 * j), 16);
  });
  return `rgb(${sum.map(Math.round).join(" ")})`;
}

// The number of a component, legible on whatever it covers.
function drawNumber(pen, k, [x, y]) {
  pen.font = "bold 14px sans-serif";
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.lineWidth = 4;
  pen.strokeStyle = isDark() ? "#14171a" : "#fffefb";
  pen.strokeText(k + 1, x, y);
  pen.fillText(k + 1, x, y);
  pen.textBaseline = "alphabetic";
}

// Returns where the numbers of the components stand.
export function drawPlane(scene, points, [[left, right], [low, high]]) {
  const { pen, width, height, palette, weights, means, covariances } = scene;
  const [sx, sy] = [width / (right - left), height / (high - low)];
  const place = ([x, y]) => [(x - left) * sx, height - (y - low) * sy];
  drawPoints(scene, points.map(place));
  pen.save();
  pen.beginPath();
  pen.rect(0, 0, width, height);
  pen.clip();
  const centres = means.map(place);
  weights.forEach((_, k) => {
    const [x, y] = centres[k];
    const [[a, b], [, c]] = covariances[k];
    const [p, q, r] = [a * sx * sx, -b * sx * sy, c * sy * sy]; // on the screen, where y points down
    const spread = Math.hypot((p - r) / 2, q);
    const [long, short] = [(p + r) / 2 + spread, Math.max(0, (p + r) / 2 - spread)].map(Math.sqrt);
    pen.strokeStyle = pen.fillStyle = palette[k % palette.length];
    pen.lineWidth = 2;
    pen.setLineDash(DASHES[k % DASHES.length]);
    pen.beginPath();
    pen.ellipse(x, y, SIGMAS * long, SIGMAS * short, 0.5 * Math.atan2(2 * q, p - r), 0, TAU);
    pen.stroke();
    pen.setLineDash([]);
    drawNumber(pen, k, [x, y]);
  });
  pen.restore();
  return centres;
}

// Returns where the numbers of the components stand: at the tops of their curves.
export function drawLine(scene, points, [[left, right]]) {
  const { pen, width, height, ink, palette, weights, means, covariances } = scene;
  const place = (x) => ((x - left) / (right - left)) * width;
  drawPoints(scene, points.map(([x]) => [place(x), height - 8]));
  if (!weights.length) return [];
  const components = weights.map((weight, k) => logDensity(weight, means[k], covariances[k]));
  const widths = covariances.map(([[variance]]) => Math.sqrt(variance));
  const at = Array.from({ length: 201 }, (_, i) => left + (i / 200) * (right - left));
  for (const [k, [mean]] of means.entries()) // a narrow peak lies between these
    for (let z = -4; z <= 4; z += 0.25) at.push(mean + z * widths[k]);
  at.sort((a, b) => a - b);
  const curves = components.map((density) => at.map((x) => Math.exp(density([x]))));
  const total = at.map((_, i) => curves.reduce((sum, curve) => sum + curve[i], 0));
  const wide = curves.filter((_, k) => widths[k] > 0.005 * (right - left)); // others go out of the picture
  const seen = wide.length ? at.map((_, i) => wide.reduce((sum, curve) => sum + curve[i], 0)) : total;
  const scale = (height - 44) / seen.reduce((a, b) => Math.max(a, b));
  const trace = (values, colour, dash, thick) => {
    pen.strokeStyle = colour;
    pen.lineWidth = thick;
    pen.setLineDash(dash);
    pen.beginPath();
    values.forEach((value, i) => pen.lineTo(place(at[i]), height - 16 - scale * value));
    pen.stroke();
    pen.setLineDash([]);
  };
  pen.save();
  pen.beginPath();
  pen.rect(0, 0, width, height);
  pen.clip();
  trace(total, ink, [], 1);
  curves.forEach((curve, k) => trace(curve, palette[k % palette.length], DASHES[(k + 1) % DASHES.length], 2));
  const tops = means.map((mean, k) => {
    const top = height - 16 - scale * Math.exp(components[k](mean));
    return [place(mean[0]), Math.max(14, top - 10)];
  });
  tops.forEach((top, k) => {
    pen.fillStyle = palette[k % palette.length];
    drawNumber(pen, k, top);
  });
  pen.restore();
  return tops;
}

// What is drawn, at the edges: the first name at the right end, the second at the top.
export function drawNames({ pen, width, height, muted }, names) {
  pen.fillStyle = muted;
  pen.font = "12px sans-serif";
  pen.textAlign = "right";
  pen.fillText(`${names[0]} →`, width - 8, names.length > 1 ? height - 8 : 18);
  pen.textAlign = "left";
  if (names.length > 1) pen.fillText(`↑ ${names[1]}`, 8, 18);
}
