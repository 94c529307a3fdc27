import { path } from "../api.js";
import type { Api } from "../api.js";
import type { DeviceId, PushPatch, PushRegistration, PushSettings } from "../protocol.js";

/**
 * What a member wants to be told by notifications, and where, over the REST API of a client: `new Push(client.api)`. Every method throws `MembersBookError`. Registering a device is
 * for `ExpoPush` and `WebPush`, which do it again whenever it has to be.
 */
export class Push {
  constructor(private readonly api: Api) {}

  /** How much is shown, when nothing is, and the devices, the one that was registered last first. */
  settings(): Promise<PushSettings> { return this.api.json("/api/members/me/push"); }
  /** What is left out stays; `quiet_hours: null` ends them. */
  change(body: PushPatch): Promise<PushSettings> { return this.api.json("/api/members/me/push", { method: "PATCH", body }); }
  /** Has messages pushed to a device of the member. The address is of who registers it last. */
  async register(device: DeviceId, body: PushRegistration): Promise<void> { await this.api.json(of(device), { method: "PUT", body }); }
  /** Nothing is pushed to the device any more. */
  unregister(device: DeviceId, timeoutMs?: number): Promise<void> {
    return this.api.json(of(device), { method: "DELETE", ...(timeoutMs === undefined ? {} : { timeoutMs }) });
  }
}

function of(device: DeviceId): string {
  return `/api/members/me/devices/${path(device)}/push`;
}
