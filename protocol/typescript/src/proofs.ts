import { valueIn } from "./journal.js";
import type { Pages } from "./journal.js";
import { PROOFS_KEY } from "./records.js";

/** Accounts whose proof is kept. */
const MOST = 10;

/** By it the server knows the device again: wrong passwords of others do not keep its member out. Each account has its own; that which was got last comes first. */
export class Proofs {
  constructor(private readonly journal: Pages) {}

  /** That of an account, or a later one of whom is not known: of a link that has set a password. */
  async of(email: string): Promise<string | undefined> {
    const own = `${hash(email)}:`;
    const found = (await this.read()).find((line) => line.startsWith(own) || line.startsWith(":"));
    return found?.slice(found.indexOf(":") + 1);
  }

  /** Keeps one, in place of the one before of the same account. Without an address: of whom is not known. */
  async keep(proof: string, email?: string): Promise<void> {
    const own = `${email === undefined ? "" : hash(email)}:`;
    const others = (await this.read()).filter((line) => !line.startsWith(own) && !line.endsWith(`:${proof}`));
    this.journal.put(PROOFS_KEY, [own + proof, ...others].slice(0, MOST).join("\n"));
  }

  /** Lines of an account and its proof. */
  private async read(): Promise<string[]> {
    const text = await valueIn(this.journal, PROOFS_KEY).catch(() => undefined);
    return text?.split("\n") ?? [];
  }
}

/** FNV-1a: what stays on the device does not name its members. */
function hash(email: string): string {
  let code = 0x811c9dc5;
  for (const letter of email.trim().toLowerCase()) code = Math.imul(code ^ (letter.codePointAt(0) ?? 0), 0x01000193);
  return (code >>> 0).toString(36);
}
