import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts", "test/**/*.test.tsx"],
    // Files run at the same time, and machines that run them may be slow: the limits are for what hangs, not for what takes its time.
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
