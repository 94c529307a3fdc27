import { path } from "./api.js";
import { CARD, fits, isId, read, timeOf, within } from "./check.js";
import type { Observable } from "./environment.js";
import type { Core, Extension } from "./extension.js";
import type { Limits, MemberCard, MemberId, Presence, Profile, ServerFrame } from "./protocol.js";
import { pauseAfter } from "./problem.js";
import type { MemberView, PresenceView } from "./types.js";
import { Value } from "./value.js";

/** Names of one `presence.watch`, at most. */
const WATCH_FRAME = 100;
/** Presence that nobody looks at is watched for so long, in milliseconds: a list that is scrolled asks once. */
const LINGER_MS = 10_000;
/** Requests gather for so long, in milliseconds. */
const GATHER_MS = 30;
/** A member of another node shows as offline for a moment: not shown for so long, in milliseconds. */
const OFFLINE_MS = 500;
/** Without a connection for so long, in milliseconds, presence is not known any more. */
const FORGET_MS = 2_500;
/** Members that are remembered in memory, and presences. */
const CARDS_MAX = 5_000;
const STATUSES: readonly string[] = ["online", "away", "offline"];
/** Members that a connection watches, until the server says how many it lets it watch. */
const WATCH_MAX = 500;
const UNKNOWN: PresenceView = { status: "unknown" };
const NOBODY = new Value(UNKNOWN);

/** What is known of other members, and how they are. */
export class Roster implements Extension {
  private readonly cards = new Map<MemberId, Value<MemberView | undefined>>();
  private readonly asking = new Set<MemberId>();
  private readonly presences = new Map<MemberId, Value<PresenceView>>();
  /** Whom this connection watches, as the server counts: those who were asked for, and not given up since. */
  private readonly watched = new Set<MemberId>();
  /** The server is being asked. */
  private busy = false;
  private readonly timers = new Map<MemberId, unknown>();
  private gathering: unknown;
  private forgetting: unknown;
  private watchMax = WATCH_MAX;
  private loading: Promise<void> | undefined;
  /** Of who is signed in. What is asked in one sign-in is not answered in another. */
  private core: Core | undefined;

  begin(core: Core): Promise<void> {
    this.core = core;
    return (this.loading = this.read(core));
  }

  pushed(frame: ServerFrame): void {
    if (frame.type === "member") this.learn(this.core, frame.member, true);
    else if (frame.type === "presence") this.seen(frame, false);
  }

  member(id: MemberId): Observable<MemberView | undefined> {
    return this.cardOf(id);
  }

  /** A profile has changed. Of two the later one counts. */
  private learn(core: Core | undefined, card: MemberCard, keep: boolean): void {
    if (!core || core !== this.core || !fits(card, CARD)) return;
    const value = this.cardOf(card.id);
    const known = value.getSnapshot();
    if (known && Date.parse(known.updated_at) >= Date.parse(card.updated_at)) return;
    value.set(card);
    if (keep) core.journal.put(core.keys.card(card.id), JSON.stringify(card));
  }

  presence(id: MemberId): Observable<PresenceView> {
    let value = this.presences.get(id);
    if (!value) {
      // Nobody has it: the server would refuse everybody who is asked for with it.
      if (!isId(id)) return NOBODY;
      shed(this.presences);
      value = new Value(UNKNOWN);
      this.presences.set(id, value);
      value.onWatched = (watched) => {
        this.cancel(id);
        if (!watched) this.later(id, LINGER_MS, () => this.gather());
        // Who has left has room for others.
        this.gather();
      };
    }
    return value;
  }

  /** Somebody's presence, of a snapshot or a push. */
  private seen(presence: Presence, snapshot: boolean): void {
    const value = this.presences.get(presence.member);
    if (!value || !this.watched.has(presence.member) || !STATUSES.includes(presence.status)) return;
    const lastSeen = timeOf(presence.last_seen);
    const view: PresenceView = { status: presence.status, ...(lastSeen === undefined ? {} : { lastSeen }) };
    if (value.watched) this.cancel(presence.member);
    if (snapshot && view.status === "offline" && value.getSnapshot().status !== "offline") {
      this.later(presence.member, OFFLINE_MS, () => value.set(view));
    } else {
      value.set(view);
    }
  }

  online(limits?: Partial<Limits>): void {
    if (!this.core) return;
    const { clock } = this.core.environment;
    clock.clearTimeout(this.forgetting);
    this.watched.clear();
    if (limits) {
      this.watchMax = within(limits.watch_max, 1, 10_000, WATCH_MAX);
      this.gather();
      for (const [id, card] of this.cards) if (card.watched && !card.getSnapshot()) void this.ask(id);
    } else {
      // How anybody is, is not known any more, unless the connection comes back in a moment.
      this.forgetting = clock.setTimeout(() => this.forget(), FORGET_MS);
    }
  }

