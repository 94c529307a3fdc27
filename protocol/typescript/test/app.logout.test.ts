import { fileURLToPath } from "node:url";

import { build } from "esbuild";
import { expect, test } from "vitest";

type Question = (unsent: number | undefined, all: boolean) => { title: string; text: string; confirm: string; danger: boolean };

test("what the app asks before a log-out says what is lost, and that it does not know it", async () => {
  const entry = fileURLToPath(new URL("../example/src/account/logout.ts", import.meta.url));
  const { outputFiles } = await build({ entryPoints: [entry], bundle: true, write: false, format: "iife", globalName: "app", tsconfigRaw: {} });
  const { logoutQuestion } = new Function(`${outputFiles[0]?.text};return app`)() as { logoutQuestion: Question };
  expect(logoutQuestion(0, false)).toMatchObject({ title: "Log out?", confirm: "Log out", danger: false });
  expect(logoutQuestion(0, false).text).not.toContain("lost");
  expect(logoutQuestion(1, true)).toMatchObject({ title: "Log out everywhere?", text: expect.stringContaining("One message was not sent yet, and may be lost. Wait until the connection is back to send it."), confirm: "Log out and lose it", danger: true });
  expect(logoutQuestion(7, false)).toMatchObject({ text: expect.stringContaining("7 messages were not sent yet"), confirm: "Log out and lose them", danger: true });
  expect(logoutQuestion(undefined, false)).toMatchObject({ text: expect.stringContaining("cannot be read at the moment"), confirm: "Log out anyway", danger: true });
});
