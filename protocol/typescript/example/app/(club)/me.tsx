import { useEffect, useState } from "react";
import { View } from "react-native";
import { useClient } from "@members-book/client/react";
import type { Audience, SharedWith } from "@members-book/client";

import { useMe } from "@/lib/people";
import { fieldError, useAction } from "@/lib/query";
import { useMembers } from "@/lib/rest";
import { applied, draftOf, formOf, keepDraft, patchOf } from "@/members/form";
import { PhotoEditor } from "@/members/PhotoEditor";
import { Suggestions } from "@/members/Suggestions";
import { TierBadge } from "@/members/Tier";
import { space } from "@/theme";
import { Button, Choice, Field, Notice, ScrollScreen, Section, Text, useToast } from "@/ui";

const SHARED: readonly { value: SharedWith; label: string }[] = [{ value: "members", label: "Members" }, { value: "nobody", label: "Nobody" }];
const AUDIENCE: readonly { value: Audience; label: string }[] = [
  { value: "members", label: "Members" }, { value: "partners", label: "People I chat with" }, { value: "nobody", label: "Nobody" },
];
const SHARING = [["email", "E-mail"], ["phone", "Phone"], ["company", "Company"], ["position", "Position"]] as const;

/** One's own profile. */
export default function Me() {
  const client = useClient();
  const members = useMembers();
  const me = useMe();
  const { toast } = useToast();
  const [base, setBase] = useState(me);
  // What is typed stays when one goes elsewhere, until it is saved or given up.
  const [form, setForm] = useState(() => draftOf(me) ?? formOf(me));
  const [restored] = useState(() => draftOf(me) !== undefined);
  const { busy, failure, run } = useAction();
  // What another device has changed is taken over as long as nothing was typed here.
  if (me !== base && Object.keys(patchOf(form, base)).length === 0) {
    setBase(me);
    setForm(formOf(me));
  }

  const patch = patchOf(form, base);
  const changed = Object.keys(patch).length > 0;
  useEffect(() => keepDraft(changed ? form : undefined), [changed, form]);
  const discard = () => {
    setBase(me);
    setForm(formOf(me));
  };
  const save = () => void run(async () => {
    const { value } = await members.updateMe(patch);
    setBase(value);
    setForm(formOf(value));
    await client.refreshMember();
    toast("Profile saved");
  });
  return (
    <ScrollScreen title="My profile" actions={<Button label="Save" busy={busy} disabled={!changed || form.name.trim() === ""} onPress={save} />}>
      {failure ? <Notice tone="danger" text={failure.fields.length > 0 ? "Not saved: look at what is marked below." : failure.message} /> : null}
      {restored && changed ? (
        <Section>
          <Notice tone="warn" text="You have changed this before, and not saved it." />
          <Button label="Discard the changes" kind="secondary" compact onPress={discard} style={{ alignSelf: "flex-start" }} />
        </Section>
      ) : null}
      <Section>
        <PhotoEditor member={me} onChanged={() => undefined} />
        <View style={{ alignItems: "center", gap: space.xs }}>
          <TierBadge tier={me.tier} centered />
          <Text kind="small" tone="muted" selectable>{me.email}</Text>
        </View>
      </Section>
      <Section title="About you">
        <Field label="Name" value={form.name} onChangeText={(name) => setForm({ ...form, name })} maxLength={100} autoComplete="name" error={form.name.trim() === "" ? "A name is needed." : fieldError(failure, "name")} />
        <Field label="Position" value={form.position} onChangeText={(position) => setForm({ ...form, position })} maxLength={100} autoComplete="organization-title" error={fieldError(failure, "contact_info.position")} />
        <Field label="Company" value={form.company} onChangeText={(company) => setForm({ ...form, company })} maxLength={100} autoComplete="organization" error={fieldError(failure, "contact_info.company")} />
        <Field label="Phone" value={form.phone} onChangeText={(phone) => setForm({ ...form, phone })} maxLength={32} inputMode="tel" autoComplete="tel" error={fieldError(failure, "contact_info.phone")} />
      </Section>
      <Section title="Who sees what" text="Administrators of the club see everything.">
        {SHARING.map(([field, label]) => (
          <Choice key={field} label={label} showLabel options={SHARED} value={form.visibility[field]} onChange={(value) => setForm({ ...form, visibility: { ...form.visibility, [field]: value } })} />
        ))}
        <Choice
          label="When I am there" showLabel options={AUDIENCE} value={form.visibility.presence}
          onChange={(presence) => setForm({ ...form, visibility: { ...form.visibility, presence } })}
        />
      </Section>
      <Suggestions onApply={(field, value) => setForm((old) => applied(old, field, value))} />
    </ScrollScreen>
  );
}
