/**
 * Runs in the page before anything else, as text: nothing outside of it exists there.
 *
 * While another version is rolled out, a page comes from one version and its files are asked of both, so half of the
 * requests find nothing. Each file is asked for again: the other pod has it. Once the page's version is gone, the page is
 * loaded again, at most five times in two minutes; what somebody has typed stays, and then a link offers it.
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
      // Without storage nobody could count.
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
      // What a loaded page asks for is the business of who asks: a panel says so, a dialog has another way.
      if (!url || !url.includes("/_next/static/") || !(tries[url] || document.readyState !== "complete")) return;
      const count = (tries[url] = (tries[url] ?? 0) + 1);
      if (count < 9)
        setTimeout(() => {
          // Not a clone: that one would count as run.
          const again = document.createElement(old.localName);
          for (const { name, value } of old.attributes) again.setAttribute(name, value);
          (old.parentNode ?? document.head).insertBefore(again, old.nextSibling);
        }, 100 * count);
      else reload();
    },
    true,
  );
}
