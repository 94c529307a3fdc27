// What somebody meets who makes a club from nothing: alone at an address that nobody else reaches, members without an administrator, the first invitation, a
// member who is suspended, what the audit log says of it, a server in trouble, and a club that is closed.

import assert from "node:assert/strict";
import { base, button, call, enter, field, heading, isIn, kill, LAPTOP, person, problems, secret, serve, setupCode, signIn, tidy } from "./club.mjs";
import { look, looks, lookTwice } from "./look.mjs";

const PASSWORD = "correct horse";
const TROUBLE = "The club's server has a problem. What you write is kept, and sent when it is well again.";
const UNAVAILABLE = { status: 503, contentType: "application/problem+json", body: JSON.stringify({ code: "unavailable", detail: "for the operator", status: 503 }) };
let running = await serve();
const started = Date.now();
const sign = (name, email) => call("POST", "auth/register", { name, email, password: PASSWORD });

async function restart(settings) {
  await kill(running);
  running = await serve(settings);
}

/** On a slow line it is said what comes, before the app is there. */
async function slowly() {
  const page = await person("on a slow line", LAPTOP);
  await page.route("**/_expo/**", (route) => route.fulfill({ contentType: "text/javascript", body: "" }));
  await page.goto(`${base}/app/`);
  await page.getByText("Loading…").waitFor();
  await look(page, "starting");
  await page.emulateMedia({ colorScheme: "dark" });
  await look(page, "starting-dark");
  await page.unroute("**/_expo/**");
  await page.reload();
  await heading(page, "Make the club").waitFor();
  assert.equal(await page.getByText("Loading…").count(), 0);
  await page.context().close();
}

/** A club with members and without an administrator: who has an account signs in. Alone, they are told what the address is worth, and why nobody is there; and that goes when somebody comes. */
async function alone() {
  const ben = await sign("Ben Okafor", "ben@example.com");
  const page = await person("Ben", LAPTOP);
  await page.goto(`${base}/app/`);
  await page.getByText("This club has no administrator yet: with the setup code you become the first one.").waitFor();
  await button(page, "Have an account? Sign in").click();
  await page.getByText(/^This club has no administrator yet\. Who has the setup code/).waitFor();
  await button(page, "Enter the setup code").click();
  await field(page, "Setup code").waitFor();
  await button(page, "Have an account? Sign in").click();
  await page.route("**/api/auth/login", (route) => route.fulfill(UNAVAILABLE));
  await enter(page, "ben@example.com", PASSWORD);
  await page.getByText("The club's server has a problem. Try again in a few minutes.", { exact: true }).waitFor();
  await page.unroute("**/api/auth/login");
  await button(page, "Sign in").click();
  await isIn(page);

  await page.getByRole("link", { name: "Meet" }).click();
  await heading(page, "Nobody is here yet").waitFor();
  await heading(page, "Complete your profile").waitFor();
  assert.equal(await page.getByRole("button", { name: "Change my profile" }).count(), 1);
  await lookTwice(page, "meet-alone");
  await page.getByRole("link", { name: "Chats" }).click();
  await heading(page, "You are the first").waitFor();
  await page.getByText(/^Only this machine reaches this address: .* HOST=0\.0\.0\.0/).waitFor();
  await page.getByText(`${base}/app/`, { exact: true }).waitFor();
  await lookTwice(page, "first-alone");
  const ana = await sign("Ana Lima", "ana@example.com");
  await heading(page, "You are the first").waitFor({ state: "detached" });
  await button(page, "Open the directory").waitFor();
  return { page, ben, ana };
}

/** An invitation: what a tier is, a link that only this machine reaches, and how it is copied where the page came over plain HTTP. */
async function invites(rita) {
  await rita.goto(`${base}/app/invite`);
  await rita.getByText(/^Registration is open/).waitFor();
  await rita.getByText(/^Disruption: the tier of every new member\./).waitFor();
  await rita.getByRole("radio", { name: "Infinity" }).click();
  await rita.getByText(/^Infinity: the second tier\. All tiers may do the same/).waitFor();
  await button(rita, "Make an invitation").click();
  await rita.getByText(/^Only this machine reaches this link\./).waitFor();
  await lookTwice(rita, "invite-here", button(rita, "Make an invitation"));
  await button(rita, "Copy link").click();
  await rita.getByText("Link copied").first().waitFor();
  await field(rita, "Note").focus();
  await rita.keyboard.press("Control+V");
  assert.match(await field(rita, "Note").inputValue(), new RegExp(`^${base}/app/register`));
  await rita.goto(`${base}/app/admin/invitations`);
  await rita.getByText("Invitation of Rita Reis", { exact: true }).waitFor();
  assert.equal(await rita.getByText(/Infinity/).count(), 1, "the tier is there once");
}

