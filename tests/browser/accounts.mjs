// Accounts in the club's app, as a new administrator and their members meet them, in the order of docs/operating.md: the first account, an invitation, a
// member who joins by its link, one who waits to be let in, a device that is lost, another password; then with mail: an address that is confirmed, and a
// password that was forgotten. Each screen is looked at twice, and the ways that people go often are gone by the keyboard alone.
// With SCREENSHOTS=FOLDER pictures of the screens go there.

import assert from "node:assert/strict";
import { base, button, chrome, enter, field, heading, isIn, kill, LAPTOP, person, problems, secret, serve, setupCode, signIn, tidy } from "./club.mjs";
import { answer, press, stops, type } from "./focus.mjs";
import { look, looks, lookTwice } from "./look.mjs";
import { mailServer } from "./smtp.mjs";

const PHONE = { viewport: { width: 390, height: 800 }, hasTouch: true, userAgent: chrome("Linux; Android 16", " Mobile") };
const AT_WORK = { ...LAPTOP, userAgent: `${chrome("Windows NT 10.0; Win64; x64")} Edg/142.0.0.0` };
const NO_MAIL = "This server sends no mail, so no link can come to you. Ask whoever runs the server for one.";
const OVER = "Your session is over. Sign in again: what was not sent yet is kept, until somebody else signs in here.";

/** A server that others reach, too: without a mail server it sends nothing. */
const SETTINGS = { HOST: "0.0.0.0", REGISTRATION: "approval" };
let running = await serve(SETTINGS);
const mail = await mailServer();
const started = Date.now();

/** Somebody's form for a new account; the rest of it, if there is more, is filled in before. */
async function join(page, name, email, password, label) {
  await field(page, "Name").fill(name);
  await field(page, "E-mail").fill(email);
  await secret(page, "Password").fill(password);
  await button(page, label).click();
}

/** Goes to a place of the app in the page that is there, as people do. */
async function visit(page, place, title = place) {
  await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: new RegExp(`^${place}`) }).click();
  await heading(page, title).waitFor();
}

/** The first account: the first visitor makes the club with the code that the server has printed. */
async function first() {
  const rita = await person("Rita", LAPTOP);
  await rita.context().grantPermissions(["clipboard-read", "clipboard-write"], { origin: base });
  await rita.goto(`${base}/app/`);
  await field(rita, "Setup code").fill(setupCode(running));
  await join(rita, "Rita Reis", "rita@example.com", "correct horse", "Make the club");
  await isIn(rita);
  return rita;
}

/** “*Settings*, *Invite*: make an invitation, copy its link, and send it to them.” By the keyboard. Resolves to the link. */
async function invitation(rita, note) {
  await visit(rita, "Settings");
  await press(rita, "button", "Invite");
  await heading(rita, "A new invitation").waitFor();
  await rita.getByRole("radio", { name: "Infinity" }).click();
  await type(rita, "Note", note);
  await press(rita, "button", "Make an invitation");
  await rita.getByText("Pass this on now: the code is not shown again.").waitFor();
  await rita.getByText(note).last().waitFor();
  await press(rita, "button", "Copy link");
  await rita.getByText("Link copied").first().waitFor();
  return rita.evaluate(() => navigator.clipboard.readText());
}

/** A new member joins by the link of an invitation. */
async function invited(link) {
  const carla = await person("Carla", LAPTOP);
  await carla.goto(link);
  await carla.getByText("Rita Reis has invited you. You come in as Infinity.").waitFor();
  await lookTwice(carla, "join-by-link");
  // By the keyboard: what is there already is passed by.
  await type(carla, "Name", "Carla Sá");
  await type(carla, "E-mail", "carla@example.com");
  await type(carla, "Password", "correct horse");
  await carla.keyboard.press("Enter");
  await isIn(carla);
  await carla.goto(`${base}/app/me`);
  await carla.getByText("Infinity").first().waitFor();
  return carla;
}

/** Somebody registers without one, waits, and is let in; another one is not. */
async function applicants(rita) {
  const dan = await person("Dan", LAPTOP);
  for (const [name, email] of [["Eve Quist", "eve@example.com"], ["Dan Moss", "dan@example.com"]]) {
    await dan.goto(`${base}/app/register`);
    await join(dan, name, email, "correct horse", "Ask to join");
    await heading(dan, "Almost there").waitFor();
  }
  await lookTwice(dan, "waits");
  await button(dan, "Go to sign in").click();
  await enter(dan, "dan@example.com", "correct horse");
  await dan.getByRole("alert").getByText("Your registration waits for an administrator of the club. Come back and sign in once they have let you in.").waitFor();

  // The badge says it without a reload.
  await rita.getByRole("link", { name: /Admin\s*, 2 applications/ }).waitFor();
  await visit(rita, "Admin", "Administration");
  await press(rita, "link", "Applications (2)");
  await button(rita, "Approve Dan Moss").waitFor();
  await lookTwice(rita, "applications");
  await press(rita, "button", "Approve Dan Moss");
  await rita.getByText("Dan Moss is a member now").first().waitFor();
  await button(rita, "Approve Dan Moss").waitFor({ state: "detached" });
  await press(rita, "button", "Reject Eve Quist");
  await answer(rita, "Reject");
  await rita.getByText("Nobody waits").waitFor();

  await button(dan, "Sign in").click();
  await isIn(dan);
  const eve = await person("Eve", LAPTOP);
  await eve.goto(`${base}/app/sign-in`);
  await enter(eve, "eve@example.com", "correct horse");
  await eve.getByText("The e-mail address or the password is wrong.").waitFor();
  await eve.context().close();
}

