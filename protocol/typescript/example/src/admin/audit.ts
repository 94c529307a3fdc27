import type { AuditAction, AuditEntry, MemberId } from "@members-book/client";

import { dateTime } from "@/lib/time";

/** A part of a sentence: words, or a member, whose name stands there. */
export type Part = string | { readonly member: MemberId };

/** What the entries of a kind are about, for a filter. */
export const KINDS: Record<AuditAction, string> = {
  admin_created: "New administrators",
  tier_changed: "Changes of tiers",
  active_changed: "Activations and deactivations",
  role_changed: "Changes of roles",
  disconnected: "Disconnections",
  profile_changed: "Profiles that administrators changed",
  password_changed: "Changed passwords",
  password_reset: "Passwords that were reset",
  email_changed: "Changed e-mail addresses",
  erased: "Members who left",
  sessions_ended: "Sessions that were ended",
  application_approved: "Approved applications",
  application_rejected: "Rejected applications",
  invitation_created: "New invitations",
  invitation_revoked: "Revoked invitations",
  invitation_used: "Members who came by an invitation",
  invitation_returned: "Uses of invitations that are free again",
  suspension_changed: "Suspensions",
  second_factor_enabled: "Second factors that were turned on",
  second_factor_disabled: "Second factors that were turned off",
  second_factor_reset: "Second factors that were reset",
  recovery_codes_replaced: "New recovery codes",
  recovery_code_used: "Recovery codes that were used",
  login_failed: "Failed logins of administrators",
  member_read: "What administrators read",
  exported: "Exports",
  reset_link_made: "Links that set a password, made on the command line",
  restored: "Restored backups",
  address_allowed: "Addresses that may register again",
};

/** Entries that change nothing: there are many of them, and they are looked for apart from the others. */
export const READS: readonly AuditAction[] = ["member_read", "exported"];

const FIELDS: Record<string, string> = {
  name: "name", "contact_info.phone": "phone number", "contact_info.company": "company", "contact_info.position": "position", visibility: "visibility",
  profile_image_url: "picture", language: "language",
};

/** What an entry says of itself: each value only if it is what it should be. */
class Details {
  constructor(private readonly of: Readonly<Record<string, unknown>>) {}
  text(name: string): string | undefined {
    const value = this.of[name];
    return typeof value === "string" ? value : undefined;
  }
  member(name: string): Part {
    const id = this.text(name);
    return id === undefined ? "somebody" : { member: id };
  }
  /** How many there are of something: "one device", "3 devices"; nothing if that is not said. */
  count(name: string, one: string, many = `${one}s`): string | undefined {
    const value = this.of[name];
    return typeof value !== "number" ? undefined : value === 1 ? `one ${one}` : `${value.toLocaleString("en")} ${many}`;
  }
  get to(): unknown { return this.of.to; }
  get fields(): string {
    const names = Array.isArray(this.of.fields) ? this.of.fields.map((name) => FIELDS[String(name)] ?? String(name)) : [];
    return names.length < 2 ? names[0] ?? "profile" : `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`;
  }
  /** With what was asked for, if it was narrowed down: names of conditions, never what was searched for. */
  get narrowed(): string {
    const filter = this.of.filter;
    const given = typeof filter === "object" && filter !== null ? Object.entries(filter).filter(([, value]) => value !== null && value !== undefined).map(([name]) => name) : [];
    const names = given.filter((name) => name !== "not_action").map((name) => name.replaceAll("_", " ").replace(/ id$/, ""));
    const said = [names.length > 0 ? `by ${names.join(", ")}` : "", given.includes("not_action") ? "without some kinds" : ""].filter((part) => part !== "");
    return said.length === 0 ? "" : ` (${said.join(", ")})`;
  }
}

/** `, so many`, if that is known. */
function and(count: string | undefined): string {
  return count === undefined ? "" : `, ${count}`;
}

/** What an administrator has read. */
function reading(details: Details, who: Part, own: boolean): Part[] {
  const of: Part[] = own ? [] : [" of ", who];
  switch (details.text("read")) {
    case "members": return [`read the administrators' list of members${details.narrowed}${and(details.count("count", "member"))}`];
    case "sessions": return ["read where ", own ? "they are" : who, own ? " signed in" : " is signed in"];
    case "invitations": return [`read all invitations${and(details.count("count", "invitation"))}`];
    case "audit": return [`read this log${details.narrowed}${and(details.count("count", "entry", "entries"))}`];
    case "address": return ["asked whether an address is kept out"];
    case "profile": return ["read what others do not see in the profile", ...of];
    case "search": return own ? [`found members, and read what others do not see of them${and(details.count("count", "member"))}`] : ["found ", who, ", and read what others do not see"];
    case "directory": return own ? [`read what others do not see in the directory${and(details.count("count", "member"))}`] : ["read what others do not see", ...of];
    case "record": return ["read the record", ...of];
    default: return ["read what only administrators see", ...of];
  }
}

