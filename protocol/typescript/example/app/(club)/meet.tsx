import { View } from "react-native";
import { useRouter } from "expo-router";
import { useClient } from "@members-book/client/react";
import type { Recommendation, RecommendationId } from "@members-book/client";

import { useAction, useQuery } from "@/lib/query";
import { useMembers } from "@/lib/rest";
import { useAlone } from "@/members/alone";
import { DEFAULT_TIER, TierBadge } from "@/members/Tier";
import { makeStyles, space, useTheme } from "@/theme";
import { Avatar, Button, Empty, Failed, Icon, Loading, Notice, ScrollScreen, Section, Text } from "@/ui";

/** What is recommended to complete in one's own profile: one field each. */
type Completion = Extract<Recommendation, { recommendation_type: "complete_profile" }>;
/** Somebody whom to meet. */
type Introduction = Extract<Recommendation, { recommendation_type: "connect" }>;

const isCompletion = (one: Recommendation): one is Completion => one.recommendation_type === "complete_profile";
const isIntroduction = (one: Recommendation): one is Introduction => one.recommendation_type === "connect";

/** Whom to meet and why, and what to complete in one's profile. */
export default function Meet() {
  const members = useMembers();
  const { data, failure, loading, reload, setData } = useQuery("recommendations", () => members.recommendations());
  const drop = (ids: readonly RecommendationId[]) => setData((old) => old && { ...old, recommendations: old.recommendations.filter((one) => !ids.includes(one._id)) });
  const completions = data?.recommendations.filter(isCompletion) ?? [];
  const introductions = data?.recommendations.filter(isIntroduction) ?? [];
  return (
    <ScrollScreen title="People to meet">
      {introductions.map((one) => <Card key={one._id} recommendation={one} onDone={() => drop([one._id])} />)}
      {data && introductions.length === 0 ? <Nobody complete={completions.length === 0} /> : null}
      {completions.length > 0 ? <Complete completions={completions} onDone={drop} />
        : data ? null
        : failure ? <Failed failure={failure} onRetry={reload} />
        : loading ? <Loading />
        : null}
    </ScrollScreen>
  );
}

/** Why nobody is suggested. `complete`: nothing is recommended for the own profile either. */
function Nobody({ complete }: { complete: boolean }) {
  const router = useRouter();
  const alone = useAlone();
  if (alone === undefined) return <Loading />;
  const [title, text] = alone
    ? ["Nobody is here yet", "You are the only member. Once others have joined, those are suggested here who fit what your profile says."]
    : ["Nothing new at the moment", "The more your profile says, the better what is suggested here. Look again when new members have joined."];
  return <Empty icon="spark" title={title} text={text} {...(complete ? { action: { label: "Complete my profile", onPress: () => router.navigate("/me") } } : {})} />;
}

/** All that is missing in the own profile. What is filled in is recommended no more: nothing has to be said of it here. */
function Complete({ completions, onDone }: { completions: readonly Completion[]; onDone: (ids: readonly RecommendationId[]) => void }) {
  const styles = useStyles();
  const { colors } = useTheme();
  const members = useMembers();
  const router = useRouter();
  const { busy, failure, run } = useAction();
  const ids = completions.map(({ _id }) => _id);
  const dismiss = () => void run(() => Promise.all(ids.map((id) => members.dismissRecommendation(id)))).then((well) => well && onDone(ids));
  return (
    <Section>
      <View style={styles.head}>
        <View style={styles.circle}><Icon name="pencil" color={colors.onSoft} /></View>
        <Text kind="heading" level={2} style={styles.grow}>Complete your profile</Text>
      </View>
      <View style={styles.reasons}>
        {completions.map(({ _id, recommendation_data: { text } }) => <Text key={_id} tone="muted">{text}</Text>)}
      </View>
      {failure ? <Notice tone="danger" text={failure.message} /> : null}
      <View style={styles.buttons}>
        <Button label="Not now" kind="plain" busy={busy} onPress={dismiss} />
        <Button label="Change my profile" kind="secondary" disabled={busy} onPress={() => router.navigate("/me")} />
      </View>
    </Section>
  );
}

function Card({ recommendation, onDone }: { recommendation: Introduction; onDone: () => void }) {
  const styles = useStyles();
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
