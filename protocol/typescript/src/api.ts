import type { Environment } from "./environment.js";
import { MembersBookError, refusal } from "./errors.js";
import { objectIn } from "./json.js";
import type {
  ActiveChange, AdminMember, AdminMemberPage, AuditPage, AuthResponse, Directory, Disconnected, Export, LoginRequest, Member, MemberId, MemberPatch,
  OptimizeResponse, PasswordChange, Problem, Profile, Recommendation, RecommendationId, RecommendationsResponse, RegisterRequest, ServerStats, Tier, UserType,
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

interface Page {
  cursor?: string | undefined;
  limit?: number | undefined;
}

/** The REST API, typed. Every method throws `MembersBookError`. */
export class Api {
  constructor(
    /** Where the server is: `https://club.example`. */
    readonly url: string,
    private readonly environment: Environment,
    private readonly tokens: Tokens,
  ) {}

  /** The whole address of a picture. */
  photo(path: string | null | undefined): string | undefined {
    return path ? (path.startsWith("/") ? this.url + path : path) : undefined;
  }

  // Accounts: used by the client, which keeps the tokens.
  register(body: RegisterRequest): Promise<AuthResponse> { return this.json("/api/auth/register", { method: "POST", body, anonymous: true }); }
  /** Makes the club: its first administrator, with the code that the server printed. */
  setup(body: RegisterRequest & { code: string }): Promise<AuthResponse> { return this.json("/api/setup", { method: "POST", body, anonymous: true }); }
  /** Whether the club has no administrator yet. */
  setupNeeded(): Promise<{ needed: boolean }> { return this.json("/api/setup", { anonymous: true }); }
  login(body: LoginRequest): Promise<AuthResponse> { return this.json("/api/auth/login", { method: "POST", body, anonymous: true }); }
  refresh(refresh_token: string): Promise<AuthResponse> { return this.json("/api/auth/refresh", { method: "POST", body: { refresh_token }, anonymous: true }); }
  logout(all: boolean): Promise<void> { return this.json("/api/auth/logout", { method: "POST", body: { all } }); }

  // Members.
  directory(options: Page & { tier?: Tier | undefined } = {}): Promise<Directory> { return this.json("/api/members", { query: { ...options } }); }
  search(q: string, options: Page = {}): Promise<Directory> { return this.json("/api/members/search", { query: { q, ...options } }); }
  member(id: MemberId): Promise<Profile> { return this.json(`/api/members/${id}`); }
  me(): Promise<Versioned<Member>> { return this.versioned("/api/members/me"); }
  /** Changes one's own profile: what is left out stays, `null` removes. */
  updateMe(body: MemberPatch, ifMatch?: string): Promise<Versioned<Member>> { return this.versioned("/api/members/me", { method: "PATCH", body, headers: match(ifMatch) }); }
  updateMember(id: MemberId, body: MemberPatch, ifMatch?: string): Promise<Versioned<Member>> { return this.versioned(`/api/members/${id}`, { method: "PATCH", body, headers: match(ifMatch) }); }
  uploadPhoto(id: MemberId, type: string, content: Blob | ArrayBuffer | Uint8Array<ArrayBuffer>): Promise<Versioned<Member>> {
    return this.versioned(`/api/members/${id}/photo`, { method: "PUT", data: { type, content }, timeoutMs: LONG_TIMEOUT_MS });
  }
  removePhoto(id: MemberId): Promise<void> { return this.json(`/api/members/${id}/photo`, { method: "DELETE" }); }
  /** Changes the password. This session stays, every other one of the member ends. */
  changePassword(change: PasswordChange): Promise<void> { return this.json("/api/members/me/password", { method: "PUT", body: change }); }
  /** Leaves the club, for ever. */
  leave(): Promise<void> { return this.json("/api/members/me", { method: "DELETE" }); }
  export(): Promise<Export> { return this.json("/api/members/me/export", { timeoutMs: LONG_TIMEOUT_MS }); }

  // Advice.
  recommendations(): Promise<RecommendationsResponse> { return this.json("/api/ai/recommendations"); }
  applyRecommendation(id: RecommendationId): Promise<Recommendation> { return this.json(`/api/ai/recommendations/${id}/apply`, { method: "POST" }); }
  dismissRecommendation(id: RecommendationId): Promise<Recommendation> { return this.json(`/api/ai/recommendations/${id}/dismiss`, { method: "POST" }); }
  optimizeProfile(): Promise<OptimizeResponse> { return this.json("/api/ai/profile/optimize", { method: "POST" }); }

  // Administration.
  adminMembers(options: Page & { tier?: Tier | undefined; user_type?: UserType | undefined; is_active?: boolean | undefined } = {}): Promise<AdminMemberPage> {
    return this.json("/api/admin/members", { query: { ...options } });
  }
  setTier(id: MemberId, tier: Tier): Promise<AdminMember> { return this.json(`/api/admin/members/${id}/tier`, { method: "PUT", body: { tier } }); }
  setActive(id: MemberId, is_active: ActiveChange["is_active"]): Promise<AdminMember> { return this.json(`/api/admin/members/${id}/active`, { method: "PUT", body: { is_active } }); }
  setRole(id: MemberId, user_type: UserType): Promise<AdminMember> { return this.json(`/api/admin/members/${id}/role`, { method: "PUT", body: { user_type } }); }
  disconnect(id: MemberId): Promise<Disconnected> { return this.json(`/api/admin/members/${id}/disconnect`, { method: "POST" }); }
  stats(): Promise<ServerStats> { return this.json("/api/admin/stats"); }
  audit(options: Page = {}): Promise<AuditPage> { return this.json("/api/admin/audit", { query: { ...options } }); }

  /** Any endpoint. The answer is taken to have the form that the caller says. */
  async json<T>(path: string, request: ApiRequest = {}): Promise<T> {
    return (await this.versioned<T>(path, request)).value;
  }

  /** Any endpoint, with the `ETag` of the answer. */
  async versioned<T>(path: string, request: ApiRequest = {}): Promise<Versioned<T>> {
    let token = request.anonymous ? undefined : await this.tokens.access();
    let response = await this.ask(path, request, token);
    if (response.status === 401 && token !== undefined) {
      token = await this.tokens.renew(token);
      response = await this.ask(path, request, token);
    }
    if (response.status >= 400) throw problemOf(response);
    const value = (response.text === "" ? undefined : JSON.parse(response.text)) as T;
    return { value, version: response.headers.get("etag") ?? undefined };
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
  if (typeof problem?.code === "string") return refusal(problem.code, problem.detail, { ...details, fields: problem.errors });
  return new MembersBookError("network", `The server answered ${response.status}.`, details);
}
