import { memo } from "react";
import { Linking } from "react-native";
import type { StyleProp, TextStyle } from "react-native";

import { isWeb, webOnly } from "@/lib/platform";
import { Text } from "@/ui";
import { piecesOf } from "./links";

/** The text of a message. Addresses of the web in it are links: they open beside the app, which they learn nothing of. */
export const Content = memo(function Content({ content, style }: { content: string; style: StyleProp<TextStyle> }) {
  const pieces = content.includes("://") ? piecesOf(content) : [];
  return (
    <Text style={style} selectable {...webOnly({ dir: "auto" })}>
      {pieces.length === 0 ? content : pieces.map(({ text, href }, index) => href === undefined ? text : (
        <Text
          key={index} role="link" style={[style, { textDecorationLine: "underline" }]}
          {...(isWeb ? webOnly({ href, hrefAttrs: { target: "_blank", rel: "noopener noreferrer" } }) : { onPress: () => void Linking.openURL(href) })}
        >
          {text}
        </Text>
      ))}
    </Text>
  );
});
