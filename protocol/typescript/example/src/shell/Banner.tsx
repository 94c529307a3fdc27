import { useEffect, useState } from "react";
import { View } from "react-native";
import { useClient, useConnection } from "@members-book/client/react";

import { isWeb } from "@/lib/platform";
import { isTrouble, TROUBLE_KEPT } from "@/lib/query";
import { makeStyles, space, useTheme } from "@/theme";
import { Button, Icon, Text } from "@/ui";
import type { IconName } from "@/ui";

/** A connection that is back within this time was not worth a word. */
const PATIENCE_MS = 2_500;

interface Said {
  icon: IconName;
  text: string;
  tone: "warn" | "danger";
  action?: { label: string; run: () => void };
}

/** Says when the server is not reached, and what to do. */
export function ConnectionBanner() {
  const styles = useStyles();
  const { colors } = useTheme();
  const client = useClient();
  const { status, retryAt, problem, storageFailing } = useConnection();
  const away = status === "connecting";
  const [late, setLate] = useState(false);
  useEffect(() => {
    if (!away) {
      setLate(false);
      return undefined;
    }
    const timer = setTimeout(() => setLate(true), PATIENCE_MS);
    return () => clearTimeout(timer);
  }, [away]);

  const wake = () => client.wake();
  const again = retryAt === undefined ? {} : { action: { label: "Try now", run: wake } };
  const said: Said[] = [];
  if (status === "replaced") {
    said.push({ icon: "plug", tone: "warn", text: "This device is connected in another place. New messages do not arrive here.", action: { label: "Use it here", run: wake } });
  } else if (status === "stopped") {
    const action = problem?.code === "upgrade_required" && isWeb ? { label: "Load the page again", run: () => location.reload() } : { label: "Try again", run: wake };
    said.push({ icon: "alert", tone: "danger", text: `The server does not accept this app: ${problem?.message ?? "it did not say why."}`, action });
  } else if (away && problem?.code === "too_many_connections") {
    said.push({
      icon: "plug", tone: "warn", text: "You have the app open in too many tabs or devices: nothing arrives here. Close some of them.", action: { label: "Try again", run: wake },
    });
  } else if (away && late && isTrouble(problem?.code)) {
    said.push({ icon: "alert", tone: "warn", text: TROUBLE_KEPT, ...again });
  } else if (away && late) {
    said.push({
      icon: "cloudOff", tone: "warn", text: "You are offline. What you write is kept, and sent when the connection is back.", ...again,
    });
  }
  if (storageFailing) said.push({ icon: "alert", tone: "danger", text: "Nothing can be stored on this device at the moment: what arrives is shown and what you write is sent, but neither is kept when the app is closed. Leave it open until this is over. If the device is full, make room." });

  return (
    <View aria-live="polite" role="status">
      {said.map(({ icon, tone, text, action }) => {
        const color = tone === "warn" ? colors.onWarn : colors.danger;
        return (
          <View key={text} style={[styles.banner, { backgroundColor: tone === "warn" ? colors.warnSoft : colors.dangerSoft }]}>
            <Icon name={icon} size={18} color={color} />
            <Text kind="small" style={[styles.text, { color }]}>{text}</Text>
            {action ? <Button label={action.label} kind="secondary" compact onPress={action.run} /> : null}
          </View>
        );
      })}
    </View>
  );
}

const useStyles = makeStyles(() => ({
  banner: { flexDirection: "row", flexWrap: "wrap", alignItems: "center", gap: space.s, paddingHorizontal: space.l, paddingVertical: space.s },
  text: { flex: 1, minWidth: 180 },
}));
