import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import type { Client } from "../src/index.js";
import type { PushSettings } from "../src/protocol.js";
import { ExpoPush, Push, WebPush } from "../src/push.js";
import type { DevicePush, ExpoPushOptions, WebPushOptions } from "../src/push.js";
import type { Device } from "./support/device.js";
import { FakeAppState, FakeBrowser, FakeMemory, FakeNotifications, notification } from "./support/push.js";
import type { Reader } from "./support/reader.js";
import { until } from "./support/until.js";
import { credentials, World } from "./support/world.js";

vi.setConfig({ testTimeout: 40_000 });

let world: World;
let ana: Reader;
let ben: Reader;
const made: DevicePush[] = [];
beforeEach(async () => {
  // Browsers' push services want to know whom to write to.
  world = await World.make({ PUSH_CONTACT: "mailto:operator@example.com" });
  ana = await world.member("Ana");
  ben = await world.member("Ben");
}, 40_000);
afterEach(async () => {
  for (const push of made.splice(0)) push.stop();
  await world.end();
}, 20_000);

/** A phone with the app: everything of it outlives the app. */
class Phone {
  readonly notifications = new FakeNotifications();
  readonly memory = new FakeMemory();
  readonly appState = new FakeAppState();
  readonly opened: string[] = [];
  onScreen: string | undefined;
  push!: ExpoPush;

  constructor(readonly device: Device) {
    device.onLaunch = (client) => this.launched(client);
  }

  options(client: Client): ExpoPushOptions {
    return {
      client, platform: "android", notifications: this.notifications, device: { isDevice: true }, projectId: "a project", appState: this.appState, memory: this.memory,
      open: (conversation) => this.opened.push(conversation), isOpen: (conversation) => conversation === this.onScreen,
    };
  }

  private launched(client: Client): void {
    this.push = new ExpoPush(this.options(client));
    made.push(this.push);
  }

  /** The app is killed. */
  kill(): void {
    this.device.kill();
    this.push.stop();
  }
}

async function phone(name = "phone"): Promise<Phone> {
  const phone = new Phone(await world.device(name));
  await phone.device.launch();
  return phone;
}

async function signIn({ device }: { device: Device }, reader: Reader): Promise<void> {
  await device.client.login(credentials(reader.person));
  await device.online();
}

const settings = (reader: Reader) => reader.get<PushSettings>("/api/members/me/push");
const becomes = (push: DevicePush, status: string) => until(`pushes are ${status}`, () => push.state.getSnapshot().status === status, { explain: () => push.state.getSnapshot() });
/** The devices of a member, as the server has them. */
const devicesOf = (reader: Reader, count: number) => until(`${count} devices are registered`, async () => {
  const { devices } = await settings(reader);
  return devices.length === count ? devices : undefined;
});
/** The conversation of a device with a member, once it is known there. */
const conversationWith = (device: Device, other: Reader) => until("the conversation is known", () => device.client.conversation({ member: other.person.id }).info.getSnapshot().id);

