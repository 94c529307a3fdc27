import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";
import type { PluginBuild } from "esbuild";
import { JSDOM } from "jsdom";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { MembersBookError } from "../src/index.js";
import type { ConnectionState, ConversationHandle, MembersBook, MessagesState, SendOptions, SendStatus, SessionState } from "../src/index.js";
import { CONTENT_MAX_CHARS } from "../src/protocol.js";
import { Value } from "../src/value.js";

const path = (file: string) => fileURLToPath(new URL(`../${file}`, import.meta.url));

/** What the composer draws with, as plain elements of a page. The rest of it is as it is: the drafts, their store, what failures are called. */
const STUBS: Readonly<Record<string, string>> = {
  "react-native": `
    import { createElement, forwardRef } from "react";
    export const Platform = { OS: "web" };
    export const View = ({ children }) => createElement("div", null, children);
    export const TextInput = forwardRef(({ value, onChangeText, onKeyPress }, ref) =>
      createElement("textarea", { ref, value, onChange: (event) => onChangeText(event.target.value), onKeyDown: (event) => onKeyPress({ nativeEvent: event.nativeEvent, preventDefault: () => event.preventDefault() }) }));`,
  "react-native-safe-area-context": "export const useSafeAreaInsets = () => ({ bottom: 0 });",
  "@/theme": "export const makeStyles = () => () => ({}); export const space = {}; export const TARGET = 44; export const type = {}; export const useTheme = () => ({ colors: {} }); export const useWide = () => false;",
  "@/ui": `
    import { createElement } from "react";
    export const Text = ({ role, children }) => createElement("p", { role }, children);
    export const Button = ({ label, onPress }) => createElement("button", { onClick: onPress }, label);
    export const IconButton = ({ label, disabled, onPress }) => createElement("button", { disabled, onClick: onPress }, label);`,
  "@members-book/client/react": "export const useClient = () => globalThis.appClient; export const useTyping = () => ({ setTyping: () => undefined });",
  entry: `
    export { Composer } from "@/chat/Composer";
    export { drafts, followDrafts } from "@/lib/drafts";
    export { createElement } from "react";
    export { createRoot } from "react-dom/client";
    export { act } from "react";`,
};

interface App {
  Composer: unknown;
  drafts: { get(name: string): string };
  followDrafts(client: MembersBook, url: string): () => void;
  createElement(type: unknown, props: object): unknown;
  createRoot(element: Element): { render(what: unknown): void; unmount(): void };
  act(work: () => Promise<void>): Promise<void>;
}

