import { useState } from "react";
import { View } from "react-native";

import { useAdmin } from "@/admin/useAdmin";
import { fieldError, useAction } from "@/lib/query";
import { makeStyles, radius, space } from "@/theme";
import { Button, Field, Notice, Text, useToast } from "@/ui";

/** Lets somebody register again with the address of a member who has left. */
export function AllowAddress() {
  const styles = useStyles();
  const admin = useAdmin();
  const { toast } = useToast();
  const { busy, failure, run } = useAction();
  const [email, setEmail] = useState("");
  const address = email.trim();
  const allow = () => {
    if (address === "") return;
    void run(async () => {
      const { was_barred } = await admin.allowAddress(address);
      toast(was_barred ? `${address} may register again` : `${address} was not kept out`);
      setEmail("");
    });
  };
  return (
    <View style={styles.card} role="form" aria-label="Who has left and comes back">
      <Text kind="strong">Who has left and comes back</Text>
      <Text kind="small" tone="muted">Nobody can register with the confirmed address of a member who has left, until you let them.</Text>
      <Field
        label="E-mail" value={email} onChangeText={setEmail} onSubmitEditing={allow} autoCapitalize="none" autoCorrect={false} inputMode="email" maxLength={254}
        error={fieldError(failure, "email")}
      />
      {failure && fieldError(failure, "email") === undefined ? <Notice tone="danger" text={failure.message} /> : null}
      <View style={styles.end}><Button label="Let them register" kind="secondary" busy={busy} disabled={address === ""} onPress={allow} /></View>
    </View>
  );
}

const useStyles = makeStyles(({ colors }) => ({
  card: { gap: space.s, marginTop: space.l, padding: space.m, borderRadius: radius.m, backgroundColor: colors.surface, borderWidth: 1, borderColor: colors.border },
  end: { alignItems: "flex-start" },
}));
