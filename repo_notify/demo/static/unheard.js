/** Why nobody on the page heard of a change. */

/**
 * @typedef {object} Change
 * @property {object} row the row of TRIGGERS that was made
 * @property {{_id: string, name: string, project: string}} model the one it was made on
 * @property {string} username whom a notification went to
 * @property {number} arrivals how many events had arrived before it
 * @property {string} emitter the pane whose socket the request named, "" for none
 */

/** Where the two protocols say it, by what a row's `heardIn` names: the id and the label of a room's choice. */
const ROOMS = Object.freeze({
  model: {
    v5: ({ model }) => [`model-${model._id}`, `the room of ${model.name}`],
    v4: ({ model }) => [`model-${model._id}`, `the room of ${model.name}`],
  },
  project: {
    v5: ({ model }) => [`project-${model.project}`, "the project's room"],
    v4: () => ["teamspace", "the teamspace's room"],
  },
  user: {
    v5: ({ username }) => ["notifications", `the notifications of ${username}`],
    v4: ({ username }) => ["account", `the account of ${username}`],
  },
});

/**
 * Say in one sentence why nobody heard of a change.
 * @param {Change} change
 * @param {Map<string, import("/console/pane.js").Pane>} panes by "v5" and "v4"
 * @returns {string} "" where a pane should have heard, and may still
 */
export function whyUnheard(change, panes) {
  const { row, emitter } = change;
  const told = row.toldTo ?? ["v5", "v4"];
  const reasons = told.map((name) => reason(change, name, panes.get(name), name === emitter));
  if (reasons.includes("")) return "";
  const others = [...panes.keys()].filter((name) => !told.includes(name)).map((name) => `${name} has no such event`);
  return `Nobody heard of it: ${[...reasons, ...others].join("; ")}.`;
}

function reason(change, name, pane, isEmitter) {
  if (!pane.connected) return `the ${name} pane is not connected`;
  const [id, label] = ROOMS[change.row.heardIn ?? "model"][name](change);
  const refusal = pane.refusal(id);
  if (refusal) return `${pane.user ?? "nobody"} (${name}) was refused ${label}: ${refusal}`;
  if (!pane.isIn(id)) return `the ${name} pane is not in ${label}`;
  return isEmitter ? `the ${name} pane was spared, as x-socket-id says that it made the change` : "";
}
