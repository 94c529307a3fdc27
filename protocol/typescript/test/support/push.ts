import type { AppState } from "../../src/expo.js";
import type { ExpoNotification, Memory, NotificationsModule, PushHost, WorkerRegistration } from "../../src/push.js";

/** What a device keeps for itself. */
export class FakeMemory implements Memory {
  readonly values = new Map<string, string>();
  get(key: string): string | undefined {
    return this.values.get(key);
  }
  set(key: string, value: string | null): void {
    if (value === null) this.values.delete(key);
    else this.values.set(key, value);
  }
}

type Decision = "granted" | "denied" | "default";

/** A browser with one service worker and, maybe, several tabs. What is pushed to it, and what the member presses, is for the test. */
export class FakeBrowser {
  readonly memory = new FakeMemory();
  permission: Decision = "default";
  /** What the member will say when they are asked. */
  decision: Decision = "granted";
  asked = 0;
  subscription: { endpoint: string; key: Uint8Array } | undefined;
  /** The push service of the browser gives no addresses. */
  unreachable = false;
  readonly unsubscribed: string[] = [];
  notifications: { data: { conversation: string; seq: number } }[] = [];
  badges: number[] = [];
  private readonly tabs: EventTarget[] = [];
  private count = 0;

  readonly worker: WorkerRegistration = {
    pushManager: {
      getSubscription: async () => this.subscription ? this.shown(this.subscription) : null,
      subscribe: async ({ applicationServerKey }) => {
        if (this.unreachable) throw new DOMException("push service not available", "AbortError");
        if (this.permission !== "granted") throw new DOMException("not allowed", "NotAllowedError");
        this.count += 1;
        this.subscription = { endpoint: `https://push.example.com/${this.count}`, key: applicationServerKey };
        return this.shown(this.subscription);
      },
    },
    getNotifications: async () => this.notifications.map((each) => ({ data: each.data, close: () => this.close(each) })),
  };

  /** What a tab has. */
  tab(visible = true): PushHost & { become(visible: boolean): void } {
    const document: EventTarget & { visibilityState: string; hasFocus(): boolean } = Object.assign(new EventTarget(), { visibilityState: visible ? "visible" : "hidden", hasFocus: () => document.visibilityState === "visible" });
    const workers = new EventTarget();
    this.tabs.push(workers);
    const browser = this;
    return {
      Notification: {
        get permission() { return browser.permission; },
        requestPermission: async () => {
          this.asked += 1;
          return (this.permission = this.decision);
        },
      },
      workers, document, window: new EventTarget(),
      badge: { setAppBadge: async (count) => void this.badges.push(count), clearAppBadge: async () => void this.badges.push(0) },
      become: (now) => {
        document.visibilityState = now ? "visible" : "hidden";
        document.dispatchEvent(new Event("visibilitychange"));
      },
    };
  }

  /** The service worker says something to all tabs. */
  say(data: unknown, ports: readonly unknown[] = []): void {
    for (const tab of this.tabs) tab.dispatchEvent(Object.assign(new Event("message"), { data, ports }));
  }

  /** A notification is shown, as the service worker does it. */
  show(conversation: string, seq: number): void {
    this.notifications = [...this.notifications.filter(({ data }) => data.conversation !== conversation), { data: { conversation, seq } }];
    this.say({ push: "came", conversation });
  }

  private close(each: FakeBrowser["notifications"][number]): void {
    this.notifications = this.notifications.filter((other) => other !== each);
  }

  private shown({ endpoint, key }: { endpoint: string; key: Uint8Array }) {
    return {
      options: { applicationServerKey: key.slice().buffer as ArrayBuffer },
      toJSON: () => ({ endpoint, keys: { p256dh: P256DH, auth: "AAAAAAAAAAAAAAAAAAAAAA" } }),
      unsubscribe: async () => {
        this.unsubscribed.push(endpoint);
        this.subscription = undefined;
        return true;
      },
    };
  }
}