describe("a phone", () => {
  test("is registered when the member allows it, and again after a log-out and a log-in, with nobody asked twice", async () => {
    const one = await phone();
    await signIn(one, ana);
    await becomes(one.push, "undecided");
    expect((await settings(ana)).devices).toEqual([]);
    const state = await one.push.enable();
    const [device] = await devicesOf(ana, 1);
    expect(device).toMatchObject({ service: "expo", platform: "android" });
    expect(state).toEqual({ status: "on", device: device?.device });
    expect(one.notifications.channels).toEqual(["messages"]);
    await one.push.logout();
    expect(one.device.client.session.getSnapshot().status).toBe("signed_out");
    await devicesOf(ana, 0);
    // Before the tokens went: the server knows, and nothing has to be ended here.
    expect(one.device.asked.findIndex(({ method }) => method === "DELETE")).toBeLessThan(one.device.asked.findIndex(({ path }) => path === "/api/auth/logout"));
    expect(one.notifications.unregistered).toBe(0);
    await signIn(one, ana);
    await devicesOf(ana, 1);
    expect(one.notifications.asked).toBe(1);
  });

  test("is registered again at each start, and at once when its token changes", async () => {
    const one = await phone();
    await signIn(one, ana);
    await one.push.enable();
    await devicesOf(ana, 1);
    one.kill();
    await one.device.launch();
    const puts = () => one.device.asked.filter(({ method, status }) => method === "PUT" && status === 204).length;
    await until("it was registered once more", () => puts() === 2);
    const { tokens } = one.notifications;
    one.notifications.roll("ExponentPushToken[second]");
    await until("with the other token", () => puts() === 3);
    expect(one.notifications.tokens).toBe(tokens + 1);
    await devicesOf(ana, 1);
  });

  test("is of the member who signed in last: the one before is told nothing there", async () => {
    const one = await phone();
    await signIn(one, ana);
    await one.push.enable();
    await devicesOf(ana, 1);
    await signIn(one, ben);
    await devicesOf(ben, 1);
    await devicesOf(ana, 0);
  });

  test("that logs out without a network ends its address itself", async () => {
    const one = await phone();
    await signIn(one, ana);
    await one.push.enable();
    one.notifications.presented.push(notification("a".repeat(24), 1));
    await world.server.kill();
    await one.push.logout();
    await until("the address is ended", () => one.notifications.unregistered === 1);
    await until("nothing is shown any more", () => one.notifications.presented.length === 0 && one.notifications.badges.at(-1) === 0);
  });

  test("that logs out before a server that does not answer does not wait for it", async () => {
    const one = await phone();
    await signIn(one, ana);
    await one.push.enable();
    await devicesOf(ana, 1);
    world.server.pause();
    void one.push.logout();
    await until("nobody is signed in", () => one.device.client.session.getSnapshot().status === "signed_out");
    await until("the address is ended", () => one.notifications.unregistered === 1);
  });

  test("stays off where it was turned off, over starts, until it is turned on", async () => {
    const one = await phone();
    await signIn(one, ana);
    await one.push.enable();
    await devicesOf(ana, 1);
    expect((await one.push.disable()).status).toBe("off");
    await devicesOf(ana, 0);
    one.kill();
    await one.device.launch();
    await one.device.online();
    await becomes(one.push, "off");
    expect((await settings(ana)).devices).toEqual([]);
    expect((await one.push.enable()).status).toBe("on");
    await devicesOf(ana, 1);
  });

  test("of what the member wants in quick turns the last holds", async () => {
    const one = await phone();
    await signIn(one, ana);
    await one.push.enable();
    void one.push.enable();
    expect((await one.push.disable()).status).toBe("off");
    void one.push.disable();
    void one.push.enable();
    await one.push.disable();
    await becomes(one.push, "off");
    expect((await settings(ana)).devices).toEqual([]);
    void one.push.disable();
    expect((await one.push.enable()).status).toBe("on");
    await devicesOf(ana, 1);
  });

  test("whose permission is taken in the settings of the system is registered no more", async () => {
    const one = await phone();
    await signIn(one, ana);
    await one.push.enable();
    await devicesOf(ana, 1);
    one.notifications.allowed = { granted: false, canAskAgain: false };
    one.appState.become("background");
    one.appState.become("active");
    await becomes(one.push, "blocked");
    await devicesOf(ana, 0);
  });

  test("is registered as soon as the server is back", async () => {
    const one = await phone();
    await signIn(one, ana);
    await becomes(one.push, "undecided");
    await world.server.kill();
    const state = await one.push.enable();
    expect(state).toMatchObject({ status: "on", problem: { code: "network" } });
    await world.server.launch();
    await devicesOf(ana, 1);
    await until("and says so", () => one.push.state.getSnapshot().problem === undefined);
  });

  test("has none in a simulator, in Expo Go, and without a project", async () => {
    const one = await phone();
    await signIn(one, ana);
    const { client } = one.device;
    const options = one.options(client);
    for (const without of [{ device: { isDevice: false } }, { notifications: undefined }, { projectId: undefined }]) {
      const push = new ExpoPush({ ...options, ...without });
      made.push(push);
      await becomes(push, "unavailable");
      expect((await push.enable()).status).toBe("unavailable");
    }
    expect(one.notifications.asked).toBe(0);
  });

  test("closes what was read here or elsewhere, keeps what was not, and shows how much is unread", async () => {
    const carla = await world.member("Carla");
    const one = await phone();
    await signIn(one, ana);
    await one.push.enable();
    const first = await ben.send(ana.person.id, "one");
    await carla.send(ana.person.id, "two");
    const [withBen, withCarla] = [await conversationWith(one.device, ben), await conversationWith(one.device, carla)];
    await until("two are unread", () => one.notifications.badges.at(-1) === 2);
    expect([await one.notifications.arrive(withBen, 1), await one.notifications.arrive(withCarla, 1)]).toEqual([true, true]);
    // Of a message that has not come by the connection yet: it is not closed, although nothing is unread that is known of.
    const handle = one.device.client.conversation({ member: carla.person.id });
    await ana.read(first);
    await until("the one that was read elsewhere is closed", () => one.notifications.presented.map(({ request }) => request.identifier).join() === `notification ${withCarla}`);
    await until("and is not counted", () => one.notifications.badges.at(-1) === 1);
    await one.notifications.arrive(withBen, 2);
    const off = handle.messages.subscribe(() => undefined);
    await until("it is here", () => handle.messages.getSnapshot().ready);
    handle.markRead();
    await until("the one that was read here is closed", () => one.notifications.presented.map(({ request }) => request.identifier).join() === `notification ${withBen}`);
    await until("nothing is counted", () => one.notifications.badges.at(-1) === 0);
    off();
    await ben.send(ana.person.id, "three");
    await until("it came", () => one.notifications.badges.at(-1) === 1);
    one.device.client.conversation({ member: ben.person.id }).messages.subscribe(() => undefined);
    await until("it is here", () => one.device.client.conversation({ member: ben.person.id }).messages.getSnapshot().ready);
    one.device.client.conversation({ member: ben.person.id }).markRead();
    await until("nothing is shown", () => one.notifications.presented.length === 0);
  });

  test("closes what says of no conversation when nothing is unread, and opens nothing when it is pressed", async () => {
    const one = await phone();
    await signIn(one, ana);
    await one.push.enable();
    const first = await ben.send(ana.person.id, "one");
    await until("it is unread", () => one.notifications.badges.at(-1) === 1);
    expect(await one.notifications.arrive(undefined, 0)).toBe(true);
    await one.push.reconcile();
    expect(one.notifications.presented).toHaveLength(1);
    one.notifications.press(undefined, 0);
    expect(one.opened).toEqual([]);
    await ana.read(first);
    await until("it is closed", () => one.notifications.presented.length === 0);
  });

  test("sets the number right that a push has left, when it wakes", async () => {
    const one = await phone();
    await signIn(one, ana);
    await ben.send(ana.person.id, "one");
    await until("one is unread", () => one.notifications.badges.at(-1) === 1);
    const { length } = one.notifications.badges;
    one.device.proxy.cut();
    await until("the connection is lost", () => one.device.client.connection.getSnapshot().status !== "online");
    one.device.client.wake();
    await one.device.online();
    await until("it is written once more, though nothing has changed here", () => one.notifications.badges.length > length);
    expect(one.notifications.badges.at(-1)).toBe(1);
  });

  test("does not show what the member is looking at, and opens what they press, also when that started the app", async () => {
    const one = await phone();
    await signIn(one, ana);
    const id = "b".repeat(24);
    one.onScreen = id;
    expect(await one.notifications.arrive(id, 3)).toBe(false);
    one.onScreen = undefined;
    expect(await one.notifications.arrive(id, 3)).toBe(true);
    one.notifications.press(id, 3);
    expect(one.opened).toEqual([id]);
    one.kill();
    one.notifications.last = { notification: notification(id, 4) };
    await one.device.launch();
    await until("it is opened", () => one.opened.length === 2);
    // A listener that is told of the same press later.
    one.notifications.press(id, 4);
    expect(one.opened).toEqual([id, id]);
    expect(one.notifications.last).toBeNull();
  });
});

