/** Where the assistant's panel goes, beside the list. */
export function AssistantSlot() {
  return null;
}
