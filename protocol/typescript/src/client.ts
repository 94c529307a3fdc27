import { Api } from "./api.js";
import { Backoff } from "./backoff.js";
import { Book, keyFor } from "./book.js";
import { fits, OWN, read } from "./check.js";
import { Connection } from "./connection.js";
import type { Conversation } from "./conversation.js";
import { addressOf, platformEnvironment } from "./environment.js";
import type { Environment, Observable } from "./environment.js";
import { MembersBookError, misuse } from "./errors.js";
import type { Core, Extend, Extension } from "./extension.js";
import { Handle } from "./handle.js";
import { Journal } from "./journal.js";
import { given } from "./json.js";
import { migrate } from "./migrate.js";
import { problemOf } from "./problem.js";
import type { AuthResponse, DeviceStatus, Limits, LoginRequest, Member, MemberId, Platform, RegisterRequest, ServerFrame } from "./protocol.js";
import { DEVICE_KEY, KEEP_UNSENT, Keys, PROOF_KEY, rangesOf, rangesOfOthers, SCHEMA_KEY, SCHEMA_VERSION } from "./records.js";
import { Session } from "./session.js";
import type { Erasure } from "./storage.js";
import type {
  ClientOptions, ConnectionState, ConversationHandle, ConversationsState, DebugEvent, MembersBook, Registered, SessionState, SignedOutReason,
  Target, UnreadState,
} from "./types.js";
import { Value } from "./value.js";

/** The longest name of a device, in characters. */
const NAME_MAX = 100;

/** The path of the record of who is signed in. */
const ME = "/api/members/me";

const NOBODY: ConversationsState = { ready: false, conversations: [] };
const NOTHING: UnreadState = { total: 0, more: false };

/** Everything of the member who is signed in. */
interface SignedIn {
  readonly keys: Keys;
  readonly book: Book;
  readonly core: Core;
  readonly extensions: Map<Extend<Extension>, Extension>;
  readonly handles: Map<string, Handle>;
  readonly unsubscribe: (() => void)[];
}

/** A client of one device. Members sign in and out; what is theirs is kept apart. */
export class Client implements MembersBook {
  readonly api: Api;
  protected readonly sessionState = new Value<SessionState>({ status: "loading" });
  private readonly connectionState = new Value<ConnectionState>({ status: "offline", storageFailing: false });
  private readonly list = new Value<ConversationsState>(NOBODY);
  private readonly unreadState = new Value<UnreadState>(NOTHING);
  readonly session: Observable<SessionState> = this.sessionState;
  readonly connection: Observable<ConnectionState> = this.connectionState;
  readonly conversations: Observable<ConversationsState> = this.list;
  readonly unread: Observable<UnreadState> = this.unreadState;
  private readonly waiting = new Value(0);
  readonly applications: Observable<number> = this.waiting;
  private readonly environment: Environment;
  protected readonly tokens: Session;
  protected readonly journal: Journal;
  private readonly socket: Connection;
  protected signedIn: SignedIn | undefined;
  /** Who was signed in before: a screen may ask once more before it is gone. */
  private left: SignedIn | undefined;
  private deviceId = "";
  private deviceStatus: DeviceStatus = "online";
  /** What the server said at the last welcome. */
  private limits: Partial<Limits> = {};
  /** What was asked for once is there for whoever signs in. */
  private readonly makers = new Set<Extend<Extension>>();
  protected started: Promise<void> | undefined;
  /** What is being removed. */
  private readonly erasing = new Set<Erasure>();
  /** Somebody is signing in or out: what other tabs do is looked at later. */
  protected changing = 0;
  protected stopped = false;

