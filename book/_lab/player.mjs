// Plays fits in the place of a figure. What it draws was computed by the package when the book was built:
// parameters, log-likelihoods and bounds of every iteration. Only colours of points are worked out here.
//
// Time is counted in half-steps. At 2t the parameters are those of iteration t, and the points still have
// the responsibilities of iteration t - 1 (at 0: none); at 2t + 1, after the E-step, their own.
import {
  SIGMAS,
  boxOf,
  button,
  drawCurve,
  drawLine,
  drawPlane,
  element,
  isDark,
  logDensity,
  named,
  onThemeChange,
  sized,
} from "./drawing.mjs";

const VERSION = 1;
const HALF_STEP = 450; // milliseconds
const CALM_STEP = 900; // without motion in between
const CURVE_HEIGHT = 96; // CSS pixels of the curve below the points
let count = 0;

export class Player {
  // figure: the figure element; its picture stays in it, for print and for who prefers it.
  constructor(figure, content) {
    if (content.version !== VERSION) throw new Error(`format ${content.version}, not ${VERSION}`);
    this.content = content;
    this.points = content.points;
    this.planar = this.points[0].length === 2;
    this.figure = figure;
    this.picture = figure.querySelector("img");
    this.now = 0;
    this.frame = 0;
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    this.build();
    this.choose(0);
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    onThemeChange(() => this.draw());
  }

  // ---------------------------------------------------------------- what the reader sees and uses

  build() {
    const id = `replay-${++count}`;
    this.canvas = element("canvas");
    this.canvas.setAttribute("role", "img");
    this.plays = button("Play", () => (this.frame ? this.pause() : this.play()));
    this.back = button("Back", () => this.step(-1));
    this.next = button("E-step", () => this.step(1));
    this.slider = element("input", { type: "range", min: 0, step: 1, id });
    this.slider.addEventListener("input", () => {
      this.pause();
      this.go(Number(this.slider.value));
    });
    this.state = element("output", { className: "play-state" });
    this.state.setAttribute("for", id);
    this.state.setAttribute("aria-live", "off"); // steps are announced, motion is not
    this.spoken = element("p", { className: "vh" });
    this.spoken.setAttribute("role", "status");
    const bar = element("div", { className: "play-bar" }, this.plays, this.back, this.next, named("Iteration", this.slider));
    if (this.content.runs.length > 1) bar.append(this.starts(`${id}-start`));
    const leave = button("Show the figure", () => this.show(false));
    bar.append(leave);
    this.root = element("div", { className: "player" }, this.canvas, this.state, bar, this.spoken);
    this.root.setAttribute("role", "group");
    this.root.setAttribute("aria-label", "EM, step by step");
    (this.picture.closest("a, picture") ?? this.picture).before(this.root);
    this.show(true);
  }

  starts(id) {
    this.select = element("select", { id });
    for (const [number, { name }] of this.content.runs.entries())
      this.select.add(new Option(name, number));
    this.select.addEventListener("change", () => this.choose(Number(this.select.value)));
    return named("Start", this.select);
  }

  // The player, or the figure with its button.
  show(playing) {
    this.pause();
    this.root.hidden = !playing;
    this.figure.classList.toggle("playing", playing);
    if (playing) this.plays.focus({ preventScroll: true });
    else this.figure.querySelector("button.play")?.focus({ preventScroll: true });
  }

  // ---------------------------------------------------------------- time

  choose(number) {
    this.pause();
    this.run = this.content.runs[number];
    this.last = 2 * this.run.log_likelihood.length - 1;
    this.curve = {
      values: this.run.log_likelihood.flatMap((value) => [value, value]),
      bounds: this.run.bound.flatMap((value, t) => [t ? value : null, this.run.log_likelihood[t]]),
    };
    this.slider.max = this.last;
    this.known = new Map(); // iteration -> responsibilities
    this.go(0);
  }

  go(time) {
    this.now = Math.max(0, Math.min(this.last, time));
    const whole = Math.floor(this.now + 1e-9);
    const [t, halfway] = [whole >> 1, whole % 2 === 1];
    const value = this.run.log_likelihood[t].toFixed(2).replace("-", "−");
    const bound = (halfway ? this.run.log_likelihood[t] : this.run.bound[t]).toFixed(2).replace("-", "−");
    const at = t === 0 && !halfway ? "start" : `iteration ${t}, after the ${halfway ? "E" : "M"}-step`;
    const numbers = t === 0 && !halfway ? `log-likelihood ${value}` : `log-likelihood ${value}, bound ${bound}`;
    this.state.textContent = `${at}: ${numbers}`;
    this.slider.value = whole;
    this.slider.setAttribute("aria-valuetext", this.state.textContent);
    this.next.textContent = halfway ? "M-step" : "E-step";
    this.next.disabled = this.now >= this.last;
    this.back.disabled = this.now <= 0;
    this.draw();
  }

