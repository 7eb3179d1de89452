/**
 * What the site profile says, worked out on paper: which requests carry a prompt, what an error means, what
 * of a job goes into the composer. No page, no network.
 *
 * @typedef {{code: string, status?: string[], text?: string[], header?: [string, string],
 *   pause_s?: number}} Rule
 * @typedef {{code: string, message: string, retry_after_s?: number}} Failure
 * @typedef {{status: number, redirected: boolean, header: (name: string) => string | null,
 *   text: string}} Answer an HTTP answer; `text` is what its body begins with
 * @typedef {{name: string, type: string, bytes: Uint8Array<ArrayBuffer>}} Attachment
 */

const { parse } = JSON;
const { isArray } = Array;
const { isFinite } = Number;
const { hasOwn } = Object;
const { ceil, max, min } = Math;
const { now, parse: parseDate } = Date;
const decodePercent = decodeURIComponent;
const decodeBase64 = atob;
const utf8 = new TextEncoder();
const encodeUtf8 = utf8.encode.bind(utf8);

/** The protocol's bound on seconds: ten days. */
const LONGEST_PAUSE_S = 10 * 86_400;
const LONGEST_COMPLAINT = 500;

// --- requests ---------------------------------------------------------------------------------------------

/**
 * Whether a path is one of the patterns; `*` stands for one segment.
 * @param {string[]} patterns
 * @param {string} path
 */
export function matchesPath(patterns, path) {
  const segments = path.split("/");
  return patterns.some((pattern) => {
    const wanted = pattern.split("/");
    return (
      wanted.length === segments.length &&
      wanted.every((segment, at) => (segment === "*" ? segments[at] !== "" : segment === segments[at]))
    );
  });
}

/**
 * Whether a host is one of the patterns; a leading `*.` stands for any subdomain.
 * @param {string[]} patterns
 * @param {string} host
 */
export const matchesHost = (patterns, host) =>
  patterns.some((pattern) => (pattern.startsWith("*.") ? host.endsWith(pattern.slice(1)) : host === pattern));

/**
 * The member at the end of a path of names, or undefined.
 * @param {any} value
 * @param {string[]} path
 */
export const memberAt = (value, path) =>
  path.reduce(
    (inner, name) =>
      typeof inner === "object" && inner !== null && hasOwn(inner, name) ? inner[name] : undefined,
    value,
  );

/**
 * Whether two prompts are the same but for what a composer may do to white space.
 * @param {string} one
 * @param {string} other
 */
export const isSamePrompt = (one, other) => one === other || squeezed(one) === squeezed(other);

/** @param {string} text */
const squeezed = (text) => mended(text).replace(/\s+/gu, " ").trim();

/** Halves of characters replaced. @param {string} text */
export const mended = (text) => text.replace(/\p{Surrogate}/gu, "\ufffd");

// --- errors -----------------------------------------------------------------------------------------------

/**
 * The first rule all of whose conditions hold.
 * @param {Rule[]} rules
 * @param {{text: string, status?: number, header?: (name: string) => string | null}} seen
 * @returns {Rule | undefined}
 */
function ruleFor(rules, { text, status, header }) {
  const lower = text.toLowerCase();
  return rules.find(
    (rule) =>
      (!rule.status || rule.status.some((pattern) => matchesStatus(pattern, status))) &&
      (!rule.text || rule.text.some((part) => lower.includes(part.toLowerCase()))) &&
      (!rule.header || (header?.(rule.header[0]) ?? "").includes(rule.header[1])),
  );
}

/** "429" is that status, "5xx" any of the five hundreds. @param {string} pattern @param {number} [status] */
function matchesStatus(pattern, status) {
  const digits = `${status}`;
  return (
    pattern.length === digits.length &&
    [...pattern].every((digit, at) => digit === "x" || digit === digits[at])
  );
}

/**
 * What an HTTP answer means that is no stream of 200.
 * @param {{errors: Rule[]}} profile
 * @param {Answer} answer
 * @returns {Failure}
 */
export function failureOfAnswer({ errors }, { status, redirected, header, text }) {
  const seen = redirected ? 301 : status;
  const rule = ruleFor(errors, { status: seen, header, text });
  const type = (header("content-type") ?? "").split(";")[0];
  const said = redirected ? "the site redirected the prompt" : `the site answered ${status}`;
  return {
    code: rule?.code ?? "site_changed",
    message: rule || type === "" ? said : `${said} (${type.slice(0, 100)})`,
    ...pause(retryAfter(header("retry-after")) ?? rule?.pause_s),
  };
}

