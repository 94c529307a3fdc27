import type { Environment } from "./environment.js";
import { MembersBookError, refusal } from "./errors.js";
import { objectIn } from "./json.js";
import type {
  AuthResponse, CheckedInvitation, ClubInfo, DeviceProof, Directory, Export, InvitationId, InvitationPage, InvitationRequest, Language, LoginRequest, Member, MemberId, MemberPatch,
  NewInvitation, OptimizeResponse, PasswordChange, Problem, Profile, Recommendation, RecommendationId, RecommendationsResponse, RecoveryCodes, RegisterRequest,
  RegistrationPending, SecondFactor, SecondFactorDisabling, SecondFactorEnrolment, Session, SessionId, SessionList, StepUpRequest, Tier,
} from "./protocol.js";

/** How long an answer is waited for, in milliseconds; an upload or an export longer. */
const TIMEOUT_MS = 20_000;
const LONG_TIMEOUT_MS = 120_000;

/** A request of the REST API. */
export interface ApiRequest {
  method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Values that are not given are left out. */
  query?: Readonly<Record<string, string | number | boolean | undefined>>;
  /** Sent as JSON. */
  body?: unknown;
  /** Sent as it is. */
  data?: { readonly type: string; readonly content: Blob | ArrayBuffer | Uint8Array<ArrayBuffer> };
  headers?: Readonly<Record<string, string>>;
  /** Without a token. */
  anonymous?: boolean;
  /** With this token, and no other if that is refused. */
  token?: string | undefined;
  timeoutMs?: number;
}

/** A record with the version that it was read in, for `ifMatch` of a change. */
export interface Versioned<T> {
  readonly value: T;
  readonly version: string | undefined;
}

/** Where the tokens come from. */
export interface Tokens {
  /** A token that is good, as far as is known. Throws `log_in` if nobody is signed in. */
  access(): Promise<string>;
  /** The server refused this token: another one, or throws. */
  renew(refused: string): Promise<string>;
}

/** A page of a list: which, and how long. */
export interface Page {
  cursor?: string | undefined;
  limit?: number | undefined;
}

/** The REST API, typed, but for what only administrators need (`Administration`). Every method throws `MembersBookError`. */
export class Api {
  constructor(
    /** Where the server is: `https://club.example`. */
    readonly url: string,
    private readonly environment: Environment,
    private readonly tokens: Tokens,
    /** Keeps the proof of this device, which a new password replaces. */
    private readonly keepProof: (proof: string) => void = () => undefined,
  ) {}

  /** The whole address of a picture. */
  photo(path: string | null | undefined): string | undefined {
    return path ? (path.startsWith("/") ? this.url + path : path) : undefined;
  }

  // Accounts: used by the client, which keeps the tokens.
  /** Where mail is sent, a mail with a link comes first, and there are no tokens yet; where an administrator decides, they come first. */
  register(body: RegisterRequest): Promise<AuthResponse | RegistrationPending> { return this.json("/api/auth/register", { method: "POST", body, anonymous: true }); }
  /** Who may register and who may invite, whether the club has no administrator yet, and whether it sends mail: for the screens before signing in. */
  club(): Promise<ClubInfo> { return this.json("/api/club", { anonymous: true }); }
  /** Makes the club: its first administrator, with the code that the server printed. */
  setup(body: RegisterRequest & { code: string }): Promise<AuthResponse> { return this.json("/api/setup", { method: "POST", body, anonymous: true }); }
  /** Whether the club has no administrator yet. */
  setupNeeded(): Promise<{ needed: boolean }> { return this.json("/api/setup", { anonymous: true }); }
  login(body: LoginRequest): Promise<AuthResponse> { return this.json("/api/auth/login", { method: "POST", body, anonymous: true }); }
  refresh(refresh_token: string): Promise<AuthResponse> { return this.json("/api/auth/refresh", { method: "POST", body: { refresh_token }, anonymous: true }); }
  logout(all: boolean, token?: string): Promise<void> { return this.json("/api/auth/logout", { method: "POST", body: { all }, token }); }

  // Invitations.
  /** What whoever has a code may know of its invitation. Rejects with `invitation_invalid` if it is not good. */
  checkInvitation(code: string): Promise<CheckedInvitation> { return this.json("/api/invitations/check", { method: "POST", body: { code }, anonymous: true }); }
  /** Makes an invitation. Its code is in the answer and nowhere else. */
  invite(body: InvitationRequest = {}): Promise<NewInvitation> { return this.json("/api/invitations", { method: "POST", body }); }
  /** One's own, the newest first. */
  invitations(options: Page = {}): Promise<InvitationPage> { return this.json("/api/invitations", { query: { ...options } }); }
  revokeInvitation(id: InvitationId): Promise<void> { return this.json(`/api/invitations/${path(id)}`, { method: "DELETE" }); }

