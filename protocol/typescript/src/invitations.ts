import { path } from "./api.js";
import type { Api, Page } from "./api.js";
import type { CheckedInvitation, InvitationId, InvitationPage, InvitationRequest, NewInvitation } from "./protocol.js";

/** Who may come in, over the REST API of a client: `new Invitations(client.api)`. Every method throws `MembersBookError`. */
export class Invitations {
  constructor(private readonly api: Api) {}

  /** What whoever has a code may know of its invitation. Rejects with `invitation_invalid` if it is not good. */
  check(code: string): Promise<CheckedInvitation> { return this.api.json("/api/invitations/check", { method: "POST", body: { code }, anonymous: true }); }
  /** Makes an invitation. Its code is in the answer and nowhere else. */
  make(body: InvitationRequest = {}): Promise<NewInvitation> { return this.api.json("/api/invitations", { method: "POST", body }); }
  /** One's own, the newest first. */
  list(options: Page = {}): Promise<InvitationPage> { return this.api.json("/api/invitations", { query: { ...options } }); }
  revoke(id: InvitationId): Promise<void> { return this.api.json(`/api/invitations/${path(id)}`, { method: "DELETE" }); }
}
