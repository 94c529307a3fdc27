import { useState } from "react";
import { View } from "react-native";
import type { FieldSuggestion, OptimizeResponse, ProfileField } from "@members-book/client";

import { useAction } from "@/lib/query";
import { useMembers } from "@/lib/rest";
import { makeStyles, radius, space } from "@/theme";
import { Button, Notice, Section, Text } from "@/ui";

const NAMES: Record<ProfileField, string> = {
  name: "Name",
  "contact_info.phone": "Phone",
  "contact_info.company": "Company",
  "contact_info.position": "Position",
  profile_image_url: "Picture",
};

/** What could be better in one's profile. Applying one puts it into the form: saving is up to the member. */
export function Suggestions({ onApply }: { onApply: (field: ProfileField, value: string) => void }) {
  const styles = useStyles();
  const members = useMembers();
  const [answer, setAnswer] = useState<OptimizeResponse>();
  const { busy, failure, run } = useAction();
  const ask = () => void run(async () => setAnswer(await members.optimizeProfile()));
  const done = (field: ProfileField) => setAnswer((old) => old && { ...old, suggestions: old.suggestions.filter((one) => one.field !== field) });
  return (
    <Section title="Suggestions" text="What could make your profile more useful to others. Nothing changes until you save.">
      {answer ? <Text kind="label">Your profile is {Math.round(answer.completeness * 100)}% complete.</Text> : null}
      {answer?.suggestions.length === 0 ? <Notice tone="soft" text="There is nothing to improve at the moment." /> : null}
      {answer?.suggestions.map((one: FieldSuggestion) => (
        <View key={one.field} style={styles.one}>
          <Text kind="label">{NAMES[one.field]}{one.suggestion === null ? "" : `: ${one.suggestion}`}</Text>
          <Text kind="small" tone="muted">{one.reason}</Text>
          {one.suggestion === null ? null : (
            <Button
              label="Use it" name={`Use it: ${NAMES[one.field]} ${one.suggestion}`} kind="secondary" compact style={styles.button}
              onPress={() => {
                if (one.suggestion !== null) onApply(one.field, one.suggestion);
                done(one.field);
              }}
            />
          )}
        </View>
      ))}
      {failure ? <Notice tone="danger" text={failure.message} /> : null}
      <Button label={answer ? "Ask again" : "What could be better?"} icon="spark" kind="secondary" busy={busy} onPress={ask} style={styles.button} />
    </Section>
  );
}

const useStyles = makeStyles(({ colors }) => ({
  one: { gap: space.xs, padding: space.m, borderRadius: radius.m, backgroundColor: colors.raised },
  button: { alignSelf: "flex-start" },
}));
