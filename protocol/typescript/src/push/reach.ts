import type { Environment } from "../environment.js";
import type { Core, Extension } from "../extension.js";
import type { DeviceId } from "../protocol.js";
import { DEVICE_KEY } from "../records.js";

/** What of the client is not for everybody: who this device is, and its time and chance. */
export class Reach implements Extension {
  private core: Core | undefined;

  begin(core: Core): Promise<void> {
    this.core = core;
    return Promise.resolve();
  }

  pushed(): void {
    // Nothing of it is for this.
  }

  online(): void {
    // `client.connection` says that.
  }

  stop(): void {
    // The device is the same for whoever signs in next.
  }

  get environment(): Environment | undefined {
    return this.core?.environment;
  }

  /** Counts how often what the server knows by this sign-in may have ended. */
  get replaced(): number {
    return this.core?.api.tokens.replaced ?? 0;
  }

  /** As the device calls itself in `hello`. Nothing as long as that is not kept: another start would be another device. */
  async device(): Promise<DeviceId | undefined> {
    const found = await this.core?.journal.range(DEVICE_KEY, `${DEVICE_KEY}/`);
    return found?.[0]?.[1];
  }
}

export function reach(): Reach {
  return new Reach();
}
