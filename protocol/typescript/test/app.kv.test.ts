import { fileURLToPath } from "node:url";

import { build } from "esbuild";
import type { PluginBuild } from "esbuild";
import { expect, test } from "vitest";

interface Kv {
  get(key: string): string | undefined;
  set(key: string, value: string | null): void;
  clear(prefix: string): void;
}

/** The store of a device that has no room, or that is locked. */
const FULL = `
  const full = () => { throw new Error("database or disk is full"); };
  export default { getItemSync: full, setItemSync: full, removeItemSync: full, getAllKeysSync: full };
`;

/** A file of the app, without Expo around it. */
async function kvOf(file: string): Promise<Kv> {
  const store = { name: "store", setup: ({ onResolve, onLoad }: PluginBuild) => {
    onResolve({ filter: /^expo-sqlite/ }, ({ path }) => ({ path, namespace: "store" }));
    onLoad({ filter: /./, namespace: "store" }, () => ({ contents: FULL }));
  } };
  const entry = fileURLToPath(new URL(`../example/src/lib/${file}`, import.meta.url));
  const { outputFiles } = await build({ entryPoints: [entry], bundle: true, write: false, format: "iife", globalName: "app", tsconfigRaw: {}, plugins: [store] });
  return (new Function(`${outputFiles[0]?.text};return app`)() as { kv: Kv }).kv;
}

for (const file of ["kv.ts", "kv.web.ts"]) {
  test(`on a full device settings and drafts of the app (${file}) are forgotten, and nothing is thrown`, async () => {
    const kv = await kvOf(file);
    kv.set("draft", "text");
    kv.set("draft", null);
    kv.clear("draft");
    expect(kv.get("draft")).toBeUndefined();
  });
}