describe("a browser", () => {
  interface Tab {
    readonly device: Device;
    readonly push: WebPush;
    readonly host: ReturnType<FakeBrowser["tab"]>;
    readonly opened: string[];
  }

  /** A tab of a browser. `reader`: who is signed in there already. */
  async function tab(browser: FakeBrowser, options: { visible?: boolean; reader?: Reader } & Partial<WebPushOptions> = {}): Promise<Tab> {
    const { visible, reader, ...rest } = options;
    const device = await world.device("tab");
    const client = await device.launch();
    if (reader) await signIn({ device }, reader);
    const host = browser.tab(visible ?? true);
    const opened: string[] = [];
    const push = new WebPush({ client, worker: Promise.resolve(browser.worker), memory: browser.memory, host, open: (id) => opened.push(id), ...rest });
    made.push(push);
    return { device, push, host, opened };
  }

  test("subscribes with the key of the club and is registered; a log-out ends the subscription", async () => {
    const browser = new FakeBrowser();
    const one = await tab(browser);
    await signIn(one, ana);
    await becomes(one.push, "undecided");
    const state = await one.push.enable();
    const [device] = await devicesOf(ana, 1);
    expect(device).toMatchObject({ service: "web", platform: "web" });
    expect(state).toEqual({ status: "on", device: device?.device });
    browser.show("c".repeat(24), 1);
    await one.push.logout();
    await until("it is ended", () => browser.subscription === undefined);
    await devicesOf(ana, 0);
    await until("nothing is shown", () => browser.notifications.length === 0);
    expect([browser.asked, browser.badges.at(-1)]).toEqual([1, 0]);
    expect([...browser.memory.values.keys()]).toEqual([]);
  });

  test("subscribes anew where the key of the club is another one", async () => {
    const browser = new FakeBrowser();
    browser.permission = "granted";
    browser.subscription = { endpoint: "https://push.example.com/old", key: new Uint8Array(65) };
    const one = await tab(browser);
    await signIn(one, ana);
    await devicesOf(ana, 1);
    expect(browser.unsubscribed).toEqual(["https://push.example.com/old"]);
    expect(browser.subscription?.endpoint).toBe("https://push.example.com/1");
    expect(one.push.state.getSnapshot()).toMatchObject({ status: "on" });
  });

  test("of several tabs the one that is looked at has the address", async () => {
    const browser = new FakeBrowser();
    browser.permission = "granted";
    const one = await tab(browser);
    await signIn(one, ana);
    const [first] = await devicesOf(ana, 1);
    const two = await tab(browser, { visible: false, reader: ana });
    await becomes(two.push, "on");
    expect((await devicesOf(ana, 1)).map(({ device }) => device)).toEqual([first?.device]);
    one.host.become(false);
    two.host.become(true);
    await until("the other tab has it", async () => (await settings(ana)).devices.map(({ device }) => device).join() !== first?.device);
    await devicesOf(ana, 1);
    two.host.become(false);
    one.host.become(true);
    await until("the first one has it again", async () => (await settings(ana)).devices.map(({ device }) => device).join() === first?.device);
  });

  test("that gets no address says so, and tries again", async () => {
    const browser = new FakeBrowser();
    browser.permission = "granted";
    browser.unreachable = true;
    const one = await tab(browser);
    await signIn(one, ana);
    await until("it says so", () => one.push.state.getSnapshot().problem !== undefined);
    expect(one.push.state.getSnapshot()).toMatchObject({ status: "on", problem: { code: "network" } });
    browser.unreachable = false;
    one.host.become(true);
    await devicesOf(ana, 1);
  });

  test("registers the address that its service worker has changed, opens what was pressed, and says what is looked at", async () => {
    const browser = new FakeBrowser();
    browser.permission = "granted";
    const one = await tab(browser, { isOpen: (conversation) => conversation === "d".repeat(24) });
    await signIn(one, ana);
    await devicesOf(ana, 1);
    const puts = () => one.device.asked.filter(({ method }) => method === "PUT").length;
    const before = puts();
    browser.subscription = { ...browser.subscription!, endpoint: "https://push.example.com/changed" };
    browser.say({ push: "changed" });
    await until("it is registered", () => puts() > before);
    browser.say({ push: "open", conversation: "e".repeat(24) });
    expect(one.opened).toEqual(["e".repeat(24)]);
    const answers: unknown[] = [];
    for (const id of ["d", "e"]) browser.say({ push: "seen?", conversation: id.repeat(24) }, [{ postMessage: (answer: unknown) => answers.push(answer) }]);
    expect(answers).toEqual([true, false]);
    browser.say("something of another script");
    browser.say({ push: "open" });
    expect(one.opened).toHaveLength(1);
  });

  test("without a service worker, or with a no of the member, is not registered", async () => {
    const browser = new FakeBrowser();
    const none = await tab(browser, { worker: Promise.resolve(undefined) });
    await signIn(none, ana);
    await becomes(none.push, "unavailable");
    browser.decision = "denied";
    const one = await tab(browser);
    await signIn(one, ana);
    await becomes(one.push, "undecided");
    expect((await one.push.enable()).status).toBe("blocked");
    expect((await settings(ana)).devices).toEqual([]);
  });
});

