import { forwardRef, memo, useCallback, useEffect, useImperativeHandle, useLayoutEffect, useMemo, useRef, useState } from "react";
import { flushSync } from "react-dom";
import { ActivityIndicator, View } from "react-native";
import type { MessageView } from "@members-book/client";

import { webOnly } from "@/lib/platform";
import { makeStyles, space, useTheme } from "@/theme";
import { Cutter } from "./chunks";
import type { Chunk } from "./chunks";
import type { ListHandle, ListProps } from "./list";
import { MessageRow } from "./MessageRow";
import { flagsOf } from "./rows";

/** How near the newest message counts as being there, in pixels. */
const NEAR = 80;
/** How much is drawn above and below what is seen: more than a turn of a wheel or a page key moves. */
const SPARE = 2_400;
/** How high a message is taken to be until it was drawn. */
const GUESS = 56;

/**
 * The messages on the web, in the order of the document, so that the keyboard, a search in the page and a screen reader go through them as they are read. Messages are
 * drawn in chunks; one that is far away is an empty box of the height that it had. Whatever changes, what is seen stays where it is, or at the end.
 */
export const MessageList = forwardRef<ListHandle, ListProps>(function MessageList(props, ref) {
  const { messages, freshKey, name, hasOlder, loadingOlder, onOlder, onBottom, onFailed, conversationKey, onAnswer, onShow } = props;
  const styles = useStyles();
  const { colors } = useTheme();
  const view = useRef<HTMLElement | null>(null);
  const boxes = useRef(new Map<string, HTMLElement>());
  const heights = useRef(new Map<string, number>());
  const cutter = useRef<Cutter>(undefined);
  const chunks = useMemo(() => (cutter.current ??= new Cutter()).cut(messages), [messages]);
  const shown = useRef<readonly Chunk[]>(chunks);
  const [range, setRange] = useState<readonly [from: string, to: string] | undefined>();
  const atBottom = useRef(true);
  /** What stays where it is: a chunk, and how far below the upper edge it is. */
  const anchor = useRef<{ key: string; top: number } | undefined>(undefined);

  /** Which chunks lie in and around what is seen. */
  const look = useCallback(() => {
    const element = view.current;
    if (!element || element.clientHeight === 0) return undefined;
    const upper = element.scrollTop - SPARE;
    const lower = element.scrollTop + element.clientHeight + SPARE;
    let from: string | undefined;
    let to: string | undefined;
    anchor.current = undefined;
    for (const chunk of shown.current) {
      const box = boxes.current.get(chunk.key);
      if (!box) continue;
      const top = box.offsetTop;
      const bottom = top + box.offsetHeight;
      if (bottom < upper) continue;
      if (top > lower) break;
      from ??= chunk.key;
      to = chunk.key;
      if (!anchor.current && bottom > element.scrollTop) anchor.current = { key: chunk.key, top: top - element.scrollTop };
    }
    return from === undefined || to === undefined ? undefined : ([from, to] as const);
  }, []);

  const widen = useCallback((sync: boolean) => {
    const next = look();
    if (!next) return;
    const set = () => setRange((old) => (old?.[0] === next[0] && old[1] === next[1] ? old : next));
    if (sync) flushSync(set);
    else set();
  }, [look]);

  const opened = useRef(false);
  /** How much is seen at once, as it was settled last. */
  const room = useRef(0);
  const settle = useCallback(() => {
    const element = view.current;
    if (!element || element.clientHeight === 0) return;
    room.current = element.clientHeight;
    if (!opened.current) {
      // It opens where what is new begins, or at the end.
      opened.current = true;
      const line = element.querySelector<HTMLElement>("[data-fresh]");
      if (line) {
        const above = line.getBoundingClientRect().top - element.getBoundingClientRect().top;
        element.scrollTop += above - element.clientHeight / 4;
        atBottom.current = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR;
        look();
      }
      onBottom(atBottom.current);
    }
    for (const [key, box] of boxes.current) if (box.dataset["drawn"] === "true") heights.current.set(key, box.offsetHeight);
    if (atBottom.current) element.scrollTop = element.scrollHeight;
    else if (anchor.current) {
      const box = boxes.current.get(anchor.current.key);
      const moved = box ? box.offsetTop - element.scrollTop - anchor.current.top : 0;
      if (moved !== 0) element.scrollTop += moved;
    }
    widen(false);
  }, [look, onBottom, widen]);

  useLayoutEffect(() => {
    shown.current = chunks;
    settle();
  }, [chunks, range, freshKey, loadingOlder, settle]);

  // The window or the composer has changed its size.
  useEffect(() => {
    const element = view.current;
    if (!element) return undefined;
    const observer = new ResizeObserver(settle);
    observer.observe(element);
    return () => observer.disconnect();
  }, [settle]);

  const older = useRef(onOlder);
  useEffect(() => {
    older.current = hasOlder && !loadingOlder ? onOlder : () => undefined;
    const element = view.current;
    if (element && element.scrollTop < element.clientHeight * 2) older.current();
  }, [hasOlder, loadingOlder, onOlder, messages]);

  useEffect(() => {
    const element = view.current;
    if (!element) return undefined;
    const onScroll = () => {
      // The room has changed, and nobody has scrolled: it is settled in a moment.
      if (element.clientHeight !== room.current) return;
      atBottom.current = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR;
      onBottom(atBottom.current);
      widen(true);
      if (element.scrollTop < element.clientHeight * 2) older.current();
    };
    element.addEventListener("scroll", onScroll, { passive: true });
    return () => element.removeEventListener("scroll", onScroll);
  }, [onBottom, widen]);

  useImperativeHandle(ref, () => ({
    toBottom: () => {
      atBottom.current = true;
      const element = view.current;
      if (element) element.scrollTop = element.scrollHeight;
      onBottom(true);
      widen(false);
    },
    toSeq: (seq) => {
      const element = view.current;
      const index = messages.findIndex((message) => message.seq === seq);
      const box = boxes.current.get(chunks.find(({ from, to }) => index >= from && index < to)?.key ?? "");
      if (!element || !box) return;
      atBottom.current = false;
      element.scrollTop = box.offsetTop;
      // It is drawn now.
      widen(true);
      const row = box.querySelector<HTMLElement>(`[data-seq="${seq}"]`);
      row?.scrollIntoView({ block: "center" });
      row?.focus({ preventScroll: true });
    },
  }), [chunks, messages, onBottom, widen]);

  const keepBox = useCallback((key: string, box: HTMLElement | null) => void (box ? boxes.current.set(key, box) : boxes.current.delete(key)), []);

  const first = range ? chunks.findIndex((chunk) => chunk.key === range[0]) : -1;
  const last = range ? chunks.findIndex((chunk) => chunk.key === range[1]) : -1;
  return (
    <View style={styles.view} role="list" aria-label="Messages" ref={(element) => void (view.current = element as unknown as HTMLElement | null)} {...webOnly({ tabIndex: 0 })}>
      <View style={styles.fill} role="presentation" />
      {loadingOlder ? <View role="presentation"><ActivityIndicator color={colors.primary} style={styles.loading} aria-label="Loading older messages" /></View> : null}
      {chunks.map((chunk, index) => (
        <ChunkBox
          key={chunk.key} id={chunk.key} messages={messages} from={chunk.from} to={chunk.to} name={name} onFailed={onFailed} onBox={keepBox}
          conversationKey={conversationKey} onAnswer={onAnswer} onShow={onShow}
          freshKey={freshKey !== undefined && contains(messages, chunk, freshKey) ? freshKey : undefined}
          drawn={first < 0 || last < 0 ? index >= chunks.length - 2 : index >= first && index <= last}
          height={heights.current.get(chunk.key) ?? (chunk.to - chunk.from) * GUESS}
        />
      ))}
    </View>
  );
});

