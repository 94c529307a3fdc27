import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

// BUILT=1: what is tested is what is published, as `npm run build` has made it.
const built = [{ find: /^(?:\.\.\/)+src\/(.*)\.js$/, replacement: fileURLToPath(new URL("dist/$1.js", import.meta.url)) }];

export default defineConfig({
  resolve: { alias: process.env.BUILT ? built : [] },
  test: {
    include: ["test/**/*.test.ts", "test/**/*.test.tsx"],
    // Files run at the same time, and machines that run them may be slow: the limits are for what hangs, not for what takes its time.
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
