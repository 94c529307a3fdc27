import type { Api, Tokens } from "./api.js";
import { fits, read } from "./check.js";
import type { Form } from "./check.js";
import { Timer } from "./environment.js";
import type { Clock } from "./environment.js";
import { MembersBookError, nobody } from "./errors.js";
import { objectIn } from "./json.js";
import type { AuthResponse, MemberId } from "./protocol.js";
import { KEEP_UNSENT } from "./records.js";
import { isLate } from "./storage/deadline.js";
import type { Erasure, Vault } from "./storage.js";
import type { SignedOutReason } from "./types.js";

/** A token that is good for less than this is renewed before it is used, in milliseconds. */
const SPARE_MS = 20_000;
/** In place of what is in a vault that cannot be read. No tokens, and no reason. */
const UNREADABLE = "unreadable";
/** A vault that could not be written is tried again after so long, each time doubled, in milliseconds; so often before a token is used that is not kept; then after so long. */
const STORE_FIRST_MS = 100;
const STORE_TRIES = 4;
const STORE_AGAIN_MS = 5_000;

/** The tokens of a session. */
export interface Kept {
  readonly member: MemberId;
  readonly access: string;
  readonly refresh: string;
  /** What the exchange of the refresh token is called, once that has begun: whoever repeats it says the same, or is taken for a thief. */
  readonly attempt?: string | undefined;
  /** When the access token expires, by the server's clock, in milliseconds since the Unix epoch. */
  readonly expires: number;
}

const KEPT: Form<Kept> = { member: "string", access: "string", refresh: "string", expires: "number", attempt: "string?" };

/** The tokens of the session: kept in the vault, which tabs share, and renewed once, whoever asks. */
export class Session implements Tokens {
  replaced = 0;
  private kept: Kept | undefined;
  /** Until when the access token is good, by the clock that does not jump: known for those that were got in this run. */
  private goodUntil: number | undefined;
  /** Counts who signs in and out: what was read before is not taken after. */
  private generation = 0;
  private renewing: Promise<string> | undefined;
  /** The access token that was refused last: it looks good by the clock, and is not given out again. */
  private bad: string | undefined;
  /** Does not wait any longer for the answer to a refresh. */
  private abandon: (() => void) | undefined;
  /** The refresh token that was used last. While the vault has it, what could not be stored is newer. */
  private spent: string | undefined;
  private readonly storing: Timer;

  constructor(
    private readonly vault: Vault,
    private readonly clock: Clock,
    private readonly uuid: () => string,
    private readonly api: () => Api,
    /** The session is over: called once for each. */
    private readonly onOver: (reason: SignedOutReason) => void,
  ) {
    this.storing = new Timer(clock);
  }

  /** The tokens of who is signed in. */
  get current(): Kept | undefined {
    return this.kept;
  }

  /** Takes up what the vault has, if nobody is signed in here, and nobody signs in or out meanwhile. `taken` is called with the tokens in the same moment. Throws if the vault cannot be read: that is no log-out. */
  async load<T>(taken: (member: MemberId) => T): Promise<T | undefined> {
    const { generation } = this;
    const kept = parsed(await this.vault.get());
    if (!kept || this.kept || generation !== this.generation) return undefined;
    const result = taken(kept.member);
    this.drop();
    this.adopt(kept);
    return result;
  }

  /**
   * Somebody has signed in. Rejects if the tokens cannot be kept: then nothing has changed. Nobody else signs in or out meanwhile. `first`: what has to be done before;
   * `taken` is called when the tokens are kept, in the moment in which they are taken. Resolves with what that gives, and the tokens in whose place these are.
   */
  begin<T>(answer: AuthResponse, first: () => Promise<unknown>, taken: () => T): Promise<[result: T, former: Kept | undefined]> {
    this.abandon?.();
    return this.vault.exclusive(async () => {
      await first();
      const text = await this.vault.get().catch((cause: unknown) => {
        // What is written now may be kept late, and what was there could not be put back.
        if (isLate(cause)) throw unkept(cause);
        return UNREADABLE;
      });
      const former = parsed(text);
      const kept = keptOf(answer);
      await this.vault.set(JSON.stringify(kept)).catch((cause: unknown) => {
        // It may be kept still, when nobody has it any more: what was there comes after it.
        if (isLate(cause) && text !== UNREADABLE) this.vault.set(text ?? null).catch(() => undefined);
        throw unkept(cause);
      });
      const result = taken();
      this.drop();
      this.take(kept);
      return [result, former];
    });
  }

  /**
   * Forgets the tokens in the vault, and notes there that everything of the member has to go: other tabs may have it, and this one may die now. They are forgotten here
   * when that is kept, and `gone` is called; until then nothing has changed, and it may be asked for again. Resolves with the tokens: the server may not know yet.
   */
  end(member: MemberId, gone: () => void): Promise<Kept | undefined> {
    // Whoever logs out does not wait for the network.
    this.abandon?.();
    return this.vault.exclusive(async () => {
      const { kept: mine } = this;
      const text = await this.vault.get().catch(() => UNREADABLE);
      const kept = text === UNREADABLE ? mine : parsed(text);
      const own = kept?.member === member;
      await this.vault.set(kept && !own ? JSON.stringify(kept) : null, this.note(member));
      gone();
      this.drop();
      return own ? kept : undefined;
    });
  }

