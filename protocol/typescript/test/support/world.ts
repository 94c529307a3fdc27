import type { ConversationHandle, MessagesState } from "../../src/types.js";
import { Observer } from "./checker.js";
import { Device } from "./device.js";
import type { Person } from "./reader.js";
import { Reader } from "./reader.js";
import { Server } from "./server.js";
import { Chance, until } from "./until.js";
import { differences } from "./verdict.js";

/** A server with members and their devices, all of which end with it. */
export class World {
  readonly devices: Device[] = [];
  readonly observers: Observer[] = [];
  private readonly readers: Reader[] = [];
  private readonly owners = new Map<Observer, Reader>();

  private constructor(
    readonly server: Server,
    readonly chance: Chance,
  ) {}

  static async make(settings: Readonly<Record<string, string>> = {}, chance = new Chance(1)): Promise<World> {
    return new World(await Server.start(settings), chance);
  }

  /** Somebody with an account, and a session beside those of their devices. */
  async member(name: string): Promise<Reader> {
    const reader = await Reader.register(this.server, name);
    this.readers.push(reader);
    return reader;
  }

  /** A device on which nobody is signed in. */
  async device(name: string): Promise<Device> {
    const device = await Device.make(name, this.server, this.chance.fork());
    this.devices.push(device);
    return device;
  }

  /** A device of a member: the app runs, they have logged in, and everything that it shows is looked at. */
  async signedIn(reader: Reader, name: string, options: { tokenLife?: number } = {}): Promise<Observer> {
    const device = await this.device(name);
    device.tokenLife = options.tokenLife;
    const observer = new Observer(device, reader.person.id);
    this.observers.push(observer);
    this.owners.set(observer, reader);
    await device.launch();
    await device.client.login(credentials(reader.person));
    await device.online();
    return observer;
  }

  /** Waits until everybody shows what the server has, and nothing else was ever shown. */
  async settled(ms = 20_000): Promise<void> {
    let wrong: string[] = [];
    const parties = this.readers.map((reader) => ({ reader, observers: this.observers.filter((observer) => this.owners.get(observer) === reader && observer.device.isRunning) }));
    await until(
      "everybody shows what the server has",
      async () => {
        wrong = await differences(parties);
        return wrong.length === 0;
      },
      { ms, every: 100, explain: () => wrong.slice(0, 12).join("\n") },
    );
    this.unbroken();
  }

  /** Nothing was shown, stored or said that must not be. */
  unbroken(): void {
    const broken = this.observers.flatMap(({ violations }) => violations);
    const misused = this.devices.flatMap((device) => (device.isRunning ? device.storage.misuse.map((line) => `${device.name}: ${line}`) : []));
    if (broken.length + misused.length > 0) throw new Error(`What must never be:\n${[...broken, ...misused].slice(0, 20).join("\n")}`);
  }

  async end(): Promise<void> {
    await Promise.all(this.devices.map((device) => device.remove()));
    await this.server.remove();
  }
}

export function credentials({ email, password }: Person): { email: string; password: string } {
  return { email, password };
}

/** The conversation of a device with a member, looked at. */
export function talk(observer: Observer, other: Reader): ConversationHandle {
  const handle = observer.device.client.conversation({ member: other.person.id });
  observer.open(handle);
  return handle;
}

/** Waits until the messages of a conversation are as they should be. */
export function shows(handle: ConversationHandle, what: string, condition: (state: MessagesState) => boolean, ms = 10_000): Promise<unknown> {
  return until(what, () => condition(handle.messages.getSnapshot()), {
    ms,
    explain: () => {
      const { messages, ...rest } = handle.messages.getSnapshot();
      return { ...rest, count: messages.length, messages: messages.slice(-8) };
    },
  });
}

/** The contents that are shown. */
export function contents(handle: ConversationHandle): string[] {
  return handle.messages.getSnapshot().messages.map(({ content }) => content);
}

/** The status of the newest message that is shown. */
export function statusOf(handle: ConversationHandle, content: string): string | undefined {
  return handle.messages.getSnapshot().messages.find((message) => message.content === content)?.status;
}
