// Makes `dist`, or the folder that is named: what the compiler makes of `src`, with short names for what is private.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { shortened } from "./shorten.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const out = process.argv[2] ?? join(root, "dist");

rmSync(out, { recursive: true, force: true });
execFileSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", join(root, "tsconfig.build.json"), "--outDir", out], { stdio: "inherit" });
const files = readdirSync(out, { recursive: true }).map((name) => join(out, name));
const texts = (end) => new Map(files.filter((name) => name.endsWith(end)).map((name) => [name, readFileSync(name, "utf8")]));
for (const [name, text] of shortened(texts(".js"), texts(".d.ts"))) writeFileSync(name, text);