/** “*Administration*, *Invitations* shows who came by which, and revokes one that went astray.” */
async function astray(rita) {
  const link = await invitation(rita, "on the back of a menu");
  await lookTwice(rita, "invite", button(rita, "Make an invitation"));
  await visit(rita, "Admin", "Administration");
  await rita.getByRole("link", { name: "Invitations" }).click();
  await rita.getByText("Came by it: Carla Sá").waitFor();
  await lookTwice(rita, "admin-invitations");
  await button(rita, "Revoke the invitation of Rita Reis").click();
  await rita.getByRole("dialog").getByRole("button", { name: "Revoke", exact: true }).click();
  await rita.getByText(/Infinity · revoked/).waitFor();
  const late = await person("late", LAPTOP);
  await late.goto(link);
  await late.getByText("This invitation is not good, or not any more. Ask whoever gave it to you for another one.").waitFor();
  await look(late, "invitation-revoked");
  await late.context().close();
}

/** The member finds the session of a phone, gives it a name, and ends it; the phone is out. */
async function lost(carla, phone) {
  await signIn(phone, "carla@example.com", "correct horse");
  await isIn(phone);
  await carla.goto(`${base}/app/settings`);
  await press(carla, "button", "Rename Chrome on Android");
  const name = carla.getByRole("dialog").getByRole("textbox", { name: "Name" });
  await name.fill("The phone that I left in the taxi");
  await name.press("Enter");
  const out = button(carla, "Sign out The phone that I left in the taxi");
  await out.waitFor();
  await lookTwice(carla, "devices", heading(carla, "Where you are signed in"));
  await press(carla, "button", "Sign out The phone that I left in the taxi");
  await answer(carla, "Sign out");
  await out.waitFor({ state: "detached" });
  await phone.getByText(OVER).waitFor();
  await look(phone, "session-over");
}

/** Another password: other devices are out, and it is needed to come back. */
async function changed(carla, phone) {
  await enter(phone, "carla@example.com", "correct horse");
  await isIn(phone);
  await carla.goto(`${base}/app/settings`);
  await heading(carla, "Where you are signed in").waitFor();
  await type(carla, "Present password", "no horse at all");
  await type(carla, "New password", "battery staple");
  await carla.keyboard.press("Enter");
  await carla.getByText(/^This is not your present password/).first().waitFor();
  await lookTwice(carla, "password", heading(carla, "Password"));
  await secret(carla, "Present password").fill("correct horse");
  await secret(carla, "New password").focus();
  await carla.keyboard.press("Enter");
  await carla.getByText("The password is changed. Your other devices are signed out.").first().waitFor();
  await phone.getByText(OVER).waitFor();
  await enter(phone, "carla@example.com", "correct horse");
  await phone.getByText("The e-mail address or the password is wrong.").waitFor();
  await enter(phone, "carla@example.com", "battery staple");
  await isIn(phone);
}

/** Without mail nobody is promised a link, and it says so before anybody asks for one. */
async function withoutMail() {
  const page = await person("forgetful", LAPTOP);
  await page.goto(`${base}/app/sign-in`);
  await button(page, "Forgot your password?").click();
  await page.getByText(NO_MAIL).waitFor();
  await lookTwice(page, "forgot-without-mail-before");
  await field(page, "E-mail").fill("carla@example.com");
  await page.keyboard.press("Enter");
  await heading(page, "The club sends no mail").waitFor();
  await page.getByText(/^So no link can be sent to you\. Ask whoever runs the server for one/).waitFor();
  await lookTwice(page, "forgot-without-mail");
  await page.context().close();
}

/** Who was there before the club sent mail is asked to confirm their address, and does so by the link. */
async function confirmed(carla) {
  await carla.goto(`${base}/app/settings`);
  await carla.getByText("Your e-mail address is not confirmed.").waitFor();
  await button(carla, "Send me a link").click();
  const { link } = await mail.next("carla@example.com", "Confirm your e-mail address");
  await carla.goto(link);
  await heading(carla, "Confirm your e-mail address").waitFor();
  await lookTwice(carla, "verify");
  await press(carla, "button", "Confirm");
  await heading(carla, "Your address is confirmed").waitFor();
  assert.equal(new URL(carla.url()).search, "", "the token is not left in the address");
  await button(carla, "Go on").click();
  await visit(carla, "Settings");
  await carla.getByText("Your address is confirmed.").waitFor();
  await carla.getByRole("radio", { name: "Português" }).click();
  await carla.locator("[role=radio][aria-checked=true]", { hasText: "Português" }).waitFor();
  await lookTwice(carla, "mail", heading(carla, "Mail"));
}

