import { useCallback, useEffect, useRef, useState } from "react";
import { MembersBookError } from "@members-book/client";
import type { FieldError } from "@members-book/client";

/** Why something failed, in words that can be shown. */
export interface Failure {
  readonly code: string;
  readonly message: string;
  readonly fields: readonly FieldError[];
  /** When what is refused for a time will be allowed. */
  readonly until?: string | undefined;
}

const TROUBLE = "The club's server has a problem. Try again in a few minutes.";
/** The same of what is written. */
export const TROUBLE_KEPT = "The club's server has a problem. What you write is kept, and sent when it is well again.";
/** The same of what was to change something. */
const NOT_SAVED = "The club's server has a problem. Your change was not saved; try again in a few minutes.";
/** Where the words of the server are for its operator, or there are none. */
const WORDS: Partial<Record<string, string>> = {
  network: "The server was not reached. Check your connection and try again.", unavailable: TROUBLE, overloaded: TROUBLE,
  approval_pending: "Your registration waits for an administrator of the club. Come back and sign in once they have let you in.",
  step_up_required: "Nothing was changed: it was not confirmed that it is you.",
};

/** Whether the server itself is in trouble: it is not what was asked. */
export function isTrouble(code: string | undefined): boolean {
  return code === "unavailable" || code === "overloaded";
}

/** In words that can be shown. `changes`: something was to be changed. */
export function failureOf(cause: unknown, changes = false): Failure {
  if (cause instanceof MembersBookError) {
    const message = changes && isTrouble(cause.code) ? NOT_SAVED : WORDS[cause.code] ?? cause.message;
    return { code: cause.code, message, fields: cause.details.fields ?? [], until: cause.details.until };
  }
  return { code: "unknown", message: cause instanceof Error ? cause.message : "Something went wrong. Try again.", fields: [] };
}

/** What is wrong with a field, if something is: what the server says of it, as a sentence. */
export function fieldError(failure: Failure | undefined, field: string): string | undefined {
  const found = failure?.fields.find((error) => error.field === field);
  return found && `${found.message.charAt(0).toUpperCase()}${found.message.slice(1)}.`;
}

export interface Query<T> {
  readonly data: T | undefined;
  readonly failure: Failure | undefined;
  readonly loading: boolean;
  readonly reload: () => void;
  readonly setData: (change: (data: T | undefined) => T | undefined) => void;
}

/** Loads when the component appears and when `key` changes. What was there stays until the new is. An answer that comes late is ignored. */
export function useQuery<T>(key: string, load: () => Promise<T>): Query<T> {
  const [state, setState] = useState<{ key: string; data?: T; failure?: Failure; loading: boolean }>({ key, loading: true });
  const [round, setRound] = useState(0);
  const latest = useRef(load);
  useEffect(() => {
    latest.current = load;
  });
  useEffect(() => {
    let current = true;
    setState((old) => ({ key, loading: true, ...(old.key === key && old.data !== undefined ? { data: old.data } : {}) }));
    latest.current().then(
      (data) => current && setState({ key, data, loading: false }),
      (cause: unknown) => current && setState((old) => ({ ...old, key, failure: failureOf(cause), loading: false })),
    );
    return () => {
      current = false;
    };
  }, [key, round]);
  const reload = useCallback(() => setRound((n) => n + 1), []);
  const setData = useCallback((change: (data: T | undefined) => T | undefined) => {
    setState((old) => {
      const data = change(old.data);
      return data === undefined ? old : { ...old, data };
    });
  }, []);
  const current = state.key === key;
  return { data: current ? state.data : undefined, failure: current ? state.failure : undefined, loading: !current || state.loading, reload, setData };
}

export interface Pages<T> {
  readonly items: readonly T[];
  readonly loading: boolean;
  readonly failure: Failure | undefined;
  /** Everything is here. */
  readonly complete: boolean;
  readonly more: () => void;
  readonly reload: () => void;
  readonly replace: (change: (item: T) => T) => void;
}

/** A list of the server, page by page. */
export function usePages<T>(key: string, load: (cursor: string | undefined) => Promise<{ items: readonly T[]; next: string | null }>): Pages<T> {
  const [state, setState] = useState<{ key: string; items: readonly T[]; next: string | null; loading: boolean; failure?: Failure }>({ key, items: [], next: null, loading: true });
  const [round, setRound] = useState(0);
  const latest = useRef(load);
  const asking = useRef<object>({});
  useEffect(() => {
    latest.current = load;
  });

  const ask = useCallback((cursor: string | undefined, before: readonly T[]) => {
    const turn = (asking.current = {});
    setState({ key, items: before, next: null, loading: true });
    latest.current(cursor).then(
      (page) => turn === asking.current && setState({ key, items: [...before, ...page.items], next: page.next, loading: false }),
      (cause: unknown) => turn === asking.current && setState({ key, items: before, next: cursor ?? null, loading: false, failure: failureOf(cause) }),
    );
  }, [key]);

  useEffect(() => {
    ask(undefined, []);
    return () => {
      asking.current = {};
    };
  }, [ask, round]);

  const current = state.key === key;
  const more = useCallback(() => {
    if (current && !state.loading && !state.failure && state.next !== null) ask(state.next, state.items);
  }, [ask, current, state]);
  const reload = useCallback(() => setRound((n) => n + 1), []);
  const replace = useCallback((change: (item: T) => T) => setState((old) => ({ ...old, items: old.items.map(change) })), []);
  return {
    items: current ? state.items : [],
    loading: !current || state.loading,
    failure: current ? state.failure : undefined,
    complete: current && !state.loading && state.next === null && !state.failure,
    more,
    reload,
    replace,
  };
}

/** Runs one thing at a time, and says how it went. Resolves to whether it went well. `changes`: it changes something; false of a login, or what only reads. */
export function useAction(changes = true): { busy: boolean; failure: Failure | undefined; run: (work: () => Promise<unknown>) => Promise<boolean>; clear: () => void } {
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<Failure>();
  const running = useRef(false);
  const run = useCallback(async (work: () => Promise<unknown>) => {
    if (running.current) return false;
    running.current = true;
    setBusy(true);
    setFailure(undefined);
    try {
      await work();
      return true;
    } catch (cause) {
      setFailure(failureOf(cause, changes));
      return false;
    } finally {
      running.current = false;
      setBusy(false);
    }
  }, [changes]);
  const clear = useCallback(() => setFailure(undefined), []);
  return { busy, failure, run, clear };
}

/** A value that follows another once that has stood still. */
export function useSettled<T>(value: T, ms: number): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return settled;
}
