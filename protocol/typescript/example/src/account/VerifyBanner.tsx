import { useState } from "react";
import { View } from "react-native";

import { useMe } from "@/lib/people";
import { useAction } from "@/lib/query";
import { useAccount } from "@/lib/rest";
import { useSendsMail } from "@/lib/setup";
import { makeStyles, space, useTheme } from "@/theme";
import { Button, Icon, Text, useToast } from "@/ui";

/** Said once in a session of the app, as long as somebody has not answered. */
let dismissed = false;

/** Asks members who registered before the club sent mail to confirm their address: without that a forgotten password is harder to get over. */
export function VerifyBanner() {
  const me = useMe();
  const [hidden, hide] = useState(dismissed);
  const close = () => {
    dismissed = true;
    hide(true);
  };
  return hidden || me.email_verified_at ? null : <Unverified email={me.email} onClose={close} />;
}

function Unverified({ email, onClose }: { email: string; onClose: () => void }) {
  const styles = useStyles();
  const { colors } = useTheme();
  const account = useAccount();
  const { toast } = useToast();
  const sendsMail = useSendsMail();
  const { busy, failure, run } = useAction(false);
  const send = () => void run(async () => {
    await account.sendVerification();
    onClose();
    toast(`A mail with a link is on its way to ${email}.`);
  });
  if (!sendsMail) return null;
  return (
    <View style={styles.banner} role="status">
      <Icon name="alert" size={18} color={colors.onWarn} />
      <Text kind="small" style={[styles.text, { color: colors.onWarn }]}>{failure ? failure.message : "Your e-mail address is not confirmed."}</Text>
      <Button label="Send me a link" kind="secondary" compact busy={busy} onPress={send} />
      <Button label="Not now" kind="plain" compact onPress={onClose} />
    </View>
  );
}

const useStyles = makeStyles(({ colors }) => ({
  banner: { flexDirection: "row", flexWrap: "wrap", alignItems: "center", gap: space.s, paddingHorizontal: space.l, paddingVertical: space.s, backgroundColor: colors.warnSoft },
  text: { flex: 1, minWidth: 180 },
}));