  // Members.
  directory(options: Page & { tier?: Tier | undefined } = {}): Promise<Directory> { return this.json("/api/members", { query: { ...options } }); }
  search(q: string, options: Page = {}): Promise<Directory> { return this.json("/api/members/search", { query: { q, ...options } }); }
  member(id: MemberId): Promise<Profile> { return this.json(`/api/members/${path(id)}`); }
  me(): Promise<Versioned<Member>> { return this.versioned("/api/members/me"); }
  /** Changes one's own profile: what is left out stays, `null` removes. */
  updateMe(body: MemberPatch, ifMatch?: string): Promise<Versioned<Member>> { return this.versioned("/api/members/me", { method: "PATCH", body, headers: match(ifMatch) }); }
  updateMember(id: MemberId, body: MemberPatch, ifMatch?: string): Promise<Versioned<Member>> { return this.versioned(`/api/members/${path(id)}`, { method: "PATCH", body, headers: match(ifMatch) }); }
  uploadPhoto(id: MemberId, type: string, content: Blob | ArrayBuffer | Uint8Array<ArrayBuffer>): Promise<Versioned<Member>> {
    return this.versioned(`/api/members/${path(id)}/photo`, { method: "PUT", data: { type, content }, timeoutMs: LONG_TIMEOUT_MS });
  }
  removePhoto(id: MemberId): Promise<void> { return this.json(`/api/members/${path(id)}/photo`, { method: "DELETE" }); }
  /** Changes the password. This session stays, every other one of the member ends. */
  changePassword(change: PasswordChange): Promise<void> { return this.proved("/api/members/me/password", { method: "PUT", body: change }); }
  /** Has a link that sets a new password sent, if a member has the address; the answer does not tell. */
  forgotPassword(email: string): Promise<void> { return this.json("/api/auth/password/forgot", { method: "POST", body: { email }, anonymous: true }); }
  /** Sets a new password with the token of a link. Every session of the member ends. */
  resetPassword(token: string, new_password: string): Promise<void> {
    return this.proved("/api/auth/password/reset", { method: "POST", body: { token, new_password }, anonymous: true });
  }
  /** Shows that an address is its member's, with the token of a link. */
  verifyEmail(token: string, password?: string): Promise<void> {
    return this.json("/api/auth/email/verify", { method: "POST", body: { token, password }, anonymous: true });
  }
  /** Has the link that does that sent again, to the signed-in member. */
  sendVerification(): Promise<void> { return this.json("/api/members/me/email/verification", { method: "POST" }); }
  /** Chooses the language of mails; `null`: that of the server. */
  setLanguage(language: Language | null): Promise<Versioned<Member>> { return this.updateMe({ language }); }
  /** Proves again who is at the device, for 15 minutes: with a code of the second factor by who has one, with the password by who has none. */
  stepUp(proof: StepUpRequest): Promise<void> { return this.json("/api/auth/step-up", { method: "POST", body: proof }); }
  /** Leaves the club, for ever. Throws `step_up_required` if it is a while ago that the member has proved who they are: `stepUp`, then again. */
  leave(): Promise<void> { return this.json("/api/members/me", { method: "DELETE" }); }
  export(): Promise<Export> { return this.json("/api/members/me/export", { timeoutMs: LONG_TIMEOUT_MS }); }

  // Where the member is signed in.
  sessions(): Promise<SessionList> { return this.json("/api/members/me/sessions"); }
  renameSession(id: SessionId, name: string): Promise<Session> { return this.json(`/api/members/me/sessions/${path(id)}`, { method: "PATCH", body: { name } }); }
  /** Ends a session: its device is signed out. For the one of this device there is `logout()` of the client, which forgets what is kept here as well. */
  endSession(id: SessionId): Promise<void> { return this.json(`/api/members/me/sessions/${path(id)}`, { method: "DELETE" }); }
  /** Ends every session but this one. */
  endOtherSessions(): Promise<void> { return this.json("/api/members/me/sessions", { method: "DELETE" }); }