  step(by) {
    this.pause();
    const from = by > 0 ? Math.floor(this.now) : Math.ceil(this.now);
    this.go(from + by);
    this.spoken.textContent = this.state.textContent;
  }

  play() {
    if (this.now >= this.last) this.go(0);
    this.plays.textContent = "Pause";
    const origin = this.now;
    const begin = performance.now();
    const pace = this.calm.matches ? CALM_STEP : HALF_STEP;
    const tick = (time) => {
      const passed = Math.max(0, time - begin) / pace;
      this.go(origin + (this.calm.matches ? Math.floor(passed) : passed));
      if (this.now >= this.last) this.pause();
      else this.frame = requestAnimationFrame(tick);
    };
    this.frame = requestAnimationFrame(tick);
  }

  pause() {
    if (!this.frame) return;
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.plays.textContent = "Play";
    this.go(Math.round(this.now));
    this.spoken.textContent = this.state.textContent;
  }

  // ---------------------------------------------------------------- numbers

  // Responsibilities of iteration t, row after row; before the first E-step none.
  responsibilities(t) {
    if (t < 0) return null;
    if (!this.known.has(t)) {
      const { weights, means, covariances } = this.run;
      const densities = weights[t].map((weight, k) => logDensity(weight, means[t][k], covariances[t][k]));
      const K = densities.length;
      const shares = new Float32Array(this.points.length * K);
      this.points.forEach((point, i) => {
        const values = densities.map((density) => density(point));
        const top = Math.max(...values);
        const parts = values.map((value) => Math.exp(value - top));
        const sum = parts.reduce((a, b) => a + b);
        for (let k = 0; k < K; k++) shares[i * K + k] = parts[k] / sum;
      });
      this.known.set(t, shares);
    }
    return this.known.get(t);
  }

  // The parameters between two iterations, for the eye.
  parameters(t, share) {
    const { weights, means, covariances } = this.run;
    const next = Math.min(t + 1, weights.length - 1);
    return {
      weights: between(weights[t], weights[next], share),
      means: between(means[t], means[next], share),
      covariances: between(covariances[t], covariances[next], share),
    };
  }

  // ---------------------------------------------------------------- drawing

  draw() {
    const width = this.canvas.clientWidth;
    if (!width) return;
    const height = Math.round(this.planar ? 0.62 * width : 0.4 * width);
    const pen = sized(this.canvas, width, height + CURVE_HEIGHT);
    const [ink, muted, ...palette] = this.content.colours.map((pair) => pair[isDark() ? 1 : 0]);
    const t = Math.min(Math.floor(this.now / 2), this.run.weights.length - 1);
    const within = this.now - 2 * t; // 0 to 1: E-step, 1 to 2: M-step
    const moving = this.parameters(t, Math.max(0, within - 1));
    const shares = this.shares(t, Math.min(1, within));
    const scene = { pen, width, height, ink, muted, palette, ...moving, shares };
    this.box ??= boxOf(this.points);
    (this.planar ? drawPlane : drawLine)(scene, this.points, this.box);
    const curve = { values: this.curve.values, bounds: this.curve.bounds, now: this.now, last: this.last };
    drawCurve({ pen, ink, muted, accent: palette[1] }, curve, [8, height, width - 16, CURVE_HEIGHT]);
    const K = moving.weights.length;
    const components = this.planar
      ? `and the ellipses of ${K} components at ${SIGMAS} standard deviations`
      : `and the densities of ${K} components`;
    this.canvas.setAttribute(
      "aria-label",
      `${this.points.length} points, coloured and shaped by the component that is most responsible, ${components}`,
    );
  }

  shares(t, share) {
    const after = share > 0 ? this.responsibilities(t) : null;
    const before = this.responsibilities(t - 1);
    if (share >= 1 || !before) return share > 0 ? after : before;
    return after ? before.map((value, i) => value + share * (after[i] - value)) : before;
  }
}

function between(one, other, share) {
  if (!Array.isArray(one)) return one + share * (other - one);
  return one.map((value, i) => between(value, other[i], share));
}
