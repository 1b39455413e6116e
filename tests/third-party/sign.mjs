// Signs many bodies with the libraries of those who send webhooks.
//
//   node sign.mjs '{"seed": 7, "count": 60, "now": 1767225600, "secrets": {"standard": "whsec_…", "stripe": "whsec_…", "github": "…"}}'
//
// Prints one JSON line per request: { sender, headers, body }.
import { sign as signGithub } from "@octokit/webhooks-methods";
import { Webhook } from "standardwebhooks";
import Stripe from "stripe";

const { seed, count, now, secrets } = JSON.parse(process.argv[2]);
const stripe = new Stripe("sk_test_never_used");

/** The same numbers for the same seed: mulberry32. */
function numbers(state) {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const random = numbers(seed);
const below = (limit) => Math.floor(random() * limit);
const one = (list) => list[below(list.length)];

const TEXTS = [
  "", "Alpine Ltd", "Ærøskøbing", "東京都", "🚚📦", "e\u0301 is not é", "\u2028\u2029", "مرحبا",
  '"quoted"', "back\\slash", "tab\tand\nline", "\u0000", "</script>", "%2B+&=", " lead and trail ",
  "/Date(1767225600000)/", "\ufeff", "O'Brien; DROP TABLE orders",
];

function value(depth) {
  const kinds = depth > 0 ? 8 : 6;
  switch (below(kinds)) {
    case 0: return one(TEXTS);
    case 1: return below(1e9) - 5e8;
    case 2: return random() * 1e6;
    case 3: return random() < 0.5;
    case 4: return null;
    case 5: return one(TEXTS).repeat(1 + below(4));
    case 6: return Array.from({ length: below(5) }, () => value(depth - 1));
    default: return object(depth - 1);
  }
}

function object(depth) {
  const fields = { id: below(1e6) };
  for (let left = below(6); left > 0; left--) fields[one(TEXTS) + below(100)] = value(depth);
  return fields;
}

/** Writes what is not ASCII as escapes, as many senders do. */
const escaped = (json) =>
  json.replace(/[\u007f-\uffff]/g, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));

function body(index) {
  if (index === 0) return "";
  if (index === 1) return "{}";
  if (index === 2) return JSON.stringify({ id: 1, text: "ä\"\\".repeat(400_000) });
  const event = { id: `evt_${seed}_${index}`, type: one(["a.created", "a.deleted"]), data: object(3) };
  switch (below(4)) {
    case 0: return JSON.stringify(event, null, 2);
    case 1: return escaped(JSON.stringify(event));
    case 2: return `\r\n ${JSON.stringify(event).replaceAll("/", "\\/")}\n`;
    default: return JSON.stringify(event);
  }
}

const SENDERS = {
  standard(index, body) {
    const id = `msg_${seed}_${index}`;
    const signature = new Webhook(secrets.standard).sign(id, new Date(now * 1000), body);
    return { "webhook-id": id, "webhook-timestamp": String(now), "webhook-signature": signature };
  },
  stripe(_, body) {
    const options = { payload: body, secret: secrets.stripe, timestamp: now };
    return { "stripe-signature": stripe.webhooks.generateTestHeaderString(options) };
  },
  async github(index, body) {
    const signature = await signGithub(secrets.github, body);
    return { "x-hub-signature-256": signature, "x-github-delivery": `${seed}-${index}` };
  },
};

for (let index = 0; index < count; index++) {
  for (const [sender, headers] of Object.entries(SENDERS)) {
    const text = body(index);
    // GitHub's library does not sign nothing.
    if (text === "" && sender === "github") continue;
    console.log(JSON.stringify({ sender, headers: await headers(index, text), body: text }));
  }
}