/** The point of P-256 in the example of RFC 8291, appendix A. */
export const P256DH = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
/** `expo-notifications` on a phone. */
export class FakeNotifications implements NotificationsModule {
  readonly AndroidImportance = { HIGH: 6 };
  allowed = { granted: false, canAskAgain: true };
  decision = { granted: true, canAskAgain: false };
  asked = 0;
  tokens = 0;
  token = "ExponentPushToken[first]";
  unregistered = 0;
  channels: string[] = [];
  presented: ExpoNotification[] = [];
  badges: number[] = [];
  last: { notification: ExpoNotification } | null = null;
  private readonly listeners = { token: new Set<(token: { data: unknown }) => void>(), received: new Set<(one: ExpoNotification) => void>(), pressed: new Set<(response: { notification: ExpoNotification }) => void>() };
  private handler: Parameters<NotificationsModule["setNotificationHandler"]>[0] = null;

  getPermissionsAsync = async () => this.allowed;
  requestPermissionsAsync = async () => {
    this.asked += 1;
    return (this.allowed = this.decision);
  };
  getExpoPushTokenAsync = async ({ projectId }: { projectId: string }) => {
    if (projectId !== "a project") throw new Error("no such project");
    this.tokens += 1;
    // As the module does: asking tells the token of the system.
    for (const listener of this.listeners.token) listener({ data: `system token of ${this.token}` });
    return { data: this.token };
  };
  addPushTokenListener = (listener: (token: { data: unknown }) => void) => following(this.listeners.token, listener);
  unregisterForNotificationsAsync = async () => void (this.unregistered += 1);
  setNotificationChannelAsync = async (id: string) => void this.channels.push(id);
  setNotificationHandler = (handler: Parameters<NotificationsModule["setNotificationHandler"]>[0]) => void (this.handler = handler);
  addNotificationReceivedListener = (listener: (one: ExpoNotification) => void) => following(this.listeners.received, listener);
  addNotificationResponseReceivedListener = (listener: (response: { notification: ExpoNotification }) => void) => following(this.listeners.pressed, listener);
  getLastNotificationResponse = () => this.last;
  clearLastNotificationResponse = () => void (this.last = null);
  getPresentedNotificationsAsync = async () => this.presented;
  dismissNotificationAsync = async (identifier: string) => {
    this.presented = this.presented.filter(({ request }) => request.identifier !== identifier);
  };
  setBadgeCountAsync = async (count: number) => {
    this.badges.push(count);
    return true;
  };

  /** The system gives the app another token. */
  roll(token: string): void {
    this.token = token;
    for (const listener of this.listeners.token) listener({ data: `system token of ${token}` });
  }

  /** A push arrives while the app is in front. Resolves with whether it is shown. */
  async arrive(conversation: string | undefined, seq: number): Promise<boolean> {
    const one = notification(conversation, seq);
    const shown = (await this.handler?.handleNotification(one))?.shouldShowBanner ?? true;
    if (shown) this.presented.push(one);
    for (const listener of this.listeners.received) listener(one);
    return shown;
  }

  press(conversation: string | undefined, seq: number): void {
    for (const listener of this.listeners.pressed) listener({ notification: notification(conversation, seq) });
  }
}

/** `undefined`: a push that says of no conversation. */
export function notification(conversation: string | undefined, seq: number): ExpoNotification {
  const data = conversation === undefined ? { kind: "message" } : { kind: "message", conversation, seq };
  return { request: { identifier: `notification ${conversation}`, content: { data } } };
}

export class FakeAppState implements AppState {
  currentState = "active";
  private readonly listeners = new Set<(state: string) => void>();
  addEventListener = (_type: "change", listener: (state: string) => void) => following(this.listeners, listener);
  become(state: string): void {
    this.currentState = state;
    for (const listener of this.listeners) listener(state);
  }
}

function following<T>(listeners: Set<T>, listener: T) {
  listeners.add(listener);
  return { remove: () => void listeners.delete(listener) };
}
