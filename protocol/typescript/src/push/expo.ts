import type { AppState } from "../expo.js";
import type { Platform, PushAddress } from "../protocol.js";
import { DevicePush } from "./device.js";
import type { Permission, PushOptions, Surface } from "./device.js";
import { shownAs } from "./tray.js";
import type { Shown, Tray } from "./tray.js";

/** The channel of Android in which the server has messages shown. */
export const CHANNEL = "messages";

/** A notification as `expo-notifications` has it. */
export interface ExpoNotification {
  readonly request: { readonly identifier: string; readonly content: { readonly data?: unknown } };
}

interface Response {
  readonly notification: ExpoNotification;
}

interface Allowed {
  readonly granted: boolean;
  readonly canAskAgain: boolean;
  readonly ios?: { readonly status?: number };
}

interface Following {
  remove(): void;
}

/** What is done with a notification that comes while the app is in front. */
interface Handling {
  shouldShowBanner: boolean;
  shouldShowList: boolean;
  shouldPlaySound: boolean;
  shouldSetBadge: boolean;
}

/** The part of `expo-notifications` that is used: `import * as Notifications from "expo-notifications"`. */
export interface NotificationsModule {
  getPermissionsAsync(): Promise<Allowed>;
  requestPermissionsAsync(): Promise<Allowed>;
  getExpoPushTokenAsync(options: { projectId: string }): Promise<{ data: string }>;
  addPushTokenListener(listener: (token: { readonly data: unknown }) => void): Following;
  unregisterForNotificationsAsync(): Promise<void>;
  setNotificationChannelAsync(id: string, channel: { name: string; importance: number }): Promise<unknown>;
  readonly AndroidImportance: { readonly HIGH: number };
  setNotificationHandler(handler: { handleNotification(notification: ExpoNotification): Promise<Handling> } | null): void;
  addNotificationReceivedListener(listener: (notification: ExpoNotification) => void): Following;
  addNotificationResponseReceivedListener(listener: (response: Response) => void): Following;
  getLastNotificationResponse(): Response | null;
  clearLastNotificationResponse(): void;
  getPresentedNotificationsAsync(): Promise<readonly ExpoNotification[]>;
  dismissNotificationAsync(identifier: string): Promise<void>;
  setBadgeCountAsync(count: number): Promise<boolean>;
}

/** The part of `expo-device` that is used. */
export interface DeviceModule {
  /** Simulators have no pushes. */
  readonly isDevice: boolean;
}

/** What pushes to an app are made of. */
export interface ExpoPushOptions extends PushOptions {
  /** `Platform.OS` of `react-native`. */
  readonly platform: Extract<Platform, "ios" | "android">;
  /** `expo-notifications`. Not in Expo Go, where it is of no use: then leave it out. */
  readonly notifications?: NotificationsModule | undefined;
  /** `expo-device`. */
  readonly device: DeviceModule;
  /** The project at expo.dev for which the app is built: `Constants.expoConfig?.extra?.eas?.projectId`. Without one there are no pushes. */
  readonly projectId: string | undefined;
  /** `AppState` of `react-native`. */
  readonly appState: AppState;
  /** What the channel of messages is called in the settings of Android; “Messages”, if not given. */
  readonly channelName?: string;
}

/** Provisional, and for a time: what iOS lets an app do without asking is as good as a permission. */
const IOS_ALLOWED: readonly unknown[] = [2, 3, 4];

/** Pushes to an app of Expo: `new ExpoPush({ client, notifications, device, projectId, appState, platform, memory, open })`, once, outside of components and together with the client. */
export class ExpoPush extends DevicePush {
  constructor(options: ExpoPushOptions) {
    super(options, new Phone(options));
  }
}

class Phone implements Surface {
  readonly platform: Platform;
  readonly shared = false;
  readonly seen = true;
  readonly tray: Tray;
  private readonly notifications: NotificationsModule | undefined;
  private channel: Promise<unknown> | undefined;
  /** The token, as long as it is good: asking for it takes the network. */
  private token: string | undefined;
  /** The token of the system that it stands for. */
  private systemToken: string | undefined;
  /** The response that was opened last: a listener and the look at the start may both tell of it. */
  private opened: string | undefined;