  /** Forgets the tokens, here and nowhere else. */
  drop(): void {
    this.kept = undefined;
    this.generation += 1;
    this.storing.stop();
  }

  /** Whether the vault has the session still: another tab may have ended it. */
  async check(): Promise<void> {
    const { kept, generation } = this;
    if (!kept) return;
    let text: string | undefined;
    try {
      text = await this.vault.get();
    } catch {
      return;
    }
    if (parsed(text)?.member !== kept.member && generation === this.generation) this.over(reasonOf(text));
  }

  async access(): Promise<string> {
    const { kept } = this;
    if (!kept) throw nobody();
    const left = this.goodUntil === undefined ? kept.expires - this.clock.now() : this.goodUntil - this.clock.monotonic();
    // One that looks bad by a clock that may be wrong is renewed for nothing at worst.
    return left > SPARE_MS && kept.access !== this.bad ? kept.access : this.renew(kept.access);
  }

  /** Another access token, in place of one that is refused, or only `expiring`: that one is used until there is another. Who asks during a renewal waits for the same one. */
  renew(refused: string, expiring = false): Promise<string> {
    if (!expiring) this.bad = refused;
    this.renewing ??= this.vault
      .exclusive(() => this.exchange(refused))
      .finally(() => {
        this.renewing = undefined;
      });
    return this.renewing;
  }

  /** Other tabs wait with their renewals, and find the new tokens then. */
  replace<T>(ask: (access: string) => Promise<T>, fresh: (answer: T) => Partial<AuthResponse> | undefined): Promise<T> {
    return this.vault.exclusive(async () => {
      const { generation } = this;
      const stored = parsed(await this.vault.get().catch(() => undefined));
      if (!this.kept || generation !== this.generation) throw nobody();
      // Another tab was faster.
      if (stored?.member === this.kept.member && stored.refresh !== this.kept.refresh && stored.refresh !== this.spent) this.adopt(stored);
      const { access, refresh } = this.kept;
      const answer = await ask(access);
      const tokens = fresh(answer);
      // Servers of before leave them as they are; and who has signed out meanwhile needs none.
      if (tokens?.access_token === undefined || generation !== this.generation) return answer;
      const next = keptOf(tokens);
      // Those of before are gone, so these are good although they may not be kept yet.
      this.take(next);
      this.replaced += 1;
      this.spent = refresh;
      await this.store(next).catch(() => this.later());
      return answer;
    });
  }

  private async exchange(refused: string): Promise<string> {
    const { kept: mine, generation } = this;
    if (!mine) throw nobody();
    const text = await this.vault.get().catch(() => UNREADABLE);
    if (generation !== this.generation) throw nobody();
    const kept = text === UNREADABLE ? mine : parsed(text);
    if (kept?.member !== mine.member) {
      // Another tab has signed out, or in as somebody else: what is known here must not come back.
      this.over(reasonOf(text));
      throw nobody();
    }
    const behind = kept.refresh === this.spent;
    // Another tab was faster.
    if (kept.access !== refused && !behind) {
      this.adopt(kept);
      return kept.access;
    }
    const tokens = behind ? mine : kept;
    const { refresh } = tokens;
    const attempt = await this.begun(tokens, text === UNREADABLE ? undefined : kept);
    if (generation !== this.generation) throw nobody();
    try {
      const next = keptOf(await this.refreshed(refresh, attempt));
      if (generation !== this.generation) throw nobody();
      await this.store(next);
      if (generation !== this.generation) throw nobody();
      this.take(next);
      this.spent = refresh;
      return next.access;
    } catch (error) {
      if (error instanceof MembersBookError && generation === this.generation) {
        if (error.code === "member_deactivated" || error.code === "member_suspended") this.over("deactivated");
        // Where a vault lets two in at once, another tab may have been faster.
        else if (error.verdict === "log_in" && (await this.refused(tokens.access, "session_over")) && this.kept) return this.kept.access;
      }
      throw error;
    }
  }

  /**
   * What the exchange of a token is called. It is kept beside the token before anybody is asked: after a restart and in another tab it is the same exchange. `stored`: what the vault has.
   * Rejects if it cannot be known or kept, and another tab may call it something else; where there is none, it is good as long as this run lasts.
   */
  private async begun(tokens: Kept, stored: Kept | undefined): Promise<string> {
    const { refresh } = tokens;
    const { kept: mine } = this;
    if (!stored && (await this.vault.shared?.())) throw unkept();
    const attempt = tokens.attempt ?? (mine?.refresh === refresh ? mine.attempt : undefined) ?? this.uuid();
    if (stored?.refresh === refresh && stored.attempt === attempt) return attempt;
    await this.store({ ...tokens, attempt });
    // Where a vault lets two in at once, they agree on what was written last.
    const agreed = parsed(await this.vault.get().catch(() => undefined));
    const last = (agreed?.refresh === refresh && agreed.attempt) || attempt;
    if (this.kept?.refresh === refresh) this.kept = { ...this.kept, attempt: last };
    return last;
  }

