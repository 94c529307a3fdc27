import { useState } from "react";
import { View } from "react-native";
import { useClient } from "@members-book/client/react";

import { useMe } from "@/lib/people";
import { useAction } from "@/lib/query";
import { space } from "@/theme";
import { Button, Field, Notice, Section, Sheet, Text, useToast } from "@/ui";
import { Proof, PROOF_TITLE, useProof } from "./Proof";

const same = (typed: string, name: string) => typed.trim().normalize("NFC").toLocaleLowerCase() === name.trim().normalize("NFC").toLocaleLowerCase();

/** Leaving the club: nobody does it by a slip, so the name has to be typed; and nobody who has found the device, so the password is asked for if that was a while ago. */
export function LeaveSection() {
  const client = useClient();
  const { name } = useMe();
  const { toast } = useToast();
  const [open, setOpen] = useState(false);
  const [typed, setTyped] = useState("");
  const { busy, failure, run } = useAction();
  const { proved, wanted } = useProof();
  const sure = same(typed, name);
  const close = () => {
    wanted?.answer(false);
    setOpen(false);
    setTyped("");
  };
  const leave = () => {
    if (!sure) return;
    void run(async () => {
      await proved(() => client.leave());
      toast("Your profile was deleted");
    });
  };
  return (
    <Section title="Leave the club">
      <Text kind="small" tone="muted">Deletes your profile for ever.</Text>
      <Button label="Leave the club" kind="danger" onPress={() => setOpen(true)} style={{ alignSelf: "flex-start" }} />
      <Sheet open={open} title={wanted ? PROOF_TITLE : "Leave the club for ever?"} onClose={close}>
        {wanted ? <Proof wanted={wanted} /> : <>
        <Text tone="muted">
          Your profile, picture, e-mail and password are deleted, on all devices. What you wrote stays with those you wrote to, under “Former member”. This cannot be taken back. Export your data before if you
          want to keep it.
        </Text>
        {failure ? <Notice tone="danger" text={failure.message} /> : null}
        <Field label="Your name" hint={`Type “${name}” to say that you are sure.`} value={typed} onChangeText={setTyped} autoCorrect={false} autoComplete="off" onSubmitEditing={leave} />
        <View style={{ flexDirection: "row", flexWrap: "wrap", justifyContent: "flex-end", gap: space.s }}>
          <Button label="Cancel" kind="secondary" onPress={close} />
          <Button label="Leave for ever" kind="danger" busy={busy} disabled={!sure} onPress={leave} />
        </View>
        </>}
      </Sheet>
    </Section>
  );
}
