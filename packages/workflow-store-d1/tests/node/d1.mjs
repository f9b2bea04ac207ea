// Miniflare with D1 databases of these names, and rest.mjs before them.
import { readFileSync } from "node:fs";
import { Miniflare } from "miniflare";

export function startMiniflare(names) {
  return new Miniflare({
    modules: [
      { type: "ESModule", path: "rest.mjs", contents: readFileSync(new URL("rest.mjs", import.meta.url), "utf8") },
    ],
    d1Databases: Object.fromEntries(names.map((name) => [name, `database-${name}`])),
    compatibilityDate: "2026-04-01",
    unsafeDirectSockets: [{ host: "127.0.0.1", port: 0 }], // past Miniflare's own entry, which costs more than a query
  });
}
