/**
 * Notifications of messages that a device does not take in time: on the lock screen of a phone, and in a browser. Apart from the rest: an app without them does not carry this.
 *
 * | class | for |
 * | --- | --- |
 * | `Push` | what a member wants to be told, and where, over REST |
 * | `ExpoPush` | this device, in an app of Expo |
 * | `WebPush` | this browser |
 */
export { CHANNEL, ExpoPush } from "./push/expo.js";
export type { DeviceModule, ExpoNotification, ExpoPushOptions, NotificationsModule } from "./push/expo.js";
export { DevicePush } from "./push/device.js";
export type { Memory, PushOptions, PushState, PushStatus } from "./push/device.js";
export { Push } from "./push/rest.js";
export type { Shown, Tray } from "./push/tray.js";
export { WebPush } from "./push/web.js";
export type { PushHost, WebPushOptions, WorkerRegistration } from "./push/web.js";
export type { PushAddress, PushContent, PushDevice, PushPatch, PushRegistration, PushSettings, QuietHours } from "./protocol.js";
