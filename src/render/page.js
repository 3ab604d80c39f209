// Renews the page in place while somebody looks. Without it the page is complete, and still.
(() => {
  const EVERY = 5000;
  const state = document.getElementById("state");
  let fresh = Date.now();
  async function renew() {
    if (document.hidden) return;
    try {
      const answer = await fetch("/", { cache: "no-store", signal: AbortSignal.timeout(EVERY) });
      if (!answer.ok) throw new Error(answer.status);
      const next = new DOMParser().parseFromString(await answer.text(), "text/html");
      const main = next.querySelector("main");
      if (!main) throw new Error("no report");
      const opened = (d) => [...d.querySelectorAll("details[id]")];
      if (String(document.getSelection()) === "") {
        // What a reader opened or closed stays so.
        for (const was of opened(document)) {
          const now = next.getElementById(was.id);
          if (now) now.open = was.open;
        }
        document.querySelector("main").replaceWith(document.adoptNode(main));
        document.title = next.title;
      }
      fresh = Date.now();
      state.className = "up";
      state.textContent = "live";
    } catch {
      state.className = "down";
      state.textContent = "no answer for " + Math.round((Date.now() - fresh) / 1000) + " s";
    }
  }
  setInterval(renew, EVERY);
  document.addEventListener("visibilitychange", renew);
  state.className = "up";
  state.textContent = "live";
})();
