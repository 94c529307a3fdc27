import { path } from "./api.js";
import type { Api, Page } from "./api.js";
import type {
  ActiveChange, AddressAllowed, AdminInvitationPage, AdminMember, AdminMemberPage, AuditAction, AuditPage, Disconnected, MemberId, MemberStatus, ServerStats, SessionList, SuspensionChange,
  Tier, UserType,
} from "./protocol.js";

/** Which entries of the audit log: of several conditions all are true. Times are RFC 3339; `until` is not included. */
export interface AuditFilter {
  action?: AuditAction | undefined;
  /** None of these; one at least. */
  not_action?: readonly AuditAction[] | undefined;
  /** Who did it. */
  actor_id?: MemberId | undefined;
  /** To whom. */
  target_id?: MemberId | undefined;
  since?: string | undefined;
  until?: string | undefined;
}

/**
 * What administrators may do, over the REST API of a client: `new Administration(client.api)`. Every method throws `MembersBookError`: `forbidden` for everybody else,
 * and `second_factor_missing` where the club demands a second factor and the administrator has none. Those that say so may throw `step_up_required`: `stepUp` of `Account`, then the
 * same again.
 */
export class Administration {
  constructor(private readonly api: Api) {}

  /** Those who wait for an administrator only with `status: "pending"`. */
  members(
    options: Page & { tier?: Tier | undefined; user_type?: UserType | undefined; is_active?: boolean | undefined; status?: MemberStatus | undefined } = {},
  ): Promise<AdminMemberPage> {
    return this.api.json("/api/admin/members", { query: { ...options } });
  }
  /** Lets somebody in who waits. */
  approve(id: MemberId): Promise<AdminMember> { return this.of(id, "approve", "POST"); }
  /** Removes the registration of somebody who waits. May want a step-up. */
  reject(id: MemberId): Promise<void> { return this.of(id, "reject", "POST"); }
  /** Keeps a member out until a time. May want a step-up. */
  suspend(id: MemberId, body: SuspensionChange): Promise<AdminMember> { return this.of(id, "suspension", "PUT", body); }
  /** May want a step-up. */
  endSuspension(id: MemberId): Promise<AdminMember> { return this.of(id, "suspension", "DELETE"); }
  setTier(id: MemberId, tier: Tier): Promise<AdminMember> { return this.of(id, "tier", "PUT", { tier }); }
  /** May want a step-up. */
  setActive(id: MemberId, is_active: ActiveChange["is_active"]): Promise<AdminMember> { return this.of(id, "active", "PUT", { is_active }); }
  /** May want a step-up. */
  setRole(id: MemberId, user_type: UserType): Promise<AdminMember> { return this.of(id, "role", "PUT", { user_type }); }
  disconnect(id: MemberId): Promise<Disconnected> { return this.of(id, "disconnect", "POST"); }
  /** Lets somebody register again with the address of a member who has left. */
  allowAddress(email: string): Promise<AddressAllowed> { return this.api.json("/api/admin/addresses/allow", { method: "POST", body: { email } }); }
  sessions(id: MemberId): Promise<SessionList> { return this.of(id, "sessions", "GET"); }
  /** Ends all sessions of a member. May want a step-up. */
  endSessions(id: MemberId): Promise<void> { return this.of(id, "sessions", "DELETE"); }
  /** Removes the second factor of a member who has lost it, and ends their sessions: the password alone lets them in again. May want a step-up. */
  resetSecondFactor(id: MemberId): Promise<AdminMember> { return this.of(id, "second-factor", "DELETE"); }

  /** All invitations, with who made them and who came by them. */
  invitations(options: Page = {}): Promise<AdminInvitationPage> { return this.api.json("/api/admin/invitations", { query: { ...options } }); }
  stats(): Promise<ServerStats> { return this.api.json("/api/admin/stats"); }
  /** The newest first. With several conditions a page may have few entries, or none, although there are more: go on while there is a `next`. */
  audit(options: Page & AuditFilter = {}): Promise<AuditPage> { return this.api.json("/api/admin/audit", { query: { ...options } }); }

  private of<T>(id: MemberId, what: string, method: "GET" | "POST" | "PUT" | "DELETE", body?: unknown): Promise<T> {
    return this.api.json(`/api/admin/members/${path(id)}/${what}`, { method, body });
  }
}
