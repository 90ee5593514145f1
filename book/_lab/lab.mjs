// The lab: the reader runs EM. All computing is the package's, in the worker; this draws and asks.
import { boxOf, button, drawCurve, drawLine, drawNames, drawPlane, element, isDark, named, onThemeChange, sized } from "./drawing.mjs";
import { Python } from "./python.mjs";

const PAUSE = 250; // milliseconds between half-steps of a run that is watched
const NUDGE = 0.02; // part of the picture's width by which an arrow key moves a mean
const REACH = 22; // CSS pixels within which a mean is taken hold of
const CURVE_HEIGHT = 110;
const LARGEST = 8; // components
const DATA = [
  ["old_faithful", "Old Faithful"],
  ["iris", "Iris, petals"],
  ["course_project", "Crossing clouds"],
  ["watching_em", "Three long clouds"],
  ["three_components", "Three components"],
  ["galaxies", "Galaxies (one dimension)"],
  ["acidity", "Acidity (one dimension)"],
  ["own", "My own points"],
];
const PLANE = "VVV VVI VII EEE EEI EII VEV EEV EVV VEE EVE VVE VEI EVI".split(" ");
const LINE = ["V", "E"];
const STARTS = ["random", "k-means", "k-means++", "agglomerative", "random-responsibilities", "short-runs"];
const NAMES = { VVV: "full", VVI: "diagonal", VII: "spherical", EEE: "tied", V: "free", E: "equal" };
const COUNTS = ["None of", "One of", "Two of", "Three of", "Four of", "Five of", "All"]; // six starts
const BEGINNING = { data: "old_faithful", k: 2, family: "VVV", start: "random", seed: 8, prior: false };

const field = (text, control) => element("label", {}, element("span", { textContent: text }), control);
const options = (pairs) => pairs.map(([value, text]) => new Option(text ?? value, value));