  constructor(protected readonly options: ClientOptions) {
    const url = addressOf(options.url);
    this.environment = { ...platformEnvironment(), ...options.environment };
    if (!options.environment?.socket && typeof WebSocket === "undefined") throw misuse("There is no WebSocket here: give `environment: { socket }`, with that of the package ws.");
    const { clock } = this.environment;
    this.tokens = new Session(options.vault, clock, () => this.api, (reason) => this.sessionOver(reason));
    this.api = new Api(url, this.environment, this.tokens, (proof) => this.journal.put(PROOF_KEY, proof));
    this.journal = new Journal(options.storage, clock, (failing, error) => {
      this.debug(failing ? "storage fails" : "storage works again", failing ? { error: String(error) } : {});
      this.connectionState.set({ ...this.connectionState.getSnapshot(), storageFailing: failing });
    });
    this.sessionState.subscribe(() => this.debug("session", { status: this.sessionState.getSnapshot().status }));
    this.socket = new Connection(`${url.replace(/^http/i, "ws")}/ws`, this.environment, this.tokens, {
      hello: () => {
        // The server says it anew, unless nobody waits.
        this.waiting.set(0);
        return this.hello();
      },
      welcomed: ({ limits }) => {
        this.limits = limits ?? {};
      },
      pushed: (frame) => this.pushed(frame),
      online: (online) => this.online(online),
      looked: () => this.deviceStatus === "online",
      state: (state) => this.connectionState.set({ ...state, storageFailing: this.connectionState.getSnapshot().storageFailing }),
      debug: (what, details) => this.debug(what, details),
    });
  }

  async start(): Promise<void> {
    await (this.started ??= this.stopped ? undefined : this.open());
    if (this.stopped) throw new MembersBookError("stopped", "This client was stopped: make another one.");
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await this.started?.catch(() => undefined);
    this.socket.stop();
    this.part();
    await this.journal.close();
    await this.options.storage.close();
  }

  async register(account: RegisterRequest): Promise<Registered> {
    await this.start();
    const answer = await this.api.register({ device: this.device, ...account });
    return "status" in answer ? { status: answer.status } : { status: "signed_in", member: await this.enter(() => answer) };
  }

  async setup(account: RegisterRequest & { code: string }): Promise<Member> {
    return this.enter(() => this.api.setup({ device: this.device, ...account }));
  }

  async login(credentials: LoginRequest): Promise<Member> {
    return this.enter(async () => {
      // By it the server knows the device again: wrong passwords of others do not keep it out.
      const proof = await this.options.storage.get(PROOF_KEY).catch(() => undefined);
      return this.api.login({ device: this.device, ...given({ device_proof: proof }), ...credentials });
    });
  }

  async logout({ all = false }: { all?: boolean } = {}): Promise<void> {
    const member = this.tokens.member ?? this.signedIn?.keys.member;
    try {
      if (all && member !== undefined) await this.api.logout(true);
    } catch (error) {
      // Who wants all to end has to know that they have not.
      if (error instanceof MembersBookError && error.verdict !== "log_in") throw error;
    }
    const kept = await this.forget(member);
    if (!kept || all) return;
    const end = (token: string) => this.api.logout(false, token);
    try {
      await end(kept.access).catch(async (error: MembersBookError) => {
        if (error.verdict === "log_in") await end((await this.api.refresh(kept.refresh)).access_token);
      });
    } catch {
      // Without a network the session ends by itself.
    }
  }

  /** Leaves the club, for ever. Throws `step_up_required`, and nothing was done, if it is a while ago that the member has proved who they are: `Account.stepUp`, then again. */
  async leave(): Promise<void> {
    const { member } = this.tokens;
    await this.api.json(ME, { method: "DELETE" });
    await this.forget(member);
  }

  /** Signs out here, and in all tabs, and removes everything of the member. That it has to go is kept before anybody else is told: whatever ends now, it goes. */
  private async forget(member: MemberId | undefined) {
    this.socket.stop();
    this.sessionState.set({ status: "signed_out", reason: "logged_out" });
    this.part();
    if (member === undefined) return undefined;
    this.changing += 1;
    try {
      return await this.tokens.end(member);
    } finally {
      this.changing -= 1;
      this.journal.clear(...new Keys(member).all);
      await this.erase().catch(() => undefined);
      await this.journal.attempted();
    }
  }

