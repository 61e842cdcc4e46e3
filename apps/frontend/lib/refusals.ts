import type { ApiError } from "./problem";
import type { Operation } from "./operations";

/** What a change that was refused for good says of itself. `title`: of the todo that it was about. */
export function refusalText(operation: Operation, title: string, error: ApiError): string {
  switch (operation.kind) {
    case "clear-completed":
      return `Completed todos were not deleted: ${error.message}`;
    case "add":
      return `“${operation.title}” was not added: ${error.message}`;
  }
  if (error.status === 404) return `“${title}” was deleted in the meantime.`;
  const deed = operation.kind === "remove" ? "deleted" : "changed";
  return `“${title}” was not ${deed}: ${error.message}`;
}
