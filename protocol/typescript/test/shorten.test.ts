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
  )).toBe("class A { $0 = 1; get $1() { const { $0: hidden } = this; return hidden + this.$0; } $_0(times) { const { $1: n = 0 } = this; return () => this.$_0(times - n); } }");
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

test("a private constructor stays what it is", () => {
  const script = "class A { constructor() {} }";
  expect(short(script, "export declare class A {\n    private constructor();\n}\n")).toBe(script);
});

/** What becomes of two files: the first one with the declaration from above. */
function shortTwo(first: string, second: string, declaration: string): (string | undefined)[] {
  const files = shortened(new Map([["a.js", first], ["b.js", second]]), new Map([["a.d.ts", DECLARATION], ["b.d.ts", declaration]]));
  return [files.get("a.js"), files.get("b.js")];
}

test("a private name is that of its file: what another file calls so has nothing to do with it", () => {
  const other = "const b = frame.hidden;";
  expect(shortTwo("class A { hidden = 1; }", other, "export interface B {\n    hidden?: string;\n}\n")).toEqual(["class A { $0 = 1; }", other]);
});

test("a name that something public has in the same file stays as it is", () => {
  const script = "class A { hidden = 1; }\nclass B { hidden = 2; }";
  expect(short(script, `${DECLARATION}export declare class B {\n    hidden: number;\n}\n`)).toBe(script);
});

test("a protected name is the same in all files, and stays as it is if something public has it in any", () => {
  const [script, other] = ["class A { work() {} }", 'import { A } from "./a.js";\nclass B extends A { m() { this.work(); } }'];
  expect(shortTwo(script, other, "export declare class B extends A {\n    m(): void;\n}\n")).toEqual(["class A { $_0() {} }", other.replace("work", "$_0")]);
  expect(shortTwo(script, other, "export interface B {\n    work(): void;\n}\n")).toEqual([script, other]);
});

test("what extends a class of another file has no name of that", () => {
  const other = 'import { A } from "./a.js";\nclass B extends A { own = 1; }';
  expect(shortTwo("class A { hidden = 1; }", other, "export declare class B extends A {\n    private own;\n}\n")).toEqual(["class A { $0 = 1; }", other.replace("own", () => "$$0")]);
});
