import { expect, test, vi } from "vitest";

import type { Api } from "../src/api.js";
import { Connection } from "../src/connection.js";
import { platformEnvironment } from "../src/environment.js";
import type { Socket } from "../src/environment.js";
import { MembersBookError } from "../src/errors.js";
import type { AuthResponse } from "../src/protocol.js";
import { Session } from "../src/session.js";
import { MemoryVault } from "../src/storage/memory.js";
import type { Vault } from "../src/storage.js";
import type { SignedOutReason } from "../src/types.js";
import { until } from "./support/until.js";

const { clock, uuid } = platformEnvironment();
const MEMBER = "6b033ff858dd68a2edc96e77";

function answer(number: number): AuthResponse {
  const expires_at = new Date(Date.now() + 900_000).toISOString();
  return { member: { _id: MEMBER }, access_token: `A${number}`, refresh_token: `R${number}`, expires_at } as AuthResponse;
}

/** A server that gives each refresh token the same successor for the same attempt until that is used. `lose`: so many answers are lost on their way. */
function server(lose = 0): { api: Api; used: string[]; attempts: Map<string, string> } {
  const used: string[] = [];
  const attempts = new Map<string, string>();
  let left = lose;
  const refresh = (token: string, attempt: string): Promise<AuthResponse> => {
    const is_reused = (attempts.get(token) ?? attempt) !== attempt || used.includes(`R${Number(token.slice(1)) + 1}`);
    attempts.set(token, attempt);
    if (is_reused) return Promise.reject(new MembersBookError("refresh_token_reused", "used before"));
    used.push(token);
    if (left-- > 0) return Promise.reject(new MembersBookError("network", "lost"));
    return Promise.resolve(answer(Number(token.slice(1)) + 1));
  };
  return { api: { refresh } as unknown as Api, used, attempts };
}

const none = async () => undefined;

function tab(vault: Vault, api: Api): { session: Session; over: SignedOutReason[] } {
  const over: SignedOutReason[] = [];
  return { session: new Session(vault, clock, uuid, () => api, (reason) => over.push(reason)), over };
}

test("a session that is over in one tab is over in the others for the same reason: nothing of the member is wiped", async () => {
  const vault = new MemoryVault();
  const { api } = server();
  const [first, second] = [tab(vault, api), tab(vault, api)];
  await first.session.begin(answer(1), none, none);
  await second.session.load(none);
  first.session.over("session_over");
  await vault.exclusive(() => Promise.resolve());
  await second.session.check();
  expect(second.over).toEqual(["session_over"]);
});

test("who logs out of one tab is logged out of the others", async () => {
  const vault = new MemoryVault();
  const { api } = server();
  const [first, second] = [tab(vault, api), tab(vault, api)];
  await first.session.begin(answer(1), none, none);
  await second.session.load(none);
  await first.session.end(MEMBER, none);
  await second.session.check();
  expect(second.over).toEqual(["logged_out"]);
});

test("a token that could not be stored is used all the same, and the one before it is not used again", async () => {
  const vault = new MemoryVault();
  const { api, used } = server();
  const { session, over } = tab(vault, api);
  await session.begin(answer(1), none, none);
  const set = vault.set.bind(vault);
  vault.set = () => Promise.reject(new Error("no room"));
  expect(await session.renew("A1")).toBe("A2");
  vault.set = set;
  expect(await session.renew("A2")).toBe("A3");
  expect([used, over]).toEqual([["R1", "R2"], []]);
  expect(await vault.get()).toContain("R3");
});

test("a renewal does not undo what another tab has ended", async () => {
  const vault = new MemoryVault();
  const { api, used } = server();
  const [first, second] = [tab(vault, api), tab(vault, api)];
  await first.session.begin(answer(1), none, none);
  await second.session.load(none);
  await first.session.end(MEMBER, none);
  await expect(second.session.renew("A1")).rejects.toThrow("Nobody is signed in");
  expect([await vault.get(), used, second.over]).toEqual([undefined, [], ["logged_out"]]);
});

test("a refresh whose answer is lost is asked for again with the same token, by whoever needs it next, and ends nothing", async () => {
  const vault = new MemoryVault();
  const { api, used } = server(2);
  const [first, second] = [tab(vault, api), tab(vault, api)];
  await first.session.begin(answer(1), none, none);
  await second.session.load(none);
  await expect(first.session.renew("A1")).rejects.toMatchObject({ code: "network" });
  await expect(second.session.renew("A1")).rejects.toMatchObject({ code: "network" });
  expect(await first.session.renew("A1")).toBe("A2");
  expect(await second.session.renew("A1")).toBe("A2");
  expect([used, first.over, second.over]).toEqual([["R1", "R1", "R1"], [], []]);
});

test("two tabs that do not see each other's locks and refresh at once have the same tokens", async () => {
  const vault = new MemoryVault();
  vault.exclusive = (work) => work();
  const { api } = server();
  const [first, second] = [tab(vault, api), tab(vault, api)];
  await first.session.begin(answer(1), none, none);
  await second.session.load(none);
  expect(await Promise.all([first.session.renew("A1"), second.session.renew("A1")])).toEqual(["A2", "A2"]);
  expect([first.over, second.over]).toEqual([[], []]);
  expect(await vault.get()).toContain("R2");
});

