import { LONG_TIMEOUT_MS, path } from "./api.js";
import type { Api, Page, Versioned } from "./api.js";
import type {
  Directory, Member, MemberId, MemberPatch, OptimizeResponse, Profile, Recommendation, RecommendationId, RecommendationsResponse, Tier,
} from "./protocol.js";

/**
 * Profiles, the directory, and advice on them, over the REST API of a client: `new Members(client.api)`. Every method throws `MembersBookError`. For names and pictures
 * on a screen there is `People`, which asks once and keeps what it has learnt.
 */
export class Members {
  constructor(private readonly api: Api) {}

  directory(options: Page & { tier?: Tier | undefined } = {}): Promise<Directory> { return this.api.json("/api/members", { query: { ...options } }); }
  search(q: string, options: Page = {}): Promise<Directory> { return this.api.json("/api/members/search", { query: { q, ...options } }); }
  member(id: MemberId): Promise<Profile> { return this.api.json(`/api/members/${path(id)}`); }
  me(): Promise<Versioned<Member>> { return this.api.versioned("/api/members/me"); }
  /** Changes one's own profile: what is left out stays, `null` removes. */
  updateMe(body: MemberPatch, ifMatch?: string): Promise<Versioned<Member>> { return this.api.versioned("/api/members/me", { method: "PATCH", body, headers: match(ifMatch) }); }
  updateMember(id: MemberId, body: MemberPatch, ifMatch?: string): Promise<Versioned<Member>> { return this.api.versioned(`/api/members/${path(id)}`, { method: "PATCH", body, headers: match(ifMatch) }); }
  uploadPhoto(id: MemberId, type: string, content: Blob | ArrayBuffer | Uint8Array<ArrayBuffer>): Promise<Versioned<Member>> {
    return this.api.versioned(`/api/members/${path(id)}/photo`, { method: "PUT", data: { type, content }, timeoutMs: LONG_TIMEOUT_MS });
  }
  removePhoto(id: MemberId): Promise<void> { return this.api.json(`/api/members/${path(id)}/photo`, { method: "DELETE" }); }

  // Advice.
  recommendations(): Promise<RecommendationsResponse> { return this.api.json("/api/ai/recommendations"); }
  applyRecommendation(id: RecommendationId): Promise<Recommendation> { return this.api.json(`/api/ai/recommendations/${path(id)}/apply`, { method: "POST" }); }
  dismissRecommendation(id: RecommendationId): Promise<Recommendation> { return this.api.json(`/api/ai/recommendations/${path(id)}/dismiss`, { method: "POST" }); }
  optimizeProfile(): Promise<OptimizeResponse> { return this.api.json("/api/ai/profile/optimize", { method: "POST" }); }
}

function match(version: string | undefined): Record<string, string> {
  return version === undefined ? {} : { "if-match": version };
}
