import Database from "libsql";

import type { SqliteDatabase } from "../src/storage/expo-sqlite.js";

/** `SQLiteDatabase` of `expo-sqlite` over a file, as far as the storage uses it. Every call takes a while, as it does in an app. */
export class FileDatabase implements SqliteDatabase {
  private readonly db: Database.Database;
  /** Every statement, in the order in which they ran. */
  readonly log: string[] = [];
  /** Called before each statement. What it throws is what the statement throws. */
  before: ((sql: string) => void) | undefined;
  open = true;

  constructor(path: string) {
    this.db = new Database(path);
  }

  execAsync(sql: string): Promise<void> {
    return this.later(sql, () => void this.db.exec(sql));
  }

  runAsync(sql: string, params: (string | number | null)[]): Promise<unknown> {
    return this.later(sql, () => this.db.prepare(sql).run(...params));
  }

  getAllAsync<T>(sql: string, params: (string | number | null)[]): Promise<T[]> {
    return this.later(sql, () => this.db.prepare(sql).all(...params) as T[]);
  }

  closeAsync(): Promise<void> {
    return this.later("close", () => {
      this.open = false;
      this.db.close();
    });
  }

  private async later<T>(sql: string, work: () => T): Promise<T> {
    await new Promise((done) => setImmediate(done));
    this.log.push(sql);
    this.before?.(sql);
    return work();
  }
}
