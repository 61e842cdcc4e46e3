/**
 * Runs as an inline script before anything else, so it cannot use anything outside of it.
 *
 * During a rollout a page requests its files from pods of both versions, so half of the requests fail. This script
 * requests each failed file again, from the other pod. Once the page's version is gone, it reloads the page, at most
 * five times in two minutes. If the user has typed something, it shows a link instead.
 */
export function recover(): void {
  const tries: Record<string, number> = {};
  const typed = new Set<HTMLInputElement>();
  let over = false;
  const tell = () => {
    const note = document.createElement("p");
    note.role = "alert";
    note.innerHTML = 'This page has not loaded completely. <a href="">Load it again</a>';
    document.body.prepend(note);
  };
  const reload = () => {
    if (over) return;
    over = true;
    try {
      const all = JSON.parse(sessionStorage.getItem("reloads") ?? "[]") as number[];
      const past = all.filter((time) => time > Date.now() - 120000);
      sessionStorage.setItem("reloads", JSON.stringify([...past, Date.now()]));
      if (past.length < 5) {
        const keeps = () => [...typed].some((field) => field.isConnected && field.value);
        setTimeout(() => { if (keeps()) tell(); else location.reload(); }, 500 * 2 ** past.length);
        return;
      }
    } catch {
      // Without storage it cannot count the reloads.
    }
    tell();
  };
  addEventListener("input", (event) => typed.add(event.target as HTMLInputElement), true);
  addEventListener("stale-assets", reload);
  addEventListener(
    "error",
    ({ target }) => {
      const old = target as HTMLScriptElement & HTMLLinkElement;
      const url = old.localName === "script" ? old.src : old.rel === "stylesheet" && old.href;
      // After loading, the callers handle failed files: the panel shows it, the dialog has a fallback.
      if (!url || !url.includes("/_next/static/") || !(tries[url] || document.readyState !== "complete")) return;
      const count = (tries[url] = (tries[url] ?? 0) + 1);
      if (count < 9)
        setTimeout(() => {
          // Not a clone, which browsers would treat as already run.
          const again = document.createElement(old.localName);
          for (const { name, value } of old.attributes) again.setAttribute(name, value);
          (old.parentNode ?? document.head).insertBefore(again, old.nextSibling);
        }, 100 * count);
      else reload();
    },
    true,
  );
}
