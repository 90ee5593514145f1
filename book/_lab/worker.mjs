// Python, in a worker of its own. Every address is relative to this file, and so on the book's own site.
//
// Told:  {type: "start", kind}            load Python; what it is for: "cells" or "laboratory"
//        {type: "run", id, code, shown}    run a cell of a chapter
//        {type: "call", id, name, args}    call a method of the laboratory; args are plain values
// Tells: {type: "progress", loaded, total} bytes
//        {type: "ready"} | {type: "failed", message}
//        {type: "text", id, text}          what a running cell prints
//        {type: "done", id, result, error}
const here = new URL("./", import.meta.url);
const PACKAGES = "/lib/python3.14/site-packages";

let python;
let session; // what answers: the cells of a chapter, or the laboratory
let running = null; // id of the cell that is running
let loaded = 0;
let total = 0;

self.onmessage = async ({ data }) => {
  if (data.type === "start") {
    await start(data);
    return;
  }
  const answer = { type: "done", id: data.id };
  try {
    running = data.id;
    answer.result = data.type === "run" ? run(data.code, data.shown) : call(data.name, data.args);
  } catch (error) {
    answer.error = String(error.message ?? error);
  }
  running = null;
  postMessage(answer);
};

async function start({ kind }) {
  try {
    const files = await (await fetched("files.json")).json();
    const needed = [...files.runtime, ...files.packages];
    total = needed.reduce((sum, { size }) => sum + size, 0);
    const contents = new Map();
    await Promise.all(
      needed.map(async ({ name }) => contents.set(name, await bytes(name))),
    );
    python = await runtime(contents);
    for (const { name } of files.packages) unpack(contents.get(name));
    session = open(kind, files);
    postMessage({ type: "ready" });
  } catch (error) {
    postMessage({ type: "failed", message: String(error.message ?? error) });
  }
}

async function fetched(name) {
  const response = await fetch(new URL(name, here));
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
  return response;
}

// The bytes of a file, counted while they come.
async function bytes(name) {
  const reader = (await fetched(name)).body.getReader();
  const pieces = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    pieces.push(value);
    loaded += value.length;
    postMessage({ type: "progress", loaded, total });
  }
  return new Uint8Array(await new Blob(pieces).arrayBuffer());
}

// Python itself. It asks for its files by fetch, and is given those that are here already: a file that
// were missing would make it wait for ever.
async function runtime(contents) {
  const types = { wasm: "application/wasm", zip: "application/zip" };
  const ask = self.fetch;
  self.fetch = (what, ...rest) => {
    const address = new URL(what.url ?? what, here).href;
    const name = address.slice(here.href.length);
    if (!contents.has(name)) return ask(what, ...rest);
    const type = types[name.split(".").at(-1)] ?? "application/json";
    return Promise.resolve(new Response(contents.get(name), { headers: { "Content-Type": type } }));
  };
  try {
    const { loadPyodide } = await import("./pyodide.mjs");
    return await loadPyodide({
      indexURL: here.href,
      packageBaseUrl: here.href,
      stdout: (text) => postMessage({ type: "text", id: running, text: `${text}\n` }),
      stderr: (text) => postMessage({ type: "text", id: running, text: `${text}\n` }),
    });
  } finally {
    self.fetch = ask;
  }
}

function unpack(archive) {
  python.unpackArchive(archive, "zip", { extractDir: PACKAGES });
}

function open(kind, files) {
  if (kind === "laboratory") return python.pyimport("in_page.laboratory").Laboratory();
  return python.pyimport("in_page.cells").Cells(() => {
    for (const { name } of files.drawing) unpack(bytesAtOnce(name));
    python.pyimport("importlib").invalidate_caches();
  });
}

// Python cannot wait for a promise in the middle of an import statement.
function bytesAtOnce(name) {
  const request = new XMLHttpRequest();
  request.open("GET", new URL(name, here), false);
  request.responseType = "arraybuffer";
  request.send();
  if (request.status !== 200) throw new Error(`${name}: ${request.status}`);
  return new Uint8Array(request.response);
}

function run(code, shown) {
  const answer = session.run(code, shown);
  const copy = answer.toJs({ dict_converter: Object.fromEntries });
  answer.destroy();
  return copy;
}

function call(name, args) {
  return JSON.parse(session.answer(name, JSON.stringify(args)));
}
