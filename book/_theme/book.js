// The script of every page: theme, search key, copy buttons, wide formulas, place in the contents, previews.
(() => {
  const root = document.documentElement;
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  searchKey(); // no key is lost

  // One after the other, so that a slow processor can answer the reader in between.
  const parts = [themeSwitch, playButtons, labButton, copyButtons, runButtons, wideBoxes];
  if (matchMedia("(hover: hover)").matches) parts.push(previews);
  for (const part of [...parts, arriving, presentSection, formulaFonts]) setTimeout(part);

  // Automatic, light, dark, automatic … The head of the page sets the theme before the first paint.
  function themeSwitch() {
    const names = { auto: "automatic", light: "light", dark: "dark" };
    const next = { auto: "light", light: "dark", dark: "auto" };
    const button = one(".theme");
    const show = (mode) => {
      root.dataset.mode = root.dataset.theme = mode;
      button.title = one(".vh", button).textContent = `Colour theme: ${names[mode]}`;
    };
    button.hidden = false;
    show(root.dataset.mode || "auto");
    button.addEventListener("click", () => {
      const mode = next[root.dataset.mode];
      try {
        if (mode === "auto") localStorage.removeItem("theme");
        else localStorage.setItem("theme", mode);
      } catch {
        // without storage the choice holds for this page
      }
      show(mode);
    });
  }

  // "/" and Ctrl+K go to the search field.
  function searchKey() {
    addEventListener("keydown", (event) => {
      const typing = /INPUT|TEXTAREA|SELECT/.test(event.target.tagName) || event.target.isContentEditable;
      const control = event.ctrlKey || event.metaKey;
      if (!(event.key === "/" && !typing && !control) && !(event.key === "k" && control)) return;
      event.preventDefault();
      const field = one("#qq") || one("#q");
      if (field.offsetParent) {
        field.focus();
        field.select();
      } else {
        one(".find-link")?.click();
      }
    });
  }

  function copyButtons() {
    for (const pre of all("article div.highlight > pre, .aids pre")) {
      if (pre.closest(".cell_output")) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "copy";
      button.textContent = "Copy";
      button.addEventListener("click", async () => {
        const text = pre.innerText.replace(/^(>>>|\.\.\.|\$) /gm, "");
        try {
          await navigator.clipboard.writeText(text);
          button.textContent = "Copied";
        } catch {
          button.textContent = "Press Ctrl+C";
        }
        setTimeout(() => (button.textContent = "Copy"), 1500);
      });
      pre.parentElement.classList.add("has-copy");
      pre.after(button);
    }
  }

  // A script of the lab, which nothing loads before it is used.
  function fromLab(name) {
    return import(new URL(document.body.dataset.lab + name, document.baseURI));
  }

  // Each code cell of a chapter can be run in the page. The first click brings what that takes.
  function runButtons() {
    const { cells } = document.body.dataset;
    if (!cells || typeof WebAssembly !== "object" || location.protocol === "file:") return;
    const boxes = all("article .cell").filter((box) => one(".cell_input", box));
    const buttons = boxes.map((box, number) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "run";
      button.textContent = "Run";
      button.addEventListener("click", () => open(number));
      one(".cell_input .highlight", box).after(button);
      return button;
    });
    const open = async (number) => {
      for (const button of buttons) button.disabled = true;
      try {
        const shown = await (await fromLab("cells.mjs")).open(boxes, cells);
        for (const button of buttons) button.remove();
        shown[number].runs.click();
        shown[number].editor.focus();
      } catch (error) {
        buttons[number].textContent = `Cannot run here: ${error.message}`;
      }
    };
  }

  // A figure whose runs are in the page can play them. The first click brings the player.
  function playButtons() {
    if (location.protocol === "file:") return; // a site opened as files has no modules
    for (const data of all("script.replay")) {
      const figure = document.getElementById(data.dataset.figure)?.closest("figure");
      const picture = figure && one("img", figure);
      if (!picture) continue;
      let player = null;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "play";
      button.textContent = "Play EM";
      button.addEventListener("click", async () => {
        if (player) {
          player.show(true);
          return;
        }
        button.disabled = true;
        try {
          const { Player } = await fromLab("player.mjs");
          player = new Player(figure, JSON.parse(data.textContent));
          button.disabled = false;
        } catch (error) {
          button.textContent = `Cannot play here: ${error.message}`;
        }
      });
      (picture.closest("a") ?? picture).after(button);
    }
  }

  // The lab opens when it is asked for.
  function labButton() {
    const place = one("#lab");
    if (!place || typeof WebAssembly !== "object" || location.protocol === "file:") return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "lab-open";
    button.textContent = `Open the lab (${place.dataset.megabytes} MB, once)`;
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        const { open } = await fromLab("lab.mjs");
        await open(place);
      } catch (error) {
        button.textContent = `The lab cannot be opened here: ${error.message}`;
      }
    });
    place.append(button);
  }

  // What overflows can be reached and scrolled by the keyboard. Measured only near the window.
  function wideBoxes() {
    const LINE = "span.math:not(.short)"; // a formula in a line of text, which few screens are too narrow for
    const boxes = all(`.scroll, .highlight > pre, p ${LINE}, dd ${LINE}, li ${LINE}`);
    const nameOf = (box) =>
      box.matches(".table-box") ? "Wide table" : box.matches("pre") ? "Code" : "Wide formula";
    const overflows = (box) => {
      if (!box.matches(`${LINE}:not(.over)`)) return box.scrollWidth > box.clientWidth + 1;
      return box.getBoundingClientRect().width > box.closest("p, dd, li").clientWidth + 1;
    };
    const measure = (box) => {
      const over = overflows(box);
      if (over === box.classList.contains("over")) return;
      box.classList.toggle("over", over);
      if (over) {
        box.tabIndex = 0;
        box.setAttribute("role", "group");
        if (!box.hasAttribute("aria-label")) box.setAttribute("aria-label", nameOf(box));
      } else {
        box.removeAttribute("tabindex");
        box.removeAttribute("role");
        if (!box.matches(".table-box")) box.removeAttribute("aria-label");
      }
    };
    const near = new IntersectionObserver(
      (entries) => entries.forEach((entry) => entry.isIntersecting && measure(entry.target)),
      { rootMargin: "600px 0px" },
    );
    const watch = () =>
      boxes.forEach((box) => {
        near.unobserve(box);
        near.observe(box);
      });
    let timer;
    addEventListener("resize", () => {
      clearTimeout(timer);
      timer = setTimeout(watch, 200);
    });
    watch();
  }

  // Sections far from the window get their heights when they are laid out, which moves what a link
  // leads to. So it is looked for again until it stays, or the reader scrolls.
  function arriving() {
    let looking = 0;
    const look = (more) => {
      const target = document.querySelector(":target");
      if (!target || more !== looking) return;
      target.scrollIntoView();
      const { top } = target.getBoundingClientRect();
      const stays = () => Math.abs(target.getBoundingClientRect().top - top) < 1;
      setTimeout(() => (stays() ? undefined : look(more)), 100);
    };
    const start = () => look(++looking);
    for (const kind of ["wheel", "touchstart", "keydown", "pointerdown"])
      addEventListener(kind, () => looking++, { passive: true });
    addEventListener("hashchange", start);
    if (performance.getEntriesByType("navigation")[0]?.type !== "navigate") return; // the place is known
    if (document.readyState === "complete") start();
    else addEventListener("load", start);
  }

  // Marks the section that is being read in the contents.
  function presentSection() {
    const links = new Map();
    for (const link of all(".side a[href^='#']"))
      if (link.hash.length > 1) links.set(decodeURIComponent(link.hash.slice(1)), link);
    const visible = new Set();
    const observer = new IntersectionObserver(
      (entries) => {
        for (const { isIntersecting, target } of entries)
          visible[isIntersecting ? "add" : "delete"](target.id);
        const here = [...links.keys()].find((id) => visible.has(id));
        if (here) for (const [id, link] of links) link.classList.toggle("here", id === here);
      },
      { rootMargin: "-15% 0px -60% 0px" },
    );
    for (const id of links.keys()) {
      const section = document.getElementById(id);
      if (section) observer.observe(section);
    }
    const side = one("#side");
    side?.addEventListener("click", (event) => {
      if (event.target.closest("a[href^='#']")) side.hidePopover?.();
    });
  }

  // Sections far from the window are laid out late, and ask for the fonts of their formulas late. These
  // are fetched in time, so that a page has them when it is printed.
  function formulaFonts() {
    const faces = {
      ".mathbb, .amsrm": "1em KaTeX_AMS",
      ".mathcal": "1em KaTeX_Caligraphic",
      ".mathsf": "1em KaTeX_SansSerif",
      ".mathbf": "bold 1em KaTeX_Main",
      ".boldsymbol": "italic bold 1em KaTeX_Math",
      ".size1, .small-op": "1em KaTeX_Size1",
      ".size2, .large-op": "1em KaTeX_Size2",
      ".size3": "1em KaTeX_Size3",
      ".size4, .delimsizing": "1em KaTeX_Size4",
    };
    const fetchFaces = () => {
      for (const [classes, face] of Object.entries(faces))
        if (one(`.katex :is(${classes})`)) document.fonts.load(face);
    };
    addEventListener("load", () => setTimeout(fetchFaces, 1000));
  }

  // Shows the equation, theorem, figure, exercise or work that a link leads to, also on another page.
  function previews() {
    const WHAT = "div.math, .admonition, figure, .citation, dt, table, details.solution";
    const pages = new Map([[location.pathname, document]]);
    const card = document.createElement("div");
    card.className = card.id = "peek";
    card.setAttribute("role", "tooltip");
    card.hidden = true;
    let timer;
    let owner = null;

    const fetchPage = async (path) => {
      const response = await fetch(path);
      return new DOMParser().parseFromString(await response.text(), "text/html");
    };
    const pageAt = (path) => {
      if (!pages.has(path)) pages.set(path, fetchPage(path));
      return pages.get(path);
    };
    const hide = () => {
      clearTimeout(timer);
      card.hidden = true;
      owner?.removeAttribute("aria-describedby");
      owner = null;
    };
    const inert = (element) => {
      const copy = element.cloneNode(true);
      for (const part of [copy, ...all("[id]", copy)]) part.removeAttribute("id");
      for (const part of all("a.headerlink, .copy", copy)) part.remove();
      for (const part of all("a", copy)) part.removeAttribute("href");
      for (const part of all("[tabindex]", copy)) part.removeAttribute("tabindex");
      if (copy.tagName === "DETAILS") copy.open = true;
      return copy;
    };
    const place = (link) => {
      const box = link.getBoundingClientRect();
      const [height, width] = [card.offsetHeight, card.offsetWidth];
      const above = box.bottom + height + 12 > innerHeight && box.top > height + 12;
      const left = Math.max(8, Math.min(box.left - 16, innerWidth - width - 24));
      card.style.top = `${scrollY + (above ? box.top - height - 8 : box.bottom + 8)}px`;
      card.style.left = `${scrollX + left}px`;
    };
    const show = async (link) => {
      let page;
      try {
        page = await pageAt(link.pathname);
      } catch {
        return; // a site opened as files cannot read its other pages
      }
      const target = page.getElementById(decodeURIComponent(link.hash.slice(1)));
      const what = target?.closest(WHAT);
      if (!what) return;
      const copy = inert(what);
      if (page !== document)
        for (const image of all("img", copy)) {
          image.src = new URL(image.getAttribute("src"), link.href).href;
          image.loading = "eager";
        }
      card.replaceChildren(copy);
      document.body.append(card);
      card.hidden = false;
      place(link);
      owner = link;
      link.setAttribute("aria-describedby", "peek");
    };
    const want = (event) => {
      const link = event.target.closest?.("article a.internal[href*='#']");
      if (!link || link === owner || link.matches(".headerlink, .eqno") || link.closest(".peek")) return;
      clearTimeout(timer);
      timer = setTimeout(show, event.type === "focusin" ? 500 : 180, link);
    };
    const leave = () => {
      if (!card.matches(":hover") && !owner?.matches(":hover")) hide();
    };

    addEventListener("mouseover", (event) => {
      if (event.target.closest?.(".peek")) clearTimeout(timer);
      else want(event);
    });
    addEventListener("mouseout", () => {
      if (!owner && !timer) return;
      clearTimeout(timer);
      timer = setTimeout(leave, 200);
    });
    addEventListener("focusin", want);
    addEventListener("focusout", hide);
    addEventListener("keydown", (event) => {
      if (event.key === "Escape") hide();
    });
  }
})();