function contains(messages: readonly MessageView[], chunk: Chunk, key: string): boolean {
  for (let index = chunk.from; index < chunk.to; index++) if (messages[index]?.key === key) return true;
  return false;
}

interface ChunkProps extends Pick<ListProps, "messages" | "name" | "onFailed" | "freshKey" | "conversationKey" | "onAnswer" | "onShow"> {
  id: string;
  from: number;
  to: number;
  drawn: boolean;
  /** While it is not drawn. */
  height: number;
  onBox: (key: string, box: HTMLElement | null) => void;
}

const ChunkBox = memo(function ChunkBox({ id, messages, from, to, drawn, height, name, freshKey, conversationKey, onFailed, onAnswer, onShow, onBox }: ChunkProps) {
  const rows = [];
  for (let index = from; drawn && index < to; index++) {
    const message = messages[index];
    if (!message) continue;
    rows.push(
      <MessageRow
        key={message.key} message={message} name={name} conversationKey={conversationKey} onFailed={onFailed} onAnswer={onAnswer} onShow={onShow}
        {...flagsOf(message, messages[index - 1], message.key === freshKey)}
      />,
    );
  }
  return (
    <View
      role="presentation" ref={(box) => onBox(id, box as unknown as HTMLElement | null)} style={drawn ? undefined : { height }}
      {...webOnly({ dataSet: { drawn: String(drawn) } })}
    >
      {rows}
    </View>
  );
}, sameChunk);

/** Whether it would look the same: the list of all messages is another one at every change. */
function sameChunk(old: ChunkProps, now: ChunkProps): boolean {
  if (old.drawn !== now.drawn || old.id !== now.id) return false;
  if (!now.drawn) return old.height === now.height;
  if (old.name !== now.name || old.freshKey !== now.freshKey || old.onFailed !== now.onFailed || old.onAnswer !== now.onAnswer || old.onShow !== now.onShow || old.to - old.from !== now.to - now.from) return false;
  for (let offset = -1; offset < now.to - now.from; offset++) if (old.messages[old.from + offset] !== now.messages[now.from + offset]) return false;
  return true;
}

const useStyles = makeStyles(() => ({
  // `overflowAnchor`: what is seen is kept where it is here, also in browsers that cannot.
  view: { flex: 1, minHeight: 0, display: "flex", flexDirection: "column", paddingVertical: space.m, ...({ overflowY: "auto", overflowAnchor: "none", overscrollBehaviorY: "contain" } as object) },
  fill: { flexGrow: 1 },
  loading: { padding: space.m },
}));
