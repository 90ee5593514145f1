// The page's side of the Python in worker.mjs: one worker, its loading, and what is asked of it.
const MEGABYTE = 1e6;
const SILENCE = 90_000; // milliseconds without a word while it loads, after which it is given up

export class Python {
  #worker = null;
  #ready = null;
  #asked = new Map();
  #count = 0;
  #kind;
  #say;

  // kind: "cells" or "laboratory"; say: called with a sentence about what has been loaded.
  constructor(kind, say = () => {}) {
    this.#kind = kind;
    this.#say = say;
  }

  get loaded() {
    return this.#worker !== null;
  }

  // Resolves when Python is ready.
  start() {
    this.#ready ??= new Promise((resolve, reject) => {
      let timer;
      const fail = (message) => {
        clearTimeout(timer);
        this.stop(message);
        reject(new Error(message));
      };
      const wait = () => {
        clearTimeout(timer);
        timer = setTimeout(() => fail("it did not answer"), SILENCE);
      };
      try {
        this.#worker = new Worker(new URL("worker.mjs", import.meta.url), { type: "module" });
      } catch (error) {
        fail(error.message);
        return;
      }
      this.#worker.onerror = (event) => {
        event.preventDefault();
        fail(event.message || "its script did not load");
      };
      this.#worker.onmessage = ({ data }) => {
        if (data.type === "progress") {
          wait();
          const [here, all] = [data.loaded, data.total].map((bytes) => (bytes / MEGABYTE).toFixed(1));
          const end = data.loaded < data.total ? "" : ", starting";
          this.#say(`Loading Python: ${here} of ${all} MB${end}`);
        } else if (data.type === "ready") {
          clearTimeout(timer);
          resolve();
        } else if (data.type === "failed") {
          fail(data.message);
        } else {
          this.#answer(data);
        }
      };
      wait();
      this.#worker.postMessage({ type: "start", kind: this.#kind });
    });
    return this.#ready;
  }

  // Runs a cell; shown: whether the page shows it; text: called with what it prints, when it prints it.
  async run(code, shown = true, text = () => {}) {
    await this.start();
    return this.#ask({ type: "run", code, shown }, text);
  }

  // Calls a method of the laboratory.
  async call(name, args = {}) {
    await this.start();
    const { result, error } = await this.#ask({ type: "call", name, args });
    if (error) throw new Error(error);
    return result;
  }

  // Ends the worker, whatever it does; all that it knew is gone. The next call starts anew.
  stop(reason = "stopped") {
    this.#worker?.terminate();
    this.#worker = this.#ready = null;
    for (const { reject } of this.#asked.values()) reject(new Error(reason));
    this.#asked.clear();
  }

  #ask(message, text) {
    const id = ++this.#count;
    return new Promise((resolve, reject) => {
      this.#asked.set(id, { resolve, reject, text });
      this.#worker.postMessage({ id, ...message });
    });
  }

  #answer(data) {
    const asked = this.#asked.get(data.id);
    if (!asked) return;
    if (data.type === "text") {
      asked.text?.(data.text);
    } else {
      this.#asked.delete(data.id);
      asked.resolve(data);
    }
  }
}
