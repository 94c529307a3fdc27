// Minifiers shorten the names of variables, and leave those of properties: they cannot know who else uses them. What is `private` or `protected` nobody else uses, so it gets
// a short name here, for whatever bundler an app has. A name is left as it is where it might be one of something else: if it is the name of anything public, or is said of
// anything but `this` anywhere in the package. So no name is changed that is sent, stored, or an app's, and the sources need no convention.
import { parse } from "acorn";

/** The files, by their name, with short names. `declarations`: what the compiler says is private. */
export function shortened(scripts, declarations) {
  const names = privateNames(declarations);
  const places = [...scripts].map(([name, text]) => [name, text, placesIn(text, names)]);
  const counts = new Map([...names].map((name) => [name, 0]));
  for (const [, , found] of places) for (const { name } of found) counts.set(name, counts.get(name) + 1);
  const order = [...names].sort((a, b) => counts.get(b) - counts.get(a) || (a < b ? -1 : 1));
  const short = new Map(order.map((name, place) => [name, `$${place.toString(36)}`]));
  return new Map(places.map(([name, text, found]) => [name, replaced(text, found.filter((place) => names.has(place.name)), short)]));
}

/** Names that nothing public has. */
function privateNames(declarations) {
  const [hidden, open] = [new Set(), new Set()];
  for (const text of declarations.values()) {
    for (const line of text.split("\n")) {
      const [, keyword, name] = /^\s+(private |protected )?(?:abstract |static |readonly |get |set )*(\w+)[?(:;<]/.exec(line) ?? [];
      if (name) (keyword ? hidden : open).add(name);
    }
  }
  return hidden.difference?.(open) ?? new Set([...hidden].filter((name) => !open.has(name)));
}

/** Where a script says these names of `this` or of a class. Takes those out of the names that it says of anything else. */
function placesIn(text, names) {
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
  visit(parse(text, { ecmaVersion: 2022, sourceType: "module" }), undefined, []);
  return found;
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
