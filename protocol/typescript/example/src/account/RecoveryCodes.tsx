import { useState } from "react";
import { View } from "react-native";

import { copy } from "@/lib/copy";
import { saveText } from "@/lib/files";
import { print } from "@/lib/print";
import { useAction } from "@/lib/query";
import { makeStyles, radius, space } from "@/theme";
import { Button, Checkbox, Notice, Section, Text, useToast } from "@/ui";

/** The codes, as they are copied, saved and printed. */
function written(codes: readonly string[], email: string): string {
  return `Recovery codes of ${email}\nEach signs you in once, in place of a code of the authenticator app.\n\n${codes.join("\n")}\n`;
}

/** Recovery codes are shown now and never again: they stay until the member says that they are kept. */
export function RecoveryCodes({ codes, email, onKept }: { codes: readonly string[]; email: string; onKept: () => void }) {
  const styles = useStyles();
  const { toast } = useToast();
  const [kept, setKept] = useState(false);
  const { failure, run } = useAction(false);
  const text = written(codes, email);
  const copied = async () => toast((await copy(text)) ? "Copied" : "This browser does not let the page copy: mark the codes, and copy them.");
  return (
    <Section title="Keep your recovery codes" text="Each of them signs you in once, if you lose the phone with your authenticator app. They are not shown again. Keep them where you find them without that phone: in a password manager, or on paper.">
      <View role="list" aria-label="Recovery codes" style={styles.codes}>
        {codes.map((code) => <View key={code} role="listitem" style={styles.code}><Text kind="strong" selectable style={styles.digits}>{code}</Text></View>)}
      </View>
      {failure ? <Notice tone="danger" text={failure.message} /> : null}
      <View style={styles.buttons}>
        <Button label="Copy" name="Copy the recovery codes" kind="secondary" onPress={() => void copied()} />
        <Button label="Save as a file" kind="secondary" icon="download" onPress={() => void run(() => saveText("members-book-recovery-codes.txt", text, "text/plain"))} />
        {print ? <Button label="Print" kind="secondary" onPress={() => print?.(text)} /> : null}
      </View>
      <Checkbox label="I have kept them" checked={kept} onChange={setKept} />
      <Button label="Done" disabled={!kept} onPress={onKept} style={{ alignSelf: "flex-start" }} />
    </Section>
  );
}

const useStyles = makeStyles(({ colors }) => ({
  codes: { flexDirection: "row", flexWrap: "wrap", gap: space.s, padding: space.m, borderRadius: radius.m, backgroundColor: colors.raised },
  code: { flexGrow: 1, flexBasis: 200 },
  digits: { fontVariant: ["tabular-nums"], letterSpacing: 0.5 },
  buttons: { flexDirection: "row", flexWrap: "wrap", gap: space.s },
}));
