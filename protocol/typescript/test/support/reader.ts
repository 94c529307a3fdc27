import { randomUUID } from "node:crypto";

import type { AuthResponse, MemberId, MessageDocument, MessagePage, SendRequest, Unread } from "../../src/protocol.js";
import type { Server } from "./server.js";

/** Somebody with an account. */
export interface Person {
  readonly id: MemberId;
  readonly name: string;
  readonly email: string;
  readonly password: string;
}

/** A session of a member straight to the server, with nothing of the client's code in it: what the server says is the truth that the client is held against. */
export class Reader {
  private constructor(
    private readonly server: Server,
    readonly person: Person,
    public token: string,
  ) {}

  /** Makes an account. */
  static async register(server: Server, name: string): Promise<Reader> {
    const email = `${name.toLowerCase().replace(/\W/g, "")}-${randomUUID().slice(0, 8)}@example.com`;
    const password = `password of ${name}`;
    const answer = await ask<AuthResponse>(server, "POST", "/api/auth/register", { body: { name, email, password } });
    return new Reader(server, { id: answer.member._id, name, email, password }, answer.access_token);
  }

  /** Another session of a member. */
  static async login(server: Server, person: Person): Promise<Reader> {
    const answer = await ask<AuthResponse>(server, "POST", "/api/auth/login", { body: { email: person.email, password: person.password } });
    return new Reader(server, person, answer.access_token);
  }

  /** All messages with another member, the oldest first. */
  async messages(other: MemberId): Promise<MessageDocument[]> {
    const all: MessageDocument[] = [];
    let before: number | undefined;
    for (;;) {
      const query = before === undefined ? "" : `&before=${before}`;
      const page = await this.get<MessagePage>(`/api/messages/conversation/${other}?limit=100${query}`);
      all.push(...page.messages);
      before = page.messages.at(-1)?.seq;
      if (!page.more || before === undefined) return all.reverse();
    }
  }

  unread(): Promise<Unread> {
    return this.get<Unread>("/api/messages/unread");
  }

  send(to: MemberId, content: string, clientId: string = randomUUID()): Promise<MessageDocument> {
    const body: SendRequest = { receiver_id: to, client_id: clientId, content };
    return this.ask("POST", "/api/messages", body);
  }

  /** Says that everything up to this message was read. */
  read(message: MessageDocument): Promise<MessageDocument> {
    return this.ask("PUT", `/api/messages/${message._id}/read`);
  }

  get<T>(path: string): Promise<T> {
    return this.ask("GET", path);
  }

  async ask<T>(method: string, path: string, body?: unknown): Promise<T> {
    try {
      return await ask<T>(this.server, method, path, { token: this.token, body });
    } catch (cause) {
      if (!String(cause).includes(": 401 ")) throw cause;
      // All sessions of the member were ended, this one too.
      this.token = (await Reader.login(this.server, this.person)).token;
      return ask<T>(this.server, method, path, { token: this.token, body });
    }
  }
}

/** One request. Throws for every answer that is none of 2xx. */
export async function ask<T>(server: Server, method: string, path: string, request: { token?: string; body?: unknown } = {}): Promise<T> {
  const response = await fetch(`${server.url}${path}`, {
    method,
    headers: {
      ...(request.token === undefined ? {} : { authorization: `Bearer ${request.token}` }),
      ...(request.body === undefined ? {} : { "content-type": "application/json" }),
    },
    signal: AbortSignal.timeout(15_000),
    ...(request.body === undefined ? {} : { body: JSON.stringify(request.body) }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
  return (text === "" ? undefined : JSON.parse(text)) as T;
}
