import { Api } from "./api.js";
import { Backoff } from "./backoff.js";
import { fits, OWN, read } from "./check.js";
import { Connection } from "./connection.js";
import { addressOf, platformEnvironment } from "./environment.js";
import type { Environment, Observable } from "./environment.js";
import { MembersBookError, misuse, nobody } from "./errors.js";
import { Erasures, takesAll } from "./erasures.js";
import type { Extend, Extension } from "./extension.js";
import { Journal, valueIn } from "./journal.js";
import { given } from "./json.js";
import { migrate } from "./migrate.js";
import { problemOf } from "./problem.js";
import { Proofs } from "./proofs.js";
import type { AuthResponse, DeviceStatus, Limits, LoginRequest, Member, MemberId, Platform, RegisterRequest, ServerFrame } from "./protocol.js";
import { DEVICE_KEY, ERASED_KEY, KEEP_UNSENT, Keys, rangesOf, rangesOfOthers, SCHEMA_KEY, SCHEMA_VERSION } from "./records.js";
import { keptOf, Session } from "./session.js";
import type { Kept } from "./session.js";
import { SignIn } from "./sign-in.js";
import { timely, timelyVault } from "./storage/deadline.js";
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

/** A log-out waits so long for the vault before the server is told all the same, in milliseconds. */
const TELL_MS = 1_000;

