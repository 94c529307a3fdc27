import { createContext, useContext, useState } from "react";
import type { ReactNode } from "react";

const FilterContext = createContext<[onlyUnread: boolean, set: (onlyUnread: boolean) => void] | undefined>(undefined);

/** Around the screens of chats: who comes back from a chat finds the list as it was. */
export function FilterProvider({ children }: { children: ReactNode }) {
  const filter = useState(false);
  return <FilterContext.Provider value={filter}>{children}</FilterContext.Provider>;
}

/** Whether the list shows only what is unread. */
export function useOnlyUnread() {
  const filter = useContext(FilterContext);
  if (!filter) throw new Error("useOnlyUnread: there is no <FilterProvider> around this component");
  return filter;
}
