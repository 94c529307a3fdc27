import { createContext, useContext } from "react";
import { useObservable } from "@members-book/client/react";
import type { DevicePush, PushState } from "@members-book/client/push";

export const PushContext = createContext<DevicePush | undefined>(undefined);

/** Pushes to this device. */
export function usePush(): DevicePush {
  const push = useContext(PushContext);
  if (!push) throw new Error("usePush: there is no <PushContext.Provider> around this component");
  return push;
}

/** Whether messages are pushed to this device. */
export function usePushState(): PushState {
  return useObservable(usePush().state);
}
