import { useState } from "react";
import { View } from "react-native";

import { isWeb } from "@/lib/platform";
import { parseServerUrl } from "@/lib/server";
import { useServer } from "@/lib/server-context";
import { space } from "@/theme";
import { Button, Field } from "@/ui";
import { AuthFrame } from "./AuthFrame";

/** Which server: asked on devices only; a page belongs to the server that it came from. */
export function ServerField({ open = false }: { open?: boolean }) {
  const { url, setUrl } = useServer();
  const [changing, setChanging] = useState(open);
  const [text, setText] = useState(url ?? "");
  const [wrong, setWrong] = useState(false);
  if (isWeb) return null;
  if (!changing) return <Button label={`Server: ${url ?? "none"}`} kind="plain" icon="pencil" onPress={() => setChanging(true)} />;
  const keep = () => {
    const parsed = parseServerUrl(text);
    setWrong(parsed === undefined);
    if (parsed === undefined) return;
    setUrl(parsed);
    setChanging(false);
  };
  return (
    <View style={{ gap: space.m }}>
      <Field
        label="Address of the club's server" placeholder="club.example" value={text} onChangeText={setText} inputMode="url" autoCapitalize="none" autoCorrect={false}
        onSubmitEditing={keep} error={wrong ? "This is no address. It looks like club.example." : undefined}
      />
      <Button label="Use this server" kind="secondary" onPress={keep} />
    </View>
  );
}

/** Before anything else, on a device that knows no server. */
export function ServerScreen() {
  return <AuthFrame title="Members Book" text="Which club do you belong to? Whoever invited you knows the address."><ServerField open /></AuthFrame>;
}
