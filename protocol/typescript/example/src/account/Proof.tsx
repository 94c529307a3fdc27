import { useCallback, useState } from "react";
import { View } from "react-native";
import { MembersBookError } from "@members-book/client";

import { fieldError, useAction, useQuery } from "@/lib/query";
import { useAccount } from "@/lib/rest";
import { space } from "@/theme";
import { Button, Failed, Field, Loading, Notice, Sheet, Text } from "@/ui";
import { CodeField } from "./CodeField";

/** The title of the sheet that asks. */
export const PROOF_TITLE = "Is it you?";

/** Somebody waits for a proof: told whether there is one. */
export interface Wanted {
  readonly answer: (given: boolean) => void;
}

/** Does what somebody wants. Where the server wants a proof of who they are first, `wanted` is there to be asked for, and the same is done again once it is given. */
export function useProof(): { proved: <T>(work: () => Promise<T>) => Promise<T>; wanted: Wanted | undefined } {
  const [wanted, setWanted] = useState<Wanted>();
  const proved = useCallback(async <T,>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (cause) {
      if (!(cause instanceof MembersBookError) || cause.code !== "step_up_required") throw cause;
      const given = await new Promise<boolean>((answer) => setWanted({ answer }));
      setWanted(undefined);
      if (!given) throw cause;
      return work();
    }
  }, []);
  return { proved, wanted };
}

/** Asks for the proof in a sheet that is open already: a device shows one sheet at a time. */
export function Proof({ wanted: { answer } }: { wanted: Wanted }) {
  const account = useAccount();
  const { data, failure: unknown, reload } = useQuery("second factor", () => account.secondFactor());
  const [password, setPassword] = useState("");
  const [code, setCode] = useState("");
  const { busy, failure, run } = useAction(false);
  if (!data) return unknown ? <Failed failure={unknown} onRetry={reload} /> : <Loading />;
  const complete = (data.enabled ? code : password).trim() !== "";
  const submit = () => {
    if (!complete) return;
    void run(async () => {
      await account.stepUp(data.enabled ? { code } : { password });
      answer(true);
    });
  };
  return (
    <View style={{ gap: space.l }} role="form" aria-label={PROOF_TITLE}>
      <Text tone="muted">
        {`What you are about to do matters, and it is a while ago that you signed in. Enter ${data.enabled ? "a code of your second factor" : "your password"}: for 15 minutes you are not asked again.`}
      </Text>
      {failure && failure.fields.length === 0 ? <Notice tone="danger" text={failure.message} /> : null}
      {data.enabled ? (
        <CodeField value={code} onChange={setCode} onSubmit={submit} error={fieldError(failure, "code")} autoFocus />
      ) : (
        <Field
          label="Your password" value={password} onChangeText={setPassword} secureTextEntry autoComplete="current-password" autoFocus onSubmitEditing={submit}
          error={fieldError(failure, "password")}
        />
      )}
      <View style={{ flexDirection: "row", flexWrap: "wrap", justifyContent: "flex-end", gap: space.s }}>
        <Button label="Cancel" kind="secondary" onPress={() => answer(false)} />
        <Button label="Go on" busy={busy} disabled={!complete} onPress={submit} />
      </View>
    </View>
  );
}

/** The same in a sheet of its own. */
export function ProofSheet({ wanted }: { wanted: Wanted | undefined }) {
  if (!wanted) return null;
  return <Sheet open title={PROOF_TITLE} onClose={() => wanted.answer(false)}><Proof wanted={wanted} /></Sheet>;
}