/** A member is suspended: they are connected with nothing at once. What it is to deactivate somebody is said before. */
async function suspends(rita) {
  await rita.goto(`${base}/app/admin`);
  await rita.getByRole("button", { name: /Ben Okafor.*1 device connected/ }).click();
  const dialog = rita.getByRole("dialog");
  await dialog.getByText(/^To deactivate somebody has no end, unlike a suspension/).waitFor();
  await lookTwice(rita, "admin-member");
  await button(dialog, "Suspend").click();
  await field(dialog, "Reason").fill("the affair of the piano");
  await button(dialog, "Suspend").click();
  await dialog.getByText(/^Suspended until .*: the affair of the piano$/).waitFor();
  await button(dialog, "Disconnect (not connected)").waitFor();
  await button(dialog, "Close").click();
  await rita.getByRole("button", { name: /Ben Okafor.*suspended · not connected/ }).waitFor();
}

/** The log is read as sentences; what administrators read is asked for. */
async function audited(rita) {
  await rita.goto(`${base}/app/admin/audit`);
  const entries = rita.getByRole("main").getByRole("button", { name: /\d\d:\d\d/ });
  const shown = async (text) => {
    await entries.filter({ hasText: text }).first().waitFor();
    return entries.allTextContents();
  };
  const done = await shown(/Rita Reis suspended Ben Okafor until \d/);
  assert.ok(done.some((text) => /^Rita Reis made an invitation for Infinity, one use, good until \d/.test(text)), done.join("\n"));
  assert.ok(done.some((text) => /^Rita Reis made the club, and became its first administrator/.test(text)), done.join("\n"));
  assert.deepEqual(done.filter((text) => /[{}"_]| read /.test(text)), [], "no JSON, and nothing that was only read");
  await lookTwice(rita, "admin-audit-sentences");
  await rita.getByRole("radio", { name: "What administrators read" }).click();
  const read = await shown(/^Rita Reis read this log \(without some kinds\), \d+ entr(y|ies)/);
  assert.deepEqual(read.filter((text) => !/ read (this log|all invitations|the administrators' list|where |the record|what )|, and read what others do not see/.test(text)), [], "what was read, and nothing else");
  assert.deepEqual(read.filter((text) => /Rita Reis.*Rita Reis/.test(text)), [], "nobody reads of themselves");
}

/** Who is not active is not there either, although the server says for a while that they are. */
async function absent(rita, admin) {
  const { member: { _id: id } } = await sign("Cara Lund", "cara@example.com");
  await call("POST", "messages", { receiver_id: id, client_id: crypto.randomUUID(), content: "welcome" }, admin.access_token);
  const cara = await person("Cara", LAPTOP);
  await signIn(cara, "cara@example.com", PASSWORD);
  await isIn(cara);
  await rita.goto(`${base}/app/chats/m_${id}`);
  const partner = rita.getByRole("link").filter({ has: heading(rita, "Cara Lund") });
  await partner.getByText("online", { exact: true }).waitFor();
  await rita.getByRole("link", { name: /Cara Lund\s*, online, / }).waitFor();
  await call("PUT", `admin/members/${id}/active`, { is_active: false }, admin.access_token);
  await rita.getByText("Cara Lund is not active in the club. You can read what was written, but not write.").waitFor();
  await rita.waitForTimeout(500);
  assert.equal(await rita.getByText(/online|last seen/).count(), 0);
  await cara.context().close();
}

/** One thing is said at a time: why signing in failed, in place of why nobody is signed in. */
async function refused(page) {
  const before = page.getByText("This account may not sign in at the moment. Sign in to see why, or ask an administrator of the club.");
  await before.waitFor();
  await enter(page, "ben@example.com", "no horse at all");
  await page.getByRole("alert").getByText("The e-mail address or the password is wrong.").waitFor();
  assert.equal(await before.count(), 0);
  await secret(page, "Password").fill(PASSWORD);
  await page.keyboard.press("Enter");
  await page.getByRole("alert").getByText(/^An administrator has suspended you until /).waitFor();
}

/** A server that answers and stores nothing: what waits says so, one message or two, and after a reload as well. */
async function trouble({ member }) {
  const page = await person("Ana", LAPTOP);
  let ill = true;
  await page.routeWebSocket(/\/ws$/, (socket) => {
    const server = socket.connectToServer();
    socket.onMessage((data) => {
      const { type, id } = JSON.parse(data);
      if (ill && type === "message.send") socket.send(JSON.stringify({ type: "error", id, code: "unavailable", message: "for the operator", retry: true }));
      else server.send(data);
    });
  });
  await signIn(page, "ana@example.com", PASSWORD);
  await isIn(page);
  await page.goto(`${base}/app/chats/m_${member._id}`);
  const input = field(page, `Message to ${member.name}`);
  const messages = page.getByRole("list", { name: "Messages" });
  await input.fill("one");
  await page.keyboard.press("Enter");
  await page.getByText(TROUBLE).waitFor();
  await input.fill("two");
  await page.keyboard.press("Enter");
  await messages.getByText("two", { exact: true }).waitFor();
  assert.equal(await page.getByText(TROUBLE).count(), 1, "nothing goes out, and it says so");
  await page.route("**/api/auth/refresh", (route) => route.fulfill(UNAVAILABLE));
  await page.reload();
  await page.getByRole("status").getByText(TROUBLE).waitFor();
  assert.equal(await page.getByText(/You are offline/).count(), 0);
  ill = false;
  await page.unroute("**/api/auth/refresh");
  await page.getByText(TROUBLE).waitFor({ state: "detached" });
  await page.context().close();
}

/** Nobody can join: nobody is offered to invite, and it says why. */
async function closed(rita) {
  await rita.goto(`${base}/app/settings`);
  await button(rita, "Log out").waitFor();
  await heading(rita, "My data").waitFor();
  assert.equal(await button(rita, "Invite").count(), 0);
  for (const place of ["invite", "admin/applications", "admin/invitations", "admin/server"]) {
    await rita.goto(`${base}/app/${place}`);
    await rita.getByText("Registration is closed: nobody can join, and no invitations are made.").first().waitFor();
    assert.equal(await rita.getByRole("button", { name: /^(Invite|Make an invitation)/ }).count(), 0, place);
  }
}

/** Where it takes an invitation to join, the first one is led to it; and its link begins with the address that others reach. */
async function byInvitation() {
  const rita = await person("Rita, alone", LAPTOP);
  await rita.goto(`${base}/app/`);
  await field(rita, "Setup code").fill(setupCode(running));
  await field(rita, "Name").fill("Rita Reis");
  await field(rita, "E-mail").fill("rita@example.com");
  await secret(rita, "Password").fill(PASSWORD);
  await rita.keyboard.press("Enter");
  await heading(rita, "You are the first").waitFor();
  assert.equal(await rita.getByText(`${base}/app/`).count(), 0);
  await button(rita, "Invite somebody").click();
  await rita.getByText("The club takes members by invitation: nobody can register without one.").waitFor();
  await button(rita, "Make an invitation").click();
  await rita.getByText(/^https:\/\/club\.example\/app\/register/).waitFor();
  assert.equal(await rita.getByText(/Only this machine/).count(), 0);
}

try {
  await slowly();
  const { page, ana } = await alone();
  const admin = await call("POST", "setup", { code: setupCode(running), name: "Rita Reis", email: "rita@example.com", password: PASSWORD });
  const rita = await person("Rita", LAPTOP);
  await rita.addInitScript(() => Object.defineProperty(navigator, "clipboard", { value: undefined }));
  await signIn(rita, "rita@example.com", PASSWORD);
  await isIn(rita);
  await invites(rita);
  await suspends(rita);
  await heading(page, "Sign in").waitFor();
  await refused(page);
  await absent(rita, admin);
  await audited(rita);
  // On a machine of one's own there is mail, in the log.
  await rita.goto(`${base}/app/admin/server`);
  await rita.getByText(/^No mail server is set up: mail reaches nobody\. A server that listens on its own machine only writes it to its log/).waitFor();
  await trouble(admin);
  await restart({ REGISTRATION: "closed" });
  await closed(rita);
  await rita.context().close();
  await restart({ PUBLIC_URL: "https://club.example", DATABASE_URL: "sqlite:./another.db" });
  await byInvitation();

  assert.deepEqual(problems, []);
  console.log(`a club from nothing: alone, without an administrator, by invitation, in trouble and closed, ${looks} looks by axe, in ${Math.round((Date.now() - started) / 1000)} s`);
} finally {
  await kill(running);
  await tidy();
}
