import { View } from "react-native";
import { useRouter } from "expo-router";
import { useClient } from "@members-book/client/react";
import type { Recommendation } from "@members-book/client";

import { useAction, useQuery } from "@/lib/query";
import { useMembers } from "@/lib/rest";
import { DEFAULT_TIER, TierBadge } from "@/members/Tier";
import { makeStyles, space, useTheme } from "@/theme";
import { Avatar, Button, Empty, Failed, Icon, Loading, Notice, ScrollScreen, Section, Text } from "@/ui";

/** Whom to meet and why, and what to complete in one's profile. */
export default function Meet() {
  const members = useMembers();
  const router = useRouter();
  const { data, failure, loading, reload, setData } = useQuery("recommendations", () => members.recommendations());
  const drop = (id: string) => setData((old) => old && { ...old, recommendations: old.recommendations.filter((one) => one._id !== id) });
  return (
    <ScrollScreen title="People to meet">
      {data && data.recommendations.length > 0 ? data.recommendations.map((one) => <Card key={one._id} recommendation={one} onDone={() => drop(one._id)} />)
        : failure ? <Failed failure={failure} onRetry={reload} />
        : loading ? <Loading />
        : (
          <Empty
            icon="spark" title="Nothing new at the moment" text="The more your profile says, the better what is suggested here. Look again when new members have joined."
            action={{ label: "Complete my profile", onPress: () => router.navigate("/me") }}
          />
        )}
    </ScrollScreen>
  );
}

function Card({ recommendation, onDone }: { recommendation: Recommendation; onDone: () => void }) {
  const styles = useStyles();
  const { colors } = useTheme();
  const client = useClient();
  const members = useMembers();
  const router = useRouter();
  const { busy, failure, run } = useAction();
  const dismiss = () => void run(() => members.dismissRecommendation(recommendation._id)).then((well) => well && onDone());
  const follow = (go: () => void) => void run(() => members.applyRecommendation(recommendation._id)).then((well) => {
    if (!well) return;
    onDone();
    go();
  });

  if (recommendation.recommendation_type === "complete_profile") {
    return (
      <Section>
        <View style={styles.head}>
          <View style={styles.circle}><Icon name="pencil" color={colors.onSoft} /></View>
          <Text style={styles.grow}>{recommendation.recommendation_data.text}</Text>
        </View>
        {failure ? <Notice tone="danger" text={failure.message} /> : null}
        <View style={styles.buttons}>
          <Button label="Not now" kind="plain" disabled={busy} onPress={dismiss} />
          <Button label="Change my profile" kind="secondary" busy={busy} onPress={() => follow(() => router.navigate("/me"))} />
        </View>
      </Section>
    );
  }
  const { member, member_id, reasons } = recommendation.recommendation_data;
  // Always there in this list; not in the answers to apply and dismiss.
  if (!member) return null;
  return (
    <Section>
      <View style={styles.head}>
        <Avatar name={member.name} photo={member.profile_image_url} size={56} />
        <View style={styles.grow}>
          <Text kind="heading" level={2} numberOfLines={2}>{member.name}</Text>
          <TierBadge tier={member.tier} />
        </View>
      </View>
      <View style={styles.reasons}>
        {reasons.filter(({ kind }) => kind !== "tier" || member.tier !== DEFAULT_TIER).map((reason) => <Text key={reason.text} tone="muted">{reason.text}</Text>)}
      </View>
      {failure ? <Notice tone="danger" text={failure.message} /> : null}
      <View style={styles.buttons}>
        <Button label="Not interested" name={`Not interested in ${member.name}`} kind="plain" disabled={busy} onPress={dismiss} />
        <Button label="Profile" name={`Profile of ${member.name}`} kind="secondary" disabled={busy} onPress={() => router.push({ pathname: "/members/[id]", params: { id: member_id } })} />
        <Button
          label="Write" name={`Write to ${member.name}`} icon="chat" busy={busy}
          onPress={() => follow(() => router.navigate({ pathname: "/chats/[key]", params: { key: client.conversation({ member: member_id }).key } }))}
        />
      </View>
    </Section>
  );
}

const useStyles = makeStyles(({ colors }) => ({
  head: { flexDirection: "row", alignItems: "center", gap: space.m },
  grow: { flex: 1, minWidth: 0, gap: space.xs },
  circle: { width: 44, height: 44, borderRadius: 22, alignItems: "center", justifyContent: "center", backgroundColor: colors.soft },
  reasons: { gap: space.xs },
  buttons: { flexDirection: "row", flexWrap: "wrap", justifyContent: "flex-end", gap: space.s },
}));
