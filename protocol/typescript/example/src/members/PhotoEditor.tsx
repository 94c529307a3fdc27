import { View } from "react-native";
import { useClient } from "@members-book/client/react";
import type { Member } from "@members-book/client";

import { pickPicture } from "@/lib/files";
import { MOST, TYPES } from "@/lib/pictures";
import { useAction } from "@/lib/query";
import { useMembers } from "@/lib/rest";
import { space } from "@/theme";
import { Avatar, Button, Notice, useConfirm, useToast } from "@/ui";

/** One's own picture. */
export function PhotoEditor({ member, onChanged }: { member: Member; onChanged: () => void }) {
  const client = useClient();
  const members = useMembers();
  const confirm = useConfirm();
  const { toast } = useToast();
  const { busy, failure, run } = useAction();

  const upload = () => void run(async () => {
    const picture = await pickPicture();
    if (!picture) return;
    const size = "size" in picture.content ? picture.content.size : picture.content.byteLength;
    if (!TYPES.includes(picture.type)) throw new Error("Choose a JPEG, PNG or WebP picture.");
    if (size > MOST) throw new Error("The picture is larger than 5 MB. Choose a smaller one.");
    await members.uploadPhoto(member._id, picture.type, picture.content);
    await client.refreshMember();
    onChanged();
    toast("Picture changed");
  });
  const remove = async () => {
    if (!(await confirm({ title: "Remove your picture?", text: "Members will see your initials instead.", confirm: "Remove", danger: true }))) return;
    await run(async () => {
      await members.removePhoto(member._id);
      await client.refreshMember();
      onChanged();
      toast("Picture removed");
    });
  };
  return (
    <View style={{ alignItems: "center", gap: space.m }}>
      <Avatar name={member.name} photo={member.profile_image_url} size={96} />
      <View style={{ flexDirection: "row", flexWrap: "wrap", justifyContent: "center", gap: space.s }}>
        <Button label={member.profile_image_url ? "Change picture" : "Add a picture"} icon="camera" kind="secondary" busy={busy} onPress={upload} />
        {member.profile_image_url ? <Button label="Remove picture" kind="plain" disabled={busy} onPress={() => void remove()} /> : null}
      </View>
      {failure ? <Notice tone="danger" text={failure.message} /> : null}
    </View>
  );
}
