import { useRouter } from "expo-router";

import { useQuery } from "@/lib/query";
import { useAccount } from "@/lib/rest";
import { Button, Failed, Loading, Notice, Section, Text } from "@/ui";

/** From so few on one is told that there are few left. */
const FEW = 3;

/** How it stands with the second factor, and the way to change that. */
export function SecondFactorSection() {
  const router = useRouter();
  const account = useAccount();
  const { data, failure, reload } = useQuery("second factor", () => account.secondFactor());
  return (
    <Section title="Second factor" text="With it, whoever knows your password cannot sign in: a code of an app on your phone is asked for, too.">
      {data === undefined ? failure ? <Failed failure={failure} onRetry={reload} /> : <Loading label="Loading the second factor" /> : (
        <>
          {data.required && !data.enabled ? <Notice tone="warn" text="The club demands one of its administrators: until you turn it on you cannot administer." /> : null}
          {data.enabled && data.recovery_codes_left <= FEW ? <Notice tone="warn" text={`${left(data.recovery_codes_left)}. Make new ones before you need them.`} /> : null}
          <Text kind="small" tone="muted">{data.enabled ? `It is on. ${left(data.recovery_codes_left)}.` : "It is off."}</Text>
          <Button
            label={data.enabled ? "Change" : "Turn on"} name={data.enabled ? "Change the second factor" : "Turn on the second factor"} kind="secondary" icon="shield"
            onPress={() => router.push("/second-factor")} style={{ alignSelf: "flex-start" }}
          />
        </>
      )}
    </Section>
  );
}

/** How many recovery codes there are still, as a sentence without its end. */
export function left(codes: number): string {
  if (codes === 0) return "No recovery code is left";
  return codes === 1 ? "One recovery code is left" : `${codes} recovery codes are left`;
}