test("a refresh that is refused because another tab was faster ends nothing: the newer tokens are in the vault", async () => {
  const vault = new MemoryVault();
  vault.exclusive = (work) => work();
  const faster = tab(vault, server().api);
  const refresh = async (): Promise<AuthResponse> => {
    await faster.session.load(none);
    await faster.session.renew("A1");
    throw new MembersBookError("refresh_token_invalid", "replaced and used");
  };
  const slower = tab(vault, { refresh } as unknown as Api);
  await slower.session.begin(answer(1), none, none);
  expect(await slower.session.renew("A1")).toBe("A2");
  // The next refusal has no such reason.
  await expect(slower.session.renew("A2")).rejects.toMatchObject({ code: "refresh_token_invalid" });
  expect([faster.over, slower.over]).toEqual([[], ["session_over"]]);
});

test("a session that cannot be kept does not begin", async () => {
  const vault = new MemoryVault();
  vault.set = () => Promise.reject(new Error("no room"));
  const { session } = tab(vault, server().api);
  await expect(session.begin(answer(1), none, none)).rejects.toMatchObject({ code: "storage" });
  expect(session.current).toBeUndefined();
});

test("a token that could not be stored is stored later, as soon as that is possible", async () => {
  const vault = new MemoryVault();
  const { api } = server();
  const timers: (() => void)[] = [];
  const hurried = { ...clock, setTimeout: (call: () => void, ms: number) => (ms > 1_000 ? timers.push(call) : clock.setTimeout(call, 0)) };
  const session = new Session(vault, hurried, uuid, () => api, () => undefined);
  await session.begin(answer(1), none, none);
  const set = vault.set.bind(vault);
  vault.set = () => Promise.reject(new Error("no room"));
  expect(await session.renew("A1")).toBe("A2");
  vault.set = set;
  for (const call of timers.splice(0)) call();
  await vault.exclusive(() => Promise.resolve());
  expect(await vault.get()).toContain("R2");
});

test("a token that could not be stored is not used while another tab has the one before it", async () => {
  const vault: Vault = new MemoryVault();
  vault.shared = () => Promise.resolve(true);
  const { api, used } = server();
  const [first, second] = [tab(vault, api), tab(vault, api)];
  await first.session.begin(answer(1), none, none);
  await second.session.load(none);
  const set = vault.set.bind(vault);
  vault.set = async (value) => {
    if (value?.includes("R2")) throw new Error("no room");
    await set(value);
  };
  await expect(first.session.renew("A1")).rejects.toMatchObject({ code: "storage", verdict: "retry" });
  vault.set = set;
  expect([await second.session.renew("A1"), await first.session.renew("A1")]).toEqual(["A2", "A2"]);
  expect([used, first.over, second.over]).toEqual([["R1", "R1"], [], []]);
});

test("an exchange has a name that is kept before anybody is asked: after a restart and in another tab it is the same one, and the next token has another", async () => {
  const vault = new MemoryVault();
  const { api, used, attempts } = server(2);
  const kept: (string | undefined)[] = [];
  const asking = { refresh: async (token: string, attempt: string) => (kept.push(await vault.get()), api.refresh(token, attempt)) } as unknown as Api;
  const first = tab(vault, asking);
  await first.session.begin(answer(1), none, none);
  const second = tab(vault, asking);
  await second.session.load(none);
  await expect(first.session.renew("A1")).rejects.toMatchObject({ code: "network" });
  await expect(second.session.renew("A1")).rejects.toMatchObject({ code: "network" });
  const third = tab(vault, asking);
  await third.session.load(none);
  expect(await third.session.renew("A1")).toBe("A2");
  expect(await third.session.renew("A2")).toBe("A3");
  expect(used).toEqual(["R1", "R1", "R1", "R2"]);
  const [of1, of2] = [attempts.get("R1") ?? "", attempts.get("R2") ?? ""];
  expect([of1, of2]).toEqual([expect.stringMatching(/^[A-Za-z0-9_-]{16,64}$/), expect.stringMatching(/^[A-Za-z0-9_-]{16,64}$/)]);
  expect(of1).not.toBe(of2);
  for (const text of kept.slice(0, 3)) expect(text).toContain(of1);
  expect(kept[3]).toContain(of2);
  expect(await vault.get()).not.toContain("attempt");
});

test("nobody is asked while the name cannot be kept and another tab may ask, too", async () => {
  const vault: Vault = new MemoryVault();
  vault.shared = () => Promise.resolve(true);
  const { api, used } = server();
  const { session, over } = tab(vault, api);
  await session.begin(answer(1), none, none);
  const { get, set } = { get: vault.get.bind(vault), set: vault.set.bind(vault) };
  vault.set = () => Promise.reject(new Error("no room"));
  await expect(session.renew("A1")).rejects.toMatchObject({ code: "storage", verdict: "retry" });
  vault.set = set;
  vault.get = () => Promise.reject(new Error("locked"));
  await expect(session.renew("A1")).rejects.toMatchObject({ code: "storage", verdict: "retry" });
  vault.get = get;
  expect([used, over]).toEqual([[], []]);
  expect(await session.renew("A1")).toBe("A2");
});

