import { People } from "../../src/people.js";
import { SCHEMA_KEY } from "../../src/records.js";
import type { Observer } from "./checker.js";
import type { Pending } from "./disk.js";
import { downgrade } from "./downgrade.js";
import type { Reader } from "./reader.js";
import { ask } from "./reader.js";
import { Chance, pass, until } from "./until.js";
import { credentials, World } from "./world.js";

/** One device with who talks on it, and to whom. */
interface Talker {
  readonly observer: Observer;
  readonly reader: Reader;
  readonly others: readonly Reader[];
  readonly chance: Chance;
  /** Nobody touches the app: it is being killed or started. */
  isAway: boolean;
  count: number;
}

/** Members who talk all the time, on devices that all kinds of things happen to. */
export interface Crowd {
  readonly world: World;
  readonly talkers: readonly Talker[];
  isTalking: boolean;
}

/** Four devices of three members: the first member has two. Tokens live for a few seconds. */
export async function makeCrowd(chance: Chance): Promise<Crowd> {
  const world = await World.make({ HEARTBEAT_INTERVAL: "2s", WRITE_TIMEOUT: "3s" }, chance);
  const [ana, ben, eva] = [await world.member("Ana"), await world.member("Ben"), await world.member("Eva")];
  const people = [ana, ben, eva];
  const talkers: Talker[] = [];
  for (const [name, reader] of [["phone", ana], ["laptop", ana], ["ben", ben], ["eva", eva]] as const) {
    const observer = await world.signedIn(reader, name, { tokenLife: 12_000 });
    observer.device.disk.slowness = 4;
    talkers.push({ observer, reader, others: people.filter((other) => other !== reader), chance: chance.fork(), isAway: false, count: 0 });
  }
  const crowd: Crowd = { world, talkers, isTalking: true };
  for (const talker of talkers) void run(crowd, talker);
  return crowd;
}

/** What a member does on a device: log in when signed out, write, read, type, look at older messages, bring the app to the front. */
async function run(crowd: Crowd, talker: Talker): Promise<void> {
  const { observer, chance, reader } = talker;
  const { device } = observer;
  while (crowd.isTalking) {
    await pass(chance.between(10, 160));
    if (!crowd.isTalking || talker.isAway || !device.isRunning) continue;
    const { client } = device;
    const { status } = client.session.getSnapshot();
    // It is not known yet who is signed in.
    if (status === "loading") {
      if (chance.likely(0.1)) client.wake();
      continue;
    }
    if (status === "signed_out") {
      device.note("log in again");
      // It may fail, and may never come to an end if the app is killed meanwhile: then it is done again.
      await Promise.race([client.login(credentials(reader.person)).catch((cause: unknown) => device.note(`login: ${String(cause)}`)), pass(3000)]);
      continue;
    }
    const other = chance.pick(talker.others).person.id;
    const handle = client.conversation({ member: other });
    const act = chance.next();
    if (act < 0.6) {
      for (let burst = chance.likely(0.1) ? 8 : 1; burst > 0; burst -= 1) void observer.send(handle, other, `w-${device.name}-${(talker.count += 1)}`);
    } else if (act < 0.8) handle.markRead();
    else if (act < 0.9) new People(client).typing(handle, chance.likely(0.7));
    else if (act < 0.95) void handle.loadOlder().catch(() => undefined);
    else client.wake();
  }
}

interface Fault {
  readonly name: string;
  /** Gives what undoes it, and how long it lasts at most, in milliseconds. */
  readonly strike: (crowd: Crowd, chance: Chance) => Promise<{ heal?: () => void | Promise<void>; ms?: number }>;
}

const someone = ({ talkers }: Crowd, chance: Chance): Talker => chance.pick(talkers);
const some = ({ talkers }: Crowd, chance: Chance): readonly Talker[] => (chance.likely(0.2) ? talkers : [chance.pick(talkers)]);

/** The app is killed, something is done to the device, and it is started again. */
async function reborn(talker: Talker, pending: Pending, between: () => Promise<void>): Promise<void> {
  if (talker.isAway) return;
  talker.isAway = true;
  talker.observer.device.kill(pending);
  await between();
  await talker.observer.device.launch();
  talker.isAway = false;
}

