import type { ComponentProps } from "react";

type Props = Omit<ComponentProps<"button">, "onClick" | "type" | "name" | "value"> & {
  /** The action of /form, used without JavaScript. */
  action: string;
  onPress: (button: HTMLButtonElement) => void;
};

export function FormButton({ action, onPress, ...rest }: Props) {
  return (
    <button
      {...rest}
      type="submit"
      name="do"
      value={action}
      onClick={(event) => {
        event.preventDefault();
        onPress(event.currentTarget);
      }}
    />
  );
}
