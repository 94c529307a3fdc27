import { deleteDatabase } from "@members-book/client/web";

/** Removes all that this browser keeps of the club, and loads the page again. */
export const forget: (() => Promise<void>) | undefined = async () => {
  for (const store of [() => localStorage, () => sessionStorage]) {
    try {
      store().clear();
    } catch {
      // There is none.
    }
  }
  const names = (await indexedDB.databases?.().catch(() => [])) ?? [];
  await Promise.allSettled(names.flatMap(({ name }) => (name?.startsWith("members-book") ? [deleteDatabase(name)] : [])));
  await Promise.allSettled((await navigator.serviceWorker?.getRegistrations().catch(() => []) ?? []).map((worker) => worker.unregister()));
  await Promise.allSettled((await globalThis.caches?.keys().catch(() => []) ?? []).map((name) => caches.delete(name)));
  location.replace("/app/");
};
