import type { Api, Tokens } from "./api.js";
import type { Clock } from "./environment.js";
import { MembersBookError } from "./errors.js";
import { objectIn } from "./json.js";
import type { AuthResponse, MemberId } from "./protocol.js";
import { KEEP_UNSENT } from "./records.js";
import type { Vault } from "./storage.js";
import type { SignedOutReason } from "./types.js";

/** A token that is good for less than this is renewed before it is used, in milliseconds. */
const SPARE_MS = 20_000;
/** In place of what is in a vault that cannot be read. No tokens, and no reason. */
const UNREADABLE = "unreadable";

/** What is kept of a session. */
interface Kept {
  member: MemberId;
  access: string;
  refresh: string;
  /** When the access token expires, by the server's clock, in milliseconds since the Unix epoch. */
  expires: number;
}

/** The tokens of the session: kept in the vault, which tabs share, and renewed once, whoever asks. */
export class Session implements Tokens {
  private kept: Kept | undefined;
  /** Until when the access token is good, by the clock that does not jump: known for those that were got in this run. */
  private goodUntil: number | undefined;
  private renewing: Promise<string> | undefined;
  /** The refresh token that was used last. While the vault has it, what could not be stored is newer. */
  private spent: string | undefined;

  constructor(
    private readonly vault: Vault,
    private readonly clock: Clock,
    private readonly api: () => Api,
    /** The session is over: called once for each. */
    private readonly onOver: (reason: SignedOutReason) => void,
  ) {}

  /** Who is signed in. */
  get member(): MemberId | undefined {
    return this.kept?.member;
  }

  /** Reads what is kept. */
  async load(wanted: () => boolean = () => true): Promise<MemberId | undefined> {
    const kept = await this.read();
    if (!wanted()) return undefined;
    this.kept = kept;
    this.goodUntil = undefined;
    return kept?.member;
  }

  /** Somebody has signed in. Rejects if the tokens cannot be kept: then nobody has. `first`: what has to be done before, and nobody signs in or out meanwhile. */
  async begin(answer: AuthResponse, first: () => Promise<unknown> = () => Promise.resolve()): Promise<void> {
    await this.vault.exclusive(async () => {
      await first();
      this.take(answer);
      try {
        await this.vault.set(JSON.stringify(this.kept));
      } catch (cause) {
        this.kept = undefined;
        throw Object.assign(new MembersBookError("storage", "The session cannot be kept on this device."), { cause });
      }
    });
  }

  /** Forgets the tokens, here and in the vault, and notes there that everything of the member has to go. Resolves with the tokens: the server may not know yet. */
  async end(member: MemberId): Promise<Kept | undefined> {
    this.kept = undefined;
    return this.forget(member, "logged_out");
  }

  /** Forgets the tokens in the vault, if they are of this member, and notes there what of the member has to go: other tabs may have it, and this one may die now. */
  private forget(member: MemberId, reason: SignedOutReason): Promise<Kept | undefined> {
    return this.vault.exclusive(async () => {
      const text = await this.vault.get();
      const kept = parsed(text);
      const own = kept?.member === member;
      if (reason === "logged_out") await this.vault.set(kept && !own && text ? text : null, member);
      else if (own) await this.vault.set(JSON.stringify({ over: reason }), member + KEEP_UNSENT);
      return own ? kept : undefined;
    });
  }

  /** Whether the vault has the session still: another tab may have ended it. */
  async check(): Promise<void> {
    const member = this.kept?.member;
    if (member === undefined) return;
    let text: string | undefined;
    try {
      text = await this.vault.get();
    } catch {
      return;
    }
    if (parsed(text)?.member !== member && this.kept?.member === member) this.over(reasonOf(text));
  }

  async access(): Promise<string> {
    const { kept } = this;
    if (!kept) throw new MembersBookError("token_missing", "Nobody is signed in.");
    const left = this.goodUntil === undefined ? kept.expires - this.clock.now() : this.goodUntil - this.clock.monotonic();
    // One that looks bad by a clock that may be wrong is renewed for nothing at worst.
    return left > SPARE_MS ? kept.access : this.renew(kept.access);
  }

  /** The access token is refused, or about to be: another one. */
  renew(refused: string): Promise<string> {
    this.renewing ??= this.vault
      .exclusive(() => this.exchange(refused))
      .finally(() => {
        this.renewing = undefined;
      });
    return this.renewing;
  }

  private async exchange(refused: string): Promise<string> {
    const member = this.kept?.member;
    if (member === undefined) throw new MembersBookError("token_missing", "Nobody is signed in.");
    const text = await this.vault.get().catch(() => UNREADABLE);
    const kept = text === UNREADABLE ? this.kept : parsed(text);
    if (kept?.member !== member) {
      // Another tab has signed out, or in as somebody else: what is known here must not come back.
      this.over(reasonOf(text));
      throw new MembersBookError("token_missing", "Nobody is signed in.");
    }
    const behind = kept.refresh === this.spent;
    if (behind) await this.vault.set(JSON.stringify(this.kept)).catch(() => undefined);
    // Another tab was faster.
    if (kept.access !== refused && !behind) {
      this.kept = kept;
      this.goodUntil = undefined;
      return kept.access;
    }
    const refresh = (behind ? this.kept : kept)?.refresh ?? "";
    try {
      // An answer that is lost costs nothing: the token is good until what came of it is used, and whoever asks again uses the same one.
      const answer = await this.api().refresh(refresh);
      if (this.kept?.member !== member) throw new MembersBookError("token_missing", "Nobody is signed in.");
      this.take(answer);
      this.spent = refresh;
      // Before the first use, which ends the old one: until then a tab that dies has lost nothing. If there is no room, it is good as long as this run lasts.
      await this.vault.set(JSON.stringify(this.kept)).catch(() => undefined);
      return answer.access_token;
    } catch (error) {
      if (error instanceof MembersBookError && this.kept?.member === member) {
        if (error.code === "member_deactivated" || error.code === "member_suspended") this.over("deactivated");
        else if (error.verdict === "log_in") this.over("session_over");
      }
      throw error;
    }
  }

  /** The server does not take the session any more. */
  over(reason: SignedOutReason): void {
    const { kept } = this;
    if (!kept) return;
    this.kept = undefined;
    // Who has logged out elsewhere has noted that there.
    if (reason !== "logged_out") void this.forget(kept.member, reason).catch(() => undefined);
    this.onOver(reason);
  }

  private take(answer: AuthResponse): void {
    const expires = Date.parse(answer.expires_at);
    this.kept = { member: answer.member._id, access: answer.access_token, refresh: answer.refresh_token, expires };
    // With a clock that goes wrong a new token can look expired: then it is good until it is refused.
    const left = expires - this.clock.now();
    this.goodUntil = this.clock.monotonic() + (left > SPARE_MS ? left : Number.POSITIVE_INFINITY);
  }

  /** What the vault has. Throws if it cannot be read: that is no log-out. */
  private async read(): Promise<Kept | undefined> {
    return parsed(await this.vault.get());
  }
}

/** The tokens in what the vault has. */
function parsed(text: string | undefined): Kept | undefined {
  const { member, access, refresh, expires } = objectIn<Kept>(text) ?? {};
  return typeof member === "string" && typeof access === "string" && typeof refresh === "string" && typeof expires === "number"
    ? { member, access, refresh, expires }
    : undefined;
}

/** Why there are no tokens in the vault. */
function reasonOf(text: string | undefined): SignedOutReason {
  const over = objectIn<{ over: unknown }>(text)?.over;
  return over === "session_over" || over === "deactivated" ? over : "logged_out";
}
