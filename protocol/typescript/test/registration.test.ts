import { randomUUID } from "node:crypto";

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { Account } from "../src/account.js";
import { Administration } from "../src/admin.js";
import { MembersBookError } from "../src/errors.js";
import { Invitations } from "../src/invitations.js";
import { until } from "./support/until.js";
import { World } from "./support/world.js";

vi.setConfig({ testTimeout: 30_000 });

let world: World;
beforeEach(async () => {
  world = await World.make({ REGISTRATION: "approval", INVITATIONS: "members" });
}, 40_000);
afterEach(async () => {
  await world.end();
}, 20_000);

const PASSWORD = "correct horse";
const address = (name: string) => `${name}-${randomUUID()}@example.com`;

/** A device of the first administrator, who was made with the code that the server printed. */
async function administrator() {
  const device = await world.device("of the administrator");
  const client = await device.launch();
  const code = await until("the setup code is printed", () => /"code":"([0-9A-Z-]+)"/.exec(world.server.log)?.[1]);
  await client.setup({ code, name: "Root", email: address("root"), password: PASSWORD });
  await device.online();
  return { root: client, admin: new Administration(client.api) };
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

describe("who comes in", () => {
  test("somebody without an invitation waits, an administrator is told and lets them in", async () => {
    const { root, admin } = await administrator();
    const client = await (await world.device("of Ana")).launch();
    expect(await new Account(client.api).club()).toEqual({ registration: "approval", invitations: "members", setup_needed: false, sends_mail: false, push: { enabled: true, web_key: null } });
    const email = address("ana");
    expect(await client.register({ name: "Ana", email, password: PASSWORD })).toEqual({ status: "pending" });
    expect(client.session.getSnapshot().status).toBe("signed_out");
    expect((await refusal(client.login({ email, password: PASSWORD }))).code).toBe("approval_pending");
    await until("the administrator is told", () => root.applications.getSnapshot() === 1);
    const [ana] = (await admin.members({ status: "pending" })).members;
    if (!ana) throw new Error("nobody waits");
    expect((await admin.approve(ana._id)).status).toBe("active");
    await until("nobody waits any more", () => root.applications.getSnapshot() === 0);
    expect((await client.login({ email, password: PASSWORD })).name).toBe("Ana");
    expect((await refusal(admin.reject(ana._id))).code).toBe("already_decided");
  });

  test("an invitation brings somebody in at once, and nobody after it was revoked", async () => {
    const { root, admin } = await administrator();
    const { code, invitation, link } = await new Invitations(root.api).make({ tier: "Infinity", uses: 2, note: "for Ben" });
    expect(link).toBe(`/app/register?invitation=${code}`);
    const client = await (await world.device("of Ben")).launch();
    expect(await new Invitations(client.api).check(code.toLowerCase())).toMatchObject({ invited_by: "Root", tier: "Infinity" });
    const registered = await client.register({ name: "Ben", email: address("ben"), password: PASSWORD, invitation: code });
    expect(registered).toMatchObject({ status: "signed_in", member: { name: "Ben", tier: "Infinity" } });
    expect((await admin.invitations()).invitations[0]).toMatchObject({ used: 1, created_by_name: "Root", members: [{ name: "Ben" }] });
    await new Invitations(root.api).revoke(invitation._id);
    expect((await refusal(new Invitations(client.api).check(code))).code).toBe("invitation_invalid");
    expect((await new Invitations(root.api).list()).invitations[0]).toMatchObject({ is_open: false, note: "for Ben" });
  });

  test("who is suspended is signed out, told until when, and may come back", async () => {
    const { root, admin } = await administrator();
    const { code } = await new Invitations(root.api).make();
    const device = await world.device("of Eva");
    const client = await device.launch();
    const email = address("eva");
    const registered = await client.register({ name: "Eva", email, password: PASSWORD, invitation: code });
    if (registered.status !== "signed_in") throw new Error("an invitation is enough");
    await device.online();
    const end = new Date(Date.now() + 3_600_000).toISOString();
    const suspended = await admin.suspend(registered.member._id, { until: end, reason: "shouted" });
    expect(suspended).toMatchObject({ status: "suspended", suspended_until: end, suspension_reason: "shouted" });
    await until("they are signed out", () => client.session.getSnapshot().status === "signed_out");
    expect(client.session.getSnapshot()).toMatchObject({ reason: "deactivated" });
    const refused = await refusal(client.login({ email, password: PASSWORD }));
    expect([refused.code, refused.details.until, refused.verdict]).toEqual(["member_suspended", end, "fix"]);
    expect((await admin.endSuspension(registered.member._id)).status).toBe("active");
    expect((await client.login({ email, password: PASSWORD })).name).toBe("Eva");
  });
});

