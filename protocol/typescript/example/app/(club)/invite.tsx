import { useState } from "react";
import { View } from "react-native";
import { useClient } from "@members-book/client/react";
import type { Invitation, NewInvitation, Tier } from "@members-book/client";

import { useMe } from "@/lib/people";
import { fieldError, usePages, useAction } from "@/lib/query";
import { useInvitations } from "@/lib/rest";
import { isLoopback } from "@/lib/server";
import { mayInvite, REGISTRATION, useClub } from "@/lib/setup";
import { share, SHARE_LABEL } from "@/lib/share";
import { standing } from "@/members/invitation";
import { TierNote, TIERS } from "@/members/Tier";
import { makeStyles, space } from "@/theme";
import { Button, Choice, Failed, Field, Loading, Notice, ScrollScreen, Section, Text, useConfirm, useToast } from "@/ui";

const TIER_OPTIONS = TIERS.map((tier) => ({ value: tier, label: tier }));
const DAY = 86_400;
const LASTING = [{ value: "1", label: "A day" }, { value: "14", label: "Two weeks" }, { value: "90", label: "90 days" }] as const;

/** Invitations of one's own: making them, passing them on, taking them back. */
export default function Invite() {
  const me = useMe();
  const club = useClub();
  const invitations = useInvitations();
  const own = usePages("invitations", async (cursor) => {
    const page = await invitations.list({ cursor });
    return { items: page.invitations, next: page.next };
  });
  if (!club) return <Loading />;
  return (
    <ScrollScreen title="Invite" back="/settings">
      {club.registration === "closed" ? <Notice tone="warn" text={REGISTRATION.closed} /> : <Text tone="muted">{REGISTRATION[club.registration]}</Text>}
      {mayInvite(club, me) ? <Make admin={me.user_type === "admin"} onMade={own.reload} /> : club.registration === "closed" ? null : <Notice tone="warn" text="Administrators of the club invite new members." />}
      <Section title="My invitations">
        {own.failure ? <Failed failure={own.failure} onRetry={own.reload} /> : null}
        {own.items.map((invitation) => <Own key={invitation._id} invitation={invitation} onRevoked={own.reload} />)}
        {own.loading ? <Loading label="Loading invitations" /> : own.items.length === 0 && !own.failure ? <Text tone="muted">You have not invited anybody yet.</Text> : null}
        {own.complete || own.loading || own.failure ? null : <Button label="Show more" kind="secondary" onPress={own.more} />}
      </Section>
    </ScrollScreen>
  );
}

function Make({ admin, onMade }: { admin: boolean; onMade: () => void }) {
  const invitations = useInvitations();
  const [tier, setTier] = useState<Tier>(TIERS[0] ?? "Disruption");
  const [uses, setUses] = useState("1");
  const [days, setDays] = useState<(typeof LASTING)[number]["value"]>("14");
  const [note, setNote] = useState("");
  const [made, setMade] = useState<NewInvitation>();
  const { busy, failure, run } = useAction();
  const count = Number(uses);
  const make = () => void run(async () => {
    setMade(await invitations.make({ expires_in: Number(days) * DAY, ...(note.trim() === "" ? {} : { note: note.trim() }), ...(admin ? { tier, uses: count } : {}) }));
    setNote("");
    onMade();
  });
  return (
    <Section title="A new invitation" text={admin ? "Whoever has the code registers without waiting." : "For one person. You may have ten that are open."}>
      {failure && failure.fields.length === 0 ? <Notice tone="danger" text={failure.message} /> : null}
      {admin ? <View style={{ gap: space.xs }}><Choice label="Tier" showLabel options={TIER_OPTIONS} value={tier} onChange={setTier} /><TierNote tier={tier} /></View> : null}
      {admin ? <Field label="For how many" value={uses} onChangeText={setUses} inputMode="numeric" maxLength={4} error={fieldError(failure, "uses")} /> : null}
      <Choice label="Good for" showLabel options={LASTING} value={days} onChange={setDays} />
      <Field label="Note" hint="Whom it is for. Seen by you and by administrators." value={note} onChangeText={setNote} maxLength={200} error={fieldError(failure, "note")} />
      <Button label="Make an invitation" busy={busy} disabled={admin && !(count >= 1)} onPress={make} style={{ alignSelf: "flex-start" }} />
      {made ? <Made made={made} /> : null}
    </Section>
  );
}

/** The code is shown now and never again. */
function Made({ made: { code, link } }: { made: NewInvitation }) {
  const styles = useStyles();
  const { api } = useClient();
  const { toast } = useToast();
  const { failure, run } = useAction(false);
  const whole = link.startsWith("/") ? api.url + link : link;
  return (
    <View style={styles.made} aria-live="polite">
      <Text kind="small" tone="muted">Pass this on now: the code is not shown again.</Text>
      <Text kind="heading" selectable>{code}</Text>
      <Text kind="small" selectable>{whole}</Text>
      {isLoopback(whole) ? <Notice tone="warn" text="Only this machine reaches this link. For others, start the server with HOST=0.0.0.0, open the app at the address that it prints, and make the invitation there; or set PUBLIC_URL to the address that they reach. The code is as good there." /> : null}
      {failure ? <Notice tone="danger" text={failure.message} /> : null}
      <Button
        label={SHARE_LABEL} kind="secondary" style={{ alignSelf: "flex-start" }}
        onPress={() => void run(async () => {
          const said = await share(whole);
          if (said) toast(said);
        })}
      />
    </View>
  );
}

function Own({ invitation, onRevoked }: { invitation: Invitation; onRevoked: () => void }) {
  const styles = useStyles();
  const invitations = useInvitations();
  const confirm = useConfirm();
  const { toast } = useToast();
  const { busy, failure, run } = useAction();
  const { _id, tier, note, is_open } = invitation;
  const name = note ?? `Invitation to ${tier}`;
  const revoke = async () => {
    if (!(await confirm({ title: "Revoke this invitation?", text: "Nobody can register with its code any more. Who came by it stays.", confirm: "Revoke", danger: true }))) return;
    await run(async () => {
      await invitations.revoke(_id);
      toast("Revoked");
      onRevoked();
    });
  };
  return (
    <View style={styles.own}>
      <View style={styles.words}>
        <Text kind="strong">{name}</Text>
        <Text kind="small" tone="muted">{note ? `${tier} · ${standing(invitation)}` : standing(invitation)}</Text>
        {failure ? <Notice tone="danger" text={failure.message} /> : null}
      </View>
      {is_open ? <Button label="Revoke" name={`Revoke: ${name}`} kind="secondary" compact busy={busy} onPress={() => void revoke()} /> : null}
    </View>
  );
}

const useStyles = makeStyles(({ colors }) => ({
  made: { gap: space.s, padding: space.m, borderRadius: 12, backgroundColor: colors.soft },
  own: { flexDirection: "row", flexWrap: "wrap", alignItems: "center", gap: space.m, paddingVertical: space.s, borderTopWidth: 1, borderTopColor: colors.border },
  words: { flexGrow: 1, flexBasis: 180, minWidth: 0, gap: space.xxs },
}));