/** What is stored is of another version: the one before, or a later one, which is not understood, so that everything but what is unsent comes from the server again. */
function otherwise(talker: Talker, chance: Chance): void {
  const { disk } = talker.observer.device;
  if (chance.pick([true, false])) downgrade(disk);
  else disk.apply({ put: new Map([[SCHEMA_KEY, "999"]]) });
}

export const FAULTS: readonly Fault[] = [
  {
    name: "server killed",
    strike: async ({ world }, chance) => {
      if (!world.server.isRunning) return {};
      await world.server.kill();
      return { heal: () => world.server.launch(), ms: chance.between(50, 800) };
    },
  },
  {
    name: "server stands still",
    strike: ({ world }, chance) => {
      world.server.pause();
      return Promise.resolve({ heal: () => world.server.resume(), ms: chance.between(100, 2500) });
    },
  },
  {
    name: "cut",
    strike: (crowd, chance) => {
      for (const { observer } of some(crowd, chance)) observer.device.proxy.cut();
      return Promise.resolve({});
    },
  },
  {
    name: "frozen",
    strike: (crowd, chance) => {
      const hit = some(crowd, chance);
      for (const { observer } of hit) observer.device.proxy.set({ frozen: true });
      return Promise.resolve({ heal: () => hit.forEach(({ observer }) => observer.device.proxy.set({})), ms: chance.between(100, 6000) });
    },
  },
  {
    name: "frozen for good",
    strike: (crowd, chance) => {
      const { observer } = someone(crowd, chance);
      observer.device.proxy.setOpen({ frozen: true });
      // The network has changed, and the app is told.
      return Promise.resolve({ heal: () => (observer.device.isRunning ? observer.device.client.wake() : undefined), ms: chance.between(0, 1000) });
    },
  },
  {
    name: "half open",
    strike: (crowd, chance) => {
      const { proxy } = someone(crowd, chance).observer.device;
      proxy.setOpen({ frozen: true }, chance.likely(0.5) ? "up" : "down");
      return Promise.resolve({});
    },
  },
  {
    name: "slow",
    strike: (crowd, chance) => {
      const { proxy } = someone(crowd, chance).observer.device;
      proxy.set(chance.likely(0.5) ? { rate: chance.between(2000, 20_000) } : { delay: chance.between(20, 800) });
      return Promise.resolve({ heal: () => proxy.set({}), ms: chance.between(500, 4000) });
    },
  },
  {
    name: "refused",
    strike: (crowd, chance) => {
      const { proxy } = someone(crowd, chance).observer.device;
      proxy.reach = chance.likely(0.5) ? "refused" : "dead";
      proxy.cut();
      return Promise.resolve({ heal: () => { proxy.cut(); proxy.reach = "up"; }, ms: chance.between(100, 2000) });
    },
  },
  {
    name: "answer lost",
    strike: (crowd, chance) => {
      const { proxy } = someone(crowd, chance).observer.device;
      proxy.cutAnswer(/POST \/api\/auth\/(refresh|login)/, chance.between(0, 300));
      return Promise.resolve({});
    },
  },
  {
    name: "short token",
    strike: (crowd, chance) => {
      const { device } = someone(crowd, chance).observer;
      device.tokenLife = chance.between(1000, 4000);
      device.proxy.cut();
      return Promise.resolve({ heal: () => { device.tokenLife = 12_000; }, ms: 6000 });
    },
  },
  {
    name: "session ended",
    strike: (crowd, chance) => {
      const { device } = someone(crowd, chance).observer;
      // It may be over already, and the server may be down.
      const body = { all: chance.likely(0.2) };
      void ask(crowd.world.server, "POST", "/api/auth/logout", { token: device.accessToken ?? "", body }).catch(() => undefined);
      return Promise.resolve({});
    },
  },
  {
    name: "app killed",
    strike: async (crowd, chance) => {
      const talker = someone(crowd, chance);
      const { disk } = talker.observer.device;
      // In the middle of a write, if there is one soon.
      await until("a write is on its way", () => talker.isAway || talker.observer.device.storage.pending > 0, { ms: 300, every: 1 }).catch(() => undefined);
      void reborn(talker, chance.pick(["lost", "applied", "some"] as const), () => pass(chance.between(0, 400))).catch((cause: unknown) => crowd.world.observers[0]?.violations.push(`start: ${String(cause)}`));
      disk.slowness = chance.between(0, 20);
      return {};
    },
  },
  {
    name: "storage full",
    strike: (crowd, chance) => {
      const { disk } = someone(crowd, chance).observer.device;
      disk.isFull = true;
      return Promise.resolve({ heal: () => { disk.isFull = false; }, ms: chance.between(200, 2500) });
    },
  },
  {
    name: "clock moved",
    strike: (crowd, chance) => {
      const { device } = someone(crowd, chance).observer;
      device.clockOffset = chance.pick([3_600_000, -3_600_000]);
      return Promise.resolve({ heal: () => { device.clockOffset = 0; }, ms: chance.between(500, 5000) });
    },
  },
  {
    name: "schema changed",
    strike: (crowd, chance) => {
      const talker = someone(crowd, chance);
      void reborn(talker, "some", async () => otherwise(talker, chance)).catch((cause: unknown) => crowd.world.observers[0]?.violations.push(`start: ${String(cause)}`));
      return Promise.resolve({});
    },
  },
];