  /** An answer that is lost costs nothing: the token is good until what came of it is used, and whoever asks again uses the same one, and calls it the same. */
  private refreshed(token: string, attempt: string): Promise<AuthResponse> {
    return new Promise((resolve, reject) => {
      this.abandon = () => reject(new MembersBookError("network", "It is not waited for any longer."));
      this.api().refresh(token, attempt).then(resolve, reject);
    });
  }

  /**
   * Keeps tokens before their first use, which ends the ones before: until then a tab that dies has lost nothing. Where that fails for long they are good as long as this
   * run lasts, if no other tab has the former ones; else this rejects, and they are asked for again.
   */
  private async store(next: Kept): Promise<void> {
    const text = JSON.stringify(next);
    for (let tries = 1; ; tries += 1) {
      try {
        return await this.vault.set(text);
      } catch (cause) {
        // What is late is not made sooner by being asked for again.
        if (tries < STORE_TRIES && !isLate(cause)) {
          await new Promise<void>((resolve) => this.clock.setTimeout(resolve, STORE_FIRST_MS * 2 ** (tries - 1)));
        } else if (await this.vault.shared?.()) {
          throw unkept(cause);
        } else {
          return this.later();
        }
      }
    }
  }

  /** Tries again to keep what is used already. */
  private later(): void {
    this.storing.set(STORE_AGAIN_MS, () => {
      const work = async () => {
        const { kept } = this;
        if (kept && parsed(await this.vault.get())?.refresh === this.spent) await this.vault.set(JSON.stringify(kept));
      };
      this.vault.exclusive(work).catch(() => this.later());
    });
  }

  /** The server does not take this access token any more, for this reason. True if the vault has another one of the member, who has signed in since, or another tab was faster; else the session is over. */
  async refused(access: string, reason: SignedOutReason): Promise<boolean> {
    const { generation } = this;
    const text = await this.vault.get().catch(() => UNREADABLE);
    const mine = this.kept;
    if (!mine || generation !== this.generation) return false;
    const kept = parsed(text);
    if (kept?.member === mine.member && kept.access !== access && kept.refresh !== this.spent) {
      this.adopt(kept);
      this.replaced += 1;
      return true;
    }
    this.over(kept?.member === mine.member || text === UNREADABLE ? reason : reasonOf(text));
    return false;
  }

  /** The server does not take the session any more. In the vault it is forgotten if it is still the same: other tabs may have it, and this one may die now. */
  over(reason: SignedOutReason): void {
    const { kept, spent } = this;
    if (!kept) return;
    this.drop();
    const forget = async () => {
      const { member, refresh } = parsed(await this.vault.get()) ?? {};
      if (member === kept.member && (refresh === kept.refresh || refresh === spent)) await this.vault.set(JSON.stringify({ over: reason }), this.note(member, KEEP_UNSENT));
    };
    // Who has logged out elsewhere has noted that there.
    if (reason !== "logged_out") this.vault.exclusive(forget).catch(() => undefined);
    this.onOver(reason);
  }

  /** What has to go of a member, with when that was noted: of a later sign-in nothing has to. */
  private note(member: MemberId, stays = ""): Erasure {
    const { clock } = this;
    return `${member}${stays}.${clock.now().toString(36)}${Math.floor(clock.monotonic()).toString(36)}`;
  }

  /** Tokens that were in the vault. */
  private adopt(kept: Kept): void {
    this.kept = kept;
    this.goodUntil = undefined;
  }

  /** Tokens that have come just now. */
  private take(kept: Kept): void {
    this.kept = kept;
    // With a clock that goes wrong a new token can look expired: then it is good until it is refused.
    const left = kept.expires - this.clock.now();
    this.goodUntil = this.clock.monotonic() + (left > SPARE_MS ? left : Number.POSITIVE_INFINITY);
  }
}

/** The tokens in an answer of the server. Throws if there are none: it is not of the server. */
export function keptOf({ member, access_token: access, refresh_token: refresh, expires_at }: Partial<AuthResponse>): Kept {
  const kept = { member: member?._id, access, refresh, expires: Date.parse(expires_at ?? "") } as Kept;
  if (!fits(kept, KEPT)) throw new MembersBookError("network", "The answer is none of the server.");
  return kept;
}

/** The tokens in what the vault has. */
function parsed(text: string | undefined): Kept | undefined {
  return read(text, KEPT);
}

/** The vault does not take the tokens. */
function unkept(cause?: unknown): MembersBookError {
  return Object.assign(new MembersBookError("storage", "The session cannot be kept on this device."), { cause });
}

/** Why there are no tokens in the vault. */
function reasonOf(text: string | undefined): SignedOutReason {
  const over = objectIn<{ over: unknown }>(text)?.over;
  return over === "session_over" || over === "deactivated" ? over : "logged_out";
}
