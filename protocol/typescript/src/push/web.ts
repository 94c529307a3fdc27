import { MembersBookError } from "../errors.js";
import type { ClubPush, PushAddress } from "../protocol.js";
import { attempt } from "../web/host.js";
import { DevicePush } from "./device.js";
import type { Memory, Permission, PushOptions, Surface } from "./device.js";
import { shownAs } from "./tray.js";
import type { Tray } from "./tray.js";

type Events = Pick<EventTarget, "addEventListener" | "removeEventListener">;

/** What a browser has for pushes. Anything may be missing: without HTTPS, in a private window, on an iPhone before the app is on its Home Screen. */
export interface PushHost {
  readonly Notification?: { readonly permission: string; requestPermission(): Promise<string> } | undefined;
  /** `navigator.serviceWorker`. */
  readonly workers?: Events | undefined;
  readonly document?: (Events & { readonly visibilityState: string; hasFocus(): boolean }) | undefined;
  readonly window?: Events | undefined;
  /** `navigator`, for the number at the icon. */
  readonly badge?: { setAppBadge?(count: number): Promise<void>; clearAppBadge?(): Promise<void> } | undefined;
}

/** What pushes to a browser are made of. */
export interface WebPushOptions extends Omit<PushOptions, "memory"> {
  /** The service worker of the app that shows them: `navigator.serviceWorker.register("/app/sw.js")`. Nothing: there is none here. */
  readonly worker: Promise<WorkerRegistration | undefined>;
  /** `localStorage`, if not given. */
  readonly memory?: Memory;
  readonly host?: PushHost;
}

/** The part of a `ServiceWorkerRegistration` that is used. */
export interface WorkerRegistration {
  /** Missing where the browser has no pushes. */
  readonly pushManager?: {
    getSubscription(): Promise<Subscription | null>;
    subscribe(options: { userVisibleOnly: boolean; applicationServerKey: Uint8Array<ArrayBuffer> }): Promise<Subscription>;
  };
  getNotifications(): Promise<readonly { readonly data?: unknown; close(): void }[]>;
}

/** A `MessageEvent` of the service worker. */
interface Said {
  readonly data: unknown;
  readonly ports: readonly { postMessage(message: unknown): void }[];
}

interface Subscription {
  readonly options?: { readonly applicationServerKey?: ArrayBuffer | null };
  toJSON(): { endpoint?: string; keys?: Record<string, string> };
  unsubscribe(): Promise<boolean>;
}

/**
 * Pushes to this browser: `new WebPush({ client, worker: navigator.serviceWorker.register("/app/sw.js"), open })`, once in a tab. Tabs have one address between them: it is of the one that was
 * looked at last.
 *
 * The service worker tells its tabs `{ push: "open", conversation }` when a notification was pressed, `{ push: "came" }` when one was shown, and `{ push: "changed" }` when the address has
 * changed; to `{ push: "seen?", conversation }` a tab answers by the port whether the member is looking at that conversation.
 */
export class WebPush extends DevicePush {
  constructor(options: WebPushOptions) {
    const { memory = localMemory(), host = platformHost(), ...rest } = options;
    super({ ...rest, memory }, new Browser(options, host));
  }
}

class Browser implements Surface {
  readonly platform = "web";
  readonly shared = true;
  readonly tray: Tray;

  constructor(private readonly options: WebPushOptions, private readonly host: PushHost) {
    const { badge } = host;
    this.tray = {
      shown: async () => {
        const shown = (await (await options.worker)?.getNotifications()) ?? [];
        return shown.flatMap((each) => shownAs(each, each.data));
      },
      close: ({ id }) => (id as { close(): void }).close(),
      badge: async (count) => {
        await (count > 0 ? badge?.setAppBadge?.(count) : badge?.clearAppBadge?.());
      },
    };
  }

  get seen(): boolean {
    return this.host.document?.visibilityState !== "hidden";
  }