  // The second factor.
  secondFactor(): Promise<SecondFactor> { return this.json("/api/members/me/second-factor"); }
  /** What an authenticator app is to be given. Nothing is on before `confirmSecondFactor`, for which there are ten minutes. */
  beginSecondFactor(password: string): Promise<SecondFactorEnrolment> { return this.json("/api/members/me/second-factor", { method: "POST", body: { password } }); }
  /** Turns it on, with a code that the app shows. The recovery codes are in the answer and nowhere else. */
  confirmSecondFactor(enrolment: string, code: string): Promise<RecoveryCodes> {
    return this.json("/api/members/me/second-factor/confirm", { method: "POST", body: { enrolment, code } });
  }
  /** New recovery codes; those of before are good no more. */
  replaceRecoveryCodes(code: string): Promise<RecoveryCodes> { return this.json("/api/members/me/second-factor/recovery-codes", { method: "POST", body: { code } }); }
  disableSecondFactor(body: SecondFactorDisabling): Promise<void> { return this.json("/api/members/me/second-factor/disable", { method: "POST", body }); }

  // Advice.
  recommendations(): Promise<RecommendationsResponse> { return this.json("/api/ai/recommendations"); }
  applyRecommendation(id: RecommendationId): Promise<Recommendation> { return this.json(`/api/ai/recommendations/${path(id)}/apply`, { method: "POST" }); }
  dismissRecommendation(id: RecommendationId): Promise<Recommendation> { return this.json(`/api/ai/recommendations/${path(id)}/dismiss`, { method: "POST" }); }
  optimizeProfile(): Promise<OptimizeResponse> { return this.json("/api/ai/profile/optimize", { method: "POST" }); }

  /** Any endpoint. The answer is taken to have the form that the caller says. */
  async json<T>(path: string, request: ApiRequest = {}): Promise<T> {
    return (await this.versioned<T>(path, request)).value;
  }

  /** Any endpoint, with the `ETag` of the answer. */
  async versioned<T>(path: string, request: ApiRequest = {}): Promise<Versioned<T>> {
    let token = request.anonymous ? undefined : (request.token ?? (await this.tokens.access()));
    let response = await this.ask(path, request, token);
    if (response.status === 401 && token !== undefined && !request.token) {
      token = await this.tokens.renew(token);
      response = await this.ask(path, request, token);
    }
    if (response.status >= 400) throw problemOf(response);
    const value = (response.text === "" ? undefined : JSON.parse(response.text)) as T;
    return { value, version: response.headers.get("etag") ?? undefined };
  }

  /** A request that sets a password. Servers of before answer without a proof. */
  private async proved(path: string, request: ApiRequest): Promise<void> {
    const answer = await this.json<Partial<DeviceProof> | undefined>(path, request);
    if (answer?.device_proof) this.keepProof(answer.device_proof);
  }

  private async ask(path: string, request: ApiRequest, token: string | undefined): Promise<Answer> {
    const given = Object.entries(request.query ?? {}).filter(([, value]) => value !== undefined);
    const query = given.map(([name, value]) => `${name}=${encodeURIComponent(String(value))}`).join("&");
    const headers: Record<string, string> = { ...request.headers };
    if (token !== undefined) headers["authorization"] = `Bearer ${token}`;
    if (request.body !== undefined) headers["content-type"] = "application/json";
    if (request.data) headers["content-type"] = request.data.type;
    const content = request.data?.content ?? (request.body === undefined ? undefined : JSON.stringify(request.body));
    const abort = new AbortController();
    const timer = this.environment.clock.setTimeout(() => abort.abort(), request.timeoutMs ?? TIMEOUT_MS);
    try {
      const response = await this.environment.fetch(this.url + path + (query && `?${query}`), {
        method: request.method ?? "GET",
        headers,
        signal: abort.signal,
        ...(content === undefined ? {} : { body: content }),
      });
      return { status: response.status, headers: response.headers, text: await response.text() };
    } catch (cause) {
      throw unreached(cause);
    } finally {
      this.environment.clock.clearTimeout(timer);
    }
  }
}

/** An answer that was read to its end. */
interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

/** An id as a part of a path: one that is none leads nowhere else. */
export function path(id: string): string {
  return encodeURIComponent(id);
}

function match(version: string | undefined): Record<string, string> {
  return version === undefined ? {} : { "if-match": version };
}

function unreached(cause: unknown): MembersBookError {
  return Object.assign(new MembersBookError("network", "The server was not reached, or did not answer in time."), { cause });
}

/** What an answer that is an error says. One that is not of the server (of a proxy) counts as one that may be sent again. */
function problemOf(response: Answer): MembersBookError {
  const after = Number(response.headers.get("retry-after"));
  const details = {
    retryAfterMs: after > 0 ? after * 1000 : undefined,
    requestId: response.headers.get("x-request-id") ?? undefined,
  };
  const problem = objectIn<Problem>(response.text);
  if (typeof problem?.code === "string") return refusal(problem.code, problem.detail, { ...details, fields: problem.errors, until: problem.until });
  return new MembersBookError("network", `The server answered ${response.status}.`, details);
}