  stop(): void {
    const { clock } = this.core?.environment ?? {};
    this.watched.clear();
    clock?.clearTimeout(this.gathering);
    clock?.clearTimeout(this.forgetting);
    this.gathering = undefined;
    this.forget();
    this.core = undefined;
    this.asking.clear();
    for (const card of this.cards.values()) card.set(undefined);
  }

  private async read(core: Core): Promise<void> {
    for (const [, text] of await core.journal.range(...core.keys.cards).catch(() => [])) {
      const card = read(text, CARD);
      if (card) this.learn(core, card, false);
    }
  }

  private forget(): void {
    for (const id of this.presences.keys()) this.unknown(id);
  }

  private gather(ms = GATHER_MS): void {
    if (!this.core) return;
    this.gathering ??= this.core.environment.clock.setTimeout(() => {
      this.gathering = undefined;
      void this.askPresence();
    }, ms);
  }

  /** One request after the other: gives up first who need not be watched, then asks for those whom there is room for. The others are asked for when somebody has left. */
  private async askPresence(): Promise<void> {
    const { watched, core } = this;
    if (this.busy || !core?.connection.online) return;
    const wanted = [...this.presences].filter(([id, value]) => value.watched && !watched.has(id)).map(([id]) => id);
    const room = this.watchMax - watched.size;
    // Nobody looks at them: those who may linger as long as there is room.
    const idle = [...watched].filter((id) => !this.presences.get(id)?.watched && (wanted.length > room || !this.timers.has(id)));
    const leaving = idle.length > 0;
    const members = leaving ? idle : wanted.slice(0, Math.min(WATCH_FRAME, room));
    if (members.length === 0) return;
    this.busy = true;
    let wait: number | undefined;
    let gone = leaving;
    for (const id of members) watched.add(id);
    try {
      const reply = await core.connection.request<"presence.snapshot" | "ok">({ type: leaving ? "presence.unwatch" : "presence.watch", members });
      if (reply.type === "presence.snapshot") for (const presence of reply.members) this.seen(presence, true);
    } catch (error) {
      // Too fast, perhaps: once more, in a while. What is refused for good is not asked for again on this connection.
      wait = pauseAfter(error);
      gone = leaving ? wait === undefined : wait !== undefined;
    }
    if (gone) {
      for (const id of members) {
        watched.delete(id);
        if (leaving) this.unknown(id);
      }
    }
    this.busy = false;
    this.gather(core.connection.online ? (wait ?? 0) : 0);
  }

  private unknown(id: MemberId): void {
    this.cancel(id);
    this.presences.get(id)?.set(UNKNOWN);
  }

  private later(id: MemberId, ms: number, call: () => void): void {
    const timer = this.core?.environment.clock.setTimeout(() => {
      this.timers.delete(id);
      call();
    }, ms);
    this.timers.set(id, timer);
  }

  private cancel(id: MemberId): void {
    this.core?.environment.clock.clearTimeout(this.timers.get(id));
    this.timers.delete(id);
  }

  private cardOf(id: MemberId): Value<MemberView | undefined> {
    let value = this.cards.get(id);
    if (!value) {
      shed(this.cards);
      value = new Value<MemberView | undefined>(undefined);
      this.cards.set(id, value);
      const created = value;
      value.onWatched = (watched) => {
        if (watched && !created.getSnapshot()) void this.ask(id);
      };
    }
    return value;
  }

  private async ask(id: MemberId): Promise<void> {
    const { core, asking } = this;
    if (!core || !isId(id) || asking.has(id)) return;
    asking.add(id);
    try {
      // It may be stored.
      await this.loading;
      if (core !== this.core || this.cardOf(id).getSnapshot()) return;
      const { _id, name, tier, profile_image_url, user_type, is_active, updated_at } = await core.api.json<Profile>(`/api/members/${path(id)}`);
      this.learn(core, { id: _id, name, tier, user_type, is_active, updated_at, ...(profile_image_url ? { profile_image_url } : {}) }, true);
    } catch {
      // Asked again with the next connection, or by the next who looks.
    } finally {
      if (core === this.core) asking.delete(id);
    }
  }
}

/** Makes room for another one, if there are too many that nobody looks at. */
function shed(values: Map<MemberId, { readonly watched: boolean }>): void {
  for (const [id, { watched }] of values) {
    if (values.size < CARDS_MAX) return;
    if (!watched) values.delete(id);
  }
}
