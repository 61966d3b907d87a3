import { connect } from "../../../clients/js/src/index.ts";
import { sharedStream } from "../../../clients/js/src/shared.ts";

// A page that uses the client as its address says: server, key, topic, and if they are given linger, meta, shared. What a test asks it is in window.

const query = new URLSearchParams(location.search);
const options = { linger: Number(query.get("linger") ?? 10) };
if (query.has("shared")) options.transport = sharedStream();

window.client = connect(query.get("server"), options);
window.room = client.topic(query.get("topic"));

// people are the keys with their numbers of devices, in the order of their names.
window.people = () => Object.fromEntries(room.list((key, { metas }) => [key, metas.length]).sort());

// shown are all that people came to be, with "stale" where the topic became so, and without repetition.
window.shown = [];
const note = (what) => shown.at(-1) !== what && shown.push(what);
room.onSync(() => note(JSON.stringify(people())));
room.on("stale", (stale) => note(stale ? "stale" : JSON.stringify(people())));

room.join({ key: query.get("key"), meta: JSON.parse(query.get("meta") ?? "{}") });

// returns counts how often the page was kept in memory and shown again.
window.returns = 0;
addEventListener("pageshow", (event) => (returns += event.persisted ? 1 : 0));