/** What follows the name of who did it. `own`: to themselves, or to nobody. */
function deed(action: AuditAction, details: Details, who: Part, own: boolean): Part[] {
  const whose = (what: string): Part[] => (own ? [`their ${what}`] : [`the ${what} of `, who]);
  const from = details.text("from");
  const to = details.text("to");
  switch (action) {
    case "admin_created": return own ? ["made the club, and became its first administrator"] : ["made an account for ", who, ", who is an administrator"];
    case "tier_changed": return ["changed ", ...whose("tier"), from && to ? ` from ${from} to ${to}` : ""];
    case "role_changed": return to === "admin" ? ["made ", own ? "themselves" : who, " an administrator"] : ["removed ", own ? "themselves" : who, " as administrator"];
    case "active_changed": return [details.to === true ? "activated " : "deactivated ", own ? "their own account" : who];
    case "disconnected": return ["disconnected ", own ? "themselves" : who, and(details.count("connections", "device"))];
    case "profile_changed": return ["changed ", ...whose(details.fields)];
    case "password_changed": return ["changed ", ...whose("password")];
    case "password_reset": return ["set a new password", ...(own ? [" by a link that was sent to them"] : [" for ", who])];
    case "email_changed": return ["changed ", ...whose("e-mail address")];
    case "reset_link_made": return ["made a link that sets ", ...whose("password")];
    case "restored": {
      const counts = [details.count("sessions", "session"), details.count("links", "link"), details.count("mails", "waiting mail"), details.count("invitations", "open invitation")];
      return [`ended what a restored backup had brought back: ${counts.filter((count) => count !== undefined).join(", ")}`];
    }
    case "erased": return own ? ["left the club"] : ["erased ", who];
    case "sessions_ended": return ["ended all sessions", ...(own ? [] : [" of ", who]), and(details.count("sessions", "session"))];
    case "application_approved": return ["let ", who, " in"];
    case "application_rejected": return ["rejected the application of ", who];
    case "invitation_created": return [`made an invitation for ${details.text("tier") ?? "somebody"}${and(details.count("uses", "use"))}`, ...until(", good until ", details.text("expires_at"))];
    case "invitation_revoked": {
      const count = details.count("count", "open invitation");
      return count === undefined ? ["revoked an invitation", ...(own ? [] : [" of ", who])] : [`revoked ${count}`, ...(own ? [] : [" of ", who]), because(details.text("because"), own)];
    }
    case "suspension_changed": return to === undefined ? ["ended ", ...whose("suspension")] : ["suspended ", own ? "themselves" : who, ...until(" until ", to), ...until(", which was until ", from), details.text("reason") ? `: ${details.text("reason")}` : ""];
    case "second_factor_enabled": return ["turned on ", ...whose("second factor")];
    case "second_factor_disabled": return ["turned off ", ...whose("second factor")];
    case "second_factor_reset": return ["reset ", ...whose("second factor")];
    case "recovery_codes_replaced": return ["replaced ", ...whose("recovery codes")];
    case "recovery_code_used": return ["signed in with a recovery code", ...(own ? [] : [" of ", who])];
    case "member_read": return reading(details, who, own);
    case "exported": return own ? ["exported all their data"] : ["exported all data of ", who];
    case "address_allowed": return ["let somebody register again with the address of a former member"];
    // Those that nobody does; and of a newer server.
    case "login_failed": case "invitation_used": case "invitation_returned": return [action];
    default: return [`${String(action).replaceAll("_", " ")}: `, own ? "their own account" : who];
  }
}

function until(words: string, at: string | undefined): string[] {
  return at === undefined ? [] : [words, dateTime(at)];
}

function because(action: string | undefined, own: boolean): string {
  if (action === "suspension_changed") return ", with the suspension";
  if (action === "active_changed") return ", with the deactivation";
  const who = own ? "and" : "who";
  if (action === "role_changed") return `, ${who} is an administrator no more`;
  return action === "erased" ? `, ${who} left` : "";
}

/** An entry as a sentence, without a full stop. */
export function sentence({ action, actor_id, target_id, details: of }: AuditEntry): Part[] {
  const details = new Details(of);
  const who: Part = target_id === null ? "nobody" : { member: target_id };
  if (action === "login_failed") return [`Somebody gave a wrong ${details.text("wrong") === "second_factor" ? "code of the second factor" : "password"} for the account of `, who];
  if (action === "invitation_used") return [who, " came by an invitation of ", details.member("invited_by")];
  if (action === "invitation_returned") return [who, " did not confirm the address: a use of an invitation of ", details.member("invited_by"), " is free again"];
  const actor: Part = actor_id === null ? "The command line" : { member: actor_id };
  return [actor, " ", ...deed(action, details, who, target_id === null || actor_id === target_id)];
}
