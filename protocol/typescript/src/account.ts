import { LONG_TIMEOUT_MS, path } from "./api.js";
import type { Api, ApiRequest, Versioned } from "./api.js";
import { problemOf } from "./problem.js";
import type {
  AuthResponse, ClubInfo, DeviceProof, EmailChange, Export, Language, Member, PasswordChange, RecoveryCodes, SecondFactor, SecondFactorDisabling, SecondFactorEnabled, SecondFactorEnrolment, Session, SessionId, SessionList, StepUpRequest,
} from "./protocol.js";

/**
 * The account of who is signed in, and what comes before it, over the REST API of a client: `new Account(client.api)`. Every method throws `MembersBookError`. To register,
 * to log in and out, and to leave are methods of the client: they change what is kept on the device.
 */
export class Account {
  constructor(private readonly api: Api) {}

  // Before signing in.
  /** Who may register and who may invite, whether the club has no administrator yet, and whether it sends mail: for the screens before signing in. */
  club(): Promise<ClubInfo> { return this.api.json("/api/club", { anonymous: true }); }
  /** Whether the club has no administrator yet. */
  setupNeeded(): Promise<{ needed: boolean }> { return this.api.json("/api/setup", { anonymous: true }); }

  // Passwords and mail.
  /** Changes the password. This session stays, with other tokens, and every other one of the member ends. If the answer is lost, the member logs in with the new password. */
  async changePassword(change: PasswordChange): Promise<void> {
    await this.proved<Partial<AuthResponse> | undefined>("/api/members/me/password", { method: "PUT", body: change }, (answer) => answer);
  }
  /** Has a link that sets a new password sent, if a member has the address; the answer does not tell. */
  forgotPassword(email: string): Promise<void> { return this.api.json("/api/auth/password/forgot", { method: "POST", body: { email }, anonymous: true }); }
  /** Sets a new password with the token of a link. Every session of the member ends. */
  resetPassword(token: string, new_password: string): Promise<void> {
    return this.proved("/api/auth/password/reset", { method: "POST", body: { token, new_password }, anonymous: true });
  }
  /**
   * Changes the e-mail address. Where the club sends mail a link goes to the new one, and nothing changes before `verifyEmail` has its token: the answer is nothing then, whether somebody has the address or not.
   * Without mail it is changed at once, and the answer is the member. Who has a second factor gives a `code` of it as well.
   */
  changeEmail(change: EmailChange): Promise<Member | undefined> { return this.api.json("/api/members/me/email", { method: "POST", body: change }); }
  /** Shows that an address is its member's, with the token of a link. One that changes the address needs the member's password. */
  verifyEmail(token: string, password?: string): Promise<void> {
    return this.api.json("/api/auth/email/verify", { method: "POST", body: { token, password }, anonymous: true });
  }
  /** Has the link that does that sent again, to the signed-in member. */
  sendVerification(): Promise<void> { return this.api.json("/api/members/me/email/verification", { method: "POST" }); }
  /** Chooses the language of mails; `null`: that of the server. */
  setLanguage(language: Language | null): Promise<Versioned<Member>> { return this.api.versioned("/api/members/me", { method: "PATCH", body: { language } }); }
  /** Proves again who is at the device, for 15 minutes: with a code of the second factor by who has one, with the password by who has none. */
  stepUp(proof: StepUpRequest): Promise<void> { return this.api.json("/api/auth/step-up", { method: "POST", body: proof }); }
  export(): Promise<Export> { return this.api.json("/api/members/me/export", { timeoutMs: LONG_TIMEOUT_MS }); }

  // Where the member is signed in.
  sessions(): Promise<SessionList> { return this.api.json("/api/members/me/sessions"); }
  renameSession(id: SessionId, name: string): Promise<Session> { return this.api.json(`/api/members/me/sessions/${path(id)}`, { method: "PATCH", body: { name } }); }
  /** Ends a session: its device is signed out. For the one of this device there is `logout()` of the client, which forgets what is kept here as well. */
  endSession(id: SessionId): Promise<void> { return this.api.json(`/api/members/me/sessions/${path(id)}`, { method: "DELETE" }); }
  /** Ends every session but this one. */
  endOtherSessions(): Promise<void> { return this.api.json("/api/members/me/sessions", { method: "DELETE" }); }

  // The second factor.
  secondFactor(): Promise<SecondFactor> { return this.api.json("/api/members/me/second-factor"); }
  /** What an authenticator app is to be given. Nothing is on before `confirmSecondFactor`, for which there are ten minutes. */
  beginSecondFactor(password: string): Promise<SecondFactorEnrolment> { return this.api.json("/api/members/me/second-factor", { method: "POST", body: { password } }); }
  /** Turns it on, with a code that the app shows. This session goes on with other tokens, and every other one ends. The recovery codes are in the answer and nowhere else. */
  confirmSecondFactor(enrolment: string, code: string): Promise<SecondFactorEnabled> {
    return this.proved<SecondFactorEnabled>("/api/members/me/second-factor/confirm", { method: "POST", body: { enrolment, code } }, ({ tokens }) => tokens);
  }
  /** New recovery codes; those of before are good no more. */
  replaceRecoveryCodes(code: string): Promise<RecoveryCodes> { return this.api.json("/api/members/me/second-factor/recovery-codes", { method: "POST", body: { code } }); }
  disableSecondFactor(body: SecondFactorDisabling): Promise<void> { return this.api.json("/api/members/me/second-factor/disable", { method: "POST", body }); }

  /** A request whose answer has the proof that this device shows at its next log-in. Servers of before answer without one. `fresh`: the tokens in the answer that this session goes on with. */
  private async proved<T>(path: string, request: ApiRequest, fresh?: (answer: T) => Partial<AuthResponse> | undefined): Promise<T> {
    const { api } = this;
    const { tokens } = api;
    const access = fresh && (await tokens.access());
    const ask = () => (fresh ? tokens.replace((token) => api.json<T>(path, { ...request, token }), fresh) : api.json<T>(path, request));
    const answer = await ask().catch(async (error: unknown) => {
      if (!access || problemOf(error).code !== "token_expired") throw error;
      await tokens.renew(access);
      return ask();
    });
    const { device_proof } = (answer ?? {}) as Partial<DeviceProof>;
    if (device_proof) await api.keepProof(device_proof, !request.anonymous);
    return answer;
  }
}
