// Renders formulas for mathematics.py: a line of JSON in, a line of JSON out.
//
// KaTeX's own HTML has some thirty elements for a letter with an index. Its tree is made lighter
// before it is written: classes without a style go, and elements that then say nothing; spaces and
// struts become styles of their neighbours; tables lose the row that only tells their depth; and
// scripts, for which KaTeX builds a table, become text that is moved up or down. Nothing is drawn
// elsewhere: the tests compare the places of all glyphs.
"use strict";
const { readFileSync } = require("node:fs");
const { createInterface } = require("node:readline");
const katex = require("katex");

const css = readFileSync(require.resolve("katex/dist/katex.css"), "utf8");
const STYLED = new Set([...css.matchAll(/\.([A-Za-z_][\w-]*)/g)].map((match) => match[1]));
// Whose children matter to the stylesheet, or are the parts of a table.
const RIGID = new Set([...css.matchAll(/\.([\w-]+) > span/g)].map((match) => match[1]));
for (const name of ["vlist-t", "vlist-r"]) RIGID.add(name);
// KaTeX's font sizes, by the number in the names of its classes.
const SIZES = [, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.44, 1.728, 2.074, 2.488];
const NULL_DELIMITER = 0.12; // em: where a fraction has no bracket

const has = (node, name) => node.classes?.includes(name) ?? false;
const em = (length) => parseFloat(length || 0);
const isSymbol = (node) => node.text !== undefined;
const isFragment = (node) => Boolean(node.children) && !node.attributes; // in HTML it leaves no trace
const isPlain = (node) =>
  Boolean(node.children) &&
  [node.classes, node.style, node.attributes].every((said) => said && !Object.keys(said).length);
const joined = (node) => (isFragment(node) ? node.children.flatMap(joined) : [node]);

// The size of an element's font, in that of what is around it.
function scale(node) {
  const number = (pattern) => node.classes.map((name) => name.match(pattern)?.[1]).find(Boolean);
  const [from, to] = [number(/^reset-size(\d+)$/), number(/^size(\d+)$/)];
  return from && to ? SIZES[to] / SIZES[from] : 1;
}

function addMargin(node, side, width) {
  let present = em(node.style[side]);
  if (side === "marginRight" && node.italic) {
    present += node.italic; // a symbol's own margin
    node.italic = 0;
  }
  node.style[side] = `${present + width / scale(node)}em`;
}

// The script for which KaTeX built a stack: an element that is moved from the base line.
function script(entry) {
  const [strut, content, ...others] = entry.children;
  if (others.length || !has(strut, "pstrut") || !has(content, "katex-sizing")) return null;
  content.style.top = `${(em(entry.style.top) + em(strut.style.height)) / scale(content)}em`;
  for (const side of ["marginLeft", "marginRight"])
    if (em(entry.style[side])) addMargin(content, side, em(entry.style[side]));
  const [only] = content.children;
  if (content.children.length === 1 && isSymbol(only) && !only.style.marginRight) {
    if (only.italic) addMargin(content, "marginRight", only.italic * scale(content));
    content.classes.push(...only.classes);
    Object.assign(only, { classes: [], italic: 0 });
  }
  content.classes.unshift("script");
  return content;
}

// What stands behind a letter, above and below: one script, or both in one place.
function scripts(node) {
  const [table] = node.children;
  const entries = table.children[0].children[0].children;
  const moved = entries.map(script);
  if (moved.includes(null)) return node;
  if (moved.length === 1) return moved[0];
  return Object.assign(node, { classes: ["scripts"], children: moved });
}

// The width of an element that is nothing but wide.
function space(node) {
  if (node.children?.length !== 0) return 0;
  if (has(node, "mspace")) return em(node.style.marginRight);
  return has(node, "nulldelimiter") ? NULL_DELIMITER * scale(node) : 0;
}

function withoutSpaces(children) {
  const first = children.findIndex((node) => !space(node));
  if (first < 0 || !children[first].style) return children;
  const width = (nodes) => nodes.reduce((sum, node) => sum + space(node), 0);
  if (first) addMargin(children[first], "marginLeft", width(children.slice(0, first)));
  const kept = [];
  for (const node of children.slice(first)) {
    const before = kept.at(-1);
    if (space(node) && before.style) addMargin(before, "marginRight", space(node));
    else kept.push(node);
  }
  return kept;
}

// The strut of a line gives it its height and depth: in the stylesheet, what comes before it.
function withoutStrut(base) {
  const [strut, ...children] = base.children;
  base.style["--h"] = strut.style.height;
  if (strut.style.verticalAlign) base.style["--v"] = strut.style.verticalAlign;
  base.children = children;
}

// The second row only tells a table's depth, which the strut of the line has.
function withoutDepth(table) {
  const [row] = table.children;
  row.children = row.children.slice(0, 1);
  Object.assign(table, { children: [row], classes: ["vlist-t"] });
}

// MathML has a row for each group; those with one member, or in a place that is a row, say nothing.
function lightenMathML(node) {
  if (!node.children) return;
  const isRow = ["math", "mrow", "mstyle", "mtd", "msqrt"].includes(node.type);
  node.children.forEach(lightenMathML);
  const open = (child) =>
    child.type === "mrow" &&
    Object.keys(child.attributes).length === 0 &&
    (isRow || child.children.length === 1)
      ? child.children
      : [child];
  node.children = node.children.flatMap(open);
}

function lighten(node) {
  if (!node.children || !node.classes) return node;
  const isBase = has(node, "katex-base") && has(node.children[0] ?? {}, "katex-strut");
  if (isBase) withoutStrut(node);
  if (has(node, "vlist-t2")) withoutDepth(node);
  const children = node.children.flatMap(joined).map((child) => {
    if (child.classes) child.classes = child.classes.filter((name) => STYLED.has(name));
    return lighten(child);
  });
  const isEntry = has(children[0] ?? {}, "pstrut");
  const flows = !isEntry && !node.classes.some((name) => RIGID.has(name));
  const open = (child) => (isPlain(child) ? child.children : [child]);
  node.children = flows ? withoutSpaces(children.flatMap(open)) : children;
  return has(node, "msupsub") ? scripts(node) : node;
}

function rendered(tex, options) {
  const tree = katex.__renderToDomTree(tex, options);
  const within = (node, isIt) =>
    isIt(node) ? node : node.children?.map((child) => within(child, isIt)).find(Boolean);
  lighten(within(tree, (node) => has(node, "katex-html")));
  lightenMathML(within(tree, (node) => node.type === "math"));
  return tree.toMarkup();
}

const macros = JSON.parse(process.argv[2]);
createInterface({ input: process.stdin }).on("line", (line) => {
  const { tex, display } = JSON.parse(line);
  const options = { displayMode: display, macros: { ...macros }, strict: "error" };
  let answer;
  try {
    answer = { html: rendered(tex, options) };
  } catch (error) {
    answer = { error: String(error.message || error) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
});
