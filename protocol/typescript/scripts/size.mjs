// How large the package is in an app: what is in `dist`, bundled, minified and gzipped. Fails when a budget is broken.
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const CORE = `export { Client } from "./dist/client.js";`;
const MEMORY = `export { MemoryStorage } from "./dist/storage/memory.js";`;
const INDEXED_DB = `export { IndexedDbStorage } from "./dist/storage/indexeddb.js";`;
const SQLITE = `export { ExpoSqliteStorage } from "./dist/storage/expo-sqlite.js";`;
const PEOPLE = `export { People } from "./dist/people.js";`;
const REST = `export { Account } from "./dist/account.js"; export { Members } from "./dist/members.js"; export { Invitations } from "./dist/invitations.js"; export { Conversations, listOf } from "./dist/conversations.js";`;
const ADMINISTRATION = `export { Administration } from "./dist/admin.js";`;

/** What an app imports, and how many bytes that may be: what it is, and 1 %. */
const rows = [
  ["core, outbox, store in memory", CORE + MEMORY, 19_690],
  ["core, outbox, IndexedDB", CORE + INDEXED_DB],
  ["core, outbox, expo-sqlite", CORE + SQLITE],
  ["  and People: names, presence, typing", CORE + INDEXED_DB + PEOPLE],
  ["  and REST: Account, Members, Invitations, Conversations, lists", CORE + INDEXED_DB + PEOPLE + REST],
  ["  and Administration: everything, with IndexedDB", CORE + INDEXED_DB + PEOPLE + REST + ADMINISTRATION, 23_600],
  ["createWebClient: core, outbox, tabs, IndexedDB", `export { createWebClient } from "./dist/web.js";`],
  ["createExpoClient: core, outbox, expo-sqlite, hints", `export { createExpoClient } from "./dist/expo.js";`],
  ["  and pushes to this browser", `export { createWebClient } from "./dist/web.js"; export { WebPush } from "./dist/push.js";`],
  ["hooks of React, with People", `export * from "./dist/react.js";`],
];

const resolveDir = fileURLToPath(new URL("..", import.meta.url));
let broken = false;
for (const [name, contents, budget] of rows) {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir }, bundle: true, minify: true, write: false, format: "esm", target: "es2022", external: ["react"], legalComments: "none",
  });
  const bytes = gzipSync(outputFiles[0].contents, { level: 9 }).length;
  const over = budget !== undefined && bytes > budget;
  broken ||= over;
  console.log(`${(bytes / 1024).toFixed(2).padStart(6)} KiB  ${String(bytes).padStart(6)}  ${name}${budget === undefined ? "" : ` (at most ${budget})`}${over ? "  TOO LARGE" : ""}`);
}
if (broken) process.exit(1);
