// Cloudflare's REST API of D1 on a loopback port, before Miniflare's databases: node d1_server.mjs
//
// Prints {"url": ...} when it is up, and ends with its standard input, so it can't outlive the tests that started it.
import { readFileSync } from "node:fs";
import { Miniflare } from "miniflare";

const names = ["suite", "empty", "other"];
const miniflare = new Miniflare({
  modules: [{ type: "ESModule", path: "rest.mjs", contents: readFileSync(new URL("rest.mjs", import.meta.url), "utf8") }],
  d1Databases: Object.fromEntries(names.map((name) => [name, `database-${name}`])),
  compatibilityDate: "2026-04-01",
  unsafeDirectSockets: [{ host: "127.0.0.1", port: 0 }], // past Miniflare's own entry, which costs more than a query
});

const url = await miniflare.unsafeGetDirectURL();
console.log(JSON.stringify({ url: url.origin }));

process.stdin.resume();
process.stdin.on("end", async () => {
  await miniflare.dispose();
  process.exit(0);
});