class Lab {
  constructor(place) {
    this.setting = { ...BEGINNING, ...this.fromAddress() };
    this.own = this.setting.points ?? [];
    this.points = [];
    this.state = null;
    this.playing = false;
    this.queue = Promise.resolve();
    this.underWay = 0;
    this.python = new Python("laboratory", (text) => this.say(text));
    this.build(place);
    onThemeChange(() => this.draw());
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  // ---------------------------------------------------------------- the page

  build(place) {
    this.status = element("p", { className: "lab-status" });
    this.status.setAttribute("role", "status");
    this.canvas = element("canvas", { className: "lab-plane", tabIndex: 0 });
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-roledescription", "picture with movable means");
    this.canvas.setAttribute("aria-describedby", "lab-keys");
    const keys = element("p", {
      id: "lab-keys",
      className: "lab-hint",
      textContent:
        "Drag a mean to move it. By keyboard: with the picture in focus, the number keys choose a component and the arrow keys move its mean. With your own points, a click adds one; Enter adds one at the chosen mean.",
    });
    this.readings = element("dl", { className: "lab-readings" });
    this.results = element("div", { className: "lab-results" });
    place.classList.add("open");
    this.main = element(
      "div",
      { className: "lab-main" },
      element("div", {}, this.canvas, this.readings, this.motion()),
      this.choices(),
    );
    place.replaceChildren(
      this.status,
      this.main,
      keys,
      this.experiments(),
      this.results,
    );
    this.listen();
    this.showSetting();
    this.enable();
  }

  // What there is nothing for is disabled.
  enable() {
    const { state } = this;
    for (const control of this.needing) control.disabled = !state;
    if (!state) this.steps.textContent = "E-step";
    this.back.disabled = !state || state.place === 0;
  }

  choices() {
    this.data = element("select", {}, ...options(DATA));
    this.k = element("input", { type: "number", min: 1, max: LARGEST });
    this.family = element("select");
    this.start = element("select", {}, ...options(STARTS.map((name) => [name])));
    this.seed = element("input", { type: "number", min: 0, max: 999999 });
    this.prior = element("input", { type: "checkbox" });
    this.clears = button("Clear my points", () => this.replacePoints([]));
    this.clears.hidden = true;
    const form = element(
      "form",
      { className: "lab-choices" },
      element("fieldset", {}, element("legend", { textContent: "Data" }), field("Set", this.data), this.clears),
      element(
        "fieldset",
        {},
        element("legend", { textContent: "Model" }),
        field("Components", this.k),
        field("Covariances", this.family),
        field("Prior", this.prior),
      ),
      element(
        "fieldset",
        {},
        element("legend", { textContent: "Start" }),
        field("Method", this.start),
        field("Seed", this.seed),
        button("Begin anew", () => this.begin()),
      ),
    );
    form.addEventListener("submit", (event) => event.preventDefault());
    this.data.addEventListener("change", () => this.chooseData());
    for (const control of [this.k, this.family, this.start, this.seed, this.prior])
      control.addEventListener("change", () => this.begin());
    return form;
  }

  motion() {
    this.plays = button("Run", () => (this.playing ? this.pause() : this.play()));
    this.steps = button("E-step", () => this.step());
    this.back = button("Back", () => this.go(this.state.place - 1));
    this.ends = button("Run to the end", () => this.toTheEnd());
    this.slider = element("input", { type: "range", min: 0, max: 0, step: 1, value: 0, id: "lab-time" });
    this.slider.addEventListener("input", () => this.go(Number(this.slider.value)));
    this.needing = [this.plays, this.steps, this.ends, this.slider];
    return element("div", { className: "play-bar" }, this.plays, this.steps, this.back, this.ends, named("Rewind", this.slider));
  }

  experiments() {
    const buttons = [
      button("Six starts side by side", () => this.sixStarts()),
      button("BIC over K", () => this.bic()),
      button("Provoke a collapse", () => this.press()),
      button("Find a bad optimum", () => this.badOptimum()),
      button("Repair: add a prior", () => this.repair()),
      button("Copy the address", () => this.copy(this.address(), "The address")),
      button("Copy the Python", () =>
        this.act(async () => this.copy((await this.ask("program")).program, "The program")),
      ),
    ];
    this.needing.push(...buttons.filter(({ textContent }) => textContent !== "Copy the address"));
    return element("div", { className: "play-bar lab-experiments" }, ...buttons);
  }

  listen() {
    this.canvas.addEventListener("pointerdown", (event) => this.grab(event));
    this.canvas.addEventListener("click", (event) => this.add(event));
    // a finger on a mean moves it; elsewhere it scrolls the page
    const hold = (event) => {
      if (this.meanNear(this.place(event.touches[0])) >= 0) event.preventDefault();
    };
    this.canvas.addEventListener("touchstart", hold, { passive: false });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    addEventListener("hashchange", () => this.restore());
  }

  showSetting() {
    const { setting } = this;
    this.data.value = setting.data;
    this.k.value = setting.k;
    this.start.value = setting.start;
    this.seed.value = setting.seed;
    this.prior.checked = setting.prior;
    this.showFamilies(["galaxies", "acidity"].includes(setting.data));
  }

  showFamilies(line) {
    const names = line ? LINE : PLANE;
    const wanted = names.includes(this.setting.family) ? this.setting.family : names[0];
    this.family.replaceChildren(
      ...options(names.map((name) => [name, NAMES[name] ? `${name}, ${NAMES[name]}` : name])),
    );
    this.family.value = wanted;
  }

  say(text) {
    this.status.textContent = text;
  }

  // ---------------------------------------------------------------- asking the package

  // One question after the other; what goes wrong is said.
  ask(name, args = {}) {
    const answer = this.queue.then(() => this.python.call(name, args));
    this.queue = answer.catch(() => {});
    return answer;
  }

  async act(action) {
    this.count(1);
    try {
      return await action();
    } catch (error) {
      this.playing = false;
      this.plays.textContent = "Run";
      const said = plain(error);
      this.say(this.python.loaded ? said : `Python could not be loaded here: ${said}`);
      return null;
    } finally {
      this.count(-1);
    }
  }

  // The page says that the lab is busy while actions are under way.
  count(change) {
    this.underWay += change;
    this.main.setAttribute("aria-busy", String(this.underWay > 0));
  }

  open() {
    return this.act(async () => {
      ({ colours: this.colours } = await this.ask("colours"));
      this.say("Ready");
      await this.chooseData(true);
    });
  }

  async restore() {
    this.setting = { ...BEGINNING, ...this.fromAddress() };
    this.own = this.setting.points ?? this.own;
    this.showSetting();
    await this.chooseData(true);
  }

  chooseData(restoring = false) {
    this.pause();
    return this.act(async () => {
      const name = this.data.value;
      const isOwn = name === "own";
      this.clears.hidden = !isOwn;
      if (isOwn) {
        await this.replacePoints(this.own, restoring);
        return;
      }
      const { points, names } = await this.ask("data", { name });
      this.take(points, names);
      await this.begin(restoring);
    });
  }

  take(points, names) {
    this.state = null;
    this.points = points;
    this.names = names;
    this.box = points.length ? boxOf(points) : [[0, 10], [0, 10]];
    this.setting.family = this.family.value || this.setting.family;
    this.showFamilies(points.length > 0 && points[0].length === 1);
  }

  async replacePoints(points, restoring = false) {
    this.own = points;
    const enough = points.length > Number(this.k.value);
    if (enough) await this.ask("data", { points });
    this.state = null;
    this.points = points;
    this.names = ["x", "y"];
    this.box = [[0, 10], [0, 10]];
    this.showFamilies(false);
    if (enough) await this.begin(restoring);
    else this.wait(`Click into the picture: ${points.length} points, more than ${this.k.value} are needed`);
  }

  // Nothing can begin yet.
  wait(text) {
    this.setting = { ...this.setting, ...this.chosenSetting(), mixture: undefined, place: 0 };
    this.state = null;
    this.readings.replaceChildren();
    this.results.replaceChildren();
    this.enable();
    this.say(text);
    this.draw();
  }

  // What the controls say.
  chosenSetting() {
    return {
      data: this.data.value,
      k: Math.min(LARGEST, Math.max(1, Math.round(Number(this.k.value)) || 1)),
      family: this.family.value,
      start: this.start.value,
      seed: Math.min(999999, Math.max(0, Math.round(Number(this.seed.value)) || 0)),
      prior: this.prior.checked,
    };
  }

  begin(restoring = false) {
    this.pause();
    return this.act(async () => {
      this.setting = {
        ...this.chosenSetting(),
        mixture: restoring ? this.setting.mixture : undefined,
        place: restoring ? this.setting.place : 0,
      };
      const { k, family, start, seed, prior, mixture, place } = this.setting;
      this.k.value = k;
      this.seed.value = seed;
      if (this.points.length <= k) {
        this.wait(`${this.points.length} points are too few for ${k} components`);
        return;
      }
      this.forget([this.points, k, family, prior]);
      this.chosen = 0;
      let state;
      try {
        state = mixture
          ? await this.ask("begin_at", { mixture, prior })
          : await this.ask("begin", { n_components: k, family, start, prior, seed });
      } catch (error) {
        if (!this.python.loaded) throw error;
        this.wait(plain(error)); // points in a line, or a start that there is not for these
        return;
      }
      for (let i = 0; i < (place ?? 0) && !state.failure; i++) state = await this.ask("step");
      this.say(mixture ? "The shared start" : `${this.points.length} points, start ${start}, seed ${seed}`);
      await this.show(state);
    });
  }

  // Results of other points or of another model are taken away.
  forget(basis) {
    if (this.basis?.some((part, i) => part !== basis[i])) this.results.replaceChildren();
    this.basis = basis;
  }

  // A run that begins with given parameters; a shared address has to hold them.
  async given(state) {
    this.setting.mixture = state.mixture;
    await this.show(state);
  }

  // ---------------------------------------------------------------- time

  step() {
    this.pause();
    return this.act(async () => this.show(await this.ask("step"), true));
  }

  go(place) {
    this.pause();
    return this.act(async () => this.show(await this.ask("go", { place }), true));
  }

  play() {
    this.playing = true;
    this.plays.textContent = "Pause";
    return this.act(async () => {
      let before = -Infinity;
      while (this.playing) {
        const state = await this.ask("step");
        await this.show(state);
        if (state.failure) this.pause();
        if (state.step === "M") {
          if (state.objective - before < 1e-8 * this.points.length) {
            this.pause();
            this.say(`Arrived after ${state.iteration} iterations`);
          }
          before = state.objective;
        }
        await new Promise((resolve) => setTimeout(resolve, PAUSE));
      }
    });
  }

  pause() {
    this.playing = false;
    this.plays.textContent = "Run";
  }

  toTheEnd() {
    this.pause();
    return this.act(async () => {
      for (let i = 0; i < 100; i++) {
        const state = await this.ask("run", { n_iterations: 10 });
        await this.show(state);
        if (state.failure) return;
        if (state.arrived) {
          this.say(`Arrived after ${state.iteration} iterations`);
          return;
        }
      }
      this.say("A thousand iterations, and still on the way");
    });
  }

  // ---------------------------------------------------------------- experiments

  starts() {
    const seed = Number(this.seed.value);
    return { starts: ["k-means", "k-means++", "random", "random", "random", "random"], seeds: [0, 1, 2, 3, 4, 5].map((i) => seed + i) };
  }

  sixStarts() {
    this.pause();
    return this.act(async () => {
      this.say("Six runs");
      const { ends } = await this.ask("ends", this.starts());
      const best = ends[0].objective;
      const cards = ends.map((end) => this.card(end, best));
      this.results.replaceChildren(
        element("h2", { textContent: "Six starts, the best end first" }),
        element("div", { className: "lab-cards" }, ...cards),
      );
      for (const card of cards) card.paint?.();
      const good = ends.filter((end) => best - end.objective < 1e-3).length;
      const what = this.prior.checked ? "log-likelihood with the prior" : "log-likelihood";
      const ending = good === 1 ? "ends" : "end";
      this.say(
        good
          ? `${COUNTS[good]} six starts ${ending} at the best ${what}, ${number(best)}`
          : "All six starts collapse; a prior helps",
      );
    });
  }

  card(end, best) {
    const canvas = element("canvas");
    canvas.setAttribute("role", "img");
    const worse = best - end.objective;
    const text = end.failure
      ? `collapsed. ${collapse(end.failure)}`
      : `${number(end.log_likelihood)}${this.prior.checked ? `, with the prior ${number(end.objective)},` : ""} after ${end.n_iter} iterations` + (worse > 1e-3 ? `, ${number(worse)} below the best` : "");
    canvas.setAttribute("aria-label", `Components found from the start ${end.start}: ${text}`);
    const goes = button("Go on from here", () =>
      this.act(async () => this.given(await this.ask("begin_at", { mixture: end.mixture, prior: this.prior.checked }))),
    );
    goes.disabled = Boolean(end.failure);
    const card = element("figure", {}, canvas, element("figcaption", { textContent: `${end.start}, seed ${end.seed}: ${text}` }), goes);
    if (!end.failure) card.paint = () => this.paint(canvas, end.mixture, null, 0.62);
    return card;
  }

  bic() {
    this.pause();
    return this.act(async () => {
      this.say("Fits of one to six components");
      const { bic } = await this.ask("bic", { largest: Math.min(6, this.points.length - 1) });
      const known = bic.filter((value) => value !== null);
      const best = bic.indexOf(Math.min(...known));
      const rows = bic.map((value, i) =>
        element(
          "tr",
          { className: i === best ? "lab-best" : "" },
          element("td", { textContent: i + 1 }),
          element("td", { textContent: value === null ? "singular" : number(value) }),
          element("td", { textContent: i === best ? "chosen" : value === null ? "" : `+${number(value - bic[best])}` }),
        ),
      );
      const head = element("tr", {}, ...["K", "BIC", "above the least"].map((text) => element("th", { textContent: text, scope: "col" })));
      this.results.replaceChildren(
        element("h2", { textContent: `BIC of the family ${this.state.mixture.family}` }),
        element("table", { className: "lab-table" }, element("thead", {}, head), element("tbody", {}, ...rows)),
      );
      this.say(`BIC chooses ${best + 1} components`);
    });
  }

  press() {
    this.pause();
    return this.act(async () => {
      await this.given(await this.ask("press", { component: this.chosen ?? 0 }));
      this.say("A component sits on a single row now. Run, and see its ellipse shrink and the likelihood rise without end");
    });
  }

  badOptimum() {
    this.pause();
    return this.act(async () => {
      this.say("Two dozen runs");
      const methods = ["random", "k-means++", "random-responsibilities"];
      const seed = Number(this.seed.value);
      const { ends } = await this.ask("ends", {
        starts: methods.flatMap((method) => Array(8).fill(method)),
        seeds: methods.flatMap(() => Array.from({ length: 8 }, (_, i) => seed + i)),
      });
      const found = ends.filter((end) => !end.failure);
      if (!found.length) {
        this.say("All runs collapsed; a prior helps");
        return;
      }
      const [best, worst] = [found[0], found.at(-1)];
      await this.given(await this.ask("begin_at", { mixture: worst.mixture, prior: this.prior.checked }));
      const lack = best.objective - worst.objective;
      this.say(
        lack < 1e-3
          ? "Two dozen starts all end at the same log-likelihood: no bad optimum was found. More components have more of them"
          : `The worst of two dozen ends, ${number(lack)} below the best. EM stays here; move a mean, or take another start`,
      );
    });
  }

  repair() {
    this.prior.checked = true;
    return this.act(async () => {
      const broken = this.state?.mixture;
      await this.begin();
      this.say(broken ? "With the prior, from the chosen start: no component can collapse" : "With the prior");
    });
  }

  // ---------------------------------------------------------------- means that move

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  // From data to the picture and back.
  scales() {
    const [width, height] = [this.canvas.clientWidth, this.height];
    const [[left, right], [low, high] = [0, 1]] = this.box;
    return {
      to: ([x, y = 0]) => [((x - left) / (right - left)) * width, this.box.length > 1 ? height - ((y - low) / (high - low)) * height : height / 2],
      from: ([u, v]) => {
        const x = left + (u / width) * (right - left);
        return this.box.length > 1 ? [x, low + ((height - v) / height) * (high - low)] : [x];
      },
    };
  }

  // The component whose mean is near a place, or -1.
  meanNear(at) {
    if (!this.state || at[1] > this.height) return -1;
    const { to } = this.scales();
    const distances = this.state.mixture.means.map((mean) => distance(to(mean), at, this.box.length));
    const least = Math.min(...distances);
    return least < REACH ? distances.indexOf(least) : -1;
  }

  // A click beside all means adds a point to those of the reader.
  add(event) {
    const at = this.place(event);
    if (this.data.value !== "own" || at[1] > this.height || this.meanNear(at) >= 0 || this.dragged) return;
    const point = this.scales().from(at).map((value) => Number(value.toPrecision(6)));
    this.act(() => this.replacePoints([...this.own, point]));
  }

  grab(event) {
    const { from } = this.scales();
    const nearest = this.meanNear(this.place(event));
    this.dragged = false;
    if (nearest < 0) return;
    event.preventDefault();
    this.pause();
    this.chosen = nearest;
    this.canvas.setPointerCapture(event.pointerId);
    const until = new AbortController();
    const { signal } = until;
    let target = null;
    const follow = (move) => {
      target = from(this.place(move));
      this.dragged = true;
      const means = this.state.mixture.means.map((mean, k) => (k === nearest ? target : mean));
      this.state = { ...this.state, mixture: { ...this.state.mixture, means } };
      this.draw();
    };
    const drop = () => {
      until.abort();
      if (target) this.moveTo(nearest, target);
    };
    this.canvas.addEventListener("pointermove", follow, { signal });
    this.canvas.addEventListener("pointerup", drop, { signal });
    this.canvas.addEventListener("pointercancel", drop, { signal });
  }

  moveTo(component, mean) {
    return this.act(async () => {
      await this.given(await this.ask("move", { component, mean }));
      this.say(`Mean ${component + 1} is at ${mean.map(number).join(", ")}; the run begins there`);
    });
  }

  key(event) {
    const K = this.state?.mixture.means.length ?? 0;
    if (/^[1-9]$/.test(event.key) && Number(event.key) <= K) {
      this.chosen = Number(event.key) - 1;
      this.say(`Component ${event.key} is chosen`);
      this.draw();
      return;
    }
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const mean = this.state?.mixture.means[this.chosen ?? 0];
    if (event.key in arrows && mean) {
      event.preventDefault();
      const moved = mean.map((value, j) => value + NUDGE * (this.box[j][1] - this.box[j][0]) * arrows[event.key][j]);
      this.moveTo(this.chosen ?? 0, moved);
    } else if (event.key === "Enter" && this.data.value === "own") {
      event.preventDefault();
      this.act(() => this.replacePoints([...this.own, mean ?? [5, 5]]));
    }
  }

  // ---------------------------------------------------------------- what is shown

  async show(state, announced = false) {
    this.state = state;
    this.setting.place = state.place;
    const waitsForM = state.step === "E";
    this.steps.textContent = waitsForM ? "M-step" : "E-step";
    this.enable();
    this.slider.max = state.length - 1;
    this.slider.value = state.place;
    const { rate } = state.step === "E" ? { rate: this.predicted } : await this.ask("rate");
    this.predicted = rate;
    const readings = [
      ["iteration", `${state.iteration}${{ E: ", after the E-step", M: ", after the M-step" }[state.step] ?? ", start"}`],
      ["log-likelihood", number(state.log_likelihood)],
      ["bound", state.bound === null ? "none before an E-step" : `${number(state.bound)}, ${gap(state)}`],
      ["rate", rates(state.measured_rate, rate)],
    ];
    if (this.setting.prior) readings.splice(2, 0, ["with the prior", number(state.objective)]);
    this.readings.replaceChildren(
      ...readings.flatMap(([name, value]) => [element("dt", { textContent: name }), element("dd", { textContent: value })]),
    );
    this.slider.setAttribute("aria-valuetext", `${readings[0][1]}, log-likelihood ${readings[1][1]}`);
    if (state.failure) this.say(`Collapse. ${collapse(state.failure)}. A prior repairs it, or another start`);
    else if (announced) this.say(`Iteration ${readings[0][1]}: log-likelihood ${readings[1][1]}`);
    this.draw();
  }

  draw() {
    const width = this.canvas.clientWidth;
    if (!width || !this.box || !this.colours) return;
    this.height = Math.round((this.box.length > 1 ? 0.66 : 0.42) * width);
    const mixture = this.state?.mixture ?? null;
    const { pen, numbers } = this.paint(this.canvas, mixture, this.state?.shares, this.height / width, CURVE_HEIGHT);
    if (this.points.length) drawNames({ pen, width, height: this.height, muted: this.inks()[1] }, this.names);
    if (!mixture) {
      this.canvas.setAttribute("aria-label", `${this.points.length} points`);
      return;
    }
    const [ink, muted, ...palette] = this.inks();
    const { curve, bounds, place, length } = this.state;
    drawCurve({ pen, ink, muted, accent: palette[1] }, { values: curve, bounds, now: place, last: length - 1 }, [8, this.height, width - 16, CURVE_HEIGHT]);
    const [x, y] = numbers[this.chosen ?? 0];
    pen.strokeStyle = ink;
    pen.lineWidth = 1;
    pen.strokeRect(x - 12, y - 12, 24, 24);
    const means = mixture.means.map((mean, k) => `${k + 1} at ${mean.map(number).join(", ")}`).join("; ");
    this.canvas.setAttribute("aria-label", `${this.points.length} points and ${mixture.means.length} components, means ${means}`);
  }

  inks() {
    return this.colours.map((pair) => pair[isDark() ? 1 : 0]);
  }

  paint(canvas, mixture, shares, aspect, below = 0) {
    const width = canvas.clientWidth;
    const height = Math.round(aspect * width);
    const pen = sized(canvas, width, height + below);
    const [ink, muted, ...palette] = this.inks();
    const { weights = [], means = [], covariances = [] } = mixture ?? {};
    const scene = { pen, width, height, ink, muted, palette, weights, means, covariances, shares };
    const numbers = this.box.length > 1 ? drawPlane(scene, this.points, this.box) : drawLine(scene, this.points, this.box);
    return { pen, numbers };
  }

  // ---------------------------------------------------------------- sharing

  address() {
    const { data, k, family, start, seed, prior } = this.setting;
    const state = { data, k, family, start, seed, prior, place: this.state?.place ?? 0 };
    if (data === "own") state.points = this.own;
    if (this.setting.mixture) state.mixture = this.setting.mixture;
    const address = new URL(location.href);
    address.hash = encodeURIComponent(JSON.stringify(state));
    return address.href;
  }

  fromAddress() {
    try {
      const state = JSON.parse(decodeURIComponent(location.hash.slice(1)));
      const known = {};
      if (DATA.some(([name]) => name === state.data)) known.data = state.data;
      if (Number.isInteger(state.k) && state.k >= 1 && state.k <= LARGEST) known.k = state.k;
      if ([...PLANE, ...LINE].includes(state.family)) known.family = state.family;
      if (STARTS.includes(state.start)) known.start = state.start;
      if (Number.isInteger(state.seed) && state.seed >= 0) known.seed = state.seed;
      known.prior = state.prior === true;
      if (Number.isInteger(state.place) && state.place >= 0) known.place = Math.min(state.place, 400);
      if (state.mixture?.weights?.length === known.k) known.mixture = state.mixture;
      const isPoint = (point) => Array.isArray(point) && point.length === 2 && point.every(Number.isFinite);
      if (Array.isArray(state.points)) known.points = state.points.filter(isPoint).slice(0, 1000);
      return known;
    } catch {
      return {}; // no state in the address, or not one of ours
    }
  }

  async copy(text, what) {
    try {
      await navigator.clipboard.writeText(text);
      this.say(`${what} is in the clipboard`);
    } catch {
      const box = element("textarea", { className: "live-code", value: text, readOnly: true, rows: text.split("\n").length });
      box.setAttribute("aria-label", what);
      this.results.replaceChildren(box);
      box.select();
      this.say(`${what}: press Ctrl+C`);
    }
  }
}

function distance([x, y], [u, v], dimensions) {
  return dimensions > 1 ? Math.hypot(x - u, y - v) : Math.abs(x - u);
}

function number(value) {
  const size = Math.abs(value);
  const text = size !== 0 && (size < 1e-2 || size >= 1e6) ? value.toExponential(2) : value.toFixed(size < 10 ? 4 : 2);
  return text.replaceAll("-", "−");
}

// What went wrong, without where in Python.
function plain(error) {
  return error.message.trim().split("\n").at(-1).replace(/^[\w.]+Error: /, "");
}

function gap({ log_likelihood, bound }) {
  const value = log_likelihood - bound;
  return value < 1e-12 * Math.abs(bound) ? "no gap" : `gap ${number(value)}`;
}

function rates(measured, predicted) {
  const known = [[measured, "measured"], [predicted, "predicted"]].filter(([value]) => value != null);
  return known.map(([value, name]) => `${value.toFixed(3)} ${name}`).join(", ") || "not known yet";
}

// What happened to a component, which the picture numbers from one.
function collapse(failure) {
  const match = /component (\d+)/.exec(failure);
  if (!match) return failure;
  const name = `Component ${Number(match[1]) + 1}`;
  return failure.includes("responsible for no row")
    ? `${name} has no points`
    : `${name} has shrunk onto too few points to have a covariance`;
}

export async function open(place) {
  const lab = new Lab(place);
  await lab.open();
  return lab;
}
