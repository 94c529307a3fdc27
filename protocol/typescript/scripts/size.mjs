// How large the package is in an app: minified, gzipped, as a bundler takes it. Fails when the budget is broken.
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

/** Core with outbox, REST and a store, in bytes: what it has, and a little. */
const BUDGET = 20 * 1024;

const entries = [
  ["core, outbox and IndexedDB", `export { Client } from "./src/client.ts"; export { IndexedDbStorage } from "./src/storage/indexeddb.ts";`, BUDGET],
  ["core, outbox and expo-sqlite", `export { Client } from "./src/client.ts"; export { ExpoSqliteStorage } from "./src/storage/expo-sqlite.ts";`, BUDGET],
  ["web: the same with tabs", `export { createWebClient } from "./src/web.ts";`],
  ["administration", `export { Administration } from "./src/admin.ts";`],
  ["react hooks", `export * from "./src/react.ts";`],
];

let broken = false;
for (const [name, contents, budget] of entries) {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: ".", loader: "ts" },
    bundle: true, minify: true, write: false, format: "esm", target: "es2022", external: ["react"], legalComments: "none",
    // The sources name each other as they are named when they are built.
    plugins: [{ name: "ts", setup(b) { b.onResolve({ filter: /^\.{1,2}\/.*\.js$/ }, (args) => ({ path: new URL(args.path.replace(/\.js$/, ".ts"), `file://${args.resolveDir}/`).pathname })); } }],
  });
  const bytes = gzipSync(outputFiles[0].contents, { level: 9 }).length;
  const over = budget !== undefined && bytes > budget;
  broken ||= over;
  console.log(`${(bytes / 1024).toFixed(2).padStart(6)} KiB  ${name}${budget === undefined ? "" : ` (at most ${(budget / 1024).toFixed(2)} KiB)`}${over ? "  TOO LARGE" : ""}`);
}
if (broken) process.exit(1);