/** So often a vault that cannot be read is tried before somebody may sign in over it. */
const VAULT_TRIES = 4;
/** So long, in milliseconds, new messages wait for those in a storage that does not open. */
const GIVEN_UP_MS = 30_000;

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
  private readonly proofs: Proofs;
  /** Who is signed in, or was last: a screen may ask once more before it is gone. */
  private signIn: SignIn | undefined;
  private unfollow: (() => void)[] = [];
  private storageOpen = false;
  /** Not before it was tried: nothing is known to be there. */
  private vaultRead = true;
  /** What of the storage fails: it cannot be written, or the conversations or the unsent messages cannot be read. */
  private failing = { unwritten: false, log: false, outbox: false };
  private deviceId = "";
  private deviceStatus: DeviceStatus = "online";
  /** What the server said at the last welcome. */
  private limits: Partial<Limits> = {};
  /** What was asked for once is there for whoever signs in. */
  private readonly extensions = new Map<Extend<Extension>, Extension>();
  protected started: Promise<void> | undefined;
  private readonly erasures: Erasures;
  protected stopped = false;

  protected readonly options: ClientOptions;

  constructor(options: ClientOptions) {
    const url = addressOf(options.url);
    this.environment = { ...platformEnvironment(), ...options.environment };
    if (!options.environment?.socket && typeof WebSocket === "undefined") throw misuse("There is no WebSocket here: give `environment: { socket }`, with that of the package ws.");
    const { clock } = this.environment;
    const storage = timely(options.storage, clock);
    const vault = timelyVault(options.vault, clock);
    this.options = { ...options, storage, vault };
    this.tokens = new Session(vault, clock, this.environment.uuid, () => this.api, (reason) => this.sessionOver(reason));
    this.api = new Api(url, this.environment, this.tokens, (proof, own) => this.proofs.keep(proof, own ? this.own?.email : undefined));
    this.journal = new Journal(storage, clock, (failing, error) => {
      this.debug(failing ? "storage fails" : "storage works again", failing ? { error: String(error) } : {});
      this.storageFails({ unwritten: failing });
    });
    this.proofs = new Proofs(this.journal);
    this.erasures = new Erasures(vault, this.journal, (error) => this.debug("erasure not noted", { error: String(error) }));
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
      const proof = await this.proofs.of(credentials.email);
      return this.api.login({ device: this.device, ...given({ device_proof: proof }), ...credentials });
    });
  }

  async logout({ all = false }: { all?: boolean } = {}): Promise<void> {
    const { current } = this.tokens;
    try {
      if (all && current) await this.api.logout(true);
    } catch (error) {
      // Who wants all to end has to know that they have not.
      if (!(error instanceof MembersBookError) || error.verdict !== "log_in") throw error;
    }
    let telling: Promise<void> | undefined;
    const tell = (kept: Kept | undefined) => (telling ??= kept && !all ? this.endSession(kept) : Promise.resolve());
    const { clock } = this.environment;
    const slow = clock.setTimeout(() => current && void tell(this.tokens.current ?? current), TELL_MS);
    try {
      // At once: what is kept here may take its time.
      await this.forget(tell);
    } finally {
      clock.clearTimeout(slow);
      // Also where the device cannot forget it: asked for again, it does.
      await tell(current);
    }
  }

  /** Leaves the club, for ever. Throws `step_up_required`, and nothing was done, if it is a while ago that the member has proved who they are: `Account.stepUp`, then again. */
  async leave(): Promise<void> {
    await this.api.json(ME, { method: "DELETE" });
    await this.forget();
  }

  /** Tells the server that a session is over. Without a network it ends by itself. */
  private async endSession({ access, refresh, attempt = this.environment.uuid() }: Kept): Promise<void> {
    const end = (token: string) => this.api.logout(false, token);
    try {
      await end(access).catch(async (error: MembersBookError) => {
        if (error.verdict === "log_in") await end((await this.api.refresh(refresh, attempt)).access_token);
      });
    } catch {
      // It was not reached.
    }
  }

  /**
   * Signs out here, and in all tabs, and removes everything of the member who is signed in, or was. That it has to go is kept before anybody else is told, but where the vault takes its time: whatever ends
   * now, it goes. Rejects if it cannot be kept: then the member is still signed in. `noted` is told of the tokens when it is.
   */
  private async forget(noted: (kept: Kept | undefined) => unknown = () => undefined): Promise<void> {
    const { signIn } = this;
    if (!signIn) return this.part("logged_out");
    const kept = await this.tokens.end(signIn.member, () => {
      this.part("logged_out");
      this.journal.clear(...signIn.keys.all);
    });
    noted(kept);
    await this.erase().catch(() => undefined);
    await this.journal.attempted();
  }

  /** Removes from this storage what the vault notes. */
  private erase(): Promise<Erasure[]> {
    return this.erasures.run((found) => {
      const { signIn } = this;
      // It was of a session before this one, of which this tab has not heard: it begins anew.
      if (signIn && !signIn.ended && found.some((each) => each.startsWith(signIn.member))) this.part();
    });
  }

  async refreshMember(): Promise<Member> {
    const member = await this.api.json<Member>(ME);
    this.learnSelf(member);
    return member;
  }

  unsent(): number | undefined {
    const { signIn } = this;
    if (!signIn) return this.vaultRead ? 0 : undefined;
    return signIn.reason !== "logged_out" ? signIn.book.unsent : 0;
  }

  conversation(target: Target): ConversationHandle {
    const { signIn } = this;
    if (!signIn?.shown) throw nobody();
    return signIn.conversation(target);
  }

  target(key: string): Target {
    const [, kind, id] = /^(?:([cm])_)?([0-9a-f]{24})$/.exec(key) ?? [];
    if (!id) throw misuse("This is no key of a conversation.");
    return kind === "c" ? { conversation: id } : { member: id };
  }

  extend<E extends Extension>(make: Extend<E>): E {
    const known = this.extensions.get(make) as E | undefined;
    if (known) return known;
    const made = make();
    this.extensions.set(make, made);
    const { signIn } = this;
    if (signIn && !signIn.ended) void made.begin(signIn.core);
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

  /** Takes up the session of the vault, if nobody is signed in here. Rejects if it cannot be read. */
  protected async takeUp(): Promise<void> {
    const signIn = await this.tokens.load((member) => this.begin(member));
    if (signIn) await this.resume(signIn);
  }

  /** Who is signed in, and shown. */
  protected get signedIn(): SignIn | undefined {
    const { signIn } = this;
    return signIn?.shown && !signIn.ended ? signIn : undefined;
  }

  /** The record of who is signed in. */
  private get own(): Member | undefined {
    const state = this.sessionState.getSnapshot();
    return state.status === "signed_in" ? state.member : undefined;
  }

  /** Removes what any tab has noted to be removed. Whose session was known as over, and who has logged out in truth, is told so. */
  protected async eraseNoted(): Promise<void> {
    const gone = await this.options.vault.exclusive(() => this.erase());
    const { signIn } = this;
    if (signIn?.reason && gone.some((each) => takesAll(each, signIn.member))) this.part("logged_out");
  }

  private async open(): Promise<void> {
    await this.openStorage();
    const load = async () => {
      await this.erase();
      await this.takeUp();
      this.vaultRead = true;
    };
    this.vaultRead = false;
    await this.patiently("vault cannot be read", load, () => true, VAULT_TRIES);
    if (this.stopped) return;
    if (!this.signIn && this.sessionState.getSnapshot().status === "loading") this.sessionState.set({ status: "signed_out" });
    if (!this.vaultRead) void this.patiently("vault cannot be read", load, () => !this.signIn);
  }

  private async openStorage(): Promise<void> {
    try {
      await this.readStorage();
    } catch (error) {
      // Unsent messages have the form that they always had, and are shown and sent all the same.
      this.journal.suspend(error, /^\w+\/o\//, () => this.readStorage());
    }
    this.deviceId ||= this.environment.uuid();
    this.journal.put(SCHEMA_KEY, String(SCHEMA_VERSION));
  }

  /** Opens the storage, brings it to the form of this version, and reads what does not wait for a member. */
  private async readStorage(): Promise<void> {
    const { storage } = this.options;
    if (!this.storageOpen) await storage.open();
    this.storageOpen = true;
    // First of all: another id would be another device.
    const id = await storage.get(DEVICE_KEY);
    if (id) this.deviceId = id;
    this.erasures.load(await storage.get(ERASED_KEY));
    await migrate(storage);
    if (!id) this.journal.put(DEVICE_KEY, (this.deviceId ||= this.environment.uuid()));
  }

  /** Signs in with an answer of the server. */
  private async enter(ask: () => AuthResponse | Promise<AuthResponse>): Promise<Member> {
    await this.start();
    const answer = await ask();
    const { member, device_proof: proof } = answer;
    const first = async () => {
      await this.start();
      await this.erase().catch(() => undefined);
      // Stopped meanwhile: the session ends. Once it is kept it is that of the next start.
      await this.start();
    };
    const [signIn, former] = await this.tokens.begin(answer, first, () => {
      const begun = this.begin(member._id);
      this.alone(begun);
      begun.journal.put(begun.keys.me, JSON.stringify(member));
      return begun;
    }).catch((error: unknown) => {
      void this.endSession(keptOf(answer));
      throw error;
    });
    if (proof) await this.proofs.keep(proof, member.email);
    // Nobody has it any more: it would be in the list of sessions until it expires.
    if (former) void this.endSession(former);
    await this.resume(signIn);
    return member;
  }

  /** The tokens are those of a member now: what was before ends, and what is of the member begins. */
  private begin(member: MemberId): SignIn {
    this.part();
    const { environment, journal, api, socket: connection, extensions } = this;
    const signIn = new SignIn(member, { environment, journal, api, connection, sent: (conversation) => extensions.forEach((extension) => extension.sent?.(conversation)) });
    this.signIn = signIn;
    return signIn;
  }

  /** Removes what others have left here, and have not come back for. Of tokens that were only found it is not known yet whether their session was ever shown: it may have ended before. */
  private alone({ keys, journal }: SignIn): void {
    for (const range of rangesOfOthers(keys)) journal.clear(...range);
  }

  /** Takes up what is kept of a member, and connects. */
  private async resume(signIn: SignIn): Promise<void> {
    const { keys, journal, book, core } = signIn;
    const kept = async () => read(await valueIn(journal, keys.me).catch(() => undefined), OWN);
    const record = await kept();
    await this.insist(signIn, "log", async () => {
      if (this.journal.isSuspended) throw new MembersBookError("storage", "The storage is not open.");
      await book.load();
    });
    await this.insist(signIn, "outbox", () => book.loadOutbox());
    if (!signIn.ended) await Promise.all([...this.extensions.values()].map((extension) => extension.begin(core)));
    if (record) return this.present(record, signIn);
    // The app was killed right after the log-in, before anything was kept: the server knows who it is; or it could not be read yet. Nobody waits for that.
    void this.patiently("own record not read", async () => (await kept()) ?? this.api.json<Member>(ME), () => !signIn.ended).then((own) => own && this.present(own, signIn));
  }

  /** Reads what is kept, also from a storage that fails for a while. Nothing is sent before the outbox is read, but if the storage does not open for so long that it is given up. */
  private async insist(signIn: SignIn, what: "log" | "outbox", load: () => Promise<void>): Promise<void> {
    try {
      await load();
    } catch (error) {
      this.debug(`${what} cannot be read`, { error: String(error) });
      this.storageFails({ [what]: true });
      void this.patiently(`${what} cannot be read`, load, () => !signIn.ended).then(() => this.signIn === signIn && this.storageFails({ [what]: false }));
      this.environment.clock.setTimeout(() => this.journal.isSuspended && signIn.book.outbox.open(false), GIVEN_UP_MS);
    }
  }

  protected storageFails(change: Partial<Client["failing"]>): void {
    this.failing = { ...this.failing, ...change };
    const { unwritten, log, outbox } = this.failing;
    const state = this.connectionState.getSnapshot();
    if (state.storageFailing !== (unwritten || log || outbox)) this.connectionState.set({ ...state, storageFailing: !state.storageFailing });
  }

  private present(own: Member, signIn: SignIn): void {
    if (signIn.ended || this.stopped) return;
    signIn.shown = true;
    this.alone(signIn);
    this.sessionState.set({ status: "signed_in", id: own._id, member: own });
    this.unfollow = [follow(signIn.book.list, this.list), follow(signIn.book.unread, this.unreadState)];
    this.socket.start();
  }

  /** Tries until it succeeds, is not wanted any more, or has been tried so often. */
  private async patiently<T>(what: string, work: () => Promise<T>, wanted: () => boolean, tries = Infinity): Promise<T | undefined> {
    const backoff = new Backoff(this.environment.random);
    for (let tried = 1; wanted() && !this.stopped; tried += 1) {
      try {
        return await work();
      } catch (error) {
        this.debug(what, { code: problemOf(error).code });
        if (tried >= tries) break;
        await new Promise<void>((resolve) => this.environment.clock.setTimeout(resolve, backoff.next()));
      }
    }
    return undefined;
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
    for (const extension of this.extensions.values()) extension.pushed(frame);
    if (type === "member") this.memberChanged(signedIn, frame.member?.id);
  }

  private memberChanged({ keys, journal }: SignIn, id: MemberId): void {
    if (id === keys.member) void this.refreshMember().catch(() => undefined);
    // What nobody keeps up to date is asked for anew.
    if (this.extensions.size === 0) journal.put(keys.card(id), null);
  }

  private online(online: boolean): void {
    if (online && this.deviceStatus !== "online") this.socket.tell({ type: "presence.set", status: this.deviceStatus });
    this.signedIn?.book.online(online);
    for (const extension of this.extensions.values()) extension.online(online ? this.limits : undefined);
  }

  private learnSelf(member: Member): void {
    const state = this.sessionState.getSnapshot();
    if (state.status !== "signed_in" || state.id !== member._id || !fits(member, OWN)) return;
    this.signIn?.journal.put(new Keys(member._id).me, JSON.stringify(member));
    this.sessionState.set({ ...state, member });
  }

  /** The server does not take the session any more: what was not sent waits for the member to sign in again, everything else goes. After a log-out in another tab nothing stays. */
  private sessionOver(reason: SignedOutReason): void {
    this.debug("session over", { reason });
    const member = this.signIn?.member;
    this.part(reason);
    if (member) for (const range of rangesOf(reason === "logged_out" ? member : member + KEEP_UNSENT)) this.journal.clear(...range);
    // When it is noted for all tabs, it is done in this one: before anybody signs in.
    void this.eraseNoted().catch(() => undefined);
  }

  /** Whoever is signed in is not any more: the one place in which that ends. `reason`: nobody is now, and that is why; else it is about to be seen. */
  private part(reason?: SignedOutReason): undefined {
    const { signIn } = this;
    const ends = signIn && !signIn.ended;
    if (signIn && reason) signIn.reason = reason;
    if (ends) {
      this.tokens.drop();
      this.socket.stop();
    }
    // Before anything vanishes: nothing is missing for whoever is signed in.
    if (reason) this.sessionState.set({ status: "signed_out", reason });
    else if (!this.stopped && this.sessionState.getSnapshot().status === "signed_in") this.sessionState.set({ status: "loading" });
    if (!ends) return;
    signIn.end(!this.stopped);
    this.storageFails({ log: false, outbox: false });
    for (const extension of this.extensions.values()) extension.stop();
    for (const unfollow of this.unfollow.splice(0)) unfollow();
    this.list.set(NOBODY);
    this.unreadState.set(NOTHING);
    this.waiting.set(0);
  }

  protected debug(what: string, details?: DebugEvent["details"]): void {
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
  const visible = (name ?? "").normalize("NFC").replace(/[\p{C}\s]+/gu, " ").trim();
  const cut = [...visible].slice(0, NAME_MAX).join("").trim();
  return /[\p{L}\p{N}]/u.test(cut) ? cut : undefined;
}
