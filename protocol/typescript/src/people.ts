import { CARD, fits, isId, timeOf } from "./check.js";
import type { Environment, Observable } from "./environment.js";
import type { Journal } from "./journal.js";
import { problemOf } from "./problem.js";
import type { MemberCard, MemberId, Presence, Profile, ServerFrame } from "./protocol.js";
import type { Keys } from "./records.js";
import type { MemberView, PresenceView } from "./types.js";
import { Value } from "./value.js";

/** Names of one `presence.watch`, and members watched, at most. */
const WATCH_FRAME = 100;
/** Presence that nobody looks at is watched for so long, in milliseconds: a list that is scrolled asks once. */
const LINGER_MS = 10_000;
/** Requests gather for so long, in milliseconds. */
const GATHER_MS = 30;
/** A member of another node shows as offline for a moment: not shown for so long, in milliseconds. */
const OFFLINE_MS = 500;
/** Without a connection for so long, in milliseconds, presence is not known any more. */
const FORGET_MS = 2_500;
/** Members that are remembered in memory. */
const CARDS_MAX = 5_000;
const STATUSES: readonly string[] = ["online", "away", "offline"];
const UNKNOWN: PresenceView = { status: "unknown" };

/** What is known of other members, and how they are. */
export class People {
  private readonly cards = new Map<MemberId, Value<MemberView | undefined>>();
  private readonly asking = new Set<MemberId>();
  private readonly presences = new Map<MemberId, Value<PresenceView>>();
  private readonly watched = new Set<MemberId>();
  private readonly timers = new Map<MemberId, unknown>();
  private gathering: unknown;
  private forgetting: unknown;
  private stopped = false;
  private watchMax = 500;

  constructor(
    private readonly environment: Environment,
    private readonly journal: Journal,
    private readonly keys: Keys,
    private readonly fetchMember: (id: MemberId) => Promise<Profile>,
    private readonly watch: (type: "presence.watch" | "presence.unwatch", members: MemberId[]) => Promise<ServerFrame>,
    private readonly isOnline: () => boolean,
  ) {}

  /** Takes up what was stored. */
  load(cards: Iterable<MemberCard>): void {
    for (const card of cards) this.cardOf(card.id).set(card);
  }

  member(id: MemberId): Observable<MemberView | undefined> {
    return this.cardOf(id);
  }

  /** A profile has changed. Of two the later one counts. */
  learn(card: MemberCard, keep: boolean): void {
    if (this.stopped || !fits(card, CARD)) return;
    const value = this.cardOf(card.id);
    const known = value.getSnapshot();
    if (known && Date.parse(known.updated_at) >= Date.parse(card.updated_at)) return;
    value.set(card);
    if (keep) this.journal.put(this.keys.card(card.id), JSON.stringify(card));
  }

  presence(id: MemberId): Observable<PresenceView> {
    let value = this.presences.get(id);
    if (!value) {
      value = new Value(UNKNOWN);
      // Nobody has it: the server would refuse everybody who is asked for with it.
      if (!isId(id)) return value;
      this.presences.set(id, value);
      value.onWatched = (watched) => {
        this.cancel(id);
        if (watched) this.gather();
        else this.timers.set(id, this.environment.clock.setTimeout(() => this.unwatch(id), LINGER_MS));
      };
    }
    return value;
  }

  /** Somebody's presence, of a snapshot or a push. */
  seen(presence: Presence, snapshot: boolean): void {
    const value = this.presences.get(presence.member);
    if (!value || !STATUSES.includes(presence.status)) return;
    const lastSeen = timeOf(presence.last_seen);
    const view: PresenceView = { status: presence.status, ...(lastSeen === undefined ? {} : { lastSeen }) };
    if (value.watched) this.cancel(presence.member);
    if (snapshot && view.status === "offline" && value.getSnapshot().status !== "offline") {
      this.timers.set(presence.member, this.environment.clock.setTimeout(() => value.set(view), OFFLINE_MS));
    } else {
      value.set(view);
    }
  }

  online(watchMax: number): void {
    this.watchMax = watchMax;
    this.environment.clock.clearTimeout(this.forgetting);
    this.watched.clear();
    this.gather();
    for (const [id, card] of this.cards) if (card.watched && !card.getSnapshot()) void this.ask(id);
  }

  /** The connection is gone: how anybody is, is not known any more, unless it comes back in a moment. */
  offline(): void {
    this.watched.clear();
    this.environment.clock.clearTimeout(this.forgetting);
    this.forgetting = this.environment.clock.setTimeout(() => this.forget(), FORGET_MS);
  }

  stop(): void {
    this.stopped = true;
    this.watched.clear();
    this.environment.clock.clearTimeout(this.gathering);
    this.environment.clock.clearTimeout(this.forgetting);
    for (const id of this.presences.keys()) this.cancel(id);
  }

  private forget(): void {
    for (const [id, value] of this.presences) {
      this.cancel(id);
      if (value.watched) value.set(UNKNOWN);
      else this.presences.delete(id);
    }
  }

  private gather(): void {
    this.gathering ??= this.environment.clock.setTimeout(() => {
      this.gathering = undefined;
      void this.ask_presence();
    }, GATHER_MS);
  }

  private async ask_presence(): Promise<void> {
    if (!this.isOnline()) return;
    const wanted = [...this.presences].filter(([id, value]) => value.watched && !this.watched.has(id)).map(([id]) => id);
    const members = wanted.slice(0, Math.min(WATCH_FRAME, this.watchMax - this.watched.size));
    if (members.length === 0) return;
    for (const id of members) this.watched.add(id);
    try {
      const reply = await this.watch("presence.watch", members);
      if (reply.type === "presence.snapshot") for (const presence of reply.members) this.seen(presence, true);
      if (wanted.length > members.length) this.gather();
    } catch (error) {
      // The same would be refused again.
      if (problemOf(error).verdict === "fix") return;
      for (const id of members) this.watched.delete(id);
      // Too fast, perhaps: once more, in a while.
      if (this.isOnline()) this.environment.clock.setTimeout(() => this.gather(), 1_000);
    }
  }

  private unwatch(id: MemberId): void {
    this.timers.delete(id);
    if (this.presences.get(id)?.watched) return;
    this.presences.delete(id);
    if (this.watched.delete(id) && this.isOnline()) void this.watch("presence.unwatch", [id]).catch(() => undefined);
  }

  private cancel(id: MemberId): void {
    this.environment.clock.clearTimeout(this.timers.get(id));
    this.timers.delete(id);
  }

  private cardOf(id: MemberId): Value<MemberView | undefined> {
    let value = this.cards.get(id);
    if (!value) {
      if (this.cards.size >= CARDS_MAX) this.shed();
      value = new Value<MemberView | undefined>(undefined);
      this.cards.set(id, value);
      const created = value;
      value.onWatched = (watched) => {
        if (watched && !created.getSnapshot()) void this.ask(id);
      };
    }
    return value;
  }

  private shed(): void {
    for (const [id, value] of this.cards) {
      if (this.cards.size < CARDS_MAX) return;
      if (!value.watched) this.cards.delete(id);
    }
  }

  private async ask(id: MemberId): Promise<void> {
    if (!isId(id) || this.asking.has(id)) return;
    this.asking.add(id);
    try {
      const { _id, name, tier, profile_image_url, user_type, is_active, updated_at } = await this.fetchMember(id);
      this.learn({ id: _id, name, tier, user_type, is_active, updated_at, ...(profile_image_url ? { profile_image_url } : {}) }, true);
    } catch {
      // Asked again with the next connection, or by the next who looks.
    }
    this.asking.delete(id);
  }
}