  async permission({ web_key }: ClubPush): Promise<Permission> {
    const { Notification } = this.host;
    const worker = await this.options.worker.catch(() => undefined);
    return Notification && worker?.pushManager && web_key ? decided(Notification.permission) : "unavailable";
  }

  async ask(): Promise<Permission> {
    const { Notification } = this.host;
    // Nothing is waited for before: the press would be over.
    return Notification ? decided(await Notification.requestPermission()) : "unavailable";
  }

  async address({ web_key: key }: ClubPush): Promise<PushAddress | undefined> {
    const manager = (await this.options.worker)?.pushManager;
    if (!manager || !key) return undefined;
    const wanted = bytesOf(key);
    let found = await manager.getSubscription();
    if (found && !isFor(found, wanted)) {
      // Of a server that had another key: nobody can push there any more.
      await found.unsubscribe();
      found = null;
    }
    const subscription = found ?? (await manager.subscribe({ userVisibleOnly: true, applicationServerKey: wanted }).catch((cause: unknown) => {
      throw Object.assign(new MembersBookError("network", "This browser did not get an address for notifications. Try again later, or allow them in its settings."), { cause });
    }));
    const { endpoint, keys: { p256dh, auth } = {} } = subscription.toJSON();
    return endpoint && p256dh && auth ? { service: "web", endpoint, keys: { p256dh, auth } } : undefined;
  }

  async release(): Promise<void> {
    const worker = await this.options.worker.catch(() => undefined);
    await (await worker?.pushManager?.getSubscription())?.unsubscribe();
  }

  follow(changed: () => void): () => void {
    const { document, window, workers } = this.host;
    const end = new AbortController();
    const on = (target: Events | undefined, name: string, call: (event: Event) => void) => {
      target?.addEventListener(name, call);
      end.signal.addEventListener("abort", () => target?.removeEventListener(name, call));
    };
    on(document, "visibilitychange", () => this.seen && changed());
    on(window, "focus", changed);
    on(workers, "message", (event) => this.said(event as unknown as Said, changed));
    return () => end.abort();
  }

  private said({ data, ports }: Said, changed: () => void): void {
    const { push, conversation } = (data ?? {}) as { push?: unknown; conversation?: unknown };
    if (push === "came" || push === "changed") changed();
    if (typeof conversation !== "string") return;
    if (push === "open") this.options.open(conversation);
    if (push === "seen?") ports[0]?.postMessage((this.host.document?.hasFocus() && this.options.isOpen?.(conversation)) ?? false);
  }
}

function decided(permission: string): Permission {
  return permission === "granted" || permission === "denied" ? permission : "undecided";
}

/** Whether a subscription is for this key. Some browsers do not say for which it is. */
function isFor({ options }: Subscription, wanted: Uint8Array): boolean {
  const key = options?.applicationServerKey;
  if (!key) return true;
  const has = new Uint8Array(key);
  return has.length === wanted.length && has.every((byte, place) => byte === wanted[place]);
}

function bytesOf(base64url: string): Uint8Array<ArrayBuffer> {
  const text = atob(base64url.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

const PREFIX = "members-book.";

function localMemory(): Memory {
  const store = attempt(() => localStorage);
  return {
    get: (key) => attempt(() => store?.getItem(PREFIX + key)),
    // A browser that keeps nothing registers the device again at the next start.
    set: (key, value) => void attempt(() => (value === null ? store?.removeItem(PREFIX + key) : store?.setItem(PREFIX + key, value))),
  };
}

function platformHost(): PushHost {
  const { Notification, document, window } = globalThis as Partial<Pick<typeof globalThis, "Notification" | "document" | "window">>;
  const { navigator } = globalThis as { navigator?: { serviceWorker?: Events } & PushHost["badge"] };
  return { Notification, document, window, workers: attempt(() => navigator?.serviceWorker), badge: navigator };
}
