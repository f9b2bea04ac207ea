// Cloudflare's REST API of D1 on a loopback port: node d1_server.mjs
//
// Prints {"url": ...} when it is up, and ends with its standard input, so it can't outlive the tests that started it.
import { startMiniflare } from "./d1.mjs";

const miniflare = startMiniflare(["suite", "empty", "other"]);
const url = await miniflare.unsafeGetDirectURL();
console.log(JSON.stringify({ url: url.origin }));

process.stdin.resume();
process.stdin.on("end", async () => {
  await miniflare.dispose();
  process.exit(0);
});
