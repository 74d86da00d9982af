// Tabs after the WAI-ARIA pattern: arrow keys, Home and End; the address keeps the tab.

/** Wires a tablist; calls `onShow(name)` with the tab's name each time one is shown. */
export function tabs(list, onShow) {
  const all = [...list.querySelectorAll('[role="tab"]')];

  function show(tab, { focus = false } = {}) {
    for (const one of all) {
      const on = one === tab;
      one.setAttribute("aria-selected", String(on));
      one.tabIndex = on ? 0 : -1;
      document.getElementById(one.getAttribute("aria-controls")).hidden = !on;
    }
    if (focus) tab.focus();
    history.replaceState(null, "", `#${tab.dataset.tab}`);
    onShow(tab.dataset.tab);
  }

  list.addEventListener("click", (event) => {
    const tab = event.target.closest('[role="tab"]');
    if (tab) show(tab);
  });
  list.addEventListener("keydown", (event) => {
    const here = all.indexOf(document.activeElement);
    const goals = {
      ArrowRight: (here + 1) % all.length,
      ArrowLeft: (here - 1 + all.length) % all.length,
      Home: 0,
      End: all.length - 1,
    };
    if (here < 0 || !(event.key in goals)) return;
    event.preventDefault();
    show(all[goals[event.key]], { focus: true });
  });

  const named = () => all.find((tab) => `#${tab.dataset.tab}` === location.hash);
  window.addEventListener("hashchange", () => named() && show(named()));
  return {
    start: () => show(named() ?? all[0]),
    show: (name) => show(all.find((tab) => tab.dataset.tab === name)),
  };
}
