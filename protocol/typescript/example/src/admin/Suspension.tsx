import { useState } from "react";
import { View } from "react-native";
import type { AdminMember } from "@members-book/client";

import { dateTime } from "@/lib/time";
import { space } from "@/theme";
import { Button, Choice, Field, Text } from "@/ui";
import { useAdmin } from "./useAdmin";

const DAY_MS = 86_400_000;
const LASTING = [{ value: "1", label: "A day" }, { value: "7", label: "A week" }, { value: "30", label: "30 days" }] as const;

/** Keeps a member out until a time, or lets them in before it. */
export function Suspension({ member, busy, change }: { member: AdminMember; busy: boolean; change: (work: () => Promise<AdminMember>, said: string) => Promise<boolean> }) {
  const admin = useAdmin();
  const [asking, setAsking] = useState(false);
  const [days, setDays] = useState<(typeof LASTING)[number]["value"]>("7");
  const [reason, setReason] = useState("");
  const { _id, status, suspended_until, suspension_reason } = member;
  if (status === "suspended" && suspended_until) {
    return (
      <View style={{ gap: space.s }}>
        <Text kind="small" tone="danger">{`Suspended until ${dateTime(suspended_until)}${suspension_reason ? `: ${suspension_reason}` : ""}`}</Text>
        <Button label="End the suspension" kind="secondary" disabled={busy} onPress={() => void change(() => admin.endSuspension(_id), "Suspension ended")} />
      </View>
    );
  }
  if (status !== "active") return null;
  if (!asking) {
    return (
      <View style={{ gap: space.xs }}>
        <Button label="Suspend" icon="clock" kind="secondary" disabled={busy} onPress={() => setAsking(true)} />
        <Text kind="small" tone="muted">Keeps them out until a time, and then lets them in by itself.</Text>
      </View>
    );
  }
  const suspend = async () => {
    const until = new Date(Date.now() + Number(days) * DAY_MS).toISOString();
    const well = await change(() => admin.suspend(_id, { until, ...(reason.trim() === "" ? {} : { reason: reason.trim() }) }), "Suspended");
    // What was not taken stays in the form.
    if (!well) return;
    setAsking(false);
    setReason("");
  };
  return (
    <View style={{ gap: space.s }} role="form" aria-label="Suspend">
      <Text kind="small" tone="muted">They are signed out everywhere at once, and can sign in again when the time is over. Their invitations are revoked.</Text>
      <Choice label="For how long" showLabel options={LASTING} value={days} onChange={setDays} disabled={busy} />
      <Field label="Reason" hint="For other administrators." value={reason} onChangeText={setReason} maxLength={500} />
      <View style={{ flexDirection: "row", flexWrap: "wrap", gap: space.s }}>
        <Button label="Suspend" kind="danger" disabled={busy} onPress={() => void suspend()} />
        <Button label="Cancel" kind="plain" onPress={() => setAsking(false)} />
      </View>
    </View>
  );
}
