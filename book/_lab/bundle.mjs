// Runs bundle.py in the reader's Python, under Node.
// Usage: node bundle.mjs FOLDER_OF_NODE_MODULES < job, a JSON object {root, archives: [{target, wheels, folders}]}
// in which all paths are absolute.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const modules = process.argv[2];
const job = JSON.parse(readFileSync(0, "utf8"));
const { loadPyodide } = await import(pathToFileURL(join(modules, "pyodide", "pyodide.mjs")).href);
const python = await loadPyodide({ indexURL: join(modules, "pyodide") });

const inside = (path) => `/work${path}`;
python.FS.mkdirTree(inside(job.root));
python.FS.mount(python.FS.filesystems.NODEFS, { root: job.root }, inside(job.root));
python.FS.writeFile("/home/pyodide/bundle.py", readFileSync(new URL("bundle.py", import.meta.url)));
const { bundle } = python.pyimport("bundle");
for (const [number, { target, wheels, folders }] of job.archives.entries()) {
  const written = `/tmp/${number}.zip`;
  const pairs = folders.map(([folder, name]) => [inside(folder), name]);
  bundle(written, python.toPy(wheels.map(inside)), python.toPy(pairs));
  writeFileSync(target, python.FS.readFile(written));
}
