// Minifiers shorten the names of variables, and leave those of properties: they cannot know who else uses them. What is `private` only its class uses, and what is `protected` those
// that extend it, so they get short names here, for whatever bundler an app has. A name is left as it is where it might be one of something else: a private one if anything public in
// its file has it, or it is said there of anything but `this`; a protected one if that is so anywhere in the package. So no name is changed that is sent, stored, or an app's, and
// the sources need no convention.
import { parse } from "acorn";

/** The files, by their name, with short names. `declarations`: what the compiler says is private. */
export function shortened(scripts, declarations) {
  const trees = new Map([...scripts].map(([name, text]) => [name, parse(text, { ecmaVersion: 2022, sourceType: "module" })]));
  const families = namesOf([...declarations.values()], "protected");
  for (const tree of trees.values()) placesIn(tree, families);
  const shared = new Map(inOrder(families, [...trees.values()].flatMap((tree) => placesIn(tree, families))).map((name, place) => [name, `$_${place.toString(36)}`]));
  return new Map([...trees].map(([file, tree]) => {
    const names = namesOf([declarations.get(file.replace(/\.js$/, ".d.ts")) ?? ""], "private");
    for (const name of shared.keys()) names.delete(name);
    // What extends a class of another file must not have a name of that.
    const prefix = tree.body.some((node) => extendsAnother(node, tree)) ? "$$" : "$";
    const own = inOrder(names, placesIn(tree, names)).map((name, place) => [name, prefix + place.toString(36)]);
    const short = new Map([...shared, ...own]);
    return [file, replaced(scripts.get(file), placesIn(tree, new Set(short.keys())), short)];
  }));
}

/** Names with this keyword that nothing else has in these declarations. */
function namesOf(declarations, keyword) {
  // A class may have a private constructor: the language calls it so.
  const [hidden, open] = [new Set(), new Set(["constructor"])];
  for (const text of declarations) {
    for (const line of text.split("\n")) {
      const [, its, name] = /^\s+(private|protected)? ?(?:abstract |static |readonly |get |set )*(\w+)[?(:;<]/.exec(line) ?? [];
      if (name) (its === keyword ? hidden : open).add(name);
    }
  }
  return new Set([...hidden].filter((name) => !open.has(name)));
}

/** The most used one first. */
function inOrder(names, places) {
  const counts = new Map([...names].map((name) => [name, 0]));
  for (const { name } of places) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...names].sort((a, b) => counts.get(b) - counts.get(a) || (a < b ? -1 : 1));
}

function extendsAnother(node, tree) {
  const { superClass } = node.declaration ?? node;
  return superClass?.type === "Identifier" && tree.body.some(({ type, specifiers = [] }) => type === "ImportDeclaration" && specifiers.some(({ local }) => local.name === superClass.name));
}

/** Where a script says these names of `this` or of a class. Takes those out of the names that it says of anything else. */
function placesIn(tree, names) {
  const found = [];
  const visit = (node, parent, above) => {
    if (node.type === "Literal") names.delete(node.value);
    if (node.type === "Identifier" && names.has(node.name) && isProperty(node, parent)) {
      if (isOwn(parent, above)) found.push({ name: node.name, start: node.start, end: node.end, short: parent.shorthand === true });
      else names.delete(node.name);
    }
    for (const [field, value] of Object.entries(node)) {
      // Of `{ name }` there are two nodes at one place.
      if (field === "value" && node.shorthand && node.value.type === "Identifier") continue;
      for (const child of Array.isArray(value) ? value : [value]) if (typeof child?.type === "string") visit(child, node, [node, ...above].slice(0, 3));
    }
  };
  visit(tree, undefined, []);
  return found.filter(({ name }) => names.has(name));
}

function isProperty(node, parent) {
  if (parent.type === "MemberExpression") return parent.property === node && !parent.computed;
  return ["Property", "PropertyDefinition", "MethodDefinition"].includes(parent.type) && parent.key === node && !parent.computed;
}

/** Whether a property is one of `this`, of a class, or taken out of `this`. `above`: what is around it, from the inside out. */
function isOwn(parent, [, pattern, declarator]) {
  if (parent.type === "MemberExpression") return parent.object.type === "ThisExpression";
  if (parent.type !== "Property") return true;
  return pattern?.type === "ObjectPattern" && declarator?.type === "VariableDeclarator" && declarator.id === pattern && declarator.init?.type === "ThisExpression";
}

function replaced(text, places, short) {
  let [result, at] = ["", 0];
  for (const { name, start, end, short: shorthand } of places.sort((a, b) => a.start - b.start)) {
    result += text.slice(at, start) + short.get(name) + (shorthand ? `: ${name}` : "");
    at = end;
  }
  return result + text.slice(at);
}