test("a club that pushes nothing asks nobody", async () => {
  await world.server.restart({ PUSH: "off" });
  const one = await phone();
  await signIn(one, ana);
  await becomes(one.push, "unavailable");
  expect(await one.push.enable()).toMatchObject({ status: "unavailable" });
});

test("the settings of a member are read and changed", async () => {
  const device = await world.device("phone");
  await device.launch();
  await device.client.login(credentials(ana.person));
  const push = new Push(device.client.api);
  expect(await push.settings()).toEqual({ content: "full", content_max: "full", quiet_hours: null, devices: [] });
  const quiet_hours = { from: "22:00", until: "07:30", time_zone: "Europe/Lisbon" };
  expect(await push.change({ quiet_hours })).toEqual({ content: "full", content_max: "full", quiet_hours, devices: [] });
  expect(await push.change({ content: "sender" })).toEqual({ content: "sender", content_max: "full", quiet_hours, devices: [] });
  expect(await push.change({ quiet_hours: null })).toEqual({ content: "sender", content_max: "full", quiet_hours: null, devices: [] });
  await expect(push.change({ quiet_hours: { ...quiet_hours, from: "25:00" } })).rejects.toMatchObject({ code: "validation_failed" });
  await push.register("laptop", { address: { service: "expo", token: "ExponentPushToken[laptop]" }, platform: "desktop" });
  expect((await push.settings()).devices).toMatchObject([{ device: "laptop", service: "expo", platform: "desktop" }]);
  await push.unregister("laptop");
  expect((await push.settings()).devices).toEqual([]);
});
