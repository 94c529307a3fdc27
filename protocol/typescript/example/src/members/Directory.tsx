import { memo, useCallback, useEffect, useState } from "react";
import { ActivityIndicator, FlatList, Pressable, View } from "react-native";
import type { ListRenderItemInfo } from "react-native";
import { Link } from "expo-router";
import type { Profile, Tier } from "@members-book/client";

import { useMe } from "@/lib/people";
import { webOnly } from "@/lib/platform";
import { usePages, useSettled } from "@/lib/query";
import { useMembers } from "@/lib/rest";
import { makeStyles, radius, space, useTheme } from "@/theme";
import { Avatar, Choice, Empty, Failed, Field, Header, Loading, PresenceDot, Text } from "@/ui";
import { TierBadge, TierNote, TIERS } from "./Tier";

type Filter = Tier | "all";
const FILTERS = [{ value: "all" as const, label: "All" }, ...TIERS.map((tier) => ({ value: tier, label: tier }))];
const keyOf = (profile: Profile) => profile._id;
const render = ({ item }: ListRenderItemInfo<Profile>) => <Row profile={item} />;

/** Everybody in the club. */
export function Directory() {
  const styles = useStyles();
  const { colors } = useTheme();
  const members = useMembers();
  const [tier, setTier] = useState<Filter>("all");
  const [text, setText] = useState("");
  const words = useSettled(text.trim(), 350);
  const pages = usePages(`${tier} ${words}`, async (cursor) => {
    const page = words === "" ? await members.directory({ cursor, ...(tier === "all" ? {} : { tier }) }) : await members.search(words, { cursor });
    return { items: page.members, next: page.next };
  });
  // The search of the server knows no tier: all that it finds is looked through, and that is never many pages.
  const sifting = words !== "" && tier !== "all";
  const shown = sifting ? pages.items.filter((profile) => profile.tier === tier) : pages.items;
  const { loading, failure, complete, more } = pages;
  const looking = sifting && !complete && failure === undefined;
  useEffect(() => {
    if (looking && !loading) more();
  }, [looking, loading, more]);
  const reset = useCallback(() => {
    setText("");
    setTier("all");
  }, []);

  const head = (
    <View style={styles.head}>
      <Field label="Search" placeholder="Name, company or position" value={text} onChangeText={setText} maxLength={100} {...webOnly({ type: "search" })} autoCorrect={false} />
      <Choice label="Tier" options={FILTERS} value={tier} onChange={setTier} />
      <TierNote tier={tier === "all" ? undefined : tier} />
    </View>
  );
  return (
    <View style={styles.screen}>
      <Header title="People" />
      {head}
      {failure && shown.length === 0 ? <Failed failure={failure} onRetry={pages.reload} /> : (loading || looking) && shown.length === 0 ? <Loading label="Loading members" /> : shown.length === 0 && words === "" ? (
        <Empty icon="people" title={`Nobody is in ${tier} yet`} text="Administrators say who is in which tier." action={{ label: "Show everybody", onPress: reset }} />
      ) : shown.length === 0 ? (
        <Empty icon="search" title="Nobody found" text="Every word has to be the beginning of a name, a company or a position. Try fewer letters or another tier." action={{ label: "Show everybody", onPress: reset }} />
      ) : (
        <FlatList
          data={shown as Profile[]} keyExtractor={keyOf} renderItem={render} aria-label="Members" style={styles.list} contentContainerStyle={styles.content}
          onEndReached={more} onEndReachedThreshold={1} initialNumToRender={16} windowSize={11} keyboardShouldPersistTaps="handled"
          ListFooterComponent={failure ? <Failed failure={failure} onRetry={pages.reload} /> : loading || looking ? <ActivityIndicator color={colors.primary} style={styles.more} aria-label="Loading more" /> : null}
        />
      )}
    </View>
  );
}

const Row = memo(function Row({ profile }: { profile: Profile }) {
  const styles = useStyles();
  const me = useMe();
  const { _id, name, tier, contact_info: { company, position } } = profile;
  const work = [position, company].filter(Boolean).join(" · ");
  return (
    <Link href={_id === me._id ? "/me" : { pathname: "/members/[id]", params: { id: _id } }} asChild>
      <Pressable role="link" style={styles.row}>
        <View><Avatar name={name} photo={profile.profile_image_url} size={48} /><PresenceDot member={_id} /></View>
        <View style={styles.words}>
          <Text kind="strong" numberOfLines={1}>{name}{_id === me._id ? " (you)" : ""}</Text>
          {work === "" ? null : <Text kind="small" tone="muted" numberOfLines={1}>{work}</Text>}
        </View>
        <TierBadge tier={tier} centered />
      </Pressable>
    </Link>
  );
});

const useStyles = makeStyles(({ colors }) => ({
  screen: { flex: 1, minHeight: 0, backgroundColor: colors.background },
  head: { gap: space.m, padding: space.l, width: "100%", maxWidth: 760, alignSelf: "center" },
  list: { flex: 1 },
  content: { width: "100%", maxWidth: 760, alignSelf: "center", paddingHorizontal: space.s, paddingBottom: space.xl },
  row: { flexDirection: "row", alignItems: "center", gap: space.m, paddingHorizontal: space.s, paddingVertical: 10, borderRadius: radius.m },
  words: { flex: 1, minWidth: 0 },
  more: { padding: space.l },
}));
