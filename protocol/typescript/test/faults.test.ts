import { afterAll, describe, expect, test } from "vitest";

import { Fate, FAULTS } from "./support/fate.js";
import type { Crowd } from "./support/fate.js";
import { makeCrowd } from "./support/fate.js";
import { Chance, pass } from "./support/until.js";

/** `SEED` repeats a run, `FAULTS` makes it longer: what a run does depends on both, and on the speed of the machine. */
const seed = Number(process.env["SEED"] ?? Math.floor(Math.random() * 1_000_000_000));
const faults = Number(process.env["FAULTS"] ?? 150);

describe("faults", () => {
  let crowd: Crowd | undefined;
  afterAll(async () => {
    await crowd?.world.end();
  }, 30_000);

  test(`${faults} faults, SEED=${seed}`, async () => {
    console.log(`SEED=${seed} FAULTS=${faults}`);
    const chance = new Chance(seed);
    crowd = await makeCrowd(chance);
    const { world } = crowd;
    const fate = new Fate(crowd, chance.fork());
    try {
      for (let n = 0; n < faults; n += 1) {
        await fate.strike(n);
        await pass(chance.between(50, 450));
        world.unbroken();
      }
      await fate.healAll();
      await world.settled(60_000);
      await fate.cutAll();
      await world.settled(60_000);
    } catch (cause) {
      crowd.isTalking = false;
      for (const device of world.devices) console.error(`--- ${device.name}\n${device.log.slice(-80).join("\n")}`);
      console.error(`--- faults\n${fate.history.slice(-30).join("\n")}\nSEED=${seed} FAULTS=${faults}`);
      throw cause;
    }
    const sent = world.observers.flatMap((observer) => observer.sent);
    const count = (state: string): number => sent.filter((message) => message.state === state).length;
    console.log(`SEED=${seed}: ${sent.length} messages (${count("kept")} kept, ${count("refused")} refused, ${count("asked")} cut off), ${world.observers.reduce((sum, { looked }) => sum + looked, 0)} snapshots, ${JSON.stringify(fate.counts)}`);
    expect(count("kept")).toBeGreaterThan(faults);
    if (faults >= 150) expect(Object.keys(fate.counts).sort()).toEqual(FAULTS.map(({ name }) => name).sort());
  }, 60_000 + faults * 1_500);
});
