import type { Environment } from "./environment.js";
import { MembersBookError, refusal } from "./errors.js";
import { given, objectIn } from "./json.js";
import type { AuthResponse, LoginRequest, Problem, RegisterRequest, RegistrationPending } from "./protocol.js";

/** How long an answer is waited for, in milliseconds; an upload or an export longer. */
const TIMEOUT_MS = 20_000;
export const LONG_TIMEOUT_MS = 120_000;

/** A request of the REST API. */
export interface ApiRequest {
  method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Values that are not given are left out. A list has commas between its parts. */
  query?: Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;
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
  /** Asks with a token for what ends all tokens of the session and answers others, which are taken up: nobody renews any meanwhile. */
  replace<T>(ask: (access: string) => Promise<T>, fresh: (answer: T) => Partial<AuthResponse> | undefined): Promise<T>;
  /** How often the tokens in use here were ended and replaced, here or in another tab: what the server knew by them it may not know any more. */
  readonly replaced: number;
}

/** A page of a list: which, and how long. */
export interface Page {
  cursor?: string | undefined;
  limit?: number | undefined;
}

/**
 * The way to the REST API: any endpoint by `json`. What the endpoints are is in classes that an app takes as it needs them: `Account`, `Members`, `Invitations`,
 * `Administration`. Every method throws `MembersBookError`.
 */
export class Api {
  constructor(
    /** Where the server is: `https://club.example`. */
    readonly url: string,
    private readonly environment: Environment,
    readonly tokens: Tokens,
    /** Keeps the proof of this device, which a new password replaces. `own`: it is of who is signed in; else of whom is not known. */
    readonly keepProof: (proof: string, own: boolean) => Promise<void> = () => Promise.resolve(),
  ) {}

  /** The whole address of a picture. */
  photo(path: string | null | undefined): string | undefined {
    return path ? (path.startsWith("/") ? this.url + path : path) : undefined;
  }

  // Accounts: used by the client, which keeps the tokens.
  /** Where mail is sent, a mail with a link comes first, and there are no tokens yet; where an administrator decides, they come first. */
  register(body: RegisterRequest): Promise<AuthResponse | RegistrationPending> { return this.post("/api/auth/register", body); }
  /** Makes the club: its first administrator, with the code that the server printed. */
  setup(body: RegisterRequest & { code: string }): Promise<AuthResponse> { return this.post("/api/setup", body); }
  login(body: LoginRequest): Promise<AuthResponse> { return this.post("/api/auth/login", body); }
  /** `attempt`: the same for every repetition, another one for each token. */
  refresh(refresh_token: string, attempt: string): Promise<AuthResponse> { return this.post("/api/auth/refresh", { refresh_token, attempt }); }
  logout(all: boolean, token?: string): Promise<void> { return this.json("/api/auth/logout", { method: "POST", body: { all }, token }); }

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
    return { value: valueOf(response.text) as T, version: response.headers.get("etag") ?? undefined };
  }

  private post<T>(path: string, body: unknown): Promise<T> {
    return this.json(path, { method: "POST", body, anonymous: true });
  }

  private async ask(path: string, request: ApiRequest, token: string | undefined): Promise<Answer> {
    const query = Object.entries(given(request.query ?? {})).map(([name, value]) => `${name}=${encodeURIComponent(String(value))}`).join("&");
    const { data, body } = request;
    const { type, content } = data ?? (body === undefined ? {} : { type: "application/json", content: JSON.stringify(body) });
    const headers = given({ ...request.headers, "content-type": type, authorization: token === undefined ? undefined : `Bearer ${token}` });
    const abort = new AbortController();
    const timer = this.environment.clock.setTimeout(() => abort.abort(), request.timeoutMs ?? TIMEOUT_MS);
    try {
      const response = await this.environment.fetch(this.url + path + (query && `?${query}`), {
        method: request.method ?? "GET",
        signal: abort.signal,
        ...given({ headers, body: content }),
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

/** What is in an answer. One that cannot be read is not of the server: of a network that wants a log-in of its own, for example. */
function valueOf(text: string): unknown {
  try {
    return text === "" ? undefined : JSON.parse(text);
  } catch (cause) {
    throw unreached(cause);
  }
}

/** An id as a part of a path: one that is none leads nowhere else. */
export function path(id: string): string {
  return encodeURIComponent(id);
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