/** What happens to a crowd: by chance, and healed by itself after a while. */
export class Fate {
  readonly history: string[] = [];
  readonly counts: Record<string, number> = {};
  private readonly wounds = new Set<{ readonly heal: () => void | Promise<void>; readonly timer: NodeJS.Timeout }>();
  private healing: Promise<unknown>[] = [];

  constructor(
    private readonly crowd: Crowd,
    private readonly chance: Chance,
  ) {}

  /** Each once, then by chance. */
  async strike(n: number): Promise<void> {
    const fault = FAULTS[n] ?? this.chance.pick(FAULTS);
    if (!fault) return;
    this.counts[fault.name] = (this.counts[fault.name] ?? 0) + 1;
    this.history.push(`${new Date().toISOString().slice(11, 23)} ${fault.name}`);
    const { heal, ms } = await fault.strike(this.crowd, this.chance);
    if (!heal) return;
    const wound = {
      heal,
      timer: setTimeout(() => {
        this.wounds.delete(wound);
        this.heal(heal);
      }, ms ?? 1000),
    };
    this.wounds.add(wound);
  }

  private heal(heal: () => void | Promise<void>): void {
    const healed = async (): Promise<void> => heal();
    this.healing.push(healed().catch((cause: unknown) => this.crowd.world.observers[0]?.violations.push(`heal: ${String(cause)}`)));
  }

  /** Everything is well, everybody is there, and nobody says anything more. Connections that live stay as they are: what is wrong on one is not mended by the next. */
  async healAll(): Promise<void> {
    this.crowd.isTalking = false;
    for (const { heal, timer } of this.wounds) {
      clearTimeout(timer);
      this.heal(heal);
    }
    this.wounds.clear();
    await Promise.all(this.healing);
    const { world, talkers } = this.crowd;
    world.server.resume();
    if (!world.server.isRunning) await world.server.launch();
    for (const { observer } of talkers) {
      const { device } = observer;
      device.proxy.heal();
      device.disk.isFull = false;
      device.disk.slowness = 0;
      device.clockOffset = 0;
      device.tokenLife = undefined;
    }
    await this.allOnline();
  }

  /** All connections are new. */
  async cutAll(): Promise<void> {
    const devices = this.crowd.talkers.map(({ observer }) => ({ device: observer.device, before: observer.device.opened }));
    for (const { device } of devices) device.proxy.cut();
    await until("everybody has connected again", () => devices.every(({ device, before }) => device.opened > before));
    await this.allOnline();
  }

  private async allOnline(): Promise<void> {
    const { talkers } = this.crowd;
    await until("everybody is signed in", () => talkers.every((talker) => !talker.isAway && talker.observer.device.isRunning), { ms: 30_000 });
    for (const { observer, reader } of talkers) {
      const { client } = observer.device;
      await until(
        "everybody is online",
        async () => {
          const { status } = client.session.getSnapshot();
          if (status === "signed_out") await client.login(credentials(reader.person));
          client.wake();
          return client.connection.getSnapshot().status === "online";
        },
        { ms: 30_000, every: 250, explain: () => `${observer.device.name} ${JSON.stringify([client.session.getSnapshot().status, client.connection.getSnapshot()])}\n${observer.device.log.slice(-30).join("\n")}` },
      );
    }
  }
}
