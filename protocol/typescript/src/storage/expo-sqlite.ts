import { copied, failed } from "./changes.js";
import { Queue } from "./queue.js";
import type { Changes, Storage } from "../storage.js";

/** The part of `SQLiteDatabase` of `expo-sqlite` that is used. */
export interface SqliteDatabase {
  execAsync(sql: string): Promise<void>;
  runAsync(sql: string, params: (string | number | null)[]): Promise<unknown>;
  getAllAsync<T>(sql: string, params: (string | number | null)[]): Promise<T[]>;
  closeAsync(): Promise<void>;
}

/** Rows of one statement: the whole way to the native side is gone once for so many. Two parameters each, and every SQLite takes 999. */
const ROWS = 400;

const OPEN = `
PRAGMA busy_timeout = 5000;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS kv (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) WITHOUT ROWID;
`;

/**
 * A storage in a database of `expo-sqlite`. The database is for it alone: transactions are plain `BEGIN` and `COMMIT` on this one connection, and statements of others would become part of them. (An "exclusive
 * transaction" of `expo-sqlite` opens a second connection, and the two lock each other out.)
 */
export class ExpoSqliteStorage implements Storage {
  private readonly turns = new Queue();
  private readonly source: SqliteDatabase | (() => SqliteDatabase | Promise<SqliteDatabase>);
  private db: SqliteDatabase | undefined;
  /** A change failed, and could not be rolled back: the transaction may still be open, and what is next would become part of it. */
  private unsure = false;

  /**
   * @param database An open database, which stays open when the storage is closed, or how to open one, which is closed with it: `() => SQLite.openDatabaseAsync("members-book.db")`.
   */
  constructor(database: SqliteDatabase | (() => SqliteDatabase | Promise<SqliteDatabase>)) {
    this.source = database;
  }

  open(): Promise<void> {
    return this.turns.run(async () => {
      if (this.db) return;
      try {
        const db = typeof this.source === "function" ? await this.source() : this.source;
        try {
          await db.execAsync(OPEN);
        } catch (error) {
          // It is opened anew, perhaps.
          if (typeof this.source === "function") await db.closeAsync().catch(() => undefined);
          throw error;
        }
        this.db = db;
      } catch (error) {
        throw failed("The database could not be opened.", error);
      }
    });
  }

  get(key: string): Promise<string | undefined> {
    return this.turns.run(async () => {
      const rows = await this.read<{ value: string }>("SELECT value FROM kv WHERE key = ?", [key]);
      return rows[0]?.value;
    });
  }

  range(from: string, to: string): Promise<[string, string][]> {
    if (from >= to) return Promise.resolve([]);
    return this.turns.run(async () => {
      const rows = await this.read<{ key: string; value: string }>("SELECT key, value FROM kv WHERE key >= ? AND key < ? ORDER BY key", [from, to]);
      return rows.map(({ key, value }): [string, string] => [key, value]);
    });
  }

  async write(changes: Changes): Promise<void> {
    const statements = statementsOf(changes);
    if (statements.length > 0) return this.turns.run(() => this.change(statements));
  }

  close(): Promise<void> {
    return this.turns.run(async () => {
      const db = this.db;
      this.db = undefined;
      if (typeof this.source === "function") await db?.closeAsync();
    });
  }

  private get opened(): SqliteDatabase {
    if (!this.db) throw failed("The storage is not open.");
    return this.db;
  }

  private async read<T>(sql: string, params: string[]): Promise<T[]> {
    const db = this.opened;
    if (this.unsure) await this.rollback(db);
    try {
      return await db.getAllAsync<T>(sql, params);
    } catch (error) {
      throw failed("The database could not be read.", error);
    }
  }

  private async change(statements: readonly Statement[]): Promise<void> {
    const db = this.opened;
    const [first] = statements;
    if (this.unsure) await this.rollback(db);
    try {
      if (first && statements.length === 1 && !this.unsure) {
        // One statement is a transaction by itself.
        await db.runAsync(first.sql, first.params);
        return;
      }
      await db.execAsync("BEGIN IMMEDIATE");
      for (const { sql, params } of statements) await db.runAsync(sql, params);
      await db.execAsync("COMMIT");
      this.unsure = false;
    } catch (error) {
      await this.rollback(db);
      throw failed("Nothing was changed.", error);
    }
  }

  private async rollback(db: SqliteDatabase): Promise<void> {
    try {
      await db.execAsync("ROLLBACK");
      this.unsure = false;
    } catch {
      // Mostly there is nothing to end: SQLite has done it itself.
      this.unsure = true;
    }
  }
}

interface Statement {
  readonly sql: string;
  readonly params: (string | number | null)[];
}

/** Everything that is cleared, then what is removed, then what is put: no key is in both of the latter. */
function statementsOf(changes: Changes): Statement[] {
  const { clear, put } = copied(changes);
  const statements = clear.map(([from, to]): Statement => ({ sql: "DELETE FROM kv WHERE key >= ? AND key < ?", params: [from, to] }));
  const removed: string[] = [];
  const stored: [string, string][] = [];
  for (const [key, value] of put) {
    if (value === null) removed.push(key);
    else stored.push([key, value]);
  }
  for (const params of batches(removed)) {
    statements.push({ sql: `DELETE FROM kv WHERE key IN (${marks("?", params.length)})`, params });
  }
  for (const rows of batches(stored)) {
    statements.push({
      sql: `INSERT INTO kv (key, value) VALUES ${marks("(?, ?)", rows.length)} ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
      params: rows.flat(),
    });
  }
  return statements;
}

function batches<T>(all: readonly T[]): T[][] {
  const result: T[][] = [];
  for (let i = 0; i < all.length; i += ROWS) result.push(all.slice(i, i + ROWS));
  return result;
}

function marks(mark: string, count: number): string {
  return Array<string>(count).fill(mark).join(", ");
}
