import type { ApiError } from "./problem";
import type { Operation } from "./operations";

/** Why a change was refused for good. `title`: of the todo that it was about. */
export function refusalText(operation: Operation, title: string, error: ApiError): string {
  switch (operation.kind) {
    case "toggle-all":
      return `The todos were not changed: ${error.message}`;
    case "clear-completed":
      return `Completed todos were not deleted: ${error.message}`;
    case "add":
      return `“${operation.title}” was not added: ${error.message}`;
  }
  if (error.status === 404) return `“${title}” was deleted in the meantime.`;
  if (error.status === 412 && operation.kind === "rename") {
    return `“${operation.from}” was changed to “${title}” in the meantime. Your title “${operation.title}” is not saved.`;
  }
  const deed = operation.kind === "remove" ? "deleted" : "changed";
  return `“${title}” was not ${deed}: ${error.message}`;
}

/** What a deletion that can still be undone has done. */
export function deletionText(operation: Operation): string {
  return operation.kind === "remove" ? `“${operation.title}” is deleted.` : "Completed todos are deleted.";
}
