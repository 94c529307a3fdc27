import { forwardRef, useCallback, useEffect, useImperativeHandle, useMemo, useRef } from "react";
import { ActivityIndicator, FlatList } from "react-native";
import type { ListRenderItemInfo, NativeScrollEvent, NativeSyntheticEvent } from "react-native";
import type { MessageView } from "@members-book/client";

import { space, useTheme } from "@/theme";
import type { ListHandle, ListProps } from "./list";
import { MessageRow } from "./MessageRow";
import { flagsOf } from "./rows";

/** How near the newest message counts as being there, in points. */
const NEAR = 80;
const keyOf = (message: MessageView) => message.key;

/** The messages on a device: a list that is upside down, so that it begins at the newest and older ones do not move what is seen. */
export const MessageList = forwardRef<ListHandle, ListProps>(function MessageList(props, ref) {
  const { messages, freshKey, name, loadingOlder, hasOlder, onOlder, onBottom, onFailed, conversationKey, onAnswer, onShow } = props;
  const { colors } = useTheme();
  const list = useRef<FlatList<MessageView>>(null);
  const downwards = useMemo(() => messages.toReversed(), [messages]);

  useImperativeHandle(ref, () => ({
    toBottom: () => list.current?.scrollToOffset({ offset: 0, animated: true }),
    toSeq: (seq) => {
      const index = downwards.findIndex((message) => message.seq === seq);
      if (index >= 0) list.current?.scrollToIndex({ index, viewPosition: 0.5, animated: true });
    },
  }), [downwards]);

  // It opens at its end.
  useEffect(() => onBottom(true), [onBottom]);

  const render = useCallback(({ item, index }: ListRenderItemInfo<MessageView>) => (
    <MessageRow message={item} name={name} conversationKey={conversationKey} onFailed={onFailed} onAnswer={onAnswer} onShow={onShow} {...flagsOf(item, downwards[index + 1], item.key === freshKey)} />
  ), [conversationKey, downwards, freshKey, name, onAnswer, onFailed, onShow]);

  const onScroll = useCallback((event: NativeSyntheticEvent<NativeScrollEvent>) => onBottom(event.nativeEvent.contentOffset.y < NEAR), [onBottom]);

  return (
    <FlatList
      ref={list} inverted data={downwards} keyExtractor={keyOf} renderItem={render} aria-label="Messages" role="list"
      onScrollToIndexFailed={({ index, averageItemLength }) => list.current?.scrollToOffset({ offset: index * averageItemLength, animated: true })}
      onScroll={onScroll} scrollEventThrottle={32} onEndReached={hasOlder ? onOlder : null} onEndReachedThreshold={2}
      maintainVisibleContentPosition={{ minIndexForVisible: 1, autoscrollToTopThreshold: NEAR }}
      initialNumToRender={24} maxToRenderPerBatch={24} windowSize={15} keyboardDismissMode="interactive" keyboardShouldPersistTaps="handled"
      contentContainerStyle={{ paddingVertical: space.m }}
      ListFooterComponent={loadingOlder ? <ActivityIndicator color={colors.primary} style={{ padding: space.m }} aria-label="Loading older messages" /> : null}
    />
  );
});
