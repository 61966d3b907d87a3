import { createElement as h, StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { connect } from "../../../clients/js/src/index.ts";
import { RollcallProvider, useOnline, usePresence } from "../../../clients/js/src/react.ts";

// A React application in Strict Mode. show renders a list of components, each as {is, …props}; what they render, and how often, is in the page.

const client = connect(new URLSearchParams(location.search).get("server"));
window.renders = {};

const components = {
  Member: ({ id, topic, name, meta }) => {
    const { list, count, stale, update, error } = usePresence(topic, { key: name, meta });
    renders[id] = (renders[id] ?? 0) + 1;
    const text = stale ? "stale" : list.map(({ key, metas }) => `${key}: ${metas.map(({ status = "here" }) => status)}`).sort().join("; ");
    return h("p", { id, onClick: () => update({ status: "away" }) }, error ? error.code : `${text} (${count.keys}/${count.metas})`);
  },
  Watcher: ({ id, topic }) => h("p", { id }, JSON.stringify(usePresence(topic).count)),
  Online: ({ id, keys }) => h("p", { id }, JSON.stringify([...useOnline(keys)])),
};

const root = createRoot(document.body.appendChild(document.createElement("main")));
window.show = (...parts) => root.render(h(StrictMode, null, h(RollcallProvider, { client }, parts.map(({ is, ...props }) => h(components[is], { ...props, key: props.id })))));
