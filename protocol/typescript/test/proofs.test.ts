import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { Account } from "../src/account.js";
import { MemoryStorage } from "../src/index.js";
import type { AuthResponse, LoginRequest } from "../src/protocol.js";
import { local, stopLocals } from "./support/local.js";
import type { Reader } from "./support/reader.js";
import { credentials, World } from "./support/world.js";

vi.setConfig({ testTimeout: 30_000 });

let world: World;
beforeEach(async () => {
  world = await World.make();
}, 40_000);
afterEach(async () => {
  await stopLocals();
  await world.end();
}, 20_000);

/** A tablet: which proof each of its log-ins showed, and which one the server gave. `answers`: in place of those of the server. */
async function tablet(answers: Readonly<Record<string, object>> = {}) {
  const shown: (string | null | undefined)[] = [];
  const got: (string | null | undefined)[] = [];
  const storage = new MemoryStorage();
  const ask: typeof fetch = async (input, init) => {
    const { pathname } = new URL(String(input));
    const own = answers[pathname];
    if (own) return Response.json(own);
    if (pathname !== "/api/auth/login") return fetch(input, init);
    const request: LoginRequest = JSON.parse(String(init?.body));
    shown.push(request.device_proof);
    const response = await fetch(input, init);
    const answer: AuthResponse = await response.clone().json();
    got.push(answer.device_proof);
    return response;
  };
  const { client } = await local(world.server, { storage, fetch: ask });
  const visit = async (member: Reader) => {
    await client.login(credentials(member.person));
    await client.logout();
  };
  return { client, storage, shown, got, visit, account: new Account(client.api) };
}

test("each member of a tablet shows their own proof, also after the others have logged in and out", async () => {
  const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
  const { client, storage, shown, got, visit } = await tablet();
  for (const member of [ana, ben, ana, ben]) await visit(member);
  await client.login({ ...credentials(ana.person), email: ` ${ana.person.email.toUpperCase()}` });
  const [first, second] = got;
  expect([typeof first, typeof second, first === second]).toEqual(["string", "string", false]);
  expect(shown).toEqual([undefined, undefined, first, second, first]);
  await client.logout();
  expect(JSON.stringify(await storage.range("0", "g"))).not.toContain("@");
});

test("those of ten members are kept, and not of more", async () => {
  const { shown, visit } = await tablet();
  const members: Reader[] = [];
  for (let n = 0; n < 11; n += 1) {
    const member = await world.member(`Member ${n}`);
    members.push(member);
    await visit(member);
  }
  const [first, , third] = members;
  if (!first || !third) throw new Error("no members");
  shown.length = 0;
  await visit(third);
  await visit(first);
  expect(shown.map((proof) => typeof proof)).toEqual(["string", "undefined"]);
});

test("a new password, and a second factor that is turned on, replace the one of the member who is signed in", async () => {
  const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
  const { client, shown, visit, account } = await tablet({
    "/api/members/me/password": { device_proof: "of the password" },
    "/api/members/me/second-factor/confirm": { recovery_codes: ["one"], device_proof: "of the second factor" },
  });
  for (const member of [ana, ben]) await visit(member);
  await client.login(credentials(ana.person));
  await account.changePassword({ current_password: "a", new_password: "b" });
  await client.logout();
  await client.login(credentials(ana.person));
  expect(shown.at(-1)).toBe("of the password");
  expect(await account.confirmSecondFactor("enrolment", "000000")).toMatchObject({ recovery_codes: ["one"] });
  await client.logout();
  shown.length = 0;
  for (const member of [ben, ana]) await visit(member);
  expect(shown[0]).not.toContain("of the");
  expect(shown[1]).toBe("of the second factor");
});

test("that of a link that has set a password is shown by the next log-in, and by others only until they have one of their own again", async () => {
  const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
  const { shown, got, visit, account } = await tablet({ "/api/auth/password/reset": { device_proof: "of the link" } });
  for (const member of [ana, ben]) await visit(member);
  await account.resetPassword("token", "a new password");
  for (const member of [ana, ben, ana]) await visit(member);
  // Whose it was is not said: the server gives another one for it, or the same.
  expect(shown.slice(2)).toEqual(["of the link", "of the link", got[2]]);
});
