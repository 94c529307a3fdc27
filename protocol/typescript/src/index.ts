export { Api } from "./api.js";
export type { ApiRequest, Page, Versioned } from "./api.js";
export { Client } from "./client.js";
export { platformEnvironment } from "./environment.js";
export type { Clock, Environment, Observable, Socket } from "./environment.js";
export { MembersBookError, verdictOf } from "./errors.js";
export type { ErrorVerdict, ProblemCode } from "./errors.js";
export { MemoryStorage, MemoryVault } from "./storage/memory.js";
export type { Changes, Erasure, Storage, Vault } from "./storage.js";
export type * from "./types.js";
export type {
  ActiveChange, AdminInvitation, AdminInvitationPage, AdminMember, AdminMemberPage, AdviceSource, Audience, AuditAction, AuditEntry, AuditPage, AuthResponse,
  CheckedInvitation, ClientFrame, ClientMessageId, ClubInfo, ContactInfo, Invitation, InvitationId, InvitationPage, InvitationPolicy, InvitationRequest, MemberStatus,
  NewInvitation, RegistrationPending, RegistrationPolicy, SuspensionChange,
  ConversationId, ConversationKind, ConversationSettings, Cursor, DeviceInfo, DeviceStatus, Directory, Entry, ErrorCode, Export, FieldError, FieldSuggestion, Language, Limits, LoginRequest, Member, MemberCard,
  MemberId, MemberPatch, Message, MessageId, Notify, OptimizeResponse, Platform, PresenceStatus, Profile, ProfileField, Reason, Recommendation, RecommendationId,
  RecommendationsResponse, RecoveryCodes, RegisterRequest, SecondFactor, SecondFactorDisabling, SecondFactorEnabled, SecondFactorEnrolment, ServerFrame, ServerStats, Session, SessionId, SessionList, SharedWith, StepUpRequest, Tier, Timestamp, UserType, Visibility,
  VisibilityPatch, Watermarks,
} from "./protocol.js";
