import { useRef } from "react";
import type { TextInput, TextInputProps } from "react-native";

type EnterProps = Pick<TextInputProps, "onSubmitEditing" | "submitBehavior"> & { inputRef: (field: TextInput | null) => void };

/** What the Enter key does in the fields of a form, by their order: it goes to the next one, and sends the form once all is filled in. */
export function useEnter(complete: boolean, submit: () => void): (index: number) => EnterProps {
  const fields = useRef<(TextInput | null)[]>([]);
  return (index) => ({
    inputRef: (field) => void (fields.current[index] = field),
    onSubmitEditing: () => (complete ? submit() : fields.current.slice(index + 1).find(Boolean)?.focus()),
    submitBehavior: "submit",
  });
}