/**
 * What an error inside a stream means.
 * @param {{stream_errors: Rule[]}} profile
 * @param {any} value as the line had it: text, or an object, or an object as text
 * @returns {Failure}
 */
export function failureOfComplaint({ stream_errors: rules }, value) {
  const { message, code } = complaint(value);
  const rule = ruleFor(rules, { text: `${message}\n${code}` });
  return {
    code: rule?.code ?? "upstream_error",
    message: short(message || code || "the site gave no reason"),
    ...pause(rule?.pause_s),
  };
}

/**
 * @param {any} value
 * @param {number} [depth]
 * @returns {{message: string, code: string}}
 */
function complaint(value, depth = 0) {
  if (typeof value === "string") {
    const inner = value.startsWith("{") && depth < 4 ? parsed(value) : undefined;
    return inner === undefined ? { message: value, code: "" } : complaint(inner, depth + 1);
  }
  if (typeof value !== "object" || value === null || depth > 4) return { message: "", code: "" };
  if (hasOwn(value, "error") && value.error) return complaint(value.error, depth + 1);
  const code = value.code ?? value.type ?? "";
  const { message } = complaint(value.message, depth + 1);
  return { message, code: typeof code === "object" ? "" : `${code}` };
}

/** @param {string} text */
function parsed(text) {
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}

/** @param {string} text */
const short = (text) => mended(text.slice(0, LONGEST_COMPLAINT));

/** @param {number | undefined} seconds */
const pause = (seconds) => (seconds === undefined ? {} : { retry_after_s: seconds });

/** Seconds, from seconds or a date. @param {string | null} text @returns {number | undefined} */
function retryAfter(text) {
  if (text === null || text.trim() === "") return undefined;
  const seconds = isFinite(+text) ? +text : (parseDate(text) - now()) / 1_000;
  return isFinite(seconds) ? min(LONGEST_PAUSE_S, max(0, ceil(seconds))) : undefined;
}

// --- jobs -------------------------------------------------------------------------------------------------

/** A job cannot go on; `code` is one of the protocol's failures. */
export class JobFailure extends Error {
  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** The job asks for something that the page cannot do. @param {string} message */
const unsupported = (message) => new JobFailure("unsupported", message);

/**
 * What goes into the composer and into the file input. Throws JobFailure.
 * @param {any} body an OpenAI chat body whose messages are one user message
 * @returns {{prompt: string, attachments: Attachment[]}}
 */
export function promptOf(body) {
  const messages = body?.messages;
  if (!isArray(messages) || messages.length !== 1 || messages[0]?.role !== "user") {
    throw unsupported("a tab takes exactly one message, from the user");
  }
  const { content } = messages[0];
  if (typeof content === "string") return { prompt: content, attachments: [] };
  if (!isArray(content)) throw unsupported("the message has no content");
  const texts = content.filter((part) => part?.type === "text").map((part) => `${part.text}`);
  const others = content.filter((part) => part?.type !== "text");
  return { prompt: texts.join("\n\n"), attachments: others.map(attachment) };
}

const DATA_URL = /^data:([\w.+-]+\/[\w.+-]+)?((?:;[\w.+-]+=[^;,]*)*)(;base64)?,/u;

/** @param {any} part @param {number} at @returns {Attachment} */
function attachment(part, at) {
  const url = part?.type === "image_url" ? part.image_url?.url : undefined;
  // Only the beginning: an expression run over many MiB of base64 has no use.
  const head = typeof url === "string" ? DATA_URL.exec(url.slice(0, 500)) : null;
  if (!head) throw unsupported("a tab takes text and images as data URLs");
  const type = head[1] ?? "text/plain";
  const ending = type.split("/")[1].split("+")[0];
  return { name: `image-${at + 1}.${ending}`, type, bytes: bytesOf(url.slice(head[0].length), !!head[3]) };
}

/** @param {string} data @param {boolean} isBase64 */
function bytesOf(data, isBase64) {
  try {
    if (!isBase64) return encodeUtf8(decodePercent(data));
    return Uint8Array.from(decodeBase64(data), (character) => character.charCodeAt(0));
  } catch {
    throw unsupported("an image's data URL is malformed");
  }
}