  constructor(private readonly options: ExpoPushOptions) {
    this.platform = options.platform;
    const { notifications } = options;
    this.notifications = notifications;
    this.tray = {
      shown: async () => ((await notifications?.getPresentedNotificationsAsync()) ?? []).flatMap(shown),
      close: ({ id }) => notifications?.dismissNotificationAsync(id as string),
      badge: async (count) => {
        await notifications?.setBadgeCountAsync(count);
      },
    };
  }

  async permission(): Promise<Permission> {
    const { device, projectId } = this.options;
    if (!this.notifications || !device.isDevice || !projectId) return "unavailable";
    return decided(await this.notifications.getPermissionsAsync());
  }

  async ask(): Promise<Permission> {
    if ((await this.permission()) === "unavailable" || !this.notifications) return "unavailable";
    // Android asks for a channel, and not at all without one.
    await this.ready(this.notifications);
    return decided(await this.notifications.requestPermissionsAsync());
  }

  async address(): Promise<PushAddress | undefined> {
    const { notifications, options: { projectId } } = this;
    if (!notifications || !projectId) return undefined;
    await this.ready(notifications);
    this.token ??= (await notifications.getExpoPushTokenAsync({ projectId })).data;
    return { service: "expo", token: this.token };
  }

  async release(told: boolean): Promise<void> {
    if (told) return;
    // The server may not know that the member has left: the address ends here.
    this.token = undefined;
    await this.notifications?.unregisterForNotificationsAsync();
  }

  follow(changed: () => void): () => void {
    const { notifications, options: { appState, isOpen } } = this;
    if (!notifications) return () => undefined;
    notifications.setNotificationHandler({
      handleNotification: ({ request }) => {
        const [of] = shownAs(request.identifier, request.content.data);
        const show = of !== undefined && !((of.conversation !== undefined && isOpen?.(of.conversation)) ?? false);
        return Promise.resolve({ shouldShowBanner: show, shouldShowList: show, shouldPlaySound: show, shouldSetBadge: true });
      },
    });
    const listeners = [
      notifications.addPushTokenListener(({ data }) => {
        // It is told whenever it is asked for, too: then it is no other one.
        const token = JSON.stringify(data);
        if (token === this.systemToken) return;
        this.systemToken = token;
        this.token = undefined;
        changed();
      }),
      notifications.addNotificationReceivedListener(changed),
      notifications.addNotificationResponseReceivedListener((response) => this.pressed(response)),
      // The permission may have been given, or taken, in the settings of the system.
      appState.addEventListener("change", (state) => state === "active" && changed()),
    ];
    // The app was started by a press.
    const last = notifications.getLastNotificationResponse();
    if (last) queueMicrotask(() => this.pressed(last));
    return () => {
      for (const listener of listeners) listener.remove();
    };
  }

  private pressed({ notification: { request } }: Response): void {
    const [of] = shownAs(request.identifier, request.content.data);
    const id = of && `${request.identifier} ${of.seq}`;
    if (!of || id === this.opened) return;
    this.opened = id;
    this.notifications?.clearLastNotificationResponse();
    // One that says of no conversation opens the app where it was.
    if (of.conversation !== undefined) this.options.open(of.conversation);
  }

  private ready(notifications: NotificationsModule): Promise<unknown> {
    if (this.platform !== "android") return Promise.resolve();
    return (this.channel ??= notifications
      .setNotificationChannelAsync(CHANNEL, { name: this.options.channelName ?? "Messages", importance: notifications.AndroidImportance.HIGH })
      .catch((error: unknown) => {
        this.channel = undefined;
        throw error;
      }));
  }
}

function shown({ request }: ExpoNotification): Shown[] {
  return shownAs(request.identifier, request.content.data);
}

function decided({ granted, canAskAgain, ios }: Allowed): Permission {
  if (granted || IOS_ALLOWED.includes(ios?.status)) return "granted";
  return canAskAgain ? "undecided" : "denied";
}