/** A forgotten password is set anew by the link of a mail, on another device; every other one is out. */
async function forgotten(carla, phone) {
  const other = await person("Carla at work", AT_WORK);
  await other.goto(`${base}/app/sign-in`);
  await button(other, "Forgot your password?").click();
  assert.equal(await other.getByText(NO_MAIL).count(), 0);
  await lookTwice(other, "forgot");
  await type(other, "E-mail", "carla@example.com");
  await other.keyboard.press("Enter");
  await heading(other, "Look into your mail").waitFor();
  await lookTwice(other, "forgot-sent");
  // In the language that she has chosen.
  const { link } = await mail.next("carla@example.com", "Escolha uma nova palavra-passe");
  await other.goto(link);
  await heading(other, "Choose a new password").waitFor();
  await lookTwice(other, "reset");
  await type(other, "New password", "password");
  await other.keyboard.press("Enter");
  await other.getByText("Is one of the most common passwords; take another.").waitFor();
  await secret(other, "New password").fill("stable battery");
  await other.keyboard.press("Enter");
  await heading(other, "Your password is set").waitFor();
  assert.equal(new URL(other.url()).search, "", "the token is not left in the address");
  for (const page of [carla, phone]) await page.getByText(OVER).waitFor();
  await button(other, "Go on").click();
  await enter(other, "carla@example.com", "stable battery");
  await isIn(other);
  await mail.next("carla@example.com", "A sua palavra-passe foi reposta");
  // That is the notice: whoever has set the password is no new device.
  await carla.goto(link);
  await button(carla, "Set the password").waitFor();
  await secret(carla, "New password").fill("another battery");
  await carla.keyboard.press("Enter");
  await heading(carla, "This link is not good any more").waitFor();
  await lookTwice(carla, "link-over");
}

/** With mail a new member confirms the address before the first login, with an invitation or without. */
async function newcomer(rita) {
  const link = await invitation(rita, "for Finn");
  const finn = await person("Finn", LAPTOP);
  await finn.goto(link);
  await finn.getByText("Rita Reis has invited you. You come in as Infinity.").waitFor();
  await join(finn, "Finn Aker", "finn@example.com", "correct horse", "Make an account");
  await heading(finn, "Look into your mail").waitFor();
  await lookTwice(finn, "register-sent");
  const first = await mail.next("finn@example.com", "Confirm your e-mail address");
  // The link was not opened yet: signing in says so, and sends it again.
  await button(finn, "Go to sign in").click();
  await enter(finn, "finn@example.com", "correct horse");
  await finn.getByText(/or the address is not confirmed yet. If you have registered, open the link in the mail/).waitFor();
  const { link: again } = await mail.next("finn@example.com", "Confirm your e-mail address");
  assert.equal(again, first.link, "the one that was sent first is as good");
  await finn.goto(again);
  // Who reads the mail of an account to which nobody has signed in yet has to be who has registered it.
  await button(finn, "Confirm").click();
  await secret(finn, "Password").fill("no horse at all");
  await finn.keyboard.press("Enter");
  await finn.getByText(/^This is not the password of the account/).waitFor();
  await lookTwice(finn, "verify-password");
  await secret(finn, "Password").fill("correct horse");
  await finn.keyboard.press("Enter");
  await heading(finn, "Your address is confirmed").waitFor();
  // The server does not say here whether an administrator has to let them in.
  await finn.getByText("Thank you. If you have asked to join without an invitation, an administrator of the club has to let you in first. Otherwise you can sign in now.").waitFor();
  await button(finn, "Go on").click();
  await enter(finn, "finn@example.com", "correct horse");
  await isIn(finn);
}

try {
  const rita = await first();
  const carla = await invited(await invitation(rita, "for Carla"));
  await applicants(rita);
  await astray(rita);
  const phone = await person("Carla's phone", PHONE);
  await lost(carla, phone);
  await changed(carla, phone);
  await withoutMail();

  // The administrator sets mail up, and starts the server again: docs/operating.md, “Mail”.
  await kill(running);
  running = await serve({ ...SETTINGS, SMTP_URL: mail.url, MAIL_FROM: "The Club <club@example.com>", PUBLIC_URL: base });
  await confirmed(carla);
  await forgotten(carla, phone);
  await rita.reload();
  await isIn(rita);
  await newcomer(rita);

  assert.deepEqual(problems, []);
  console.log(`accounts in the app: an invitation, an approval, a lost phone, passwords and mail, ${looks} looks by axe, ${stops} stops by keyboard, in ${Math.round((Date.now() - started) / 1000)} s`);
} finally {
  mail.stop();
  await kill(running);
  await tidy();
}
