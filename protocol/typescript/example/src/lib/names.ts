import { useEffect, useReducer, useState } from "react";
import { usePeople } from "@members-book/client/react";
import type { MemberId } from "@members-book/client";

/** Names that are asked for at once. */
const AT_ONCE = 8;
/** A name that has not come within this time, in milliseconds, is given up: nobody has it, or the server is not reached. */
const PATIENCE_MS = 4_000;

interface Names {
  readonly of: (member: MemberId) => string | undefined;
  /** Names are still on their way. */
  readonly looking: boolean;
}

/** The names of members. Those that are not known yet are asked for as long as `wanted`, a few at a time: names are otherwise learnt of members that are on the screen. */
export function useNames(members: readonly MemberId[], wanted: boolean): Names {
  const people = usePeople();
  const of = (member: MemberId) => people.member(member).getSnapshot()?.name;
  const [, learnt] = useReducer((round: number) => round + 1, 0);
  const everybody = members.toSorted().join(" ");
  const [done, setDone] = useState<string>();
  useEffect(() => {
    if (!wanted) return undefined;
    const waiting = everybody.split(" ").filter((member) => member !== "" && people.member(member).getSnapshot() === undefined);
    const asked = new Map<MemberId, () => void>();
    const leave = (member: MemberId) => {
      asked.get(member)?.();
      asked.delete(member);
    };
    const next = () => {
      while (asked.size < AT_ONCE) {
        const member = waiting.shift();
        if (member === undefined) break;
        const settled = () => {
          leave(member);
          learnt();
          next();
        };
        const timer = setTimeout(settled, PATIENCE_MS);
        const end = people.member(member).subscribe(settled);
        asked.set(member, () => {
          clearTimeout(timer);
          end();
        });
      }
      if (asked.size === 0) setDone(everybody);
    };
    next();
    return () => {
      for (const member of [...asked.keys()]) leave(member);
      setDone(undefined);
    };
  }, [people, everybody, wanted]);
  return { of, looking: wanted && done !== everybody };
}