test("a name that could not be kept is the same as long as the client runs", async () => {
  const vault = new MemoryVault();
  const { api, used, attempts } = server(1);
  const { session, over } = tab(vault, api);
  await session.begin(answer(1), none, none);
  const set = vault.set.bind(vault);
  vault.set = () => Promise.reject(new Error("no room"));
  await expect(session.renew("A1")).rejects.toMatchObject({ code: "network" });
  vault.set = set;
  expect(await session.renew("A1")).toBe("A2");
  expect([used, over, attempts.size]).toEqual([["R1", "R1"], [], 1]);
});

test("a change that replaces the tokens holds renewals up, and every tab goes on with the new ones", async () => {
  const vault = new MemoryVault();
  const { api, used } = server();
  const [first, second] = [tab(vault, api), tab(vault, api)];
  await first.session.begin(answer(1), none, none);
  await second.session.load(none);
  let said: (tokens: AuthResponse) => void = () => undefined;
  const asked: string[] = [];
  const changed = first.session.replace(
    (access) => {
      asked.push(access);
      return new Promise<AuthResponse>((resolve) => (said = resolve));
    },
    (tokens) => tokens,
  );
  await vi.waitFor(() => expect(asked).toEqual(["A1"]));
  // Its connections were closed, and the token that they had is refused: the answer comes after that.
  const renewed = [first.session.renew("A1"), second.session.renew("A1")];
  said(answer(7));
  await changed;
  expect(await Promise.all(renewed)).toEqual(["A7", "A7"]);
  expect([used, first.over, second.over]).toEqual([[], [], []]);
  // A server of before answers without any: those of before stay.
  await first.session.replace(() => Promise.resolve(undefined), () => undefined);
  expect(await first.session.access()).toBe("A7");
});

test("whose change was refused goes on with the tokens of before", async () => {
  const vault = new MemoryVault();
  const { api } = server();
  const { session } = tab(vault, api);
  await session.begin(answer(1), none, none);
  const refused = session.replace(() => Promise.reject(new MembersBookError("validation_failed", "wrong")), () => answer(2));
  await expect(refused).rejects.toMatchObject({ code: "validation_failed" });
  expect(await session.renew("A1")).toBe("A2");
});

test("a token that was refused is not given out again while it cannot be renewed; one that is about to expire is", async () => {
  const { api, used } = server(2);
  const { session } = tab(new MemoryVault(), api);
  await session.begin(answer(1), none, none);
  await expect(session.renew("A1", true)).rejects.toThrow("lost");
  expect(await session.access()).toBe("A1");
  await expect(session.renew("A1")).rejects.toThrow("lost");
  expect(await session.access()).toBe("A2");
  expect(used).toEqual(["R1", "R1", "R1"]);
});

test("a hint while a refused token is renewed waits for the new one, and ends nothing", async () => {
  const { api } = server();
  let answered: () => void = () => undefined;
  const slow = new Promise<void>((resolve) => (answered = resolve));
  const late = { refresh: async (token: string, attempt: string) => slow.then(() => api.refresh(token, attempt)) } as unknown as Api;
  const { session, over } = tab(new MemoryVault(), late);
  await session.begin(answer(1), none, none);
  const said: string[] = [];
  const states: string[] = [];
  /** A server that refuses the first token. */
  const socket = (): Socket => {
    const made: Socket = {
      onopen: null, onmessage: null, onclose: null, onerror: null, close: () => undefined,
      send: (text) => {
        const { type, token } = JSON.parse(text) as { type: string; token: string };
        if (type !== "hello") return;
        said.push(token);
        if (token === "A1") return made.onclose?.({ code: 4401, reason: "" });
        for (const frame of [{ type: "welcome", time: new Date().toISOString() }, { type: "sync.done" }]) made.onmessage?.({ data: JSON.stringify(frame) });
      },
    };
    queueMicrotask(() => made.onopen?.());
    return made;
  };
  const nothing = () => undefined;
  const connection = new Connection("ws://club.example/ws", { ...platformEnvironment(), socket }, session, {
    hello: () => ({ type: "hello", device: { id: "d", platform: "web" } }) as ReturnType<ConstructorParameters<typeof Connection>[3]["hello"]>,
    welcomed: nothing, pushed: nothing, online: nothing, looked: () => true, state: ({ status }) => states.push(status), debug: nothing,
  });
  connection.start();
  await until("it was refused", () => said.length === 1);
  connection.wake();
  // The hint does not wait for the answer: a new attempt begins meanwhile.
  const before = states.length;
  await until("it is tried again", () => states.length > before || over.length > 0);
  setTimeout(answered, 500);
  await until("it is online", () => connection.online, { ms: 4_000, explain: () => ({ said, states, over }) });
  expect([said, over]).toEqual([["A1", "A2"], []]);
  connection.stop();
});
