import { FormButton } from "./form-button";
import styles from "./todo-item.module.css";

interface Props {
  form: string;
  checked: boolean;
  onToggle: (completed: boolean) => void;
}

export function ToggleAll({ form, checked, onToggle }: Props) {
  return (
    <FormButton
      form={form}
      role="checkbox"
      aria-checked={checked}
      aria-label="Mark all as complete"
      title={checked ? "Mark all as active" : "Mark all as complete"}
      className={`${styles.toggle} ${styles.all}`}
      action={`toggle-all ${String(!checked)}`}
      onPress={() => { onToggle(!checked); }}
    />
  );
}
