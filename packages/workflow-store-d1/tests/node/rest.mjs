// A Worker that answers as Cloudflare's REST API of D1 does: POST /client/v4/accounts/{id}/d1/database/{id}/raw
const ROUTE = /^\/client\/v4\/accounts\/[^/]+\/d1\/database\/([^/]+)\/raw$/;

export default {
  async fetch(request, env) {
    const database = env[ROUTE.exec(new URL(request.url).pathname)?.[1]];
    if (request.headers.get("Authorization") !== "Bearer token") return refusal(401, 10000, "Authentication error");
    if (!database) return refusal(404, 7404, "The database could not be found");
    const { batch } = await request.json();
    try {
      const results = await database.batch(batch.map(({ sql, params }) => database.prepare(sql).bind(...params)));
      return Response.json({ result: results.map(raw), success: true, errors: [], messages: [] });
    } catch (error) {
      return refusal(400, 7500, error.message.replace("D1_ERROR: ", ""));
    }
  },
};

function raw({ results, success, meta }) {
  const rows = results.map((row) => Object.values(row));
  return { results: { columns: Object.keys(results[0] ?? {}), rows }, success, meta };
}

function refusal(status, code, message) {
  return Response.json({ result: [], success: false, errors: [{ code, message }], messages: [] }, { status });
}
