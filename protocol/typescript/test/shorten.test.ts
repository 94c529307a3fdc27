import { expect, test } from "vitest";

import { shortened } from "../scripts/shorten.mjs";

/** What becomes of a script. */
function short(script: string, declaration: string): string | undefined {
  return shortened(new Map([["a.js", script]]), new Map([["a.d.ts", declaration]])).get("a.js");
}

const DECLARATION = `export declare class A {
    readonly open: string;
    private readonly hidden;
    private get counted();
    protected work(times: number): void;
}
`;

test("what is private has a short name, wherever it is said of this", () => {
  expect(short(
    "class A { hidden = 1; get counted() { const { hidden } = this; return hidden + this.hidden; } work(times) { const { counted: n = 0 } = this; return () => this.work(times - n); } }",
    DECLARATION,
  )).toBe("class A { $0 = 1; get $1() { const { $0: hidden } = this; return hidden + this.$0; } $2(times) { const { $1: n = 0 } = this; return () => this.$2(times - n); } }");
});

test("variables, keys, and what is public keep their names", () => {
  const script = "class A { open = 1; m() { const counted = this.open; return { open: counted }; } }";
  expect(short(script, DECLARATION)).toBe(script);
});

test.each([
  ["of another object", "frame.hidden"],
  ["of another object, that may be missing", "frame?.hidden"],
  ["as a key", "({ hidden: 1 })"],
  ["as a key with a variable", "let hidden; ({ hidden })"],
  ["in a pattern", "let { hidden } = frame"],
  ["in a pattern of parameters", "({ hidden }) => hidden"],
  ["as a text", 'frame["hidden"]'],
])("a name that is said %s stays as it is everywhere", (_, said) => {
  const script = `class A { hidden = 1; m() { return this.hidden; } }\n${said};`;
  expect(short(script, DECLARATION)).toBe(script);
});

test("a name that something public has in another file stays as it is", () => {
  const script = "class A { hidden = 1; }";
  const scripts = new Map([["a.js", script], ["b.js", ""]]);
  const declarations = new Map([["a.d.ts", DECLARATION], ["b.d.ts", "export interface B {\n    hidden?: string;\n}\n"]]);
  expect(shortened(scripts, declarations).get("a.js")).toBe(script);
});
