// Runs a chapter's code in the page. The cells share one namespace, in order, as in a notebook: before a
// cell runs, those above it do that have not, also those that the page does not show. Cells that are
// not shown and follow a shown one draw what it computed, and run with it.
import { button, element } from "./drawing.mjs";
import { Python } from "./python.mjs";

// One cell that the page shows, with its controls and its output.
class ShownCell {
  constructor(box, source, chapter) {
    this.code = box.querySelector(".cell_input .highlight");
    this.source = source;
    this.chapter = chapter;
    this.printed = box.querySelector(".cell_output");
    this.status = element("span", { className: "live-status" });
    this.status.setAttribute("role", "status");
    this.runs = button("Run", () => chapter.run(this));
    this.stops = button("Stop", () => chapter.stop());
    this.resets = button("Reset", () => this.reset());
    this.stops.hidden = this.resets.hidden = true;
    this.bar = element("div", { className: "live-bar" }, this.runs, this.stops, this.resets, this.status);
    this.output = element("div", { className: "live-output", hidden: true });
    this.code.after(this.bar, this.output);
    this.editor = null;
  }

  get text() {
    return this.editor?.value ?? this.source;
  }

  edit() {
    if (this.editor) return;
    const editor = element("textarea", {
      className: "live-code",
      value: this.source,
      spellcheck: false,
      autocapitalize: "off",
      rows: this.source.split("\n").length,
    });
    editor.setAttribute("aria-label", "Code of this cell; Shift+Enter runs it");
    editor.addEventListener("input", () => {
      editor.rows = editor.value.split("\n").length;
      this.resets.hidden = false;
    });
    editor.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !event.shiftKey) return;
      event.preventDefault();
      this.runs.click();
    });
    this.code.hidden = true;
    this.code.after(editor);
    this.editor = editor;
    this.resets.hidden = false;
  }

  // Brings back what the book's build left.
  reset() {
    this.editor?.remove();
    this.editor = null;
    this.code.hidden = false;
    this.resets.hidden = true;
    this.clear();
    if (this.printed) this.printed.hidden = false;
    this.status.textContent = "";
    this.runs.focus();
  }

  clear() {
    for (const picture of this.output.querySelectorAll("img")) URL.revokeObjectURL(picture.src);
    this.output.replaceChildren();
    this.output.hidden = true;
  }

  busy(state) {
    this.runs.disabled = state;
    this.stops.hidden = !state;
  }

  print(text) {
    const last = this.output.lastElementChild;
    const block = last?.matches("pre.live-text") ? last : element("pre", { className: "live-text" });
    block.textContent += text;
    this.append(block);
  }

  show({ outputs, error }) {
    for (const output of outputs) {
      if (output["image/svg+xml"]) this.append(picture(output["image/svg+xml"], this.chapter.told(output.name)));
      else if (output["text/html"]) this.append(element("div", { innerHTML: output["text/html"] }));
      else this.print(`${output["text/plain"]}\n`);
    }
    if (error) this.append(element("pre", { className: "live-error", textContent: error }));
  }

  append(child) {
    child.tabIndex = child.matches("pre") ? 0 : -1;
    if (child.parentElement !== this.output) this.output.append(child);
    this.output.hidden = false;
    if (this.printed) this.printed.hidden = true;
  }
}

// told: what the book says of the figure that the build drew in the same place.
function picture(svg, told) {
  const source = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  const alt = told ? `Drawn anew by this cell. As the book drew it: ${told}` : "Figure drawn by this cell";
  return element("img", { src: source, alt });
}

class Chapter {
  constructor({ cells, figures }, boxes) {
    this.figures = figures;
    this.python = new Python("cells", (text) => this.say(text));
    this.units = []; // each shown cell, and the hidden ones that follow it
    this.before = []; // hidden cells above the first shown one
    let unit = null;
    const waiting = [...boxes];
    for (const { source, shown } of cells) {
      if (shown) {
        unit = { shown: new ShownCell(waiting.shift(), source, this), hidden: [], ran: false };
        this.units.push(unit);
      } else {
        (unit ? unit.hidden : this.before).push(source);
      }
    }
    this.current = null;
  }

  // The alternative text in the page of a figure with this glued name.
  told(name) {
    const place = document.getElementById(this.figures[name] ?? "");
    return (place?.closest("figure") ?? place)?.querySelector("img")?.alt;
  }

  say(text) {
    if (this.current) this.current.status.textContent = text;
  }

  async run(cell) {
    if (this.current) return;
    this.current = cell;
    cell.edit();
    cell.busy(true);
    try {
      if (!this.python.loaded) this.forget();
      await this.python.start();
      const last = this.units.findIndex(({ shown }) => shown === cell);
      for (const [number, unit] of this.units.slice(0, last).entries()) {
        if (unit.ran) continue;
        this.say(`Running the cells above, ${number + 1} of ${last}`);
        const failed = await this.runUnit(unit);
        if (!failed) continue;
        this.say("A cell above ended in an error");
        return;
      }
      this.say("Running");
      const begin = performance.now();
      const failed = await this.runUnit(this.units[last]);
      const seconds = ((performance.now() - begin) / 1000).toFixed(1);
      this.say(failed ? "Ended in an error" : `Done in ${seconds} s`);
    } catch (error) {
      this.forget();
      this.say(
        error.message === "stopped"
          ? "Stopped; the next run begins with the cells above"
          : `Python could not be loaded (${error.message}); what the book printed still holds`,
      );
    } finally {
      cell.busy(false);
      this.current = null;
    }
  }

  // Runs a cell and what belongs to it; returns whether it ended in an error.
  async runUnit(unit) {
    const { shown } = unit;
    if (unit === this.units[0] && !unit.ran)
      for (const source of this.before) await this.python.run(source, false);
    shown.clear();
    const print = (text) => shown.print(text);
    for (const [number, source] of [shown.text, ...unit.hidden].entries()) {
      const { result, error } = await this.python.run(source, number === 0, print);
      if (error) throw new Error(error);
      shown.show(result);
      if (result.error) return true;
    }
    unit.ran = true;
    return false;
  }

  stop() {
    this.python.stop();
  }

  forget() {
    for (const unit of this.units) unit.ran = false;
  }
}

// Makes the page's cells run. boxes: the cells that the page shows, in order; address: of all its cells.
export async function open(boxes, address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address}: ${response.status}`);
  const chapter = new Chapter(await response.json(), boxes);
  return chapter.units.map(({ shown }) => shown);
}
