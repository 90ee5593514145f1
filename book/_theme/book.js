// The book's only script on a reading page: theme, copy buttons, place in the contents, wide formulas, previews, search key.
(() => {
  const root = document.documentElement,
    $ = (s, e = document) => e.querySelector(s),
    $$ = (s, e = document) => [...e.querySelectorAll(s)];

  // theme: automatic → light → dark
  const names = { auto: "automatic", light: "light", dark: "dark" },
    button = $(".theme");
  const set = (m) => {
    root.dataset.mode = root.dataset.theme = m;
    $(".vh", button).textContent = `Colour theme: ${names[m]}`;
    button.title = `Colour theme: ${names[m]}`;
  };
  if (button) {
    button.hidden = false;
    set(root.dataset.mode || "auto");
    button.addEventListener("click", () => {
      const m = { auto: "light", light: "dark", dark: "auto" }[root.dataset.mode];
      try {
        m === "auto" ? localStorage.removeItem("theme") : localStorage.setItem("theme", m);
      } catch {}
      set(m);
    });
  }

  // "/" and Ctrl+K go to the search field
  addEventListener("keydown", (e) => {
    const typing = /INPUT|TEXTAREA|SELECT/.test(e.target.tagName) || e.target.isContentEditable;
    if (
      (e.key === "/" && !typing && !e.ctrlKey && !e.metaKey) ||
      (e.key === "k" && (e.ctrlKey || e.metaKey))
    ) {
      const q = $("#qq") || $("#q");
      e.preventDefault();
      q.offsetParent ? (q.focus(), q.select()) : $(".find-link")?.click();
    }
  });

  // copy buttons
  for (const pre of $$("article div.highlight > pre, .aids pre")) {
    if (pre.closest(".cell_output")) continue;
    const b = document.createElement("button");
    b.type = "button";
    b.className = "copy";
    b.textContent = "Copy";
    b.addEventListener("click", async () => {
      const text = pre.innerText.replace(/^(>>>|\.\.\.|\$) /gm, "");
      try {
        await navigator.clipboard.writeText(text);
        b.textContent = "Copied";
      } catch {
        b.textContent = "Press Ctrl+C";
      }
      setTimeout(() => {
        b.textContent = "Copy";
      }, 1500);
    });
    pre.parentElement.classList.add("has-copy");
    pre.after(b);
  }

  // what overflows can be reached and scrolled by the keyboard; looked at only when it comes near the window
  const look = (s) => {
    const over = s.scrollWidth > s.clientWidth + 1;
    if (over === s.classList.contains("over")) return;
    s.classList.toggle("over", over);
    if (over) {
      s.tabIndex = 0;
      s.setAttribute("role", "group");
      if (!s.hasAttribute("aria-label"))
        s.setAttribute(
          "aria-label",
          s.matches(".table-box") ? "Wide table" : s.matches("pre") ? "Code" : "Wide formula",
        );
    } else {
      s.removeAttribute("tabindex");
      s.removeAttribute("role");
      if (!s.matches(".table-box")) s.removeAttribute("aria-label");
    }
  };
  const near = new IntersectionObserver((es) => es.forEach((e) => e.isIntersecting && look(e.target)), {
    rootMargin: "600px 0px",
  });
  const boxes = $$(".scroll, .highlight > pre");
  boxes.forEach((s) => near.observe(s));
  let resizing;
  addEventListener("resize", () => {
    clearTimeout(resizing);
    resizing = setTimeout(
      () =>
        boxes.forEach((s) => {
          near.unobserve(s);
          near.observe(s);
        }),
      200,
    );
  });

  // mark the present section in the contents
  const links = new Map(
    $$(".side a[href^='#']")
      .filter((a) => a.hash.length > 1)
      .map((a) => [decodeURIComponent(a.hash.slice(1)), a]),
  );
  if (links.size) {
    const seen = new Set(),
      spy = new IntersectionObserver(
        (es) => {
          for (const e of es) seen[e.isIntersecting ? "add" : "delete"](e.target.id);
          const first = [...links.keys()].find((id) => seen.has(id));
          if (first) for (const [id, a] of links) a.classList.toggle("here", id === first);
        },
        { rootMargin: "-15% 0px -60% 0px" },
      );
    for (const id of links.keys()) {
      const s = document.getElementById(id);
      if (s) spy.observe(s);
    }
  }
  $("#side")?.addEventListener("click", (e) => {
    if (e.target.closest("a[href^='#']")) $("#side").hidePopover?.();
  });

  // previews of equations, theorems, figures, exercises, references
  if (matchMedia("(hover: hover)").matches) {
    const pages = new Map([[location.pathname, document]]),
      card = document.createElement("div");
    card.className = "peek";
    card.id = "peek";
    card.setAttribute("role", "tooltip");
    card.hidden = true;
    let timer, owner;
    const page = (url) => {
      if (!pages.has(url))
        pages.set(
          url,
          fetch(url)
            .then((r) => r.text())
            .then((t) => new DOMParser().parseFromString(t, "text/html")),
        );
      return pages.get(url);
    };
    const hide = () => {
      clearTimeout(timer);
      card.hidden = true;
      owner?.removeAttribute("aria-describedby");
      owner = null;
    };
    const show = async (a) => {
      const doc = await page(a.pathname),
        t = doc.getElementById(decodeURIComponent(a.hash.slice(1)));
      const what = t?.closest("div.math, .admonition, figure, .citation, dt, table, details.solution");
      if (!what || a.closest(".peek")) return;
      const copy = what.cloneNode(true);
      for (const e of [copy, ...$$("[id]", copy)]) e.removeAttribute("id");
      $$("a.headerlink, .copy", copy).forEach((e) => e.remove());
      $$("a", copy).forEach((e) => e.removeAttribute("href"));
      $$("[tabindex]", copy).forEach((e) => e.removeAttribute("tabindex"));
      if (copy.tagName === "DETAILS") copy.open = true;
      if (doc !== document)
        $$("img", copy).forEach((i) => {
          i.src = new URL(i.getAttribute("src"), a.href).href;
          i.loading = "eager";
        });
      card.replaceChildren(copy);
      document.body.append(card);
      card.hidden = false;
      const r = a.getBoundingClientRect(),
        h = card.offsetHeight,
        w = card.offsetWidth;
      const above = r.bottom + h + 12 > innerHeight && r.top > h + 12;
      card.style.top = scrollY + (above ? r.top - h - 8 : r.bottom + 8) + "px";
      card.style.left = scrollX + Math.max(8, Math.min(r.left - 16, innerWidth - w - 24)) + "px";
      owner = a;
      a.setAttribute("aria-describedby", "peek");
    };
    const want = (e) => {
      const a = e.target.closest?.("article a.internal[href*='#']");
      if (!a || a === owner || a.matches(".headerlink, .eqno") || a.origin !== location.origin) return;
      clearTimeout(timer);
      timer = setTimeout(() => show(a), e.type === "focusin" ? 500 : 180);
    };
    addEventListener("mouseover", (e) => {
      if (e.target.closest?.(".peek")) clearTimeout(timer);
      else want(e);
    });
    addEventListener("focusin", want);
    addEventListener("mouseout", (e) => {
      if (owner || timer) {
        clearTimeout(timer);
        timer = setTimeout(() => {
          if (!card.matches(":hover") && !owner?.matches(":hover")) hide();
        }, 200);
      }
    });
    addEventListener("focusout", hide);
    addEventListener("keydown", (e) => {
      if (e.key === "Escape") hide();
    });
  }

  // search page
  const results = $("#search-results");
  if (results) {
    const base = new URL(root.dataset.content_root || "./", location.href).href,
      q = $("#qq");
    const term = new URLSearchParams(location.search).get("q") || "";
    q.value = term;
    $("#q").value = term;
    const make = (tag, text, cls) => {
      const e = document.createElement(tag);
      if (text) e.innerHTML = text;
      if (cls) e.className = cls;
      return e;
    };
    const sphinx = async () => {
      // Sphinx's own index, where there is no Pagefind
      for (const f of ["_static/language_data.js", "_static/searchtools.js", "searchindex.js"])
        await new Promise((ok, no) => {
          const s = make("script");
          s.src = base + f;
          s.onload = ok;
          s.onerror = no;
          document.head.append(s);
        });
      if (term) {
        results.replaceChildren();
        Search.performSearch?.(term);
      }
    };
    import(base + "pagefind/pagefind.js")
      .then(async (pf) => {
        await pf.options({ excerptLength: 28 });
        let last = 0;
        const look = async () => {
          const now = ++last,
            word = q.value.trim();
          if (!word) return results.replaceChildren();
          const hits = await pf.search(word),
            data = await Promise.all(hits.results.slice(0, 8).map((h) => h.data()));
          if (now !== last) return;
          const list = make("ol", "", "hits");
          for (const d of data) {
            const li = make("li"),
              a = make("a");
            a.href = d.url;
            a.textContent = d.meta.title;
            li.append(a);
            for (const s of d.sub_results.slice(0, 3)) {
              const p = make("p", s.excerpt);
              if (s.title !== d.meta.title) {
                const b = make("a");
                b.href = s.url;
                b.textContent = s.title;
                p.prepend(b, " – ");
              }
              li.append(p);
            }
            list.append(li);
          }
          results.replaceChildren(
            make("p", `${hits.results.length} ${hits.results.length === 1 ? "page" : "pages"}`, "count"),
            list,
          );
        };
        q.addEventListener("input", look);
        look();
      })
      .catch(sphinx);
  }
})();