  /** Removes from this storage what a log-out or the end of a session, here or in another tab, has left to be removed. */
  private async erase(): Promise<Erasure[]> {
    const { vault } = this.options;
    const found = (await vault.erasing()).filter((each) => !this.erasing.has(each));
    if (found.length === 0) return found;
    const { signedIn } = this;
    if (signedIn && found.some((each) => each.startsWith(signedIn.keys.member))) {
      // It was of a session before this one, of which this tab has not heard: it begins anew.
      this.socket.stop();
      this.part();
    }
    for (const each of found) {
      // Once: what comes later is of a later session.
      this.erasing.add(each);
      for (const range of rangesOf(each)) this.journal.clear(...range);
    }
    const gone = this.journal.stored().then(async () => {
      for (const each of found) this.erasing.delete(each);
      await vault.erased(found);
    }).catch((error: unknown) => this.debug("erasure not noted", { error: String(error) }));
    await this.journal.attempted();
    if (!this.connectionState.getSnapshot().storageFailing) await gone;
    return found;
  }

  async refreshMember(): Promise<Member> {
    const member = await this.api.json<Member>(ME);
    this.learnSelf(member);
    return member;
  }

  unsent(): number {
    const state = this.sessionState.getSnapshot();
    const gone = state.status === "signed_out" && state.reason === "logged_out";
    return (this.signedIn ?? (gone ? undefined : this.left))?.book.unsent ?? 0;
  }

  conversation(target: Target): ConversationHandle {
    const somebody = this.somebody();
    const { book, handles } = somebody;
    const conversation = book.conversation(target);
    const asked = keyFor(target);
    const handle = handles.get(asked) ?? handles.get(conversation.key) ?? this.handle(somebody, conversation);
    // What was given for a target once is given for it always.
    for (const key of [asked, conversation.key]) if (!handles.has(key)) handles.set(key, handle);
    return handle;
  }

  target(key: string): Target {
    const [, kind, id] = /^(?:([cm])_)?([0-9a-f]{24})$/.exec(key) ?? [];
    if (!id) throw misuse("This is no key of a conversation.");
    return kind === "c" ? { conversation: id } : { member: id };
  }

  extend<E extends Extension>(make: Extend<E>): E | undefined {
    this.makers.add(make);
    const { signedIn } = this;
    if (!signedIn) return undefined;
    const { core, extensions } = signedIn;
    const known = extensions.get(make) as E | undefined;
    if (known) return known;
    const made = make(core);
    extensions.set(make, made);
    void made.load();
    if (this.socket.online) made.online(this.limits);
    return made;
  }

  setStatus(status: DeviceStatus): void {
    if (status === this.deviceStatus) return;
    this.deviceStatus = status;
    this.socket.tell({ type: "presence.set", status });
  }

  wake(): void {
    this.socket.wake();
  }

  /** Removes what any tab has noted to be removed. Whose session was known as over, and who has logged out in truth, is told so. */
  protected async eraseNoted(): Promise<void> {
    const gone = await this.options.vault.exclusive(() => this.erase());
    const state = this.sessionState.getSnapshot();
    if (state.status === "signed_out" && state.reason && this.left && gone.includes(this.left.keys.member)) this.sessionState.set({ ...state, reason: "logged_out" });
  }

  private async open(): Promise<void> {
    await this.openStorage();
    this.journal.put(SCHEMA_KEY, String(SCHEMA_VERSION));
    if (this.deviceId === "") {
      this.deviceId = this.environment.uuid();
      this.journal.put(DEVICE_KEY, this.deviceId);
    }
    const load = async () => {
      await this.erase();
      return this.tokens.load();
    };
    const member = await this.patiently("vault cannot be read", load, () => !this.stopped);
    if (this.stopped) return;
    if (member === undefined) {
      if (this.sessionState.getSnapshot().status === "loading") this.sessionState.set({ status: "signed_out" });
    } else {
      await this.resume(member);
    }
  }

