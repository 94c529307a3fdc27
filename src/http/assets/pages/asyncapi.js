"use strict";

// The viewer takes a document whose references are resolved, and whose parts know their names: what its parser, which is
// half a megabyte and needs `eval`, would do with it.

/** Puts what a reference points to in its place. The document has no reference that leads back to itself. */
function resolve(value, root) {
  if (Array.isArray(value)) {
    return value.map((item) => resolve(item, root));
  }
  if (value === null || typeof value !== "object") {
    return value;
  }
  if (typeof value.$ref === "string") {
    const keys = value.$ref.split("/").slice(1);
    const target = keys.reduce((from, key) => from[key.replaceAll("~1", "/").replaceAll("~0", "~")], root);
    return resolve(target, root);
  }
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolve(item, root)]));
}

/** Tells the parts of an object their names. */
function name(parts) {
  for (const [key, part] of Object.entries(parts)) {
    part["x-parser-unique-object-id"] = key;
  }
}

async function show() {
  const page = document.getElementById("page");
  try {
    const response = await fetch("/api/asyncapi.json");
    if (!response.ok) {
      throw new Error(`the document: status ${response.status}`);
    }
    const root = await response.json();
    for (const parts of [root.channels, root.operations, root.components.messages, root.components.schemas]) {
      name(parts);
    }
    const config = { show: { errors: true }, sidebar: { showOperations: "byDefault" } };
    window.AsyncApiStandalone.render({ schema: resolve(root, root), config }, page);
  } catch (error) {
    page.textContent = `The page could not be made: ${error.message}`;
    throw error;
  }
}

show();