const code = build({
  entryPoints: ["entry"], bundle: true, write: false, format: "iife", globalName: "app", jsx: "automatic", tsconfigRaw: {}, define: { "process.env.NODE_ENV": '"test"' },
  plugins: [{ name: "stubs", setup: ({ onResolve, onLoad }: PluginBuild) => {
    onResolve({ filter: /./ }, ({ path: name }) => (name in STUBS ? { path: name, namespace: "stub" } : undefined));
    onLoad({ filter: /./, namespace: "stub" }, ({ path: name }) => ({ contents: STUBS[name] ?? "", resolveDir: path("."), loader: "js" }));
    onResolve({ filter: /^@\/lib\/kv$|^\.\/kv$/ }, () => ({ path: path("example/src/lib/kv.web.ts") }));
    onResolve({ filter: /^@\// }, ({ path: name }) => ({ path: path(`example/src/${name.slice(2)}${name === "@/chat/Composer" ? ".tsx" : ".ts"}`) }));
    onResolve({ filter: /^@members-book\/client(\/protocol)?$/ }, ({ path: name }) => ({ path: path(`src/${name.endsWith("protocol") ? "protocol" : "index"}.ts`) }));
    // One of them, wherever it is asked for: that of the client.
    onResolve({ filter: /^react(-dom)?(\/|$)/ }, ({ path: name }) => ({ path: createRequire(path("package.json")).resolve(name) }));
  } }],
}).then(({ outputFiles }) => outputFiles[0]?.text ?? "");

const MEMBER = "a".repeat(24);
const KEY = `m_${"b".repeat(24)}`;

const pages = new Set<Page>();

/** The page of a member, in one run of the app: reloading it is another run on what the browser has kept. */
class Page {
  readonly connection = new Value<ConnectionState>({ status: "online", storageFailing: false });
  readonly messages = new Value<MessagesState>({ messages: [], ready: true, hasOlder: false, loadingOlder: false, readUpTo: 0 });
  readonly sent: string[] = [];
  /** What each of them answers. */
  readonly answered: (number | undefined)[] = [];
  /** What is answered by what is being written. */
  replyTo: number | undefined;
  readonly steps: number[] = [];
  /** What becomes of what is sent. */
  send: (content: string) => Promise<string> = async () => "1";
  private readonly root: { render(what: unknown): void; unmount(): void };
  private readonly element: HTMLElement;

  private constructor(private readonly app: App) {
    const session = new Value<SessionState>({ status: "signed_in", id: MEMBER, member: {} as never });
    const client = { session, connection: this.connection } as unknown as MembersBook;
    Object.assign(globalThis, { appClient: client });
    app.followDrafts(client, "https://club.example");
    this.element = window.document.createElement("div");
    window.document.body.replaceChildren(this.element);
    this.root = app.createRoot(this.element);
  }

  static async open(): Promise<Page> {
    const page = new Page((new Function(`${await code};return app`)() as App));
    pages.add(page);
    await page.draw();
    return page;
  }

  async draw(): Promise<void> {
    const send = (content: string, { replyTo }: SendOptions) => {
      this.sent.push(content);
      this.answered.push(replyTo);
      return this.send(content);
    };
    const conversation = { key: KEY, messages: this.messages, send } as unknown as ConversationHandle;
    const nothing = () => undefined;
    const onAnswer = (replyTo: number | undefined) => (this.replyTo = replyTo);
    const what = { conversation, name: "Ben", editing: undefined, onEdited: nothing, onSent: nothing, replyTo: this.replyTo, answering: null, onAnswer, onStep: (by: number) => this.steps.push(by) };
    await this.app.act(async () => this.root.render(this.app.createElement(this.app.Composer, what)));
  }

  /** Another screen, and back. */
  async leaveAndReturn(): Promise<void> {
    await this.app.act(async () => this.root.render(null));
    await this.draw();
  }

  get field(): string {
    return this.element.querySelector("textarea")?.value ?? "";
  }

  get says(): string[] {
    return [...this.element.querySelectorAll("p")].map(({ textContent }) => textContent ?? "");
  }

  get canSend(): boolean {
    return !this.element.querySelector("button")?.disabled;
  }

  async type(text: string): Promise<void> {
    await this.app.act(async () => {
      const field = this.element.querySelector("textarea");
      Object.getOwnPropertyDescriptor(window.HTMLTextAreaElement.prototype, "value")?.set?.call(field, text);
      field?.dispatchEvent(new window.Event("input", { bubbles: true }));
    });
  }

  async key(key: string, ctrlKey = false): Promise<void> {
    await this.app.act(async () => void this.element.querySelector("textarea")?.dispatchEvent(new window.KeyboardEvent("keydown", { key, ctrlKey, bubbles: true })));
  }

  async press(): Promise<void> {
    await this.app.act(async () => this.element.querySelector("button")?.click());
  }

  shows(status: SendStatus): void {
    this.messages.set({ ...this.messages.getSnapshot(), messages: [{ key: "1", sender: MEMBER, own: true, content: "w", at: 1, status }] });
  }

  fails(storageFailing: boolean): void {
    this.connection.set({ status: "online", storageFailing });
  }

  /** Something that is heard of happens. */
  act(work: () => void): Promise<void> {
    return this.app.act(async () => work());
  }

  async close(): Promise<void> {
    await this.act(() => this.root.unmount());
    pages.delete(this);
  }
}

let window: JSDOM["window"];
beforeEach(() => {
  ({ window } = new JSDOM("", { url: "https://club.example/app/" }));
  vi.stubGlobal("window", window);
  vi.stubGlobal("document", window.document);
  vi.stubGlobal("localStorage", window.localStorage);
  vi.stubGlobal("navigator", window.navigator);
  vi.stubGlobal("HTMLIFrameElement", window.HTMLIFrameElement);
  vi.stubGlobal("IS_REACT_ACT_ENVIRONMENT", true);
});
afterEach(async () => {
  for (const page of pages) await page.close();
  vi.unstubAllGlobals();
});

/** What the browser keeps of drafts. */
const kept = () => Object.entries(window.localStorage).filter(([key]) => key.includes("draft.")).map(([, value]) => value as string);

test("a text over the limit is not sent, by no way, and it says by how much", async () => {
  const page = await Page.open();
  await page.type("x".repeat(CONTENT_MAX_CHARS - 399));
  expect([page.says, page.canSend]).toEqual([["399 characters left"], true]);
  // Counted as the server counts: an emoji is one.
  await page.type("👋".repeat(CONTENT_MAX_CHARS));
  expect([page.says, page.canSend]).toEqual([["0 characters left"], true]);
  await page.type("👋".repeat(CONTENT_MAX_CHARS + 2));
  expect([page.says, page.canSend]).toEqual([["2 characters too many: shorten it or send it in parts."], false]);
  await page.press();
  expect(page.sent).toEqual([]);
  expect([...page.field]).toHaveLength(CONTENT_MAX_CHARS + 2);
});

test("a draft is there after a reload, until it is a message", async () => {
  const before = await Page.open();
  await before.type(" half a thought");
  await before.close();
  const page = await Page.open();
  expect(page.field).toBe(" half a thought");
  await page.press();
  expect([page.sent, page.field, kept()]).toEqual([["half a thought"], "", []]);
  await page.close();
  expect((await Page.open()).field).toBe("");
});

test("a send that is refused leaves the text where it was, and says why", async () => {
  const page = await Page.open();
  page.send = async () => Promise.reject(new MembersBookError("storage", "Nothing can be kept here."));
  await page.type("to be kept");
  await page.press();
  expect([page.field, page.says, kept()]).toEqual(["to be kept", ["Nothing can be kept here."], ["to be kept"]]);
  await page.leaveAndReturn();
  expect(page.field).toBe("to be kept");
  await page.close();
  expect((await Page.open()).field).toBe("to be kept");
});

test("while it is waited for, it is no draft on this screen: nobody sends it twice", async () => {
  const page = await Page.open();
  let done = (_id: string): void => undefined;
  page.send = () => new Promise((resolve) => (done = resolve));
  await page.type("on its way");
  await page.press();
  await page.leaveAndReturn();
  expect([page.field, kept()]).toEqual(["", ["on its way"]]);
  await page.act(() => done("1"));
  expect(kept()).toEqual([]);
});

for (const end of ["the storage works again", "the server has it"]) {
  test(`a message that the full device cannot keep stays a draft for the next start, until ${end}`, async () => {
    const page = await Page.open();
    page.send = async () => {
      page.fails(true);
      page.shows("queued");
      return "1";
    };
    await page.type("written on water");
    await page.press();
    await page.leaveAndReturn();
    // It is shown as a message here.
    expect([page.field, kept()]).toEqual(["", ["written on water"]]);
    const after = await Page.open();
    expect(after.field).toBe("written on water");
    await after.close();
    if (end === "the storage works again") page.fails(false);
    else page.shows("sent");
    expect(kept()).toEqual([]);
  });
}

test("what is answered goes with the message, and comes back with it if that is not taken", async () => {
  const page = await Page.open();
  page.replyTo = 7;
  await page.draw();
  await page.type("w-1");
  page.send = () => Promise.reject(new MembersBookError("content_too_long", "too long"));
  await page.press();
  expect([page.answered, page.replyTo, page.field]).toEqual([[7], 7, "w-1"]);
  page.send = async () => "1";
  await page.press();
  expect([page.answered, page.replyTo, page.field]).toEqual([[7, 7], undefined, ""]);
  await page.draw();
  await page.type("w-2");
  await page.press();
  expect(page.answered).toEqual([7, 7, undefined]);
});

test("keys choose what is answered, and give it up", async () => {
  const page = await Page.open();
  for (const key of ["ArrowUp", "ArrowDown"]) {
    await page.key(key);
    await page.key(key, true);
  }
  expect(page.steps).toEqual([-1, 1]);
  page.replyTo = 7;
  await page.draw();
  await page.key("Escape");
  expect(page.replyTo).toBeUndefined();
});
