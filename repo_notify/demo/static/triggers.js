/**
 * The changes a person can make, as a table. One row is one button.
 *
 * A row's `request` gets the situation and says what to send. `needs` names what must have been made here before
 * (for this model or, with `toUser`, for the one who is notified); `learns` says what the answer teaches about that.
 * `kinds` are the kinds of model it is for, `confirm` asks for a second click, `changesWorld` for a new list of models.
 * `heardIn` says whose room hears of it, the model's where nothing is said; `toldTo`, where it is not both protocols.
 *
 * @typedef {object} Situation
 * @property {string} teamspace
 * @property {{_id: string, kind: string, name: string, project: string}} model the one chosen on the page
 * @property {string} username whom a notification goes to
 * @property {Record<string, any>} made ids of what was made last
 * @property {number} count of requests so far, so that two changes are never the same
 */

const ALL = ["container", "federation", "drawing"];
const TICKETED = ["container", "federation"];

const STATUSES = ["processing", "ok", "failed"];
const PRIORITIES = ["low", "medium", "high"];
const cycle = (values, count) => values[count % values.length];

const projectPath = ({ teamspace, model }) => `/v5/teamspaces/${encode(teamspace)}/projects/${encode(model.project)}`;
const modelPath = (now) => `${projectPath(now)}/${now.model.kind}s/${encode(now.model._id)}`;
const ticketPath = (now) => `${modelPath(now)}/tickets/${encode(now.made.ticket)}`;
const issuesPath = ({ teamspace, model }) => `/${encode(teamspace)}/${encode(model._id)}/issues`;
const issuePath = (now) => `${issuesPath(now)}/${encode(now.made.issue)}`;
const encode = encodeURIComponent;

const create = (kind, name) => ({
  id: `create-${kind}`,
  label: `New ${kind}`,
  kinds: ALL,
  changesWorld: true,
  heardIn: "project",
  request: (now) => ["POST", `${projectPath(now)}/${kind}s`, { name: `${name} ${now.count}` }],
});

export const TRIGGERS = [
  {
    title: "Models",
    rows: [
      create("container", "Facade"),
      create("federation", "Site"),
      create("drawing", "Section"),
      {
        id: "settings",
        toldTo: ["v5"],
        label: "Settings",
        kinds: ALL,
        request: (now) => ["PATCH", modelPath(now), { desc: `Description ${now.count}` }],
      },
      {
        id: "status",
        label: "Status",
        kinds: ALL,
        request: (now) => ["PATCH", modelPath(now), { status: cycle(STATUSES, now.count) }],
      },
      {
        id: "remove",
        toldTo: ["v5"],
        label: "Remove",
        kinds: ALL,
        confirm: true,
        changesWorld: true,
        request: (now) => ["DELETE", modelPath(now)],
      },
    ],
  },
  {
    title: "Revisions",
    rows: [
      {
        id: "revision",
        label: "New revision",
        kinds: ALL,
        request: (now) => ["POST", `${modelPath(now)}/revisions`, { tag: `r${now.count}`, desc: "As built" }],
        learns: (answer) => ({ revision: answer._id }),
      },
      {
        id: "revision-void",
        toldTo: ["v5"],
        label: "Void it",
        kinds: ["container", "drawing"],
        needs: "revision",
        request: (now) => ["PATCH", `${modelPath(now)}/revisions/${encode(now.made.revision)}`, { void: true }],
      },
    ],
  },
  {
    title: "Notifications",
    toUser: true,
    rows: [
      {
        id: "notification",
        toUser: true,
        heardIn: "user",
        label: "Notify",
        kinds: ALL,
        request: ({ username, count }) => ["POST", "/v5/notifications", { username, text: `Hello ${count}` }],
        learns: (answer) => ({ notification: answer._id }),
      },
      {
        id: "notification-delete",
        toUser: true,
        heardIn: "user",
        label: "Take back",
        kinds: ALL,
        needs: "notification",
        request: (now) => ["DELETE", `/v5/notifications/${encode(now.made.notification)}`],
        learns: () => ({ notification: undefined }),
      },
    ],
  },
  {
    title: "Tickets (v5)",
    rows: [
      {
        id: "ticket",
        toldTo: ["v5"],
        label: "New ticket",
        kinds: TICKETED,
        request: (now) => [
          "POST",
          `${modelPath(now)}/tickets`,
          { title: `Ticket ${now.count}`, properties: { Priority: "none" } },
        ],
        learns: (answer) => ({ ticket: answer._id, ticketComment: undefined }),
      },
      {
        id: "ticket-update",
        toldTo: ["v5"],
        label: "Change",
        kinds: TICKETED,
        needs: "ticket",
        request: (now) => ["PATCH", ticketPath(now), { properties: { Priority: cycle(PRIORITIES, now.count) } }],
      },
      {
        id: "ticket-comment",
        toldTo: ["v5"],
        label: "Comment",
        kinds: TICKETED,
        needs: "ticket",
        request: (now) => ["POST", `${ticketPath(now)}/comments`, { message: `Comment ${now.count}` }],
        learns: (answer) => ({ ticketComment: answer._id }),
      },
      {
        id: "ticket-comment-edit",
        toldTo: ["v5"],
        label: "Edit comment",
        kinds: TICKETED,
        needs: "ticketComment",
        request: (now) => [
          "PUT",
          `${ticketPath(now)}/comments/${encode(now.made.ticketComment)}`,
          { message: `Comment edited ${now.count}` },
        ],
      },
      {
        id: "ticket-group",
        toldTo: ["v5"],
        label: "Group",
        kinds: TICKETED,
        needs: "ticket",
        request: (now) => ["PUT", `${ticketPath(now)}/groups/${crypto.randomUUID()}`, { name: `Group ${now.count}` }],
      },
    ],
  },
  {
    title: "Issues (v4)",
    rows: [
      {
        id: "issue",
        toldTo: ["v4"],
        label: "New issue",
        kinds: ALL,
        request: (now) => ["POST", issuesPath(now), { name: `Issue ${now.count}`, priority: "none", status: "open" }],
        learns: (answer) => ({ issue: answer._id, issueComment: undefined }),
      },
      {
        id: "issue-update",
        toldTo: ["v4"],
        label: "Priority",
        kinds: ALL,
        needs: "issue",
        request: (now) => ["PUT", issuePath(now), { priority: cycle(PRIORITIES, now.count) }],
      },
      {
        id: "issue-comment",
        toldTo: ["v4"],
        label: "Comment",
        kinds: ALL,
        needs: "issue",
        request: (now) => ["PUT", issuePath(now), { comment: `Comment ${now.count}` }],
        learns: ({ comments }) => ({ issueComment: comments.at(-1).guid, commentIndex: comments.length - 1 }),
      },
      {
        id: "issue-comment-edit",
        toldTo: ["v4"],
        label: "Edit comment",
        kinds: ALL,
        needs: "issueComment",
        request: (now) => [
          "PUT",
          issuePath(now),
          { comment: `Edited ${now.count}`, edit: true, commentIndex: now.made.commentIndex },
        ],
      },
      {
        id: "issue-comment-delete",
        toldTo: ["v4"],
        label: "Delete comment",
        kinds: ALL,
        needs: "issueComment",
        request: (now) => ["DELETE", `${issuePath(now)}/comments`, { guid: now.made.issueComment }],
        learns: () => ({ issueComment: undefined }),
      },
    ],
  },
];