  private async openStorage(): Promise<void> {
    const { storage } = this.options;
    try {
      await storage.open();
      // First of all: another id would be another device.
      this.deviceId = (await storage.get(DEVICE_KEY)) ?? "";
      await migrate(storage);
    } catch (error) {
      this.debug("storage cannot be used", { error: String(error) });
      // Unsent messages have the form that they always had, and are shown and sent all the same.
      this.journal.suspend(/^\w+\/o\//, () => migrate(storage));
      this.connectionState.set({ ...this.connectionState.getSnapshot(), storageFailing: true });
    }
  }

  /** Signs in with an answer of the server. */
  private async enter(ask: () => AuthResponse | Promise<AuthResponse>): Promise<Member> {
    await this.start();
    const answer = await ask();
    await this.start();
    this.changing += 1;
    try {
      this.socket.stop();
      this.part();
      await this.tokens.begin(answer, () => this.erase());
      this.journal.put(new Keys(answer.member._id).me, JSON.stringify(answer.member));
      if (answer.device_proof) this.journal.put(PROOF_KEY, answer.device_proof);
      await this.resume(answer.member._id);
    } catch (error) {
      this.sessionState.set({ status: "signed_out" });
      throw error;
    } finally {
      this.changing -= 1;
    }
    return answer.member;
  }

  /** Takes up what is kept of a member, and connects. */
  protected async resume(member: MemberId): Promise<void> {
    const keys = new Keys(member);
    // What others have left here, and have not come back for.
    for (const range of rangesOfOthers(keys)) this.journal.clear(...range);
    const book = new Book(this.environment, this.journal, keys, this.socket);
    const core = { environment: this.environment, journal: this.journal, keys, api: this.api, connection: this.socket, book };
    const extensions = new Map([...this.makers].map((make) => [make, make(core)]));
    const [[, text] = []] = await this.journal.range(keys.me, `${keys.me}~`).catch(() => []);
    const record = text === undefined ? undefined : read(text, OWN);
    await book.load().catch((error: unknown) => this.debug("storage cannot be read", { error: String(error) }));
    await Promise.all([...extensions.values()].map((extension) => extension.load()));
    const wanted = () => !this.stopped && this.tokens.member === member;
    const present = (own: Member | undefined) => {
      if (own && wanted() && !this.signedIn) this.present(own, { keys, book, core, extensions, handles: new Map(), unsubscribe: [] });
    };
    if (record) return present(record);
    // The app was killed right after the log-in, before anything was kept: the server knows who it is. Nobody waits for that.
    void this.patiently("own record not read", () => this.api.json<Member>(ME), wanted).then(present);
  }

  private present(own: Member, signedIn: SignedIn): void {
    this.signedIn = signedIn;
    this.left = undefined;
    this.sessionState.set({ status: "signed_in", id: own._id, member: own });
    signedIn.unsubscribe.push(follow(signedIn.book.list, this.list), follow(signedIn.book.unread, this.unreadState));
    this.socket.start();
  }

  /** Tries until it succeeds, or is not wanted any more. */
  private async patiently<T>(what: string, work: () => Promise<T>, wanted: () => boolean): Promise<T | undefined> {
    const backoff = new Backoff(this.environment.random);
    while (wanted()) {
      try {
        return await work();
      } catch (error) {
        this.debug(what, { code: problemOf(error).code });
        await new Promise<void>((resolve) => this.environment.clock.setTimeout(resolve, backoff.next()));
      }
    }
    return undefined;
  }

  private handle({ book, extensions }: SignedIn, conversation: Conversation): Handle {
    return new Handle(conversation, book, this.journal, (written) => {
      for (const extension of extensions.values()) extension.sent?.(written);
    });
  }

  /** What the device is, for the list of sessions and for the socket. */
  private get device(): { platform: Platform; name?: string } {
    const { platform, deviceName } = this.options;
    return { platform, ...given({ name: shownName(deviceName) }) };
  }

  private hello() {
    const cursor = this.signedIn?.book.hello();
    const device = { id: this.deviceId, ...this.device };
    return { device, ...given({ cursor }) };
  }

  private pushed(frame: ServerFrame): void {
    const { signedIn } = this;
    if (!signedIn) return;
    const { type } = frame;
    if (type === "applications") this.waiting.set(frame.waiting);
    else signedIn.book.received(frame);
    for (const extension of signedIn.extensions.values()) extension.pushed(frame);
    if (type === "member") this.memberChanged(signedIn, frame.member?.id);
  }

  private memberChanged({ keys, extensions }: SignedIn, id: MemberId): void {
    if (id === keys.member) void this.refreshMember().catch(() => undefined);
    // What nobody keeps up to date is asked for anew.
    if (extensions.size === 0) this.journal.put(keys.card(id), null);
  }

  private online(online: boolean): void {
    const { signedIn } = this;
    if (online && this.deviceStatus !== "online") this.socket.tell({ type: "presence.set", status: this.deviceStatus });
    signedIn?.book.online(online);
    for (const extension of signedIn?.extensions.values() ?? []) extension.online(online ? this.limits : undefined);
  }

  private learnSelf(member: Member): void {
    const state = this.sessionState.getSnapshot();
    if (state.status !== "signed_in" || state.id !== member._id || !fits(member, OWN)) return;
    this.journal.put(new Keys(member._id).me, JSON.stringify(member));
    this.sessionState.set({ ...state, member });
  }

  /** The server does not take the session any more: what was not sent waits for the member to sign in again, everything else goes. After a log-out in another tab nothing stays. */
  private sessionOver(reason: SignedOutReason): void {
    this.debug("session over", { reason });
    const member = this.signedIn?.keys.member;
    this.socket.stop();
    this.sessionState.set({ status: "signed_out", reason });
    this.part();
    if (member) for (const range of rangesOf(reason === "logged_out" ? member : member + KEEP_UNSENT)) this.journal.clear(...range);
    // When it is noted for all tabs, it is done in this one: before anybody signs in.
    void this.eraseNoted().catch(() => undefined);
  }

  private part(): void {
    const { signedIn } = this;
    this.signedIn = undefined;
    if (!signedIn) return;
    this.left = signedIn;
    signedIn.book.stop();
    if (!this.stopped) signedIn.book.hide();
    for (const extension of signedIn.extensions.values()) extension.stop();
    for (const unsubscribe of signedIn.unsubscribe) unsubscribe();
    this.list.set(NOBODY);
    this.unreadState.set(NOTHING);
    this.waiting.set(0);
  }

  private somebody(): SignedIn {
    const somebody = this.signedIn ?? this.left;
    if (!somebody) throw new MembersBookError("token_missing", "Nobody is signed in.");
    return somebody;
  }

  private debug(what: string, details?: DebugEvent["details"]): void {
    try {
      this.options.debug?.({ at: this.environment.clock.now(), what, ...given({ details }) });
    } catch {
      // A log that fails is no reason to fail.
    }
  }
}

/** Makes one value follow another. */
function follow<T>(from: Value<T>, to: Value<T>): () => void {
  to.set(from.getSnapshot());
  return from.subscribe(() => to.set(from.getSnapshot()));
}

/** A name that the server takes; nothing if there is none in it: nobody is kept out because of what their device is called. */
function shownName(name: string | undefined): string | undefined {
  const visible = (name ?? "").normalize("NFC").replace(/[\p{C}\p{Zl}\p{Zp}]/gu, " ").replace(/\s+/g, " ").trim();
  const cut = [...visible].slice(0, NAME_MAX).join("").trim();
  return /[\p{L}\p{N}]/u.test(cut) ? cut : undefined;
}
