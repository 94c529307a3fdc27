import { Linking, Pressable, View } from "react-native";
import { useLocalSearchParams, useRouter } from "expo-router";
import { useClient } from "@members-book/client/react";

import { useMe, usePresenceText } from "@/lib/people";
import { useQuery } from "@/lib/query";
import { useMembers } from "@/lib/rest";
import { TierBadge } from "@/members/Tier";
import { makeStyles, space, TARGET, useTheme } from "@/theme";
import { Avatar, Button, Failed, Icon, Loading, Notice, PresenceDot, ScrollScreen, Section, Text } from "@/ui";
import type { IconName } from "@/ui";

/** What a member shares. */
export default function MemberScreen() {
  const styles = useStyles();
  const router = useRouter();
  const { id } = useLocalSearchParams<{ id: string }>();
  const client = useClient();
  const members = useMembers();
  const me = useMe();
  const { data: profile, failure, loading, reload } = useQuery(id, () => members.member(id));
  const gone = profile?.is_active === false;
  const presence = usePresenceText(id, gone);

  if (!profile) {
    return <ScrollScreen title="Member" back="/members">{failure ? <Failed failure={failure} onRetry={reload} /> : loading ? <Loading /> : null}</ScrollScreen>;
  }
  const { name, tier, email, contact_info: { phone, company, position } } = profile;
  const shared = [email, phone, company, position].some(Boolean);
  return (
    <ScrollScreen title="Profile" name={name} back="/members">
      <Section>
        <View style={styles.head}>
          <View><Avatar name={name} photo={profile.profile_image_url} size={96} /><PresenceDot member={id} gone={gone} /></View>
          <Text kind="title" level={2} style={styles.center}>{name}</Text>
          <TierBadge tier={tier} centered />
          {presence ? <Text kind="small" tone="muted">{presence}</Text> : null}
          {profile.is_active && id !== me._id ? (
            <Button
              label="Message" name={`Message ${name}`} icon="chat"
              onPress={() => router.navigate({ pathname: "/chats/[key]", params: { key: client.conversation({ member: id }).key } })}
            />
          ) : null}
          {id === me._id ? <Button label="Change my profile" kind="secondary" icon="pencil" onPress={() => router.navigate("/me")} /> : null}
        </View>
      </Section>
      {profile.is_active ? null : <Notice tone="warn" text="This member is not in the club any more." />}
      <Section title="Contact">
        {position ? <Detail icon="briefcase" label="Position" value={position} /> : null}
        {company ? <Detail icon="building" label="Company" value={company} /> : null}
        {email ? <Detail icon="mail" label="E-mail" value={email} href={mailto(email)} /> : null}
        {phone ? <Detail icon="phone" label="Phone" value={phone} href={`tel:${phone.replace(/[^+\d]/g, "")}`} /> : null}
        {shared ? null : <Text tone="muted">{name} shares no contact details. Write a message instead.</Text>}
      </Section>
    </ScrollScreen>
  );
}

/** An address that writes to this e-mail and says nothing else, whatever is in it. */
function mailto(email: string): string {
  const at = email.lastIndexOf("@");
  return `mailto:${encodeURIComponent(email.slice(0, at))}@${encodeURIComponent(email.slice(at + 1))}`;
}

function Detail({ icon, label, value, href }: { icon: IconName; label: string; value: string; href?: string }) {
  const styles = useStyles();
  const { colors } = useTheme();
  const content = (
    <>
      <Icon name={icon} color={colors.muted} />
      <View style={styles.words}>
        <Text kind="tiny" tone="muted">{label}</Text>
        <Text tone={href ? "primary" : "text"} selectable={!href}>{value}</Text>
      </View>
    </>
  );
  if (!href) return <View style={styles.detail}>{content}</View>;
  return <Pressable role="link" style={styles.detail} onPress={() => void Linking.openURL(href)}>{content}</Pressable>;
}

const useStyles = makeStyles(() => ({
  head: { alignItems: "center", gap: space.s },
  center: { textAlign: "center" },
  detail: { flexDirection: "row", alignItems: "center", gap: space.m, minHeight: TARGET },
  words: { flex: 1, minWidth: 0 },
}));
