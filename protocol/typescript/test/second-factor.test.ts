import { randomUUID } from "node:crypto";

import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { Account } from "../src/account.js";
import { Administration } from "../src/admin.js";
import { MembersBookError } from "../src/errors.js";
import { totp } from "./support/totp.js";
import { until } from "./support/until.js";
import { World } from "./support/world.js";

vi.setConfig({ testTimeout: 30_000 });

let world: World;
beforeEach(async () => {
  world = await World.make({ REGISTRATION: "open", ADMIN_SECOND_FACTOR: "required" });
}, 40_000);
afterEach(async () => {
  await world.end();
}, 20_000);

const password = "correct horse";

async function member(name: string) {
  const device = await world.device(`of ${name}`);
  const client = await device.launch();
  const email = `${name}-${randomUUID()}@example.com`;
  const registered = await client.register({ name, email, password });
  if (registered.status !== "signed_in") throw new Error("the club is open");
  return { client, email, id: registered.member._id };
}

/** The error that something ends with. */
async function refusal(work: Promise<unknown>): Promise<MembersBookError> {
  try {
    await work;
  } catch (cause) {
    if (cause instanceof MembersBookError) return cause;
    throw cause;
  }
  throw new Error("It was not refused.");
}

test("a member turns it on, logs in with a code and with a recovery code, and turns it off", async () => {
  const { client, email } = await member("Ana");
  const { api } = client;
  expect(await new Account(api).secondFactor()).toEqual({ enabled: false, enabled_at: null, recovery_codes_left: 0, required: false });
  expect((await refusal(new Account(api).beginSecondFactor("no horse"))).details.fields).toMatchObject([{ field: "password" }]);
  const { secret, uri, qr, enrolment } = await new Account(api).beginSecondFactor(password);
  expect([uri.startsWith("otpauth://totp/"), qr.startsWith("data:image/png;base64,")]).toEqual([true, true]);
  expect((await refusal(new Account(api).confirmSecondFactor(enrolment, "no code"))).details.fields).toMatchObject([{ field: "code" }]);
  const { recovery_codes: codes } = await new Account(api).confirmSecondFactor(enrolment, totp(secret));
  expect(codes).toHaveLength(10);
  expect((await refusal(new Account(api).beginSecondFactor(password))).code).toBe("second_factor_enabled");

  const other = await (await world.device("of Ana, too")).launch();
  const asked = await refusal(other.login({ email, password }));
  expect([asked.code, asked.verdict]).toEqual(["second_factor_required", "fix"]);
  expect(other.session.getSnapshot().status).toBe("signed_out");
  expect((await refusal(other.login({ email, password, second_factor: "000 00x" }))).code).toBe("second_factor_invalid");
  expect((await other.login({ email, password, second_factor: totp(secret, 1) })).name).toBe("Ana");
  await other.logout();
  expect((await other.login({ email, password, second_factor: codes[0]?.toLowerCase().replaceAll("-", " ") ?? "" })).name).toBe("Ana");
  await other.logout();
  expect((await refusal(other.login({ email, password, second_factor: codes[0] ?? "" }))).code).toBe("second_factor_invalid");
  expect((await new Account(api).secondFactor()).recovery_codes_left).toBe(9);

  const { recovery_codes: fresh } = await new Account(api).replaceRecoveryCodes(codes[1] ?? "");
  expect((await refusal(new Account(api).disableSecondFactor({ code: codes[2] ?? "", password }))).details.fields).toMatchObject([{ field: "code" }]);
  await new Account(api).disableSecondFactor({ code: fresh[0] ?? "", password });
  expect((await other.login({ email, password })).name).toBe("Ana");
});

test("an administrator without the one that the club demands administers nothing, and resets that of a member who has lost it", async () => {
  const ben = await member("Ben");
  const begun = await new Account(ben.client.api).beginSecondFactor(password);
  await new Account(ben.client.api).confirmSecondFactor(begun.enrolment, totp(begun.secret));

  const root = await member("Root");
  world.server.admin("promote", "--email", root.email);
  const admin = new Administration(root.client.api);
  const missing = await refusal(admin.members());
  expect([missing.code, missing.verdict]).toEqual(["second_factor_missing", "fix"]);
  expect(await new Account(root.client.api).secondFactor()).toMatchObject({ enabled: false, required: true });
  const { secret, enrolment } = await new Account(root.client.api).beginSecondFactor(password);
  await new Account(root.client.api).confirmSecondFactor(enrolment, totp(secret));
  expect((await refusal(new Account(root.client.api).stepUp({ password }))).details.fields).toMatchObject([{ field: "code" }]);
  await new Account(root.client.api).stepUp({ code: totp(secret, 1) });

  const listed = (await admin.members()).members.find(({ _id }) => _id === ben.id);
  expect(listed?.second_factor).toBe(true);
  expect((await admin.resetSecondFactor(ben.id)).second_factor).toBe(false);
  await until("their session is over", () => ben.client.session.getSnapshot().status === "signed_out");
  expect((await ben.client.login({ email: ben.email, password })).name).toBe("Ben");
});

test("who changes the password, or turns a second factor on, goes on here with other tokens", async () => {
  const { client } = await member("Ana");
  const account = new Account(client.api);
  const [device] = world.devices;
  const former = device?.accessToken ?? "";
  const status = async () => (await fetch(`${world.server.url}/api/members/me`, { headers: { authorization: `Bearer ${former}` } })).status;
  expect(await status()).toBe(200);
  const online = () => until("it is connected", () => client.connection.getSnapshot().status === "online");
  await online();
  await account.changePassword({ current_password: password, new_password: "battery staple horse" });
  expect(await status()).toBe(401);
  expect((await account.sessions()).sessions).toHaveLength(1);
  const { secret, enrolment } = await account.beginSecondFactor("battery staple horse");
  await account.confirmSecondFactor(enrolment, totp(secret));
  expect((await account.sessions()).sessions).toHaveLength(1);
  client.wake();
  await online();
  expect(client.session.getSnapshot().status).toBe("signed_in");
});
