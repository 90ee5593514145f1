// The search page: asks Pagefind's index, at once and as the reader types.
(async () => {
  const PAGES = 8; // shown
  const SECTIONS = 3; // shown of a page
  const results = document.getElementById("search-results");
  const field = document.getElementById("qq");
  const root = new URL(document.documentElement.dataset.content_root, location.href);
  field.value = new URLSearchParams(location.search).get("q") || "";

  const element = (tag, ...content) => {
    const made = document.createElement(tag);
    made.append(...content);
    return made;
  };
  const link = (url, text) => {
    const made = element("a", text);
    made.href = url;
    return made;
  };
  const excerpt = (html) => {
    const made = element("p");
    made.innerHTML = html; // Pagefind's own, with the words that were found in <mark>
    return made;
  };
  const hit = (page) => {
    const item = element("li", link(page.url, page.meta.title));
    for (const section of page.sub_results.slice(0, SECTIONS)) {
      const text = excerpt(section.excerpt);
      if (section.title !== page.meta.title) text.prepend(link(section.url, section.title), " – ");
      item.append(text);
    }
    return item;
  };

  let pagefind;
  try {
    pagefind = await import(new URL("pagefind/pagefind.js", root).href);
    await pagefind.options({ excerptLength: 28 });
  } catch {
    results.textContent = "The search needs the site to come from a web server, not from a file.";
    return;
  }

  let latest = 0;
  const look = async () => {
    const turn = ++latest;
    const words = field.value.trim();
    if (!words) return results.replaceChildren();
    const found = (await pagefind.search(words)).results;
    const pages = await Promise.all(found.slice(0, PAGES).map((result) => result.data()));
    if (turn !== latest) return; // the reader has typed on
    const count = element("p", `${found.length} ${found.length === 1 ? "page" : "pages"}`);
    count.className = "count";
    const list = element("ol", ...pages.map(hit));
    list.className = "hits";
    results.replaceChildren(count, list);
  };
  field.addEventListener("input", look);
  look();
})();
