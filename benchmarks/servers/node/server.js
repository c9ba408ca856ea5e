// The Node peer: socket.io with express-session, the same room, the same look-ups. `node server.js <config as JSON>`.
"use strict";

const http = require("node:http");
const amqp = require("amqplib");
const { MongoStore } = require("connect-mongo");
const express = require("express");
const session = require("express-session");
const { Binary, MongoClient } = require("mongodb");
const { Server } = require("socket.io");

const EVENT = "containerSettingsUpdate";
const TICKET = "containerNewTicket";
const READERS = ["viewer", "commenter", "collaborator"];
// Longer than any client is away.
const RECOVERY = { maxDisconnectionDuration: 120_000, skipMiddlewares: true };
// Timers are late by up to a millisecond, which the last stretch makes up for turn by turn.
const TIMER_MS = 1.5;

const config = JSON.parse(process.argv[2]);
const turn = () => new Promise((resolve) => setImmediate(resolve));
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const roomKey = (place) => JSON.stringify([place.teamspace, place.project, place.model]);

class Readers {
	constructor(client) {
		this.client = client;
		this.cache = new Map();
	}

	async mayRead(user, teamspace, project, model) {
		const key = roomKey({ teamspace, project, model });
		let found = this.cache.get(key);
		if (found === undefined || found.until < Date.now()) {
			const users = await this.lookUp(teamspace, project, model);
			found = { users, until: Date.now() + config.cache_seconds * 1000 };
			this.cache.set(key, found);
		}
		return found.users.has(user);
	}

	async lookUp(teamspace, project, model) {
		const database = this.client.db(teamspace);
		const bytes = Buffer.from(project.replaceAll("-", ""), "hex");
		const ids = [new Binary(bytes, 3), new Binary(bytes, 4)];
		if (!(await database.collection("projects").findOne({ _id: { $in: ids }, models: model }))) return new Set();
		const settings = await database.collection("settings").findOne({ _id: model });
		const readers = settings.permissions.filter(({ permission }) => READERS.includes(permission));
		return new Set(readers.map(({ user }) => user));
	}
}

function addRooms(io, readers) {
	io.on("connection", (socket) => {
		socket.on("join", async (place) => {
			const { user } = socket.request.session;
			const details = { action: "join", data: place };
			if (!user) {
				socket.emit("error", { code: "UNAUTHORISED", message: "You are not logged in", details });
			} else if (!(await readers.mayRead(user.username, place.teamspace, place.project, place.model))) {
				socket.emit("error", { code: "ROOM_NOT_FOUND", message: "Model not found", details });
			} else {
				socket.join(roomKey(place));
				socket.emit("message", { event: "success", data: details });
			}
		});
	});
}

async function generate(publish, started, { events, burst, interval_ns: interval, fill, places }) {
	const filling = "x".repeat(fill);
	const numbered = places.length > 0;
	const rooms = numbered ? places : [config.room];
	for (let index = 0; index < events; index += 1) {
		const due = interval ? started + BigInt(index * interval) : process.hrtime.bigint();
		for (let left = Number(due - process.hrtime.bigint()); left > 0; left = Number(due - process.hrtime.bigint())) {
			const ms = left / 1e6 - TIMER_MS;
			await (ms > 0 ? sleep(ms) : turn());
		}
		const number = numbered ? { _id: String(index) } : {};
		publish(rooms[index % rooms.length], { ...number, at: due.toString().padStart(19, "0"), fill: filling });
		if ((index + 1) % burst === 0) await turn();
	}
}

function addRoutes(app, publish) {
	app.post("/bench/login", (request, response) => {
		request.session.user = { username: request.body.username };
		response.json({});
	});
	app.post("/bench/generate", async (request, response) => {
		const cpu = process.cpuUsage();
		const started = process.hrtime.bigint();
		await generate(publish, started, request.body);
		const ended = process.hrtime.bigint();
		const { user, system } = process.cpuUsage(cpu);
		response.json({ started: Number(started), ended: Number(ended), user: user / 1e6, system: system / 1e6 });
	});
	app.post("/notify/events", (request, response) => {
		if (request.get("authorization") !== `Bearer ${config.api_key}`) {
			response.status(401).json({ errors: [] });
			return;
		}
		const found = Array.isArray(request.body) ? request.body : [request.body];
		for (const { teamspace, project, model, data } of found) publish({ teamspace, project, model }, data);
		response.status(202).json({ accepted: found.length });
	});
}

// As the original's chat service: a queue of its own at a fanout exchange, and each message to the rooms that it names.
async function consume(io) {
	const connection = await amqp.connect(config.backend_queue);
	const channel = await connection.createChannel();
	await channel.assertExchange(config.backend_exchange, "fanout", { durable: true });
	const { queue } = await channel.assertQueue("", { exclusive: true });
	await channel.bindQueue(queue, config.backend_exchange, "");
	await channel.consume(
		queue,
		(message) => {
			const { event, data, recipients } = JSON.parse(message.content);
			const rooms = recipients.map((recipient) => {
				const [teamspace, project, model] = recipient.split("::");
				return roomKey({ teamspace, project, model });
			});
			io.to(rooms).emit(event, data);
		},
		{ noAck: true },
	);
}

async function main() {
	const app = express();
	const server = http.createServer(app);
	const client = await MongoClient.connect(config.mongo_uri);
	const sessions = session({
		name: "connect.sid",
		secret: config.secret,
		resave: false,
		saveUninitialized: false,
		store: config.sessions === "mongodb" ? MongoStore.create({ client, dbName: "sessions" }) : undefined,
	});
	const io = new Server(server, {
		path: "/chat",
		transports: ["websocket"],
		perMessageDeflate: false,
		pingInterval: config.ping_seconds * 1000,
		pingTimeout: config.ping_seconds * 1000,
		...(process.env.WS_ENGINE ? { wsEngine: require(process.env.WS_ENGINE).Server } : {}),
		...(config.recovery ? { connectionStateRecovery: RECOVERY } : {}),
	});
	io.engine.use(sessions);
	addRooms(io, new Readers(client));
	app.use(sessions);
	app.use(express.json({ limit: "1mb" }));
	addRoutes(app, (place, data) => {
		io.to(roomKey(place)).emit("_id" in data ? TICKET : EVENT, { ...place, data });
	});
	if (config.backend_queue) await consume(io);
	server.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => {
		console.log(`http://127.0.0.1:${server.address().port}`);
	});
	process.once("SIGTERM", () => process.exit(0));
}

main();
