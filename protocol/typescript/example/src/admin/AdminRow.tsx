import { useState } from "react";
import { Pressable, View } from "react-native";
import type { AdminMember, MemberStatus, Tier } from "@members-book/client";

import { Proof, PROOF_TITLE, useProof } from "@/account/Proof";
import { useMe } from "@/lib/people";
import { useAction } from "@/lib/query";
import { dateTime } from "@/lib/time";
import { TierBadge, TierNote, TIERS } from "@/members/Tier";
import { makeStyles, radius, space } from "@/theme";
import { Ask, Avatar, Button, Choice, Notice, Sheet, Text, useToast } from "@/ui";
import type { Question } from "@/ui";
import { Suspension } from "./Suspension";
import { useAdmin } from "./useAdmin";

const STATES: Record<MemberStatus, string> = { active: "active", suspended: "suspended", deactivated: "not active", pending: "waits to be let in", unverified: "has not verified the address" };
const DEACTIVATE = "To deactivate somebody has no end, unlike a suspension: they are out, in no directory, and cannot sign in until an administrator activates them again. What they wrote stays.";
const ACTIVATE = "They cannot sign in, and are in no directory, until they are activated again.";
const TIER_OPTIONS = TIERS.map((tier) => ({ value: tier, label: tier }));

/** As a change has left somebody: who may not be signed in is connected with nothing, whatever was counted while it was made. */
function after(member: AdminMember): AdminMember {
  if (member.status === "active") return member;
  const { connections_partial: _, ...rest } = member;
  return { ...rest, connections: 0 };
}

function connectionsText({ connections, connections_partial }: AdminMember): string {
  if (connections === 0 && !connections_partial) return "not connected";
  return `${connections}${connections_partial ? " or more" : ""} ${connections === 1 && !connections_partial ? "device" : "devices"} connected`;
}

export function AdminRow({ member, onChanged }: { member: AdminMember; onChanged: (member: AdminMember) => void }) {
  const styles = useStyles();
  const [open, setOpen] = useState(false);
  const { name, email, tier, status, user_type } = member;
  const active = status === "active";
  const marks = [user_type === "admin" ? "administrator" : undefined, active ? undefined : STATES[status], connectionsText(member)].filter(Boolean).join(" · ");
  return (
    <>
      <Pressable role="button" onPress={() => setOpen(true)} style={styles.row}>
        <Avatar name={name} photo={member.profile_image_url} size={44} />
        <View style={styles.words}>
          <Text kind="strong" numberOfLines={1} tone={active ? "text" : "muted"}>{name}</Text>
          <Text kind="small" tone="muted" numberOfLines={1}>{email}</Text>
          <Text kind="tiny" tone={active ? "muted" : "danger"}>{marks}</Text>
        </View>
        <TierBadge tier={tier} centered />
      </Pressable>
      <AdminSheet member={member} open={open} onClose={() => setOpen(false)} onChanged={onChanged} />
    </>
  );
}

