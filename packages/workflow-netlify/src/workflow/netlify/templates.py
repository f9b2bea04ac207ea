"""The functions as TypeScript, for Netlify's own bundler: no dependencies, nothing to compile."""

from __future__ import annotations

__all__ = ["render"]


def render(schedule: str, *, background: bool) -> dict[str, str]:
    """The files by name."""
    if not background:
        return {
            "workflow-sweep.mts": _HEAD + _SWEEP.replace("SECONDS", "25") + _SCHEDULED.replace("SCHEDULE", schedule)
        }
    return {
        "workflow-sweep.mts": _HEAD + _KICK.replace("SCHEDULE", schedule),
        "workflow-sweep-background.mts": _HEAD + _CHECK + _SWEEP.replace("SECONDS", "840") + _BACKGROUND,
    }


_HEAD = """\
// Written by `python -m workflow.netlify init`. It wakes the Python app, which does what is due.
// Set WORKFLOW_SWEEP_URL (the app's sweep route) and WORKFLOW_SWEEP_SECRET in the site's environment.

"""

_SWEEP = """\
// Shorter than what Netlify gives this function; the app ends its sweep before that.
const seconds = SECONDS;

async function sweep(requestId: string): Promise<Response> {
  const url = process.env.WORKFLOW_SWEEP_URL;
  const secret = process.env.WORKFLOW_SWEEP_SECRET;
  if (!url || !secret) {
    console.error("WORKFLOW_SWEEP_URL or WORKFLOW_SWEEP_SECRET is missing");
    return new Response("not configured", { status: 500 });
  }
  const headers = {
    authorization: `Bearer ${secret}`,
    "x-nf-request-id": requestId,
    "x-workflow-seconds": String(seconds),
  };
  try {
    const answer = await fetch(url, {
      method: "POST",
      headers,
      redirect: "error", // the secret is for this address only
      signal: AbortSignal.timeout(seconds * 1000),
    });
    const text = await answer.text();
    (answer.ok ? console.log : console.error)(`sweep ${answer.status} ${text.slice(0, 2000)}`);
    return new Response(text, { status: answer.ok ? 200 : 502, headers: { "content-type": "application/json" } });
  } catch (error) {
    // Nothing is lost: the next firing sweeps again.
    console.error(`the app could not be reached: ${error}`);
    return new Response("unreachable", { status: 502 });
  }
}

"""

_SCHEDULED = """\
export default async (request: Request): Promise<Response> => sweep(request.headers.get("x-nf-request-id") ?? "");

export const config = { schedule: "SCHEDULE" };
"""

_KICK = """\
// A scheduled function has 30 seconds. It only starts the background function, which has 15 minutes.
export default async (request: Request): Promise<Response> => {
  const site = process.env.URL;
  const secret = process.env.WORKFLOW_SWEEP_SECRET;
  if (!site || !secret) {
    console.error("URL or WORKFLOW_SWEEP_SECRET is missing");
    return new Response("not configured", { status: 500 });
  }
  const headers = {
    authorization: `Bearer ${secret}`,
    "x-nf-request-id": request.headers.get("x-nf-request-id") ?? "",
  };
  const answer = await fetch(`${site}/.netlify/functions/workflow-sweep-background`, {
    method: "POST",
    headers,
    redirect: "error",
    signal: AbortSignal.timeout(20_000),
  });
  return new Response(`started: ${answer.status}`, { status: answer.ok ? 200 : 502 });
};

export const config = { schedule: "SCHEDULE" };
"""

_CHECK = """\
import { createHash, timingSafeEqual } from "node:crypto";

// This function has an address that anybody can call: it takes the secret, and compares it in constant time.
function allowed(request: Request): boolean {
  const secret = process.env.WORKFLOW_SWEEP_SECRET;
  if (!secret) return false;
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(request.headers.get("authorization") ?? ""), digest(`Bearer ${secret}`));
}

"""

_BACKGROUND = """\
export default async (request: Request): Promise<Response> => {
  if (!allowed(request)) {
    console.error("a call without the secret was refused");
    return new Response("unauthorized", { status: 401 });
  }
  return sweep(request.headers.get("x-nf-request-id") ?? "");
};
"""
