import type { ApiError } from "@/lib/api/problem";
import type { Operation } from "./operations";

/** Returns why the server finally rejected a change. `title`: that of its todo. */
export function refusalText(operation: Operation, title: string, error: ApiError): string {
  switch (operation.kind) {
    case "toggle-all":
      return `The todos were not changed: ${error.message}`;
    case "clear-completed":
      return `Completed todos were not deleted: ${error.message}`;
    case "add":
      return `“${operation.title}” was not added: ${error.message}`;
  }
  const seen = operation.kind === "rename" ? operation.from : operation.kind === "remove" ? operation.title : title;
  const lost = operation.kind === "rename" ? ` Your title “${operation.title}” is not saved.` : "";
  if (error.status === 404) return `“${seen}” was deleted in the meantime.${lost}`;
  if (error.status === 412) {
    const kept = operation.kind === "remove" ? " It is not deleted." : lost;
    return `“${seen}” was changed to “${title}” in the meantime.${kept}`;
  }
  const deed = operation.kind === "remove" ? "deleted" : "changed";
  return `“${title}” was not ${deed}: ${error.message}${lost}`;
}

export function deletionText(operation: Operation): string {
  return operation.kind === "remove" ? `Deleted “${operation.title}”.` : "Deleted the completed todos.";
}