function AdminSheet({ member, open, onClose, onChanged }: { member: AdminMember; open: boolean; onClose: () => void; onChanged: (member: AdminMember) => void }) {
  const styles = useStyles();
  const admin = useAdmin();
  const me = useMe();
  /** What is asked before it is done. */
  const [asked, setAsked] = useState<Question & { then: () => void }>();
  const { toast } = useToast();
  const { busy, failure, run } = useAction();
  const { proved, wanted } = useProof();
  const { _id, name, is_active, user_type } = member;
  const isAdmin = user_type === "admin";
  const change = (work: () => Promise<AdminMember>, said: string) => run(async () => {
    onChanged(after(await proved(work)));
    toast(said);
  });
  const setRole = () => {
    const next = isAdmin ? "member" : "admin";
    const text = isAdmin ? `${name} stays a member, and can administer the club no longer.` : `${name} sees everything and can change everybody, also you.`;
    setAsked({
      title: isAdmin ? `Remove ${name} as administrator?` : `Make ${name} an administrator?`, text, confirm: isAdmin ? "Remove as administrator" : "Make an administrator", danger: _id === me._id,
      then: () => void change(() => admin.setRole(_id, next), "Role changed"),
    });
  };
  const setActive = () => {
    if (!is_active) return void change(() => admin.setActive(_id, true), "Activated");
    setAsked({
      title: `Deactivate ${name}?`, text: "They are signed out everywhere at once, and cannot sign in until they are activated again.", confirm: "Deactivate", danger: true,
      then: () => void change(() => admin.setActive(_id, false), "Deactivated"),
    });
  };
  const disconnect = () => void run(async () => {
    const { connections, connections_partial } = await admin.disconnect(_id);
    onChanged({ ...member, connections: 0 });
    toast(`${connections}${connections_partial ? " or more" : ""} ${connections === 1 ? "connection" : "connections"} closed`);
  });
  const endSessions = () => setAsked({
    title: `Sign ${name} out everywhere?`, text: "All their devices and browsers are signed out at once. They can sign in again.", confirm: "Sign out everywhere",
    then: () => void run(async () => {
      await proved(() => admin.endSessions(_id));
      onChanged({ ...member, connections: 0 });
      toast("Signed out everywhere");
    }),
  });
  const resetFactor = () => setAsked({
    title: `Reset the second factor of ${name}?`, confirm: "Reset", danger: true,
    text: "For who has lost the authenticator app and the recovery codes. They are signed out everywhere, and their password alone lets them in again. Be sure that it is they who ask, and not somebody who knows their password.",
    then: () => void change(async () => ({ ...(await admin.resetSecondFactor(_id)), connections: 0 }), "The second factor is off"),
  });
  if (wanted) return <Sheet open={open} title={PROOF_TITLE} onClose={() => wanted.answer(false)}><Proof wanted={wanted} /></Sheet>;
  if (asked) {
    const answer = (yes: boolean) => {
      setAsked(undefined);
      if (yes) asked.then();
    };
    return <Sheet open={open} title={asked.title} onClose={() => answer(false)}><Ask question={asked} onAnswer={answer} /></Sheet>;
  }
  return (
    <Sheet open={open} title={name} onClose={onClose}>
      <View style={styles.facts}>
        <Text kind="small" tone="muted" selectable>{member.email}</Text>
        <Text kind="small" tone="muted">Joined {dateTime(member.created_at)}</Text>
        <Text kind="small" tone="muted">{member.last_login ? `Signed in last ${dateTime(member.last_login)}` : "Never signed in"}</Text>
        <Text kind="small" tone="muted">{member.second_factor ? "Has a second factor" : "No second factor"}</Text>
      </View>
      {failure ? <Notice tone="danger" text={failure.message} /> : null}
      <Choice<Tier> label="Tier" showLabel options={TIER_OPTIONS} value={member.tier} disabled={busy} onChange={(tier) => void change(() => admin.setTier(_id, tier), "Tier changed")} />
      <TierNote tier={member.tier} />
      <Suspension member={member} busy={busy} change={change} />
      <View style={styles.buttons}>
        <Button label={isAdmin ? "Remove as administrator" : "Make an administrator"} icon="shield" kind="secondary" disabled={busy} onPress={setRole} />
        <Button label={`Disconnect (${connectionsText(member)})`} icon="plug" kind="secondary" disabled={busy || member.connections === 0} onPress={disconnect} />
        <Button label="Sign out everywhere" icon="logout" kind="secondary" disabled={busy || !is_active} onPress={endSessions} />
        {member.second_factor ? <Button label="Reset the second factor" icon="shield" kind="secondary" disabled={busy} onPress={resetFactor} /> : null}
      </View>
      <View style={styles.apart}>
        <Text kind="small" tone="muted">{is_active ? DEACTIVATE : ACTIVATE}</Text>
        <Button label={is_active ? "Deactivate" : "Activate"} kind={is_active ? "danger" : "primary"} disabled={busy} onPress={setActive} />
      </View>
      <Button label="Close" kind="plain" onPress={onClose} />
    </Sheet>
  );
}

const useStyles = makeStyles(({ colors }) => ({
  row: { flexDirection: "row", alignItems: "center", gap: space.m, padding: space.m, borderRadius: radius.m, backgroundColor: colors.surface, borderWidth: 1, borderColor: colors.border },
  words: { flex: 1, minWidth: 0 },
  facts: { gap: space.xs },
  buttons: { gap: space.s },
  apart: { gap: space.s, paddingTop: space.l, borderTopWidth: 1, borderTopColor: colors.border },
}));
